"""The student's own rationales for real train problems, those it got wrong rationalised from the gold answer.

STaR (Zelikman et al., 2022, arXiv:2203.14465, figure 1): the student solves a train problem, other train examples being
shown; a right answer keeps its rationale. A wrong one is asked again with the gold answer as a hint, and the rationale
is kept when it then reaches it. The sample has no hint: it is the problem as the student is always asked it.

    generate: {recipes: [{name: star, student: teacher}], max_depth: 3}

That is the student alone, as its own teacher (`roles: {teacher: {model: student}}`); beside recipes with a teacher of
another model leave `student` out. Each accepted round trains the student on its own words, so what it writes then is
one generation deeper: set `generate.max_depth` to the number of rounds, or it is refused. Limits: a task whose answers
show no reasoning has no rationales to learn; a rationalisation may argue backwards, and only its answer is checked.
"""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel, ConfigDict

from generate.context import Context, Conversation
from generate.real_problems import grade, solved, unfit
from synthloop.plugins import RoleName
from synthloop.records import Seed
from synthloop.similarity import words

SEEDS = "train"

TELLS = re.compile(r"\bhint(s|ed)?\b|\b(given|provided|known|stated) (the )?(right |correct |final )?answer\b", re.I)
"""What shows that a rationale was written from the hint (chosen, not measured)."""


class Config(BaseModel):
    """Who the `student` is, and whether wrong ones are rationalised. Greedy as in the paper, section 4.1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    student: RoleName = "student"
    rationalise: bool = True
    sampling: dict[str, Any] = {"temperature": 0.0}


def run(seed: Seed, ctx: Context) -> Conversation:
    cfg: Config = ctx.config
    if reason := unfit(seed):
        return ctx.reject(reason)
    rationale = yield ctx.ask(cfg.student, "solve_real.jinja", sampling=cfg.sampling)
    first = score = grade(seed, ctx, rationale)
    if not first.correct and cfg.rationalise:
        rationale = yield ctx.ask(cfg.student, "star_rationalise.jinja", sampling=cfg.sampling)
        score = grade(seed, ctx, rationale)
    if not score.correct:
        return ctx.reject(f"wrong: {score.parsed!r}, the gold answer is {seed.example.answer!r}")
    if words(rationale) == words(str(score.parsed)):
        return ctx.reject("no rationale: the answer stands alone")
    if not first.correct and (told := TELLS.search(rationale)):
        return ctx.reject(f"hint: the rationale tells of it, {told[0]!r}")
    step = "rationale" if first.correct else "rationalisation"
    return solved(seed, ctx, rationale, lineage={"step": step, "first_answer": first.parsed})
