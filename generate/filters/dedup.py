"""Is it new among what was generated: no near-duplicate of what any earlier round kept, or of one before it.

Word 3-gram Jaccard at or above `threshold` is a duplicate (after Lee et al., "Deduplicating Training Data Makes
Language Models Better", 2022, arXiv:2107.06499, who take 0.8 on 5-grams of long documents; 3-grams suit short ones).
Found by MinHash-LSH, decided exactly (`synthloop.similarity`).

    curate: {filters: [{name: dedup, threshold: 0.7}]}

Limits: a paraphrase with other words is new to it. Earlier rounds count whether they were accepted or not. Real data is
not looked at: `novelty` does both, and takes the place of this filter.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from generate.curation import KEEP, FilterContext, refuse
from synthloop.records import Candidate, Decision
from synthloop.similarity import distinct


class Config(BaseModel):
    """`ngram` words at a time; a problem of fewer words is compared whole (the default is chosen, not measured)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: float = Field(default=0.8, gt=0, le=1)
    ngram: int = Field(default=3, gt=0)


def check(cfg: Config, batch: list[Candidate], ctx: FilterContext) -> list[Decision]:
    return refuse_repeats(cfg, batch, synthetic(ctx))


def synthetic(ctx: FilterContext) -> list[tuple[str, str]]:
    """(name, problem) of all that earlier rounds kept."""
    return [(f"synthetic: {one.id} of round {one.round}", one.input) for one in ctx.earlier()]


def refuse_repeats(cfg: Config, batch: list[Candidate], known: Sequence[tuple[str, str]]) -> list[Decision]:
    """Refuses what is like a known text or a kept one before it; `known` are ('kind: name', text) pairs."""
    names = [name for name, _ in known] + [f"synthetic: {one.id} of this round" for one in batch]
    matches = distinct([text for _, text in known], [one.input for one in batch], cfg.threshold, cfg.ngram)
    decisions = []
    for match in matches:
        if match is None:
            decisions.append(KEEP)
        else:
            kind, _, name = names[match.position].partition(": ")
            decisions.append(refuse(f"like {kind}: Jaccard {match.jaccard:.2f} with {name}", match.jaccard))
    return decisions
