"""Is it new: no near-duplicate of real data, of what any earlier round kept, or of an earlier one of this round.

`dedup` (Lee et al., 2022, arXiv:2107.06499) with all real rows known from the start: the same settings and limits.

    curate: {filters: [{name: novelty, threshold: 0.7}]}
"""

from __future__ import annotations

from generate.curation import REAL, FilterContext
from generate.filters import dedup
from synthloop.records import Candidate, Decision


class Config(dedup.Config):
    """As `dedup`."""


def check(cfg: Config, batch: list[Candidate], ctx: FilterContext) -> list[Decision]:
    real = [(split, one) for split in REAL for one in ctx.real(split)]
    return dedup.refuse_repeats(cfg, batch, ctx, real)
