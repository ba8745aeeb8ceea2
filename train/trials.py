"""Stage `trials`: the proxy trainings by which `mix.policy: adaptive` compares mixes.

    accelerate launch --config_file configs/accelerate/cpu.yaml -m train.trials --run runs/quickstart --round 2

Each trial of `synthloop/trials.py` trains as the round itself would, on its own mix, and leaves `trials/<name>/adapter`
and `trial.json`. Where there are more real rows than `mix.proxies.max_real_rows`, real and synthetic rows are cut to
the same part, another one for each seed; within a seed the smaller mixes are part of the larger ones. Stopped and run
again, it goes on with the trial it was in. With `--to DIR` the trials are those of DIR/sweep_plan.json
(`synthloop sweep`).
"""

from __future__ import annotations

import argparse
import gc
import logging
import math
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synthloop import progress
from synthloop.child import open_run, run_child, stage_parser
from synthloop.config import Config, parse
from synthloop.files import flush_tree
from synthloop.launch import refuse_lone_process, use_one_gpu
from synthloop.mixing import Mix
from synthloop.randomness import derive_seed
from synthloop.records import Row
from synthloop.store import Run, read_json, write_json
from synthloop.sweep import SweepPlan
from synthloop.trials import Plan, Trained, Trial, in_force, last_search, plan
from train.mix import in_order, mix_rows, select
from train.mix_facts import sizes
from train.run import configure, fit, stage_writer
from train.sources import Sources, read_sources

log = logging.getLogger("synthloop.train")


def main(arguments: argparse.Namespace) -> None:
    """Train the round's trials, or those of a plan. Raises `UserError`."""
    run, round, folder = open_run(arguments), arguments.round, arguments.to
    sources = read_sources(run, round)
    if folder is not None:
        state = distributed_state(run.config, folder)
        path = folder / "sweep_plan.json"
        asked = parse(SweepPlan, read_json(path), str(path))
        train_all(run, round, sources, asked.plan(available(sources, run.config.mix)), folder, state)
        return
    stage = run.stage(round, "trials")
    if stage.is_complete:
        log.info("trials: round %d is already done.", round)
        return
    mix = run.config.mix
    recipes = sorted(set(sources.recipes.values())) if run.config.generate.allocation == "thompson" else []
    trials = plan(mix, in_force(run, round), available(sources, mix), recipes)
    planned = Plan(max_real_rows=mix.proxies.max_real_rows, trials=tuple(trials))
    state = distributed_state(run.config, stage.partial)
    last = last_search(run, round)
    with stage_writer(stage, [*sources.inputs, *([last] if last else [])], state) as out:
        out.notes.update(train_all(run, round, sources, planned, out.folder, state))


def distributed_state(config: Config, folder: Path) -> Any:
    """The processes that train together, as Accelerate sees them; this joins their group."""
    objective, settings = configure(config, folder, config.seed)
    state = objective.build_args(settings).distributed_state
    refuse_lone_process(config.train.accelerate, state.num_processes)
    return state


def available(sources: Sources, mix: Mix) -> float:
    """All the synthetic data per real that a round may take: what there is, or the loop's tighter cap."""
    there = sum(sizes(sources.synthetic, mix.unit)) / sum(sizes(sources.real, mix.unit))
    cap = sources.override.max_synthetic_ratio if sources.override else None
    return there if cap is None else min(there, cap)


def train_all(run: Run, round: int, sources: Sources, planned: Plan, folder: Path, state: Any) -> dict[str, Any]:
    """Train every trial that is not trained yet, into `folder`/trials; facts for the stage's record."""
    part = min(1.0, planned.max_real_rows / len(sources.real))
    update = progress.updates(len(planned.trials), "trials")
    done = []
    for trial in planned.trials:
        target = folder / "trials" / trial.name
        record = target / "trial.json"
        if not record.exists():
            rows = trial_rows(trial, sources, run.config.mix, part, run.config.seed, round)
            train_one(run, round, trial, rows, part, target, state)
        done.append(parse(Trained, read_json(record), str(record)))
        if state.is_main_process:
            update(len(done))
    totals = {name: sum(getattr(one, name) for one in done) for name in ("tokens", "steps", "seconds")}
    return {"trials": len(done), "part": part, **totals, "devices": state.num_processes}


def trial_rows(trial: Trial, sources: Sources, mix: Mix, part: float, run_seed: int, round: int) -> list[Row]:
    """The rows of a trial, in training order; a function of its arguments alone.

    `part` of the real and of the synthetic rows are drawn by the trial's seed, and the mix is made of those.
    """
    seed = derive_seed(run_seed, round, "trial", trial.seed)
    real = draw(sources.real, part, seed)
    left = [row for row in sources.synthetic if sources.recipes[row.id] != trial.recipe]
    synthetic = draw(left, part, seed)
    if trial.axis == "share":
        size = sum(sizes(real, mix.unit))
        budgets = ((real, (1 - trial.value) * size), (synthetic, trial.value * size))
        return in_order([row for rows, budget in budgets for row in select(rows, budget, mix.unit, seed)], seed, round)
    num_rows = None if mix.num_rows is None else round_up(mix.num_rows * part)
    policy = mix.settled(trial.value).model_copy(update={"policy": "capped", "num_rows": num_rows})
    return mix_rows(real, synthetic, policy, seed, round, replay=sources.replayed)


def draw(rows: Sequence[Row], part: float, seed: int) -> list[Row]:
    """`part` of `rows`, drawn by `seed`: of two parts the smaller is within the larger."""
    return sorted(rows, key=lambda row: (derive_seed(seed, "draw", row.id), row.id))[: round_up(part * len(rows))]


def round_up(value: float) -> int:
    return math.ceil(round(value, 6))


def train_one(run: Run, round: int, trial: Trial, rows: list[Row], part: float, folder: Path, state: Any) -> None:
    """Train one trial into `folder`; `trial.json` is written last, and its checkpoints are deleted."""
    config = run.config
    if config.train.args.get("max_steps", 0) > 0:
        args = {**config.train.args, "max_steps": round_up(config.train.args["max_steps"] * part)}
        config = config.model_copy(update={"train": config.train.model_copy(update={"args": args})})
    started = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    objective, settings = configure(config, folder, derive_seed(config.seed, round, "trial", trial.seed, "train"))
    facts = fit(objective, settings, objective.build_args(settings), rows, folder)
    gc.collect()  # the model of this trial, before the next one is loaded
    log.info("trials: %s, %d rows, %d steps", trial.name, len(rows), facts["steps"])
    if state.is_main_process:
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        trained = Trained(
            trial=trial,
            rows=len(rows),
            synthetic_rows=sum(row.source == "synthetic" for row in rows),
            tokens=sum(row.num_tokens for row in rows),
            steps=facts["steps"],
            seconds=float(f"{time.monotonic() - started:.3f}"),
        )
        flush_tree(folder)  # before what says that it is trained
        write_json(folder / "trial.json", trained.model_dump(), sealed=True)
    state.wait_for_everyone()


def parser() -> argparse.ArgumentParser:
    options = stage_parser(__doc__)
    options.add_argument("--to", type=Path, help="train those of DIR/sweep_plan.json into DIR instead")
    return options


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # see train/run.py
    use_one_gpu()
    run_child(main, parser=parser())
