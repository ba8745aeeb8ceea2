"""Answers written under principles, which are then stripped from the sample.

Self-Align (Sun et al., 2023, arXiv:2305.03047): the teacher first names the principles that bear on a new problem and
what they ask for here (the paper's internal thoughts), then answers under them. The sample is the bare problem and the
answer, so that the student learns the behaviour without the rules ("principle engraving"). Here `num_solutions` answers
are drawn and vote; one that speaks of its principles has no vote.

    generate: {recipes: [{name: self_align, principles: configs/principles/self_align.yaml, num_solutions: 4}]}

A failure is repaired into a new problem, another row is varied. Whether an answer keeps to the principles is the
teacher's word alone; a filter such as `judge` can look again.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, RootModel

from generate.context import Context, Conversation
from generate.gates import flaw, malformed
from generate.proposing import new_problem
from generate.voting import VotingConfig, majority
from synthloop.config import parse
from synthloop.records import Seed
from synthloop.yaml_file import read_yaml

SEEDS = "any"

SPEAKS_OF_THEM = re.compile(r"\b(principles? \(?\d|(the|these|those|my|our|given) (principles|guidelines)\b)", re.I)
"""How an answer lets its principles slip through ("by principle 3", "as the guidelines say"); chosen, not measured."""


class Config(VotingConfig):
    """`principles` is a YAML file of names and texts; a copy with your own is the way to change them."""

    principles: Path = Path("configs/principles/self_align.yaml")


class Principles(RootModel[dict[str, str]]):
    """Name -> text, in the order of the file."""


class Plan(BaseModel):
    """The internal thoughts: which principles (by number, from 1), and what they ask for here."""

    principles: list[Annotated[int, Field(ge=1, le=99)]] = Field(min_length=1, max_length=4)
    thoughts: str


@cache
def read_principles(path: Path) -> dict[str, str]:
    """The principles at `path`. Raises `UserError`."""
    return parse(Principles, read_yaml(path, as_text=True), str(path)).root


def run(seed: Seed, ctx: Context) -> Conversation:
    cfg: Config = ctx.config
    principles = read_principles(cfg.principles)
    problem = yield new_problem(seed, ctx, cfg.problem_sampling)
    if refusal := flaw(problem, "new problem"):
        return ctx.reject(refusal)

    prompt = ctx.task.messages(problem)[-1]["content"]
    reply = yield ctx.ask("teacher", "self_align_plan.jinja", principles=principles, prompt=prompt, schema=Plan)
    plan = reply.read(Plan)
    if plan is None:
        return ctx.reject(malformed("plan", reply))
    names = [list(principles)[number - 1] for number in plan.principles if 0 < number <= len(principles)]
    if not names:
        return ctx.reject(f"unknown principle: the plan names {plan.principles} of {len(principles)}")

    answers = yield [
        ctx.ask(
            "teacher", "self_align_answer.jinja", principles={name: principles[name] for name in names},
            thoughts=plan.thoughts, prompt=prompt, sample=i, sampling=cfg.solve_sampling,
        )
        for i in range(cfg.num_solutions)
    ]  # fmt: skip
    votes = [None if one.truncated or SPEAKS_OF_THEM.search(one) else ctx.parse(problem, one) for one in answers]
    answer = majority(votes)
    if answer is None:
        return ctx.reject("no answer parses without speaking of the principles")
    lineage = {"principles": names, "thoughts": plan.thoughts}
    return ctx.candidate(problem, answers[votes.index(answer)], answer=answer, votes=votes, lineage=lineage)
