"""The loop alone, over scripted stages that use the real store (tests/fake_stages.py)."""

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
from typer.testing import CliRunner

from synthloop import cli, loop, report, splits, tracking
from synthloop.config import Config, dump, parse
from synthloop.errors import StageFailed, SynthloopError, UserError
from synthloop.folders import lock
from synthloop.loop import Step
from synthloop.progress import Update
from synthloop.store import Run, read_json, write_json
from synthloop.task import TaskConfig
from tests import fake_stages


class Silent:
    def step_started(self, round: int, step: Step) -> None: ...
    def step_progress(self, update: Update) -> None: ...
    def step_silent(self, seconds: float) -> None: ...
    def warned(self, line: str) -> None: ...
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
    with loop.open_run(loaded or config(), root, restart_from) as run:
        write_json(root / "script.json", script)
        loop.run_loop(run, Silent(), tracking.Tracker(run))
    return run


def opened(root: Path, loaded: Config | None = None, restart_from: str | None = None) -> Run:
    with loop.open_run(loaded or config(), root, restart_from) as run:
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
    assert (second["accepted"], second["trained"]) == (False, False)
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
        opened(tmp_path, restart_from="trian")


def test_from_that_is_refused_forgets_nothing(tmp_path: Path) -> None:
    start(tmp_path, {})
    with pytest.raises(UserError, match="task.num_train"):
        start(tmp_path, {}, config(task={"name": "word_problems", "num_train": 5}), restart_from="2/train")
    assert opened(tmp_path).stage(2, "train").is_complete
    assert opened(tmp_path).stage(3, "decide").is_complete


def test_from_refuses_a_round_that_is_not_there(tmp_path: Path) -> None:
    start(tmp_path, {})
    with pytest.raises(UserError, match="has no round 9; it has 0, 1, 2, 3"):
        opened(tmp_path, restart_from="9/train")
    assert opened(tmp_path).stage(1, "train").is_complete


def test_a_folder_with_anything_else_in_it_is_left_alone(tmp_path: Path) -> None:
    files = {"mine.yaml": "rounds: 1", "data/train.jsonl": "{}", "data/test.jsonl": "{}"}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match="left alone: data, mine.yaml. Give the run .* --run-dir runs/x"):
        opened(tmp_path)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == files.keys()
    assert {name: (tmp_path / name).read_text() for name in files} == files


def test_what_a_killed_first_start_left_is_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "run.lock").touch()
    (tmp_path / "config.resolved.json.tmp").write_text('{"name": "x", "ro')
    assert start(tmp_path, {}).rounds() == [0, 1, 2, 3]


def test_of_two_starts_on_one_folder_the_second_changes_nothing(tmp_path: Path) -> None:
    with loop.open_run(config(), tmp_path) as run:
        before = (tmp_path / "config.resolved.json").read_bytes()
        with pytest.raises(UserError, match="another process"):
            opened(tmp_path, config(seed=1))
        assert (tmp_path / "config.resolved.json").read_bytes() == before
        assert run.config.seed == 0
    (tmp_path / "new").mkdir()
    with lock(tmp_path / "new"), pytest.raises(UserError, match="another process"):
        opened(tmp_path / "new")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["run.lock"]


def write_data(folder: Path, answer: str = "1") -> dict[str, Any]:
    """A folder of training rows, and the task that reads it; `answer` is that of the first row."""
    folder.mkdir()
    rows = [{"input": f"thing {n} and thing {n * n}", "output": str(n) if n else answer} for n in range(60)]
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return {"name": "jsonl", "path": str(folder), "train": "rows.jsonl", "scorer": "exact"}


def split_run(root: Path, task: dict[str, Any]) -> None:
    with loop.open_run(config(task=task), root) as run:
        splits.prepare(run.config, root)


def test_the_data_of_a_run_may_move_and_may_not_change(tmp_path: Path) -> None:
    task, other = write_data(tmp_path / "here"), write_data(tmp_path / "other", answer="2")
    root = tmp_path / "run"
    split_run(root, task)
    split_run(root, {**write_data(tmp_path / "there"), "train": ["rows.jsonl"]})
    resolved = (root / "config.resolved.json").read_text()
    assert "there" in resolved
    with pytest.raises(UserError, match="other rows in train .*task.path=.*other, task.train=rows.jsonl") as caught:
        split_run(root, other)
    assert "--run-dir DIR" in str(caught.value)
    assert (root / "config.resolved.json").read_text() == resolved
    (tmp_path / "there" / "rows.jsonl").write_bytes((tmp_path / "other" / "rows.jsonl").read_bytes())
    with pytest.raises(UserError, match="task.path=.*there"):
        split_run(root, {**task, "path": str(tmp_path / "there")})


