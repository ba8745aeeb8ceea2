"""What the loop does about a collapse verdict, over scripted stages (tests/fake_stages.py)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from synthloop import cli, report
from synthloop.check_data import Rows
from synthloop.check_recipes import Rehearsal
from synthloop.store import Run, read_json
from tests.test_loop import config, stages_in_process, start

__all__ = ["stages_in_process"]


def guarded(root: Path, action: str, **collapse: str) -> Run:
    """Four rounds, each better than the one before; `collapse` maps r1, r2 ... to verdicts."""
    script: dict[str, Any] = {"collapse": {name[1:]: verdict for name, verdict in collapse.items()}}
    return start(root, script, config(rounds=4, collapse={"action": action}))


def rounds(run: Run) -> list[dict[str, Any]]:
    return run.decided()


def test_stop_ends_the_run_and_keeps_the_last_good_adapter(tmp_path: Path) -> None:
    run = guarded(tmp_path, "stop", r1="warn", r3="stop")
    assert [one["accepted"] for one in rounds(run)] == [True, True, True, False]
    last = rounds(run)[-1]
    assert last["stopped_by"] == "collapse: nll rises"
    assert "nll rises" in last["reaction"]
    assert "nll rises" in rounds(run)[1]["reaction"]
    assert read_json(run.root / "best_adapter" / "adapter_config.json") == {"round": 1}  # all equal on gate
    metrics = [json.loads(line) for line in (run.root / "metrics.jsonl").read_text().splitlines()]
    assert [one["collapse/verdict"] for one in metrics[:4]] == ["uncalibrated", "warn", "uncalibrated", "stop"]
    assert "nll rises" in metrics[3]["collapse/reaction"]
    assert [one["action"] for one in metrics[:4]] == ["continue"] * 3 + ["stop"]
    assert report.build(run)["rounds"][3]["reaction"] == last["reaction"]


def test_after_a_collapse_the_best_round_is_the_best_on_gate(tmp_path: Path) -> None:
    script = {"collapse": {"4": "stop"}, "gains": {"1": 0.1, "2": 0.3, "3": 0.2, "4": 0.2}}
    run = start(tmp_path, script, config(rounds=5))
    assert [one["best_round"] for one in rounds(run)] == [0, 1, 2, 3, 2]
    assert read_json(run.root / "best_adapter" / "adapter_config.json") == {"round": 2}
    assert report.build(run)["best_round"] == 2


def test_with_the_guard_off_the_run_goes_on(tmp_path: Path) -> None:
    run = guarded(tmp_path, "none", r2="stop", r3="stop")
    assert all(one["accepted"] for one in rounds(run))
    assert len(rounds(run)) == 5
    assert "nothing is done" in rounds(run)[2]["reaction"]
    assert all(one["stopped_by"] is None for one in rounds(run))


def test_rollback_refuses_once_and_stops_the_next_time(tmp_path: Path) -> None:
    run = guarded(tmp_path, "rollback", r2="stop", r4="stop")
    assert [one["accepted"] for one in rounds(run)] == [True, True, False, True, False]
    assert [bool(one["stopped_by"]) for one in rounds(run)] == [False, False, False, False, True]


@pytest.mark.parametrize(
    ("action", "file", "expected"),
    [
        ("shrink", "mix_override.json", [{"max_synthetic_ratio": 0.5}, {"max_synthetic_ratio": 0.25}]),
        ("replay", "mix_override.json", [{"min_real_fraction": 0.5}, {"min_real_fraction": 0.75}]),
        ("widen", "seed_override.json", [{"seeds": "random"}, {"seeds": "random"}]),
    ],
)
def test_measures_stay_in_force_and_grow(tmp_path: Path, action: str, file: str, expected: list[Any]) -> None:
    run = guarded(tmp_path, action, r1="warn", r2="warn")
    assert not (run.round_dir(1) / file).exists()
    first, second, third = (read_json(run.round_dir(n) / file) for n in (2, 3, 4))
    assert [first.pop("reason"), second.pop("reason")] == [f"collapse.action is {action}"] * 2
    assert [first, second] == expected
    assert {key: third[key] for key in second} == second
    assert all(one["accepted"] for one in rounds(run)), "a warning alone does not roll back"
    metrics = [json.loads(line) for line in (run.root / "metrics.jsonl").read_text().splitlines()]
    taken = next(name for name in first if name != "reason")
    assert [one.get(f"collapse/measure/{taken}") for one in metrics[:3]] == [None, first[taken], second[taken]]


def test_the_command_exits_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = guarded(tmp_path / "x", "stop", r2="stop")
    settings = json.loads((run.root / "config.resolved.json").read_text())
    monkeypatch.setattr("synthloop.check._look", lambda config, intact: ([], Rows(), Rehearsal()))
    (tmp_path / "c.yaml").write_text(json.dumps(settings))
    done = CliRunner().invoke(cli.app, ["run", str(tmp_path / "c.yaml"), "--run-dir", str(run.root)])
    assert done.exit_code == 3, done.output
    assert "best round 1" in done.output
    assert "nll rises" in done.output
