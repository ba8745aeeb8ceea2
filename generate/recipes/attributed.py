"""New problems under stated conditions, one cell of a coverage grid for each.

AttrPrompt (Yu et al., 2023, arXiv:2306.15895) in the frame of the surveys (Long et al., 2024, arXiv:2406.15126): task
specification x generation conditions x demonstrations. Each attribute has a list of values, and a problem is asked for
under one value of each. Conversation n of the recipe takes cell n of the grid, in an order of which every beginning has
all values of an attribute about equally often, and which reaches every cell once before any a second time. The problem
is then solved `num_solutions` times, as in `variation`.

    generate: {recipes: [{name: attributed, share: 0.3, specification: a word problem about everyday arithmetic,
         conditions: {length: [one sentence, three sentences], style: [plain, a dialogue, a news item],
         difficulty: [one step, two steps, three steps], topic: [money, time, food, travel, sport]}}]}

Whether the problem honours its cell is not checked: the cell is in the lineage, for quotas and for reports. Values that
contradict one another are combined all the same; leave them out. Each round starts at the first cell again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import lcm
from typing import Annotated

from pydantic import Field

from generate.context import Context, Conversation
from generate.voting import VotingConfig, solve
from synthloop.records import Seed

SEEDS = "any"


class Config(VotingConfig):
    """`conditions`: attribute -> its values. `specification`: what the task asks for, where examples do not say it."""

    conditions: dict[str, Annotated[list[str], Field(min_length=1)]] = Field(min_length=1)
    specification: str | None = None


def cell(conditions: Mapping[str, Sequence[str]], number: int) -> dict[str, str]:
    """One value of each attribute.

    The numbers 0 to n - 1 name the n cells of the grid, n being the product of the lengths. Two attributes that step
    together meet in lcm(a, b) of their a * b pairs (Chinese remainder theorem); one of them is then shifted by one.
    """
    chosen, period = {}, 1
    for name, values in conditions.items():
        step = number % (period * len(values))
        chosen[name] = values[(step + step // lcm(period, len(values))) % len(values)]
        period *= len(values)
    return chosen


def run(seed: Seed, ctx: Context) -> Conversation:
    cfg: Config = ctx.config
    conditions = cell(cfg.conditions, number_of(seed))
    problem = yield ctx.ask(
        "teacher",
        "attributed.jinja",
        specification=cfg.specification,
        conditions=conditions,
        sampling=cfg.problem_sampling,
    )
    return (yield from solve(problem, ctx, lineage={"cell": conditions}))


def number_of(seed: Seed) -> int:
    """The seed's number among those of its recipe: 12 for 'attributed-00012'."""
    return int(seed.id.rpartition("-")[2])
