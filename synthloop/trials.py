"""Trials: the proxy trainings by which mixes are compared. `train/trials.py` trains them, `eval/search.py` scores them.

plan(...)  ->  [Trial]  ->  round-NNN/trials/<name>/adapter, trial.json  ->  search.json
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from synthloop.config import parse
from synthloop.errors import UserError
from synthloop.mixing import Mix
from synthloop.records import Record
from synthloop.store import Run, read_json

NEARBY = 1.1
"""A ratio within this factor of all there is (or of a cap) tells nothing beside it, and costs as much."""


class Trial(Record):
    """One training.

    `axis` 'amount': all real rows and `value` x as much synthetic data. 'share': as much data as there is real data,
    the share `value` of it synthetic. 'without': as 'amount', none of it from `recipe`.
    """

    axis: Literal["amount", "share", "without"]
    value: float
    seed: int
    recipe: str | None = None

    @property
    def name(self) -> str:
        """The folder of the trial."""
        what = self.axis if self.recipe is None else f"{self.axis}-{self.recipe}"
        return f"{what}-{self.value:.3g}-seed-{self.seed}"


class Plan(Record):
    """What is to be trained. Where there are more real rows than `max_real_rows`, each trial has that part of all."""

    max_real_rows: int
    trials: tuple[Trial, ...]


class Trained(Record):
    """`trial.json`: a trial, and what its training took. `tokens` is the size of its mix, once through."""

    trial: Trial
    rows: int
    synthetic_rows: int
    tokens: int
    steps: int
    seconds: float


def reachable(ratios: Sequence[float], limit: float) -> list[float]:
    """`ratios` in order, those at or above `limit` (all the synthetic data per real there is) replaced by it."""
    below = [ratio for ratio in sorted(set(ratios)) if ratio * NEARBY < limit]
    return [*below, limit] if len(below) < len(set(ratios)) else below


def in_force(run: Run, round: int) -> float:
    """The ratio that holds before the search of `round`: what the last search found, else `max_synthetic_ratio`."""
    last = last_search(run, round)
    return run.config.mix.max_synthetic_ratio if last is None else float(read_json(last)["ratio"])


def last_search(run: Run, before: int) -> Path | None:
    """The `search.json` of the last round before round `before` that searched."""
    rounds = [one for one in run.rounds() if one < before and run.stage(one, "search").is_complete]
    return run.round_dir(rounds[-1]) / "search.json" if rounds else None


def plan(mix: Mix, current: float, limit: float, recipes: Sequence[str]) -> Iterator[Trial]:
    """The trials of a round: every ratio that can be reached and the one in force, with every seed.

    Each of `recipes` is left out in turn, at the largest ratio.
    """
    ratios = reachable([*mix.ratios, current], limit)
    for seed in range(mix.proxies.seeds):
        for ratio in ratios:
            yield Trial(axis="amount", value=ratio, seed=seed)
        for recipe in recipes:
            yield Trial(axis="without", value=ratios[-1], seed=seed, recipe=recipe)


def read_trials(folder: Path) -> list[tuple[Trained, Path]]:
    """Each trained trial and its adapter, in the order of their names.

    Raises:
        UserError: there are none.
    """
    found = [
        (parse(Trained, read_json(path), str(path)), path.with_name("adapter"))
        for path in sorted(folder.glob("*/trial.json"))
    ]
    if not found:
        raise UserError(f"{folder}: no trained trial. Run `synthloop search` for that round first.")
    return found
