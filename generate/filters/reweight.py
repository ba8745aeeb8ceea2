"""How much should it count: nothing is dropped, samples like the real data weigh more in the loss.

The weight is the density ratio of real to synthetic texts over hashed unigrams and bigrams (the features of DSIR, Xie
et al., 2023, arXiv:2302.03169), by a logistic regression that has not seen the sample (`generate.importance`), clipped,
and scaled to a mean of 1 over the batch: the share of synthetic data in the loss stays what the mix made it.

    curate: {filters: [{name: reweight, max_ratio: 4.0}]}

The effective sample size is logged: much below the number of samples, few of them carry the round. A weight that a
recipe gave is multiplied by it.

Limits: likeness of words, not correctness. New material weighs less by construction; where the loop is after what the
real data lacks, leave it out. Below `min_rows` real or synthetic samples all keep their weight.
"""

from __future__ import annotations

import logging

from pydantic import BaseModel, ConfigDict, Field

from generate.curation import FilterContext, whole_texts
from generate.importance import effective_size, features, odds, weights
from synthloop.randomness import derive_seed
from synthloop.records import Candidate, Decision

log = logging.getLogger("synthloop.curate")


class Config(BaseModel):
    """`num_buckets` as in DSIR; the other defaults are chosen, not measured."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_ratio: float = Field(default=4.0, gt=1)
    num_buckets: int = Field(default=10_000, gt=0)
    num_folds: int = Field(default=5, ge=2)
    min_rows: int = Field(default=20, ge=1)


def check(cfg: Config, batch: list[Candidate], ctx: FilterContext) -> list[Decision]:
    real = whole_texts(ctx, ctx.real("train"))
    order = sorted(range(len(batch)), key=lambda n: derive_seed(ctx.run.config.seed, "reweight", batch[n].id))
    if min(len(real), len(batch)) < max(cfg.min_rows, 2):
        if batch:
            log.warning("reweight: too few samples to weigh (%d real, %d new)", len(real), len(batch))
        return [Decision(keep=True) for _ in batch]
    folds = [0] * len(batch)
    for place, n in enumerate(order):
        folds[n] = place % cfg.num_folds
    synthetic = whole_texts(ctx, batch)
    ratios = odds(features(real, cfg.num_buckets), features(synthetic, cfg.num_buckets), folds)
    found = weights(ratios, cfg.max_ratio)
    log.info("reweight: effective sample size %.0f of %d", effective_size(found), len(batch))
    return [
        Decision(keep=True, score=float(weight), changes={"weight": one.weight * float(weight)})
        for one, weight in zip(batch, found, strict=True)
    ]
