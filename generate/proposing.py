"""How recipes ask for a new problem."""

from __future__ import annotations

from typing import Any

from generate.context import Ask, Context
from synthloop.records import Seed


def new_problem(seed: Seed, ctx: Context, sampling: dict[str, Any]) -> Ask:
    """The request for the text of one new problem.

    From a failure, with the student's wrong answer in view (the prompt of `repair`); from any other real example, one
    like it (that of `variation`).
    """
    template = "variation.jinja" if seed.response is None else "repair.jinja"
    return ctx.ask("teacher", template, sampling=sampling)
