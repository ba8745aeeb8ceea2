"""Problems solved with tools: every call is checked against its schema and really executed.

In each step the `solver` thinks, then calls a tool or answers (ReAct, Yao et al., 2022, arXiv:2210.03629); results are
the tools' own and never written by a model (as in Toolformer, Schick et al., 2023, arXiv:2302.04761). Tools are
`calculator`, `python` and yours (`generate/tools.py`). The first call that does not fit its schema is answered with the
error and counted, a second ends the trajectory. A train row with a gold answer is solved as it is (`use_real`), and the
task's scorer decides; from other seeds the teacher writes a problem, and its trajectories vote.

    generate: {recipes: [{name: tool_use, solver: teacher, tools: [calculator, python], num_trajectories: 3,
         max_steps: 6}]}

The sample has several turns, for any chat template of user and assistant alone (`generate/acting.py`). Limits: the
loop's loss falls on the last turn, and its evaluation offers no tools, so that calls are context; to train on the calls
themselves, export. Each call holds up the driver for about 0.1 s while engines work on. Needs Linux
(`generate/sandbox.py`). Leave `novelty` out: it refuses real problems as copies.
"""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from generate import sandbox
from generate.acting import ActingConfig, Trajectory, act, turns
from generate.context import Context, Conversation
from generate.gates import flaw
from generate.voting import majority
from synthloop.records import Seed

SEEDS = "any"


class Config(ActingConfig):
    """How often a problem is tried, and how many calls the chosen trajectory has at least (chosen, not measured)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_trajectories: int = Field(default=3, gt=0)
    min_calls: int = Field(default=1, ge=0)
    use_real: bool = True
    problem_sampling: dict[str, Any] = Field(default={})


def run(seed: Seed, ctx: Context) -> Conversation:
    cfg: Config = ctx.config
    sandbox.require()
    problem, messages = seed.example.input, seed.example.messages
    gold = seed.example.answer if cfg.use_real and seed.response is None else None
    if gold is None:
        problem = yield ctx.ask("teacher", "tool_use_problem.jinja", tools=cfg.tools, sampling=cfg.problem_sampling)
        if reason := flaw(problem, "new problem"):
            return ctx.reject(reason)
        messages = ctx.task.messages(problem)

    tried: list[Trajectory] = []
    for number in range(cfg.num_trajectories):
        tried.append((yield from act(messages, number, gold is None, ctx)))
    if all(one.answer is None for one in tried):
        return ctx.reject(tried[0].failure)
    votes = [None if one.answer is None else ctx.parse(problem, one.answer) for one in tried]
    answer = majority(votes) if gold is None else gold
    right = [one for one in tried if one.answer and ctx.score(problem, one.answer, answer).correct]
    chosen = next((one for one in right if num_fitting(one) >= cfg.min_calls), None)
    if chosen is None or chosen.answer is None:
        return ctx.reject("too few calls: of every right answer" if right else "unsolved: no answer is right")
    return ctx.candidate(
        problem,
        chosen.answer,
        answer=answer,
        gold=gold is not None,
        votes=votes,
        messages=turns(messages, chosen.calls, cfg.tools),
        scores={
            "calls": num_fitting(chosen),
            "bad_calls": len(chosen.calls) - num_fitting(chosen),
            "pass_rate": len(right) / len(tried),
        },
        lineage={
            "problem_from": "teacher" if gold is None else "train",
            "trajectory": tried.index(chosen),
            "calls": [{**one.call.model_dump(), "result": one.result, "fits": one.fits} for one in chosen.calls],
            "failures": [one.failure for one in tried if one.answer is None],
        },
    )


def num_fitting(one: Trajectory) -> int:
    """The calls that fitted their schema, and were made."""
    return sum(call.fits for call in one.calls)
