"""Two runs on the same `test` rows, each by its best round: `python -m eval.compare --run A --against B [--json]`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from eval.stats import mean_interval, paired_gain
from synthloop.child import run_child
from synthloop.errors import UserError
from synthloop.records import Prediction
from synthloop.screen import say
from synthloop.store import Run, read_rows


def best_predictions(root: Path) -> tuple[int, dict[str, Prediction]]:
    """(best round, example id -> prediction on `test`, what was not answered left out).

    Raises:
        UserError: the run has not ended.
    """
    run = Run(root)
    best = run.best_round()
    if not run.stage(best, "test").is_complete:
        raise UserError(f"{root}: round {best} has no `test` scores yet. Let the run end: synthloop run CONFIG.")
    rows = read_rows(run.round_dir(best) / "eval" / "test.jsonl", Prediction)
    return best, {row.id: row for row in rows if row.error is None}


def compare(one: Path, other: Path) -> dict[str, Any]:
    """Each run's score on the `test` rows both have, and the paired difference one minus other.

    Raises:
        UserError: both are one run, or the runs share no `test` row, so they cannot be compared.
    """
    if one.resolve() == other.resolve():
        raise UserError(f"{one} and {other} are the same run. Give two runs of the same task, splits and seed.")
    (best_one, left), (best_other, right) = best_predictions(one), best_predictions(other)
    shared = [row_id for row_id in left if row_id in right]
    if not shared:
        raise UserError(f"{one} and {other} share no row of `test`. Compare runs of the same task, splits and seed.")
    new, old = [left[row_id].value for row_id in shared], [right[row_id].value for row_id in shared]
    return {
        "one": {"run": str(one), "round": best_one, **_score(new)},
        "other": {"run": str(other), "round": best_other, **_score(old)},
        "only_in_one": len(left) - len(shared),
        "only_in_other": len(right) - len(shared),
        **paired_gain(old, new)._asdict(),
    }


def _score(values: list[float]) -> dict[str, float]:
    low, high = mean_interval(values, 0.95)
    return {"value": sum(values) / len(values), "ci_low": low, "ci_high": high}


def main(arguments: argparse.Namespace) -> None:
    """Print the comparison, as JSON or in words."""
    facts = compare(arguments.run, arguments.against)
    if arguments.json:
        say(json.dumps(facts))
        return
    for side in ("one", "other"):
        score = facts[side]
        span = f"{100 * score['ci_low']:.1f} to {100 * score['ci_high']:.1f}"
        say(f"{score['run']}, round {score['round']}: {100 * score['value']:.1f} ({span})")
    span = f"{100 * facts['ci_low']:+.1f} to {100 * facts['ci_high']:+.1f}"
    say(
        f"difference {100 * facts['gain']:+.1f} ({span}) points, n={facts['n']}, p={facts['p_value_two_sided']:.2g} "
        f"(two-sided), {facts['wins']} won and {facts['losses']} lost"
    )
    if facts["only_in_one"] or facts["only_in_other"]:
        say(f"left out, in one run only: {facts['only_in_one']} and {facts['only_in_other']} rows")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--against", type=Path, required=True)
    parser.add_argument("--json", action="store_true")
    run_child(main, parser=parser)
