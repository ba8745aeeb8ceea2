"""`train.run` as a person starts it: `accelerate launch`, kill -9, resume, two processes, mistakes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from synthloop import chat_template
from synthloop.chat_template import strftime_now
from synthloop.errors import StageFailed, UserError
from synthloop.records import Row
from synthloop.store import write_json, write_rows
from tests.train.jobs import example_rows, train, write_data, write_job
from tests.train.test_mix_stage import make_run
from train.callbacks import _line, refuse_divergence
from train.checkpoints import interval, latest_complete, remove_incomplete
from train.run import folder_writer, refuse_other, warn_of_precision

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
LAUNCH = [str(BIN / "accelerate"), "launch", "--config_file", str(ROOT / "configs/accelerate/cpu.yaml"), "-m"]


def start(command: list[str]) -> subprocess.Popen[str]:
    """Start the command in the repository."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=env, text=True, stdout=pipe, stderr=pipe, cwd=ROOT)


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for a process that must succeed; what it wrote to stderr."""
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return errors


def weights(adapter: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    loaded: dict[str, Any] = load_file(adapter / "adapter_model.safetensors")
    return loaded


def assert_same_weights(one: Path, other: Path) -> None:
    import torch

    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def kill_after_first_checkpoint(command: list[str]) -> None:
    """SIGKILL the launcher when the second checkpoint is about to be complete (tests/kill_points)."""
    path = os.pathsep.join([str(ROOT / "tests" / "kill_points"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "KILL_AT": "2 */checkpoints/*/complete"}
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, env=environment, text=True, stdout=pipe, stderr=pipe, cwd=ROOT, start_new_session=True
    )
    _, errors = process.communicate()  # returns when the trainer, which holds the pipes, is dead too
    assert process.returncode == -signal.SIGKILL, errors


@pytest.mark.slow
def test_a_killed_and_resumed_training_ends_as_one_never_killed(tiny_model: Path, tmp_path: Path) -> None:
    job = write_job(tmp_path / "job.yaml", tiny_model)
    data = write_data(tmp_path / "rows.jsonl")
    options = ["train.run", "--config", str(job), "--data", str(data), "--output"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    undisturbed = start([*LAUNCH, *options, str(whole)])
    kill_after_first_checkpoint([*LAUNCH, *options, str(killed)])
    finish(undisturbed)
    record = json.loads((whole / "train.json").read_text())
    lines = [json.loads(line) for line in (whole / "trainer_log.jsonl").read_text().splitlines()]
    assert record["steps"] == lines[-1]["step"] == 24
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"], "a tiny model should learn its rows by heart"

    assert not (killed / "train.json").exists()
    checkpoint = latest_complete(killed / "checkpoints")
    assert checkpoint is not None
    half = killed / "checkpoints" / "checkpoint-23"  # what a kill in the middle of the next save leaves behind
    half.mkdir()
    shutil.copy(checkpoint / "trainer_state.json", half)

    errors = finish(start([*LAUNCH, *options, str(killed)]))
    assert f"resuming from {checkpoint}" in errors
    resumed = json.loads((killed / "train.json").read_text())
    assert resumed["resumed_from_step"] == int(checkpoint.name.removeprefix("checkpoint-"))
    assert_same_weights(whole / "adapter", killed / "adapter")
    assert (whole / "trainer_log.jsonl").read_bytes() == (killed / "trainer_log.jsonl").read_bytes()
    assert (whole / "adapter/adapter_config.json").read_bytes() == (killed / "adapter/adapter_config.json").read_bytes()


def test_the_stage_keeps_its_files_and_record(tiny_model: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path, tiny_model, {}, {})
    settings = json.loads((tmp_path / "config.resolved.json").read_text())
    settings["train"]["args"] = {"max_steps": 3, "per_device_train_batch_size": 4, "logging_steps": 1, "max_length": 32}
    (tmp_path / "config.resolved.json").write_text(json.dumps(settings))
    write_rows(run.round_dir(1) / "train.jsonl", example_rows(12))
    command = [sys.executable, "-m", "train.run", "--run", str(tmp_path), "--round", "1"]
    finish(start(command))
    stage = run.stage(1, "train")
    assert stage.is_complete
    assert not stage.partial.exists()
    record = json.loads(stage.record_path.read_text())
    assert record["steps"] == 3
    assert record["rows"] == 12
    assert record["truncated_rows"] > 0
    assert record["mixed_precision"] == "no"
    assert 0 < record["learned_tokens"] < record["completion_tokens"]
    assert {"adapter/adapter_model.safetensors", "logprobs.json"} <= record["outputs"].keys()
    assert len((run.round_dir(1) / "trainer_log.jsonl").read_text().splitlines()) == 3
    adapter = run.adapter(1)
    assert adapter is not None
    assert not (adapter / "training_args.bin").exists()
    assert "already done" in finish(start(command))


def test_a_precision_that_accelerate_chose_over_the_arguments_is_told(caplog: pytest.LogCaptureFixture) -> None:
    arguments = SimpleNamespace(bf16=False, fp16=False)
    warn_of_precision(arguments, "no")
    assert caplog.text == ""
    warn_of_precision(arguments, "bf16")
    assert "train.args asks for mixed precision 'no' and the accelerate config for 'bf16', which is used" in caplog.text


@pytest.mark.slow
def test_two_processes_train_one_adapter(tiny_model: Path, tmp_path: Path) -> None:
    """DDP over gloo. The batch of a step is the same as with one process of twice the batch, so the loss is too."""
    job = write_job(tmp_path / "job.yaml", tiny_model, args={"num_train_epochs": 1, "per_device_train_batch_size": 4})
    data = write_data(tmp_path / "rows.jsonl")
    output = tmp_path / "out"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29517", "-m"]
    finish(start([*torchrun, "train.run", "--config", str(job), "--data", str(data), "--output", str(output)]))
    record = json.loads((output / "train.json").read_text())
    assert (record["devices"], record["steps"]) == (2, 6)
    lines = (output / "trainer_log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 4, 6]
    assert weights(output / "adapter")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "{job}", "--data", "{bad}", "--output", "{out}"], "line 1: none of the fields"),
        (["--config", "{job}", "--data", "{data}"], "--output is missing"),
        (["--config", "{job}", "--data", "{data}", "--output", "{out}", "train.args.lr=1"], "unknown key 'lr'"),
        (["--config", "{job}", "--data", "{data}", "--output", "{out}", "sed=1"], "Did you mean 'seed'?"),
    ],
)
def test_mistakes_exit_with_2_and_one_message(
    tiny_model: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    names = {
        "job": write_job(tmp_path / "job.yaml", tiny_model),
        "data": write_data(tmp_path / "rows.jsonl"),
        "bad": tmp_path / "bad.jsonl",
        "out": tmp_path / "out",
    }
    names["bad"].write_text('{"text": "hello"}\n')
    process = start([sys.executable, "-m", "train.run", *(argument.format(**names) for argument in arguments)])
    _, errors = process.communicate()
    assert process.returncode == 2, errors
    assert message in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("norm", [float("nan"), float("inf")])
def test_a_gradient_that_is_no_number_fails_the_stage_with_step_and_learning_rate(norm: float) -> None:
    entry = {"step": 7, "loss": 0.0, "grad_norm": norm, "learning_rate": 0.5}
    with pytest.raises(StageFailed, match=f"at step 7 the gradient's norm is {norm}, with a learning rate of 0.5"):
        refuse_divergence(entry, SimpleNamespace(fp16=False, learning_rate=1.0))
    refuse_divergence(entry, SimpleNamespace(fp16=True, learning_rate=1.0))  # such a step is skipped
    refuse_divergence({"step": 7, "grad_norm": 3.0}, SimpleNamespace(fp16=False, learning_rate=1.0))
    assert json.loads(_line(entry)) == {**entry, "grad_norm": None}


def test_a_training_that_diverges_leaves_no_adapter(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match=r"diverged: at step \d+ the gradient's norm is nan"):
        train(tiny_model, tmp_path, {"learning_rate": 1e30, "max_grad_norm": 1e30, "max_steps": 6, "warmup_steps": 0})
    assert not (tmp_path / "adapter").exists()


def test_rows_that_fill_no_batch_are_the_users_mistake(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the 12 rows are fewer than one batch of 64"):
        train(tiny_model, tmp_path, {"dataloader_drop_last": True, "per_device_train_batch_size": 64})


def test_what_the_students_engine_would_drop_is_not_trained(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'train.lora.modules_to_save' is \['lm_head'\].*set student.engine=hf"):
        train(tiny_model, tmp_path, modules_to_save=["lm_head"])


def test_a_resumed_training_from_residual_weights_ends_as_one_never_stopped(tiny_model: Path, tmp_path: Path) -> None:
    whole = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "lr_scheduler_type": "constant"}
    once = train(tiny_model, tmp_path / "once", whole, init_lora_weights="pissa")
    shutil.copytree(
        tmp_path / "once" / "checkpoints" / "checkpoint-2", tmp_path / "again" / "checkpoints" / "checkpoint-2"
    )
    again = train(tiny_model, tmp_path / "again", whole, init_lora_weights="pissa")
    assert_same_weights(once, again)
    assert (tmp_path / "once" / "logprobs.json").read_bytes() == (tmp_path / "again" / "logprobs.json").read_bytes()


class OneProcess:
    """The part of accelerate's `PartialState` that the writers use."""

    is_main_process = True

    def wait_for_everyone(self) -> None:
        pass


