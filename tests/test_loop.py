"""The loop alone, over scripted stages that use the real store (tests/fake_stages.py)."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from synthloop import loop, report, tracking
from synthloop.config import Config, parse
from synthloop.errors import StageFailed, SynthloopError, UserError
from synthloop.loop import Step
from synthloop.progress import Update
from synthloop.store import Run, read_json, write_json
from tests import fake_stages


class Silent:
    def step_started(self, round: int, step: Step) -> None: ...
    def step_progress(self, update: Update) -> None: ...
    def step_ended(self, round: int, step: Step, seconds: float) -> None: ...
    def round_ended(self, run: Run, round: int) -> None: ...


def config(**changes: Any) -> Config:
    base = {
        "name": "x",
        "task": {"name": "word_problems"},
        "student": {"model": "m"},
        "roles": {"teacher": {"model": "t"}},
        "generate": {"recipes": [{"name": "repair"}]},
        "tracking": {"wandb": "off"},
    }
    return parse(Config, base | changes, "x")


def in_process(command: list[str], log: Any, watcher: Any) -> tuple[int, list[str]]:
    """What `loop._follow` gives for a fake stage, without starting a process."""
    arguments = fake_stages.parser().parse_args(fake_arguments(command))
    try:
        fake_stages.main(arguments)
    except SynthloopError as error:
        return error.exit_code, [f"error: {error}"]
    return 0, []


def fake_arguments(command: list[str]) -> list[str]:
    """The fake stage's arguments for a real step's command line."""
    at = command.index("--run")
    stages = {
        "generate.run": "seed,generate",
        "generate.curate": "curate",
        "train.trials": "trials",
        "eval.search": "search",
        "train.mix": "mix",
        "train.run": "train",
        "eval.run": ",".join(command[index + 1] for index, word in enumerate(command) if word == "--stage") or "eval",
    }
    return [*command[at : at + 4], stages[command[at - 1]]]


@pytest.fixture(autouse=True)
def stages_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_follow", in_process)
    monkeypatch.setattr(loop, "prepare", lambda config, root: {})


def start(root: Path, script: dict[str, Any], loaded: Config | None = None, restart_from: str | None = None) -> Run:
    run = loop.open_run(loaded or config(), root, restart_from)
    write_json(root / "script.json", script)
    loop.run_loop(run, Silent(), tracking.Tracker(run))
    return run


def calls(root: Path) -> list[str]:
    return (root / "calls.txt").read_text().split()


def test_three_rounds_then_test_of_the_best(tmp_path: Path) -> None:
    run = start(tmp_path, {"gains": {"1": 0.1, "2": 0.2, "3": -0.1}})
    written = report.write(run)
    assert [one["accepted"] for one in written["rounds"]] == [True, True, True, False]
    assert written["best_round"] == 2
    assert written["gain"]["value"] == 0.2
    assert calls(tmp_path)[-1] == "2/test"
    assert calls(tmp_path).count("0/test") == 1
    assert not [call for call in calls(tmp_path) if call.endswith("/test") and call not in ("0/test", "2/test")]


def test_running_again_does_nothing_twice(tmp_path: Path) -> None:
    start(tmp_path, {})
    before = calls(tmp_path), (tmp_path / "metrics.jsonl").read_text()
    start(tmp_path, {})
    assert (calls(tmp_path), (tmp_path / "metrics.jsonl").read_text()) == before


def test_patience_and_budget_stop_the_run(tmp_path: Path) -> None:
    run = start(tmp_path / "a", {"gains": {"1": -0.1, "2": 0.0}})
    assert report.build(run)["stopped_by"].startswith("patience: 2 rounds")
    assert report.build(run)["best_round"] == 0
    assert run.rounds() == [0, 1, 2]
    run = start(tmp_path / "b", {}, config(budget={"gpu_hours": 1e-9}))
    assert report.build(run)["stopped_by"].startswith("budget: ")
    assert run.rounds() == [0]


def test_a_round_without_kept_samples_trains_nothing_and_keeps_the_last_good_adapter(tmp_path: Path) -> None:
    run = start(tmp_path, {"kept": {"2": 0}})
    second = report.build(run)["rounds"][2]
    assert not second["accepted"]
    assert "no sample was kept" in second["reason"]
    assert "2/train" not in calls(tmp_path)
    assert "3/train" in calls(tmp_path)


@pytest.mark.parametrize(("code", "kind"), [(2, UserError), (4, StageFailed)])
def test_a_failed_stage_ends_the_run_with_its_own_message_and_can_be_resumed(
    tmp_path: Path, code: int, kind: type[Exception]
) -> None:
    with pytest.raises(kind, match="said the stage") as caught:
        start(tmp_path, {"exit": {"1/mix": code}})
    assert "logs/mix.log" in str(caught.value)
    done = calls(tmp_path)
    start(tmp_path, {})
    assert calls(tmp_path)[: len(done) + 2] == [*done, "1/mix", "1/train"]


def test_a_changed_setting_is_refused_with_its_name_and_the_remedies(tmp_path: Path) -> None:
    start(tmp_path, {})
    changed = config(train={"lora": {"r": 32}})
    with pytest.raises(UserError) as caught:
        start(tmp_path, {}, changed)
    assert "train.lora.r: was None, is now 32" in str(caught.value)
    assert "--from 1/train" in str(caught.value)
    before = len(calls(tmp_path))
    start(tmp_path, {}, changed, restart_from="1/train")
    assert calls(tmp_path)[before : before + 2] == ["1/train", "1/eval"]


def test_hardware_tracking_and_more_rounds_may_change(tmp_path: Path) -> None:
    start(tmp_path, {})
    run = start(
        tmp_path, {}, config(rounds=4, train={"accelerate": "other.yaml"}, tracking={"wandb": "off", "project": "p"})
    )
    assert run.rounds() == [0, 1, 2, 3, 4]


def test_from_names_the_stages_when_it_does_not_know_one(tmp_path: Path) -> None:
    start(tmp_path, {})
    with pytest.raises(UserError, match="expected STAGE or ROUND/STAGE"):
        loop.open_run(config(), tmp_path, "trian")


def test_from_test_looks_at_test_again_and_does_nothing_else(tmp_path: Path) -> None:
    start(tmp_path, {"gains": {"1": 0.1, "2": 0.2, "3": -0.1}})
    before = len(calls(tmp_path))
    start(tmp_path, {}, restart_from="2/test")
    assert calls(tmp_path)[before:] == ["2/test"]
    start(tmp_path, {}, restart_from="0/test")
    assert calls(tmp_path)[before + 1 :] == ["0/test", "2/test"]


def test_an_override_of_an_earlier_go_is_removed(tmp_path: Path) -> None:
    shrink = config(collapse={"action": "shrink"})
    run = start(tmp_path, {"collapse": {"1": "warn"}}, shrink)
    assert (run.round_dir(2) / "mix_override.json").exists()
    start(tmp_path, {}, shrink, restart_from="1/eval")
    assert not (run.round_dir(2) / "mix_override.json").exists()


def test_metrics_hold_the_fixed_keys(tmp_path: Path) -> None:
    start(tmp_path, {})
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    keys = set().union(*lines)
    expected = {"round", "eval/gate/exact_match", "eval/gate/ci_low", "eval/gate/ci_high", "eval/test/exact_match"}
    expected |= {"mix/real_fraction", "mix/real_tokens", "mix/synthetic_tokens", "generate/yield", "collapse/nll"}
    expected |= {"curate/rejected/novelty", "collapse/verdict", "cost/prompt_tokens", "cost/completion_tokens"}
    assert expected | {"cost/gpu_seconds"} <= keys


@pytest.mark.parametrize(("code", "kind"), [(0, None), (2, UserError), (4, StageFailed)])
def test_a_child_process_is_logged_followed_and_its_exit_code_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[SynthloopError] | None
) -> None:
    monkeypatch.undo()
    run = loop.open_run(config(), tmp_path)
    write_json(tmp_path / "script.json", {"exit": {"1/mix": code}})
    command = [sys.executable, "-m", "tests.fake_stages", "--run", str(tmp_path), "--round", "1", "mix"]
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    if kind is None:
        loop.execute(run, 1, Step(("mix",), command), Silent())
    else:
        with pytest.raises(kind, match="said the stage"):
            loop.execute(run, 1, Step(("mix",), command), Silent())
    assert (tmp_path / "round-001" / "logs" / "mix.log").read_text().startswith("$ ")


ADAPTIVE = {
    "mix": {"policy": "adaptive"},
    "generate": {"recipes": [{"name": "repair"}, {"name": "explore"}], "allocation": "thompson"},
}


def test_an_adaptive_mix_is_searched_before_it_is_made(tmp_path: Path) -> None:
    run = start(tmp_path, {"search": {"2": {"ratio": 2.0}}}, config(**ADAPTIVE))
    assert calls(tmp_path)[:10] == [
        *("0/eval", "0/test", "1/seed", "1/generate", "1/curate"),
        *("1/trials", "1/search", "1/mix", "1/train", "1/eval"),
    ]
    metrics = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [one.get("mix/search/ratio") for one in metrics[:4]] == [None, 1.0, 2.0, 1.0]
    assert metrics[1]["mix/search/best_gain"] == 0.1
    assert metrics[1]["cost/search/trials"] == 4
    assert metrics[1]["generate/share/repair"] == 0.75
    assert report.build(run)["rounds"][1]["seconds"].keys() >= {"trials", "search"}
    assert report.build(run)["rounds"][1]["gpu_seconds"] == pytest.approx(
        sum(run.stage(1, name).record()["seconds"] for name in ("generate", "trials", "search", "train", "eval"))
    )


def test_what_trials_say_of_recipes_shares_out_the_next_rounds_seeds(tmp_path: Path) -> None:
    shares = {"repair": 0.2, "explore": 0.8}
    run = start(tmp_path, {"search": {"1": {"recipes": {"shares": shares}}}}, config(**ADAPTIVE))
    assert not (run.round_dir(1) / "seed_override.json").exists()
    second = read_json(run.round_dir(2) / "seed_override.json")
    assert second == {"shares": shares, "reason": "generate.allocation is thompson, by round-001"}
    third = read_json(run.round_dir(3) / "seed_override.json")
    assert third["shares"] == {"repair": 0.75, "explore": 0.25}


def test_the_guard_and_the_trials_may_both_speak_for_the_seeds(tmp_path: Path) -> None:
    widened = config(**ADAPTIVE, collapse={"action": "widen"})
    run = start(tmp_path, {"collapse": {"1": "warn"}}, widened)
    second = read_json(run.round_dir(2) / "seed_override.json")
    assert second["seeds"] == "random"
    assert second["shares"] == {"repair": 0.75, "explore": 0.25}
    assert second["reason"] == "collapse.action is widen; generate.allocation is thompson, by round-001"


def test_the_guard_halves_the_ratio_that_the_trials_found(tmp_path: Path) -> None:
    script = {"collapse": {"1": "warn"}, "search": {"1": {"ratio": 4.0}}}
    run = start(tmp_path, script, config(**ADAPTIVE, collapse={"action": "shrink"}))
    assert json.loads((run.round_dir(2) / "mix_override.json").read_text())["max_synthetic_ratio"] == 2.0
