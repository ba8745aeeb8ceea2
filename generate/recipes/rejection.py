"""More right and different solutions to real train problems, from one teacher or a committee.

Rejection sampling: each problem is solved `num_solutions` times, and what gives the gold answer is kept. After RFT
(Yuan et al., 2023, arXiv:2308.01825): a solution with a wrong calculation is dropped, and of those that share one list
of equations the first is kept; where there are no equations, of those with the same words. At most `max_per_problem`
stay, so that easy problems don't fill the mix (ReST-EM, Singh et al., 2023, arXiv:2312.06585, who take 10 of 32). Where
the role is a committee its members take turns (iTeC of Apple's models, Gunter et al., 2024, arXiv:2407.21075).

    generate: {recipes: [{name: rejection, num_solutions: 16, max_per_problem: 4}]}
    # ReST-EM itself samples the student: {name: rejection, solver: student}, with generate.max_depth at the rounds.

Limits: a wrong way to the right number passes (`holds` reads plain arithmetic only); nothing is learned about problems
that no solver solves.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from generate.context import Context, Conversation
from generate.equations import equations, holds
from generate.real_problems import grade, solved, unfit
from synthloop.plugins import RoleName
from synthloop.records import Seed
from synthloop.similarity import words

SEEDS = "train"


class Config(BaseModel):
    """How often `solver` solves a problem, and how many solutions of one are kept (chosen, not measured)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    solver: RoleName = "teacher"
    num_solutions: int = Field(default=8, gt=0)
    max_per_problem: int = Field(default=4, gt=0)
    sampling: dict[str, Any] = {}


def run(seed: Seed, ctx: Context) -> Conversation:
    cfg: Config = ctx.config
    if reason := unfit(seed):
        return ctx.reject(reason)
    asks = [
        ctx.ask(cfg.solver, "solve_real.jinja", sample=i, member=i, sampling=cfg.sampling)
        for i in range(cfg.num_solutions)
    ]
    solutions = yield asks
    scores = [grade(seed, ctx, one) for one in solutions]
    right = [i for i, score in enumerate(scores) if score.correct]
    sound = [i for i in right if all(map(holds, equations(solutions[i])))]
    distinct = {reasoning(solutions[i]): i for i in reversed(sound)}
    chosen = sorted(distinct.values())[: cfg.max_per_problem]
    if not chosen:
        if right:
            return ctx.reject(f"unsound: {len(right)} of {len(scores)} are right, all with a wrong calculation")
        return ctx.reject(f"unsolved: none of {len(scores)} solutions is right")
    counts = {"num_right": len(right), "num_sound": len(sound), "num_distinct": len(distinct)}
    return [
        solved(
            seed,
            ctx,
            solutions[i],
            votes=[score.parsed for score in scores],
            scores={"pass_rate": len(right) / len(scores)},
            lineage={"solution": i, "model": asks[i].model, "request": asks[i].key, **counts},
        )
        for i in chosen
    ]


def reasoning(solution: str) -> tuple[object, ...]:
    """What two solutions must differ in to be two: their equations in order, or their words where there are none."""
    return tuple(equations(solution)) or tuple(words(solution))
