"""Mixes side by side through the actual loop, over several seeds: what a run ends at, and what its mix cost to find.

    python scripts/study_mix.py configs/quickstart.yaml --arms scripts/arms/ratios.yaml --out runs/ratios --seeds 5

The arms are a YAML file: name -> overrides of the config. Each is a full run for each seed, which changes the splits,
what is generated and the training. The first arm's untouched student and the data of its round 1 are taken over by the
others of that seed: no mix has changed them yet. The same command again goes on where it was stopped.

Printed, and written to OUT/study.json: each arm's score on `test` at its end (the best round) and its last round's
`gate` and `nll`; the first arm minus each other one, paired, with a 95% t-interval over seeds; each seed's own paired
difference, with the p-value of its exact test after Holm's correction over the seeds; and, where the mix is adaptive,
what the search took beside the rest of the run.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.table import Table
from scipy import stats

from eval.compare import compare
from synthloop.store import Run, Stage, read_json, write_json
from synthloop.terminal import open_console

SHARED = ((0, ("eval", "test", "decide")), (1, ("seed", "generate", "curate")))
"""Round -> stages that come before any mix."""


def main() -> None:
    """Run what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--arms", type=Path, required=True, help="YAML: arm -> list of overrides")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    arms: dict[str, list[str]] = yaml.safe_load(arguments.arms.read_text(encoding="utf-8"))
    for seed in range(arguments.seeds):
        folder = arguments.out / f"seed-{seed}"
        for arm, switches in arms.items():
            if arm != next(iter(arms)) and not (folder / arm).exists():
                take_over(folder / next(iter(arms)), folder / arm)
            asked = [*arguments.overrides, *switches, f"seed={seed}", "tracking.wandb=off"]
            run(arguments.config, asked, folder / arm)
    study = summary(arguments.out, list(arms), arguments.seeds)
    write_json(arguments.out / "study.json", study)
    show(study)


def run(config: Path, overrides: list[str], folder: Path) -> None:
    """One run; it may be stopped by the collapse guard (exit code 3)."""
    command = ["synthloop", "run", str(config), *overrides, "--run-dir", str(folder)]
    print("$", " ".join(command), flush=True)
    code = subprocess.call([str(Path(sys.executable).with_name(command[0])), *command[1:]])
    if code not in (0, 3):
        sys.exit(code)


def take_over(source: Path, target: Path) -> None:
    """Start the run `target` from what `source` made before its first mix."""
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(source / "data", partial / "data")
    shutil.copy(source / "config.resolved.json", partial)
    for file in source.glob("journal.sqlite*"):
        shutil.copy(file, partial)
    run = Run(source)
    for round, names in SHARED:
        for name in names:
            if run.stage(round, name).is_complete:
                copy_stage(run.stage(round, name), partial)
    partial.rename(target)


def copy_stage(stage: Stage, root: Path) -> None:
    """Copy a complete stage's record and outputs."""
    for file in [stage.record_path, *(stage.folder / name for name in stage.record()["outputs"])]:
        target = root / file.relative_to(stage.run.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)


def summary(out: Path, arms: list[str], seeds: int) -> dict[str, Any]:
    """Every run's facts, and the first arm against each other one."""
    runs = {arm: [facts(out / f"seed-{seed}" / arm) for seed in range(seeds)] for arm in arms}
    against = {arm: paired(out, arms[0], arm, seeds) for arm in arms[1:]}
    return {"seeds": seeds, "first": arms[0], "runs": runs, "first_minus": against}


def facts(folder: Path) -> dict[str, Any]:
    """What one run ended at, and what its search took."""
    report = read_json(folder / "report.json")
    rounds, best = report["rounds"], report["best_round"]
    searches = [one["search"] for one in rounds if one["search"]]
    return {
        "best_round": best,
        "rounds": len(rounds) - 1,
        "stopped_by": report["stopped_by"],
        "test": rounds[best]["eval"]["test"]["value"],
        "gate": rounds[-1]["eval"]["gate"]["value"] if "gate" in rounds[-1]["eval"] else None,
        "nll": rounds[-1]["collapse"]["signals"].get("nll") if rounds[-1]["collapse"] else None,
        "ratios": [one["ratio"] for one in searches],
        "search_seconds": sum(one["cost"]["train_seconds"] + one["cost"]["score_seconds"] for one in searches),
        "trials": sum(one["cost"]["trials"] for one in searches),
        "seconds": sum(sum(one["seconds"].values()) for one in rounds),
    }


