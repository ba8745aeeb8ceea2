"""What recipes that propose problems share: how one is asked for, what makes it useless, and its answer by a vote."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from generate.context import Ask, Context, Reject, Reply
from generate.voting import solve
from synthloop.records import Candidate, Seed


def new_problem(seed: Seed, ctx: Context, sampling: dict[str, Any]) -> Ask:
    """The request for the text of one new problem.

    From a failure, with the student's wrong answer in view (the prompt of `repair`); from any other real example, one
    like it (that of `variation`).
    """
    template = "variation.jinja" if seed.response is None else "repair.jinja"
    return ctx.ask("teacher", template, sampling=sampling)


def unusable(problem: Reply) -> str | None:
    """Why `problem` is no problem to go on with, as a recipe's reason; None where it is."""
    if problem.truncated:
        return "truncated: the new problem hit max_tokens"
    return None if problem else "empty: the new problem has no text"


def answered(
    problem: Reply, ctx: Context, *, scores: dict[str, float], lineage: dict[str, Any]
) -> Generator[list[Ask], Any, Candidate | Reject]:
    """`voting.solve`, its candidate with `scores` and `lineage` beside those it has."""
    outcome = yield from solve(problem, ctx)
    if isinstance(outcome, Candidate):
        return outcome.model_copy(
            update={"scores": {**outcome.scores, **scores}, "lineage": {**outcome.lineage, **lineage}}
        )
    assert isinstance(outcome, Reject), outcome
    return outcome
