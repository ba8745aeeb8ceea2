"""Is it new in meaning: no other problem, real or kept before, lies within a cosine of it.

Embeddings of the problems at a cosine of `threshold` or more are duplicates (SemDeDup, Abbas et al., 2023,
arXiv:2303.09540): of real rows, of what any earlier round kept, or of a kept one before it in the round. The mean of
the real rows is subtracted first, for a language model puts all texts into a narrow cone (Mu and Viswanath, 2018,
arXiv:1702.01417).

    curate: {filters: [{name: semantic_dedup, threshold: 0.9, model: quickstart/student}]}

`model` is a folder or hub id; by default the student, whose hidden states are averaged (`synthloop.embeddings`). On 800
GSM8K problems and the quickstart student, the nearest other problem had a cosine of 0.76 in the median and less than
0.91 for 99% (without the subtraction 0.99 and 0.996); the same problem with a few words replaced 0.98 in the median.

Limits: a threshold means something for one model only: look at the scores of what is kept, or name a sentence encoder.
Templates whose numbers differ are close (0.97 in the median there), but where all real rows are one template its mean
is subtracted and small differences look large. Every pair is compared, exactly, in blocks (SemDeDup clusters first):
fine to some 10^5 rows, quadratic beyond. All real and earlier rows are embedded anew each round.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from generate.curation import REAL, FilterContext, refuse
from synthloop.embeddings import embed
from synthloop.records import Candidate, Decision

_BLOCK = 1024  # candidates compared at once; bounds the memory to this many similarities a known row


class Config(BaseModel):
    """For the default see above; it depends on the model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: float = Field(default=0.9, gt=0, le=1)
    model: str | None = None


def check(cfg: Config, batch: list[Candidate], ctx: FilterContext) -> list[Decision]:
    if not batch:
        return []
    real = {f"real: the real {split} example {one.id}": one for split in REAL for one in ctx.real(split)}
    earlier = {f"synthetic: {one.id} of round {one.round}": one for one in ctx.earlier()}
    known = [*real, *earlier]
    names = known + [f"synthetic: {one.id} of this round" for one in batch]
    texts = ctx.compared(real.values()) + ctx.compared(earlier.values()) + ctx.compared(batch)
    student = ctx.run.config.student
    revision = student.revision if cfg.model is None else None
    ctx.free_device()
    points = centred(embed(texts, cfg.model or student.model, revision=revision), len(real) or len(texts))
    decisions = []
    for nearest, cosine, is_new in repeats(points[: len(known)], points[len(known) :], cfg.threshold):
        if is_new:
            decisions.append(Decision(keep=True, score=cosine))
        else:
            kind, _, name = names[nearest].partition(": ")
            decisions.append(refuse(f"like {kind}: cosine {cosine:.3f} with {name}", cosine))
    return decisions


def centred(points: NDArray[np.float32], num_real: int) -> NDArray[np.float32]:
    """`points` without the mean of the first `num_real`, again of length 1; one at the mean becomes 0, like nothing."""
    moved = points - points[:num_real].mean(axis=0)
    lengths = np.linalg.norm(moved, axis=1, keepdims=True)
    result: NDArray[np.float32] = np.where(lengths > 1e-6, moved / np.maximum(lengths, 1e-6), 0)
    return result


def repeats(
    known: NDArray[np.float32], batch: NDArray[np.float32], threshold: float
) -> Sequence[tuple[int, float, bool]]:
    """For each of `batch`, in order: (nearest, its cosine, whether it is below `threshold`).

    The nearest is looked for among `known` and those of `batch` that are new and stand before; it counts through both,
    and the first is taken among equals. (-1, -1.0) where there is none. Rows have length 1.
    """
    results: list[tuple[int, float, bool]] = []
    is_new = np.zeros(len(batch), bool)
    for begin in range(0, len(batch), _BLOCK):
        block = batch[begin : begin + _BLOCK]
        to_known, to_batch = block @ known.T, block @ batch[: begin + len(block)].T
        for offset in range(len(block)):
            position = begin + offset
            candidates = np.concatenate(
                [to_known[offset], np.where(is_new[:position], to_batch[offset, :position], -np.inf)]
            )
            nearest = int(candidates.argmax()) if len(candidates) else -1
            cosine = float(candidates[nearest]) if len(candidates) else -np.inf
            if cosine == -np.inf:
                nearest, cosine = -1, -1.0
            # Equal texts have a cosine of 1 but for rounding.
            is_new[position] = cosine < threshold - 1e-6
            results.append((nearest, min(cosine, 1.0), bool(is_new[position])))
    return results
