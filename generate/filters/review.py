"""Is it unlike everything a person rejected in an earlier round?

People decide with `synthloop review`; a candidate whose problem and answer are nearly those of a sample they rejected
(word 3-gram Jaccard at or above `threshold`, arXiv:2107.06499) repeats the mistake they saw.

    curate: {filters: [{name: review, threshold: 0.6}]}

Limits: it learns nothing beyond near-copies. The decisions about the samples themselves are followed by the mix.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from generate.curation import KEEP, FilterContext, refuse, whole_texts
from synthloop.records import Candidate, Decision, Rejection
from synthloop.similarity import NearDuplicates
from synthloop.store import read_rows


class Config(BaseModel):
    """`threshold` of the Jaccard index (chosen, not measured)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: float = Field(default=0.6, gt=0, le=1)


def check(cfg: Config, batch: list[Candidate], ctx: FilterContext) -> list[Decision]:
    known = _rejected(ctx)
    index = NearDuplicates(whole_texts(ctx, [*known, *batch]), cfg.threshold)
    for position in range(len(known)):
        index.add(position)
    matches = [index.nearest(len(known) + number) for number in range(len(batch))]
    return [refuse(f"like rejected: {known[match.position].id}", match.jaccard) if match else KEEP for match in matches]


def _rejected(ctx: FilterContext) -> list[Candidate]:
    """The samples of earlier rounds that people rejected."""
    refused = [one for one in ctx.run.reviews().values() if one.decision == "reject" and one.round < ctx.round]
    ids, rounds = {one.id for one in refused}, sorted({one.round for one in refused})
    folders = [ctx.run.round_dir(round) for round in rounds]
    curated = [one for folder in folders for one in read_rows(folder / "curated.jsonl", Candidate)]
    others = [one.candidate for folder in folders for one in read_rows(folder / "rejected.jsonl", Rejection)]
    return [one for one in [*curated, *others] if one is not None and one.id in ids]