def test_an_output_folder_is_never_mixed_with_another_training(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with folder_writer(output, {"settings": 1, "data": 1}, OneProcess()) as out:
        out.notes["steps"] = 7
    record = json.loads((output / "train.json").read_text())
    assert {key: record[key] for key in record if key != "started"} == {"settings": 1, "data": 1, "steps": 7}
    with pytest.raises(UserError, match="was made from other data"):
        refuse_other(output, {"settings": 1, "data": 2})

    (tmp_path / "foreign" / "adapter").mkdir(parents=True)
    with (
        pytest.raises(UserError, match="holds other files"),
        folder_writer(tmp_path / "foreign", {"settings": 1}, OneProcess()),
    ):
        pass


def test_a_resumed_training_shows_its_templates_the_day_on_which_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_template, "_shown", [])
    mark = tmp_path / "out" / "train.partial.json"
    write_json(mark, {"settings": 1, "started": "2025-02-28T23:59:58"})
    with folder_writer(mark.parent, {"settings": 1}, OneProcess()):
        assert strftime_now("%d %b %Y") == "28 Feb 2025"
    assert json.loads((mark.parent / "train.json").read_text())["started"] == "2025-02-28T23:59:58"


def test_only_marked_checkpoints_count(tmp_path: Path) -> None:
    for name in ("checkpoint-4", "checkpoint-12", "checkpoint-20"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-4" / "complete").touch()
    (tmp_path / "checkpoint-12" / "complete").touch()
    assert latest_complete(tmp_path) == tmp_path / "checkpoint-12"
    remove_incomplete(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-12", "checkpoint-4"]
    assert latest_complete(tmp_path / "absent") is None


@pytest.mark.parametrize(
    ("steps", "logging", "every"), [(24, 2, 6), (100, 10, 20), (3, 10, 10), (7, 1, 2), (100, 0.1, 20)]
)
def test_checkpoints_fall_on_logged_steps(steps: int, logging: float, every: int) -> None:
    assert interval(steps, logging) == every


def test_rows_of_the_loop_are_read_as_they_were_written(tmp_path: Path) -> None:
    from train.objectives.sft import read

    rows = example_rows(3)
    write_rows(tmp_path / "train.jsonl", rows)
    assert read(tmp_path / "train.jsonl") == rows
    assert all(isinstance(row, Row) for row in rows)
