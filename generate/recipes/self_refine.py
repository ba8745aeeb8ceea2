"""New problems whose answer is drafted, criticised and revised until the critic passes it.

Self-Refine (Madaan et al., 2023, arXiv:2303.17651, algorithm 1): the teacher drafts an answer to a new problem, the
`critic` gives feedback and a verdict, and the teacher writes the answer again with all earlier answers and feedback in
view, at most `max_revisions` times. An answer that the critic passes is kept. `num_votes` solutions that have seen
neither draft nor feedback vote on it, so that `verify` does not have to take the critic's word.

    generate: {recipes: [{name: self_refine, critic: teacher, max_revisions: 3, num_votes: 3}]}

A critic from another model is better than the teacher itself: set `critic` to a role of its own. Limits: models that
can't solve a problem mostly can't find their errors in it either (Huang et al., 2023, arXiv:2310.01798), and may talk
themselves out of a right answer; the votes are what shows it. Set `num_votes: 0` where answers are free text.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from generate.context import Ask, Context, Conversation, Outcome, Reply
from generate.gates import flaw, malformed
from generate.proposing import new_problem
from synthloop.plugins import RoleName
from synthloop.records import Seed

SEEDS = "any"

TELLS = re.compile(
    r"\b(critic|feedback|(my|the) (previous|earlier|first|revised) (answer|solution)|apologi[sz]e)", re.I
)
"""What shows that an answer speaks of its own revision (chosen, not measured)."""


class Config(BaseModel):
    """Who criticises, how often an answer is revised (4 in the paper, section 3) and how many votes check it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    critic: RoleName = "teacher"
    max_revisions: int = Field(default=3, ge=0)
    num_votes: int = Field(default=3, ge=0)
    problem_sampling: dict[str, Any] = {}
    solve_sampling: dict[str, Any] = {}
    critic_sampling: dict[str, Any] = {"temperature": 0.0}


class Critique(BaseModel):
    """The critic's reply: reasons first."""

    feedback: str
    verdict: Literal["pass", "revise"]


def run(seed: Seed, ctx: Context) -> Conversation:
    cfg: Config = ctx.config
    problem = yield new_problem(seed, ctx, cfg.problem_sampling)
    if reason := flaw(problem, "new problem"):
        return ctx.reject(reason)
    given: dict[str, Any] = {"problem": problem, "prompt": ctx.task.messages(problem)[-1]["content"]}
    answer = yield ctx.ask("teacher", "solve.jinja", **given, sampling=cfg.solve_sampling)
    history: list[tuple[str, str]] = []
    while True:
        critique = yield from _criticise(given, answer, ctx)
        if isinstance(critique, str):
            return ctx.reject(critique)
        if critique.verdict == "pass":
            break
        if len(history) == cfg.max_revisions:
            return ctx.reject(f"not passed: the critic still finds errors after {cfg.max_revisions} revisions")
        history.append((answer, critique.feedback))
        answer = yield ctx.ask(
            "teacher", "self_refine_revise.jinja", **given, history=tuple(history), sampling=cfg.solve_sampling
        )
    if history and (told := TELLS.search(answer)):
        return ctx.reject(f"revision: the answer speaks of it, {told[0]!r}")
    return (yield from _voted_on(given, answer, history, ctx))


def _criticise(given: dict[str, Any], answer: Reply, ctx: Context) -> Generator[Ask, Reply, Critique | str]:
    """What the critic says of `answer`; why nothing, where that can't be read or there is no whole answer."""
    cfg: Config = ctx.config
    if refusal := flaw(answer, "answer"):
        return refusal
    reply = yield ctx.ask(
        cfg.critic,
        "self_refine_critique.jinja",
        **given,
        answer=answer,
        schema=Critique,
        sampling=cfg.critic_sampling,
    )
    return reply.read(Critique) or malformed("critic's verdict", reply)


def _voted_on(
    given: dict[str, Any], answer: Reply, history: list[tuple[str, str]], ctx: Context
) -> Generator[list[Ask], Any, Outcome]:
    """The sample, with the votes of solutions written without sight of `answer`."""
    cfg: Config = ctx.config
    asks = [
        ctx.ask("teacher", "solve.jinja", **given, sample=i + 1, sampling=cfg.solve_sampling)
        for i in range(cfg.num_votes)
    ]
    solutions = (yield asks) if asks else []
    votes = [None if one.truncated else ctx.parse(given["problem"], one) for one in solutions]
    return ctx.candidate(
        given["problem"],
        answer,
        votes=votes,
        scores={"revisions": len(history)},
        lineage={"drafts": [draft for draft, _ in history], "feedback": [text for _, text in history]},
    )