def paired(out: Path, first: str, other: str, seeds: int) -> dict[str, Any]:
    """The differences on `test`, first minus other: over seeds, and each seed's own."""
    each = [compare(out / f"seed-{seed}" / first, out / f"seed-{seed}" / other) for seed in range(seeds)]
    gains = [one["gain"] for one in each]
    mean, error = float(np.mean(gains)), float(np.std(gains, ddof=1) / np.sqrt(seeds)) if seeds > 1 else float("nan")
    half = float(stats.t.ppf(0.975, seeds - 1)) * error if seeds > 1 else float("nan")
    p_values = holm([one["p_value_two_sided"] for one in each])
    return {
        "mean": mean,
        "ci_low": mean - half,
        "ci_high": mean + half,
        "each": [
            {**{name: one[name] for name in ("gain", "ci_low", "ci_high", "n")}, "p_holm": p_value}
            for one, p_value in zip(each, p_values, strict=True)
        ],
    }


def holm(p_values: list[float]) -> list[float]:
    """Holm's adjusted p-values (1979, Scandinavian Journal of Statistics 6:65), in the order given."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def show(study: dict[str, Any]) -> None:
    """Print the arms, the best of the others, and the cost of the searches."""
    first, seeds = study["first"], study["seeds"]
    drawn = Table(title=f"test in percent, {seeds} seeds; differences paired, 95% over seeds", title_justify="left")
    for heading in (
        "arm",
        "test: mean",
        "each seed",
        f"{first} minus arm",
        "each seed (Holm p)",
        "last gate",
        "last nll",
    ):
        drawn.add_column(heading)
    for arm, runs in study["runs"].items():
        difference = study["first_minus"].get(arm)
        drawn.add_row(
            arm,
            percent(np.mean([one["test"] for one in runs])),
            " ".join(percent(one["test"]) for one in runs),
            "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * difference[name] for name in ("mean", "ci_low", "ci_high")))
            if difference
            else "-",
            " ".join(f"{100 * one['gain']:+.1f} ({one['p_holm']:.2g})" for one in difference["each"])
            if difference
            else "-",
            " ".join("-" if one["gate"] is None else percent(one["gate"]) for one in runs),
            " ".join("-" if one["nll"] is None else f"{one['nll']:.2f}" for one in runs),
        )
    console = open_console()
    console.print(drawn)
    for line in told(study):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def told(study: dict[str, Any]) -> list[str]:
    """The first arm against the best other one, and what its search cost, in words."""
    others = study["first_minus"]
    best = max(others, key=lambda arm: float(np.mean([one["test"] for one in study["runs"][arm]])))
    one = others[best]
    worse = sum(seed["p_holm"] < 0.05 and seed["gain"] < 0 for seed in one["each"])
    low, high = 100 * one["ci_low"], 100 * one["ci_high"]
    lines = [
        f"{study['first']} minus {best}, the best other arm by its mean: {100 * one['mean']:+.1f} points "
        f"[{low:+.1f}, {high:+.1f}] over {study['seeds']} seeds; significantly below it in {worse} of them."
    ]
    runs = [one for one in study["runs"][study["first"]] if one["trials"]]
    if runs:
        search, whole = sum(one["search_seconds"] for one in runs), sum(one["seconds"] for one in runs)
        ratios = "; ".join(", ".join(f"{ratio:.3g}" for ratio in one["ratios"]) for one in runs)
        lines.append(
            f"The search took {sum(one['trials'] for one in runs)} trials and {search:.0f} s, "
            f"{100 * search / whole:.0f}% of these runs' {whole:.0f} s. Ratios it took, by seed: {ratios}."
        )
    return lines


def percent(value: Any) -> str:
    return f"{100 * value:.1f}"


if __name__ == "__main__":
    main()
