"""Different problems of the same task, from real examples that are no failures.

The novelty-seeking half of Self-Instruct (Wang et al., 2022, arXiv:2212.10560): the teacher sees a real example and
others beside it, and writes one that is unlike them. What the student already solves stays covered while failures are
repaired, so that a round does not narrow the data to the hard cases.

    generate: {recipes: [{name: explore, share: 0.1}]}
"""

from __future__ import annotations

from generate.context import Context, Conversation
from generate.voting import VotingConfig, solve
from synthloop.records import Seed

SEEDS = "non_failures"


class Config(VotingConfig):
    """Settings: those of the vote."""


def run(seed: Seed, ctx: Context) -> Conversation:
    problem = yield ctx.ask("teacher", "explore.jinja", sampling=ctx.config.problem_sampling)
    return (yield from solve(problem, ctx))
