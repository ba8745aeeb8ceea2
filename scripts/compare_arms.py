"""One config in several arms, at the same number of training rows and steps: which change of it matters?

    python scripts/compare_arms.py configs/quickstart.yaml --arms scripts/arms/controls.yaml --out runs/controls

The arms are a YAML file: name -> overrides of the config; the first is the one the others are compared with. Each is a
full run of the same rounds, so that each has the same chances to be selected on `gate`. All have `mix.unit: rows` and
the same `mix.num_rows` (real rows are repeated where synthetic ones fall short), so the rows, and with them the
optimiser steps, are equal. Printed for each arm: the score on `test` of its best round, the paired gain over the
untouched student, and the paired difference of the first arm to it, with 95% intervals; all of it also goes to
OUT/arms.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.table import Table

from synthloop.config import load_config
from synthloop.splits import split
from synthloop.store import read_json, write_json
from synthloop.task import open_task
from synthloop.terminal import interval, open_console


def main() -> None:
    """Run the arms one after the other (each resumes where it was), then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--arms", type=Path, required=True, help="YAML: arm -> list of overrides")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arms: dict[str, list[str]] = yaml.safe_load(arguments.arms.read_text(encoding="utf-8"))
    num_rows = rows_per_round(arguments.config, arguments.overrides)
    config = load_config(arguments.config, arguments.overrides)
    shared = [*arguments.overrides, "mix.unit=rows", f"mix.num_rows={num_rows}", f"decide.patience={config.rounds}"]
    for arm, switches in arms.items():
        command = ["synthloop", "run", str(arguments.config), *shared, *switches, "--run-dir", str(arguments.out / arm)]
        print("$", " ".join(command), flush=True)
        subprocess.run([str(Path(sys.executable).with_name(command[0])), *command[1:]], check=True)
    table = summary(arguments.out, list(arms), num_rows)
    write_json(arguments.out / "arms.json", table)
    show(table)


def rows_per_round(path: Path, overrides: list[str]) -> int:
    """Rows a round: the real train rows times (1 + the synthetic ratio of the last round)."""
    config = load_config(path, overrides)
    splits, _ = split(open_task(config.task.name, config.task.settings), config.splits, config.seed)
    return round(len(splits["train"]) * (1 + (config.mix.ratio(config.rounds) or 0.0)))


def summary(out: Path, arms: Sequence[str], num_rows: int) -> dict[str, Any]:
    """Arm -> its test score, gain, rows and steps; and the paired difference of the first arm to each other."""
    first, *others = arms
    facts = {arm: arm_facts(out / arm) for arm in arms}
    against = {arm: difference(out / first, out / arm) for arm in others}
    return {"num_rows": num_rows, "first": first, "arms": facts, "first_minus": against}


def arm_facts(folder: Path) -> dict[str, Any]:
    """The best round of one arm, with the rows and steps of every round it trained."""
    report = read_json(folder / "report.json")
    best = report["rounds"][report["best_round"]]
    trained = [one for one in report["rounds"] if one["mix"]]
    return {
        "best_round": report["best_round"],
        "baseline": report["baseline"]["test"],
        "test": best["eval"]["test"],
        "gain": report["gain"],
        "rows": [one["mix"]["real_rows"] + one["mix"]["synthetic_rows"] for one in trained],
        "synthetic_rows": [one["mix"]["synthetic_rows"] for one in trained],
        "steps": [last_step(folder, one["round"]) for one in trained],
        "probe_gate_gap": best["overfitting"]["gap"] if best["overfitting"] else None,
    }


def last_step(folder: Path, round: int) -> int:
    """The last optimiser step in a round's trainer log."""
    lines = (folder / f"round-{round:03d}" / "trainer_log.jsonl").read_text(encoding="utf-8").splitlines()
    return max(int(json.loads(line)["step"]) for line in lines)


def difference(one: Path, other: Path) -> dict[str, Any]:
    """The paired difference on `test` of two arms' best rounds, as `synthloop compare` measures it."""
    command = [sys.executable, "-m", "eval.compare", "--run", str(one), "--against", str(other), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def show(table: dict[str, Any]) -> None:
    """Print the arms side by side."""
    drawn = Table(title=f"{table['num_rows']} rows a round in every arm; percent, 95% intervals", title_justify="left")
    for heading in (
        "arm",
        "best round",
        "test",
        "gain over untouched",
        f"{table['first']} minus this arm",
        "steps a round",
    ):
        drawn.add_column(heading)
    for arm, facts in table["arms"].items():
        paired = table["first_minus"].get(arm)
        drawn.add_row(
            arm,
            str(facts["best_round"]),
            f"{interval(facts['test'])} n={facts['test']['n']}",
            interval(facts["gain"], signed=True),
            f"{interval(paired, key='gain', signed=True)} p={paired['p_value_two_sided']:.2g}" if paired else "-",
            "/".join(map(str, facts["steps"])),
        )
    open_console().print(drawn)


if __name__ == "__main__":
    main()
