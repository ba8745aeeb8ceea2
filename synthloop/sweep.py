"""`synthloop sweep`: held-out score against the amount and the share of a run's synthetic data.

    RUN/sweep/sweep_plan.json  ->  train.trials  ->  trials/  ->  eval.search  ->  sweep.json, sweep.svg

The same command again goes on where it was stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from synthloop.config import parse
from synthloop.errors import UserError
from synthloop.folders import refuse_foreign
from synthloop.launch import launch
from synthloop.records import Record
from synthloop.store import Run, read_json, stage_settings, write_json
from synthloop.trials import Plan, Trial, reachable


class SweepPlan(Record):
    """`sweep_plan.json`: what was asked for, the round whose synthetic data is used, and the settings of the run."""

    round: int
    ratios: tuple[float, ...]
    shares: tuple[float, ...]
    seeds: int
    max_real_rows: int
    settings: dict[str, Any]

    def plan(self, limit: float) -> Plan:
        """The trials, with as much synthetic data per real as there is (`limit`) where more is asked for."""
        axes: dict[str, list[float]] = {
            "amount": reachable(self.ratios, limit),
            "share": reachable(self.shares, min(1.0, limit)),
        }
        trials = [
            Trial(axis=axis, value=value, seed=seed)
            for seed in range(self.seeds)
            for axis, values in axes.items()
            for value in values
        ]
        return Plan(max_real_rows=self.max_real_rows, trials=tuple(trials))


def prepare(
    run: Run, round: int | None, folder: Path, ratios: str, shares: str, seeds: int, max_real_rows: int
) -> SweepPlan:
    """Write `folder`/sweep_plan.json, or find the same one there.

    Raises:
        UserError: no synthetic data in that round, a list that does not parse, or `folder` holds another sweep
            or anything else.
    """
    curated = [one for one in run.rounds() if run.stage(one, "curate").is_complete]
    if not curated or (round is not None and round not in curated):
        where = "" if round is None else f" in round {round}"
        raise UserError(f"{run.root}: no curated synthetic data{where}. Rounds that have some: {curated or 'none'}.")
    asked = SweepPlan(
        round=curated[-1] if round is None else round,
        ratios=numbers("--ratios", ratios, float("inf")),
        shares=numbers("--shares", shares, 1.0),
        seeds=seeds,
        max_real_rows=max_real_rows,
        settings=stage_settings(run.config, "trials") | stage_settings(run.config, "search"),
    )
    refuse_foreign(folder, ["sweep_plan.json"], "Give --to a folder of the sweep's own.")
    path = folder / "sweep_plan.json"
    if path.exists() and parse(SweepPlan, read_json(path), str(path)) != asked:
        raise UserError(f"{path} is of a sweep with other options or settings. Give --to another folder, or delete it.")
    write_json(path, asked.model_dump(mode="json"))
    return asked


def numbers(option: str, text: str, most: float) -> tuple[float, ...]:
    """The comma-separated numbers of an option, ascending. Raises `UserError`."""
    try:
        found = sorted({float(one) for one in text.split(",") if one.strip()})
    except ValueError as error:
        raise UserError(f"{option} {text}: expected numbers with commas, for example 0,0.5,1.") from error
    if any(not 0 <= one <= most for one in found):
        raise UserError(f"{option} {text}: each is to be between 0 and {most:g}.")
    return tuple(found)


def commands(run: Run, round: int, folder: Path) -> Iterator[list[str]]:
    """The two child processes, in order."""
    where = ["--run", str(run.root), "--round", str(round), "--to", str(folder)]
    yield launch(run.config.train.accelerate, "train.trials", *where)
    yield [sys.executable, "-m", "eval.search", *where]
