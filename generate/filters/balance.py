"""Is there room for it: quotas keep a slice, label or recipe from crowding out the others.

Where the scarcest group has m candidates, no group keeps more than `max_ratio` times m (random undersampling: Japkowicz
and Stephen, 2002, https://doi.org/10.3233/IDA-2002-6504). With `shares`, the groups' target shares, it is the one with
the fewest candidates for its share, and a quota is in proportion to the share.

    curate: {filters: [{name: balance, by: slice, max_ratio: 2.0}]}

A seeded hash of the candidate's id chooses who stays, so one more candidate changes few choices. Group sizes before and
after are logged; each refusal counts as 'over quota' in the funnel.

Limits: it only drops; a group that is too small needs more seeds. Put it last: what a later filter refuses unbalances
the groups again. A group that `shares` does not name keeps nothing. Rounds are balanced one by one.
"""

from __future__ import annotations

import logging
from collections import Counter
from math import floor
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from generate.curation import KEEP, FilterContext, refuse
from synthloop.randomness import derive_seed
from synthloop.records import Candidate, Decision

log = logging.getLogger("synthloop.curate")


class Config(BaseModel):
    """`min_keep`: a quota is never less, so that a group of one does not empty the others (chosen, not measured)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: Literal["slice", "answer", "recipe"] = "slice"
    max_ratio: float = Field(default=2.0, ge=1)
    min_keep: int = Field(default=5, ge=0)
    shares: dict[str, float] | None = None

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        if self.shares is not None and (not self.shares or min(self.shares.values()) <= 0):
            raise ValueError("shares: expected a positive share for each group that is wanted")
        return self


def check(cfg: Config, batch: list[Candidate], ctx: FilterContext) -> list[Decision]:
    names = [str(getattr(one, cfg.by)) for one in batch]
    sizes = Counter(names)
    allowed = quotas(cfg, sizes)
    order = sorted(range(len(batch)), key=lambda n: (_place(ctx, batch[n]), batch[n].id))
    kept: Counter[str] = Counter()
    chosen = set()
    for n in order:
        if kept[names[n]] < allowed[names[n]]:
            kept[names[n]] += 1
            chosen.add(n)
    if batch:
        told = ", ".join(f"{name} {size} -> {kept[name]}" for name, size in sorted(sizes.items()))
        log.info("balance by %s: %s", cfg.by, told)
    return [
        KEEP if n in chosen else refuse(f"over quota: {cfg.by} '{name}' keeps {allowed[name]} of {sizes[name]}")
        for n, name in enumerate(names)
    ]


def quotas(cfg: Config, sizes: Counter[str]) -> dict[str, int]:
    """How many each group may keep; `sizes` are the groups' candidates."""
    shares = dict.fromkeys(sizes, 1.0) if cfg.shares is None else cfg.shares
    missing = sorted(shares.keys() - sizes.keys())
    if missing and sizes:
        log.warning("balance by %s: no candidate in %s, which `shares` names", cfg.by, ", ".join(missing))
    # Candidates for a share of 1, in the group that has the fewest.
    scarcest = min((size / shares[name] for name, size in sizes.items() if name in shares), default=0.0)
    # The tolerance: 0.1 * 30 is 3, not 3.0000000000000004 or, in other cases, a little less.
    return {
        name: max(cfg.min_keep, floor(cfg.max_ratio * scarcest * shares[name] + 1e-9)) if name in shares else 0
        for name in sizes
    }


def _place(ctx: FilterContext, one: Candidate) -> int:
    return derive_seed(ctx.run.config.seed, "balance", one.id)
