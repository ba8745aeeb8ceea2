"""New problems that train what a failure shows was missed.

After LLM2LLM (Lee et al., 2024, arXiv:2403.15042): the teacher sees the problem the student failed, the right solution
*and the student's own wrong answer*, and writes a new problem that exercises what went wrong. It is then solved
`num_solutions` times by the teacher, who does not see the failure any more.

    generate: {recipes: [{name: repair, share: 0.6, num_solutions: 4}]}

A seed without a wrong answer (no failure was left, or `seeds: random`) is varied instead: there is nothing to repair.
"""

from __future__ import annotations

from generate.context import Context, Conversation
from generate.proposing import new_problem
from generate.voting import VotingConfig, solve
from synthloop.records import Seed

SEEDS = "failures"


class Config(VotingConfig):
    """Settings: those of the vote."""


def run(seed: Seed, ctx: Context) -> Conversation:
    problem = yield new_problem(seed, ctx, ctx.config.problem_sampling)
    return (yield from solve(problem, ctx))
