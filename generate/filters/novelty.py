"""Is it new: no near-duplicate of real data, of what any earlier round kept, or of an earlier one of this round.

Word 3-gram Jaccard at or above `threshold` is a duplicate (after Lee et al., "Deduplicating Training Data Makes
Language Models Better", 2022, arXiv:2107.06499, who take 0.8 on 5-grams of long documents; 3-grams suit short ones).
Found by MinHash-LSH, decided exactly (`synthloop.similarity`).

    curate: {filters: [{name: novelty, threshold: 0.7}]}

Limits: a paraphrase with other words is new to it. Earlier rounds count whether they were accepted or not.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from generate.curation import KEEP, REAL, FilterContext, refuse
from synthloop.records import Candidate, Decision
from synthloop.similarity import NearDuplicates


class Config(BaseModel):
    """`ngram` words at a time; a problem of fewer words is compared whole (the default is chosen, not measured)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: float = Field(default=0.8, gt=0, le=1)
    ngram: int = Field(default=3, gt=0)


def check(cfg: Config, batch: list[Candidate], ctx: FilterContext) -> list[Decision]:
    index = NearDuplicates(cfg.threshold, cfg.ngram)
    for split in REAL:
        for example in ctx.real(split):
            index.add(f"the real {split} example {example.id}", example.input)
    for one in ctx.earlier():
        index.add(f"{one.id} of round {one.round}", one.input)
    decisions = []
    for one in batch:
        match = index.nearest(one.input)
        if match is None:
            index.add(f"{one.id} of this round", one.input)
            decisions.append(KEEP)
        else:
            kind = "real" if match.key.startswith("the real") else "synthetic"
            decisions.append(refuse(f"like {kind}: Jaccard {match.jaccard:.2f} with {match.key}", match.jaccard))
    return decisions
