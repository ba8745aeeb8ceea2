"""New problems like a given one, whether the student failed it or not.

The plain rewriting of Self-Instruct's descendants (Wang et al., 2022, arXiv:2212.10560; MetaMath, Yu et al., 2023,
arXiv:2309.12284): same skill and difficulty, other names, numbers and setting. The usual baseline of the others.

    generate: {recipes: [{name: variation, share: 0.3}], non_failure_share: 0.25}
"""

from __future__ import annotations

from generate.context import Context, Conversation
from generate.voting import VotingConfig, solve
from synthloop.records import Seed

SEEDS = "any"


class Config(VotingConfig):
    """Settings: those of the vote."""


def run(seed: Seed, ctx: Context) -> Conversation:
    problem = yield ctx.ask("teacher", "variation.jinja", sampling=ctx.config.problem_sampling)
    return (yield from solve(problem, ctx))
