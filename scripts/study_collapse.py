"""Does recursive training collapse, and is it seen in time? Seven mixes of real and synthetic text, round by round.

    python -m scripts.study_collapse                                   GSM8K's questions, where ../shared/data has them
    python -m scripts.study_collapse --seeds 5 --first-seed 100        other chains, as the margins were chosen on
    python -m scripts.study_collapse --reuse runs/study_collapse/curves.json      the detection again, nothing trained

Each chain trains a tiny language model (`scripts/word_lm.py`) on real text, then each generation on what the one before
wrote, mixed with real text as its arm says (`scripts/recursion.py`). The verdict after each round is that of the loop
(`eval/trend.py`, default settings), its controls are retrains on real text alone. False alarms are counted on real-only
chains and on simulated chains without a trend, each with controls of its own:

    normal      rounds and controls from one normal distribution with the covariance of all real-only generations
    resampled   from the real-only generations themselves, around the mean of their seed, with replacement
    inherited   normal, but half of a round's deviation stays in the next: outside of what the rate is stated for

Written to --out: curves.json (every value), detection.json, curves.svg (means with 95% intervals over seeds).
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from eval import collapse
from scripts import curves_svg, detection, recursion
from scripts.detection import Case, Curves
from scripts.recursion import ARMS, SIGNALS, Signals, Size
from synthloop.config import Collapse
from synthloop.store import read_json, write_json
from synthloop.terminal import open_console

GSM8K = Path(__file__).parents[1] / ".." / "shared" / "data" / "gsm8k"
QUICK = Size(num_words=200, num_real=120, num_rows=100, num_held_out=50, steps=60, budget=300)
MUST_CATCH = ("replace", "10% real")
CAUGHT_BY = 4


class Job(NamedTuple):
    """One chain of an arm, or, where the arm is a number, that control retrain."""

    seed: int
    arm: str | int


def main() -> None:
    """Train (or read) the chains, judge them, print and write it all."""
    arguments = parser().parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.reuse:
        curves = read_json(arguments.reuse)
    else:
        data = arguments.data if arguments.data and arguments.data.is_dir() else None
        curves = train(arguments, data)
        write_json(arguments.out / "curves.json", curves)
    report(curves, arguments)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, default=GSM8K, help="folder of GSM8K; absent: Python's help topics")
    options.add_argument("--out", type=Path, default=Path("runs/study_collapse"))
    options.add_argument("--seeds", type=int, default=10)
    options.add_argument("--first-seed", type=int, default=0)
    options.add_argument("--rounds", type=int, default=8)
    options.add_argument("--controls", type=int, default=10, help="real-only retrains a seed")
    options.add_argument("--null-chains", type=int, default=1_000, help="simulated, of each kind")
    options.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options.add_argument("--quick", action="store_true", help="a tiny size, for a test: the numbers mean nothing")
    options.add_argument("--reuse", type=Path, help="curves.json of an earlier call")
    return options


def train(arguments: argparse.Namespace, data: Path | None) -> Curves:
    """Every chain and control, as `curves.json` keeps them."""
    os.environ["OMP_NUM_THREADS"] = "1"  # one process a core; read by the workers when they start
    size = QUICK if arguments.quick else Size()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    jobs = [Job(seed, arm) for seed in seeds for arm in (*ARMS, *range(arguments.controls))]
    began = time.monotonic()
    chains: dict[str, dict[str, Any]] = {arm: {} for arm in (*ARMS, "controls")}
    with ProcessPoolExecutor(arguments.processes, multiprocessing.get_context("spawn")) as pool:
        futures = {pool.submit(run_job, job, data, size, arguments.rounds): job for job in jobs}
        for done, future in enumerate(as_completed(futures), start=1):
            seed, arm = futures[future]
            if isinstance(arm, int):
                chains["controls"].setdefault(str(seed), [None] * arguments.controls)[arm] = future.result()[0]
            else:
                chains[arm][str(seed)] = future.result()
            if done % 20 == 0:
                print(f"{done} of {len(jobs)} jobs, {time.monotonic() - began:.0f} s", flush=True)
    return {
        "data": "gsm8k questions" if data else "pydoc_data.topics",
        "size": size._asdict(),
        "rounds": arguments.rounds,
        "seconds": round(time.monotonic() - began, 1),
        "processes": arguments.processes,
        "chains": chains,
    }


def run_job(job: Job, data: Path | None, size: Size, num_rounds: int) -> list[Signals]:
    import torch

    torch.set_num_threads(1)
    world = recursion.make_world(recursion.load_texts(data), size, job.seed)
    if isinstance(job.arm, int):
        return [recursion.control(world, job.arm)]
    return recursion.chain(world, job.arm, num_rounds)


def report(curves: Curves, arguments: argparse.Namespace) -> None:
    """Judge the chains, draw and print."""
    console = open_console()
    curves_svg.write(arguments.out / "curves.svg", detection.means(curves), list(SIGNALS), ARMS)
    seeds = len(curves["chains"]["replace"])
    console.print(
        f"{curves['data']}, {seeds} seeds, {curves['rounds']} rounds, trained in {curves['seconds']} s "
        f"by {curves['processes']} processes; plot and data in {arguments.out}"
    )
    console.print(growth_table(curves))
    found: dict[str, Any] = {}
    for case in cases(curves["rounds"]):
        arms = {arm: detection.judge_arm(curves, arm, case) for arm in ARMS}
        nulls = {kind: detection.judge_null(curves, kind, case, arguments.null_chains) for kind in detection.NULLS}
        found[case.title] = {"rule": case.rule._asdict(), "arms": arms, "nulls": nulls}
        console.print(detection_table(case, arms))
        print_rates(console, case, arms, nulls)
    write_json(arguments.out / "detection.json", found)


def cases(num_rounds: int) -> list[Case]:
    """The loop's defaults; without an end; without a margin, which is how near the rate the test itself comes; and
    without controls."""
    default, open_end = (collapse.rule(Collapse(horizon=horizon), num_rounds) for horizon in (None, "open"))
    return [
        Case(f"{num_rounds} rounds", default),
        Case("open horizon", open_end),
        Case(f"{num_rounds} rounds, no margin", default._replace(margin=0.0)),
        Case(f"{num_rounds} rounds, no controls", default, calibrated=False),
    ]


def growth_table(curves: Curves) -> Table:
    """How far held-out loss and diversity have moved since round 1, and whether they still do."""
    table = Table(title="change since round 1, and a round over the second half of the rounds", title_justify="left")
    for heading in (
        "arm",
        *(f"{name}{what}" for name in ("nll", "entropy", "js_to_real") for what in ("", ", a round")),
    ):
        table.add_column(heading)
    for arm in ARMS:
        cells = []
        for name in ("nll", "entropy", "js_to_real"):
            total, late = detection.growth(curves, arm, name)
            cells += [_interval(total), _interval(late)]
        table.add_row(arm, *cells)
    return table


def detection_table(case: Case, arms: dict[str, Any]) -> Table:
    table = Table(title=f"alarms on the chains: {case.title}", title_justify="left")
    for heading in ("arm", f"alarm by round {CAUGHT_BY}", "alarm ever", "stop ever", "median first alarm", "first by"):
        table.add_column(heading)
    for arm, one in arms.items():
        n = len(one["first_alarm"])
        early = sum(round is not None and round <= CAUGHT_BY for round in one["first_alarm"].values())
        ever = sum(round is not None for round in one["first_alarm"].values())
        stopped = sum(round is not None for round in one["first_stop"].values())
        median = detection.median_round(one["first_alarm"].values())
        signals = ", ".join(f"{name} {count}" for name, count in list(one["first_signals"].items())[:4])
        table.add_row(arm, f"{early} of {n}", f"{ever} of {n}", f"{stopped} of {n}", str(median or "-"), signals)
    return table


def print_rates(console: Console, case: Case, arms: dict[str, Any], nulls: dict[str, Any]) -> None:
    """Whether what is stated and asked for holds, in a line each."""
    for kind, one in nulls.items():
        promised = case.calibrated and kind != "inherited"
        console.print(
            f"false alarms, {kind} null chains: {one['alarms']} of {one['chains']} "
            f"[{one['ci_low']:.1%}, {one['ci_high']:.1%}]; "
            + (f"stated: at most {case.rule.alpha:.0%} a chain" if promised else "no rate is stated for these")
        )
    for arm in MUST_CATCH:
        rounds = list(arms[arm]["first_alarm"].values())
        early = sum(round is not None and round <= CAUGHT_BY for round in rounds)
        console.print(f"{arm}: {early} of {len(rounds)} caught by round {CAUGHT_BY}, asked: 9 in 10")


def _interval(one: Sequence[float]) -> str:
    mean, low, high = one
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"


if __name__ == "__main__":
    main()
