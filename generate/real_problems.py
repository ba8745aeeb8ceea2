"""Recipes that write new solutions to *real* problems: what may be solved, what is right, and the sample it gives.

A solution to a real problem is trained on together with that problem, so it must be one of the train split. A `Seed`
does not name its split, but only seeds made from failures have a `response`, and failures are probe problems unless
`generate.failures_from: train`. Such recipes therefore set `SEEDS = "train"` and refuse a seed with a response.

The samples are `gold`: `verify` holds them against the gold answer, and for `dedup` and `novelty` one is a repeat where
its completion is the same too.
"""

from __future__ import annotations

from typing import Any

from generate.context import Context, Reject, Reply
from synthloop.records import Candidate, Score, Seed


def unfit(seed: Seed) -> str | None:
    """Why the real problem of `seed` can't be solved for training, as a recipe's reason; None where it can."""
    if seed.response is not None:
        return "held out: the seed is a failure, and a failed problem of the probe split is not to be trained on"
    if seed.example.answer is None:
        return "no gold: the real example has no answer to check a solution against"
    return None


def grade(seed: Seed, ctx: Context, solution: Reply) -> Score:
    """What the task's scorer says of `solution` against the gold answer; one that was cut off is never right."""
    if solution.truncated:
        return Score(value=0.0, correct=False, reason="truncated")
    return ctx.task.score(seed.example, solution)


def solved(seed: Seed, ctx: Context, solution: Reply, **fields: Any) -> Candidate | Reject:
    """The sample: the real problem as the student is asked it, with a solution that gives the gold answer."""
    real = seed.example
    return ctx.candidate(real.input, solution, answer=real.answer, gold=True, messages=real.messages, **fields)