def test_the_data_of_a_run_may_not_change_in_the_folder_of_a_data_set(tmp_path: Path) -> None:
    for name, answer in (("here", "1"), ("other", "2")):
        write_data(tmp_path / name, answer)
    rows = (tmp_path / "here" / "rows.jsonl").rename(tmp_path / "here" / "train.jsonl")
    task = {"name": "jsonl", "dataset": str(rows.parent), "scorer": "exact"}
    split_run(tmp_path / "run", task)
    split_run(tmp_path / "run", task)
    rows.write_bytes((tmp_path / "other" / "rows.jsonl").read_bytes())
    with pytest.raises(UserError, match="other rows in train"):
        split_run(tmp_path / "run", task)


def test_a_setting_called_path_is_tracked_unless_its_owner_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = ModuleType("some.task")
    plugin.Config = type("Config", (TaskConfig,), {"__annotations__": {"path": str}})  # type: ignore[attr-defined]
    plugin.METRIC, plugin.score, plugin.load = "m", None, lambda cfg, split: iter(())  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "some.task", plugin)
    start(tmp_path, {}, config(task={"name": "some.task", "path": "a"}))
    with pytest.raises(UserError, match="task.path: was 'a', is now 'b'"):
        start(tmp_path, {}, config(task={"name": "some.task", "path": "b"}))


def test_a_run_that_does_not_say_what_its_data_held_is_refused_in_one_line(tmp_path: Path) -> None:
    split_run(tmp_path / "run", write_data(tmp_path / "data"))
    record = tmp_path / "run" / "data" / "splits.json"
    write_json(record, {key: value for key, value in read_json(record).items() if key != "published"}, sealed=True)
    with pytest.raises(UserError, match="was made before runs recorded") as caught:
        split_run(tmp_path / "run", {**write_data(tmp_path / "moved")})
    assert "\n" not in str(caught.value)


def test_a_silent_child_is_spoken_of_and_its_output_comes_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    monkeypatch.setattr(loop, "SILENT_S", 0.01)

    class Speaking(Silent):
        told: ClassVar[list[float]] = []

        def step_silent(self, seconds: float) -> None:
            self.told.append(seconds)
            if len(self.told) == 2:  # the second silence ends here
                os.write(writer, "one\r\nt\xe9".encode() + b"\xff\rthree")
                os.close(writer)

    with open(reader, "rb", buffering=0) as stream:
        assert list(loop._lines(stream, Speaking())) == ["one", "t\xe9\ufffd", "three"]
    assert Speaking.told == [0.01, 0.02]


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
    run = opened(tmp_path)
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
    assert report.build(run)["rounds"][1]["device_seconds"] == pytest.approx(
        sum(
            run.stage(1, name).record()["seconds"]
            for name in ("generate", "curate", "trials", "search", "train", "eval")
        )
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


def test_devices_are_what_each_stage_holds(tmp_path: Path) -> None:
    held = {"generate": 8, "curate": 4, "train": 2, "eval": 0}
    run = start(tmp_path, {"devices": held}, config(rounds=1))
    seconds = {name: run.stage(1, name).record()["seconds"] for name in ("generate", "curate", "train", "eval", "test")}
    expected = sum(held.get(name, 1) * number for name, number in seconds.items())
    assert report.build(run)["rounds"][1]["device_seconds"] == pytest.approx(expected)


@pytest.mark.parametrize("gpu", [True, False])
def test_seconds_of_a_cpu_are_no_gpu_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: bool) -> None:
    monkeypatch.setattr("synthloop.provenance.has_gpu", lambda: gpu)
    facts = report.build(start(tmp_path, {}, config(rounds=1)))["rounds"][1]
    assert facts["device_seconds"] > 0
    assert facts["gpu_seconds"] == (facts["device_seconds"] if gpu else 0)


def command(*arguments: Any) -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, [*map(str, arguments)])
    return done.exit_code, done.output


@pytest.fixture
def run_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """`synthloop run` over the scripted stages."""
    monkeypatch.setattr("synthloop.check.CHECKS", ())
    (tmp_path / "c.yaml").write_text(json.dumps(dump(config())))

    def run(script: dict[str, Any], *overrides: str) -> tuple[int, str]:
        opened(tmp_path / "run")
        write_json(tmp_path / "run" / "script.json", script)
        return command("run", tmp_path / "c.yaml", *overrides, "--run-dir", tmp_path / "run")

    return run


def test_a_run_that_trained_nothing_says_so_and_why_in_its_last_line(run_command: Any, tmp_path: Path) -> None:
    code, told = run_command({"kept": {"1": 0, "2": 0}})
    assert code == 0
    reason = "no sample was kept by curation (recipe: engine error: The prompt has 592 tokens (14); novelty: near (2))"
    assert told.splitlines()[-1].startswith(f"Nothing was trained: {reason}")
    assert f"round 1 = nothing trained: {reason}" in told
    assert "rolled back" not in told
    assert "The prompt has 592 tokens" in (tmp_path / "run" / "report.html").read_text()


def test_a_run_stopped_before_its_first_training_says_what_by(run_command: Any) -> None:
    code, told = run_command({}, "budget.gpu_hours=0.000000001")
    assert code == 0
    assert re.fullmatch(
        r"Nothing was trained: stopped by budget: \S+ device hours are spent, budget.gpu_hours is 1e-09.",
        told.splitlines()[-1],
    )


def test_a_run_that_trained_says_nothing_of_that(run_command: Any) -> None:
    code, told = run_command({"kept": {"2": 0}, "gains": {"1": -0.1, "3": -0.1}}, "decide.patience=5")
    assert code == 0
    assert "Nothing was trained" not in told
    assert "no round was accepted" in told
    assert [line.split()[-1] for line in told.splitlines() if line.strip().startswith(("1 ", "2 ", "3 "))] == [
        *("back", "trained", "back")
    ]


def test_a_failed_stage_is_told_by_every_command_until_it_is_tried_again(run_command: Any, tmp_path: Path) -> None:
    code, told = run_command({"exit": {"1/curate": 4}})
    assert code == 4
    assert "said the stage" in told
    for name in ("status", "report"):
        code, told = command(name, tmp_path / "run")
        assert code == 0
        assert "The run is not finished: round 0 is decided, best so far is round 0." in told
        assert "Round 1. The stage curate ended with exit code 4" in told
        assert "no round was accepted" not in told
    assert "said the stage" in (tmp_path / "run" / "report.html").read_text()
    assert json.loads((tmp_path / "run" / "report.json").read_text())["failure"]["stages"] == ["curate"]
    run_command({})
    code, told = command("status", tmp_path / "run")
    assert "said the stage" not in told
    assert told.splitlines()[-1] == "The run is finished."


def test_status_says_whether_a_process_works_on_the_run(run_command: Any, tmp_path: Path) -> None:
    run_command({"exit": {"1/curate": 4}})
    _, told = command("status", tmp_path / "run")
    assert "No process is working on it" in told
    assert "Round 1 is half done; complete: seed, generate." in told
    with Run(tmp_path / "run").lock():
        _, told = command("status", tmp_path / "run")
    assert "A process is working on it. Round 1 is half done" in told


def test_a_stages_own_warnings_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    run = opened(tmp_path)
    write_json(tmp_path / "script.json", {"warn": {"1/mix": "a warning"}})
    told: list[str] = []
    watcher = Silent()
    monkeypatch.setattr(watcher, "warned", told.append)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    step = Step(("mix",), [sys.executable, "-m", "tests.fake_stages", "--run", str(tmp_path), "--round", "1", "mix"])
    loop.execute(run, 1, step, watcher)
    assert told == ["warning: a warning"]
    assert "warning: a warning" in (tmp_path / "round-001" / "logs" / "mix.log").read_text()


@pytest.mark.parametrize("where", ["²/train", "٣/train", "x/train", "1/nothing"])
def test_a_stage_to_start_from_that_is_none_is_refused(where: str, tmp_path: Path) -> None:
    start(tmp_path, {})
    with pytest.raises(UserError, match="expected STAGE or ROUND/STAGE"):
        start(tmp_path, {}, restart_from=where)
