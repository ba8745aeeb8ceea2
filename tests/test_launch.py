"""How a training is launched on machines with no, one and eight GPUs; the GPUs are listed by a stand-in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from synthloop import launch
from synthloop.errors import UserError

ACCELERATE = Path(__file__).parents[1] / "configs" / "accelerate"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes this a machine with `count` GPUs, as far as `nvidia-smi -L` says."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(launch, "is_cpu_torch", lambda: False)

    def make(count: int) -> None:
        program = tmp_path / "nvidia-smi"
        lines = "".join(f"echo 'GPU {number}: NVIDIA H100 (UUID: GPU-{number})'\n" for number in range(count))
        program.write_text(f"#!/bin/sh\n{lines or 'exit 9'}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    return make


def launched(accelerate: Any) -> tuple[Any, dict[str, str]]:
    """What accelerate's own launcher makes of our command line: its options, and the environment of one process."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_simple_launcher_cmd_env

    command = launch.launch(accelerate, "train.run", "--run", "r", "--round", "1")
    options, _, _ = _validate_launch_command(launch_command_parser().parse_args(command[2:]))
    return options, prepare_simple_launcher_cmd_env(options)[1]


def test_without_a_gpu_auto_is_what_the_cpu_file_says(machine: Any) -> None:
    machine(0)
    told = ("ACCELERATE_USE_CPU", "ACCELERATE_MIXED_PRECISION", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
    (_, auto), (_, file) = launched("auto"), launched(ACCELERATE / "cpu.yaml")
    assert {name: auto.get(name) for name in told} == {name: file.get(name) for name in told}
    assert auto["ACCELERATE_USE_CPU"] == "True"


def test_with_one_gpu_auto_is_one_process_on_it(machine: Any) -> None:
    machine(1)
    options, environment = launched("auto")
    assert (options.num_processes, bool(options.multi_gpu), options.mixed_precision) == (1, False, "bf16")
    assert environment["ACCELERATE_USE_CPU"] == "False"
    assert environment["CUDA_VISIBLE_DEVICES"] == "0"


def test_with_eight_gpus_auto_is_one_process_each(machine: Any) -> None:
    machine(8)
    options, _ = launched("auto")
    assert (options.num_processes, options.multi_gpu, options.mixed_precision) == (8, True, "bf16")


@pytest.mark.parametrize(
    ("chosen", "seen"),
    [("3", ["3"]), ("2,5", ["2", "5"]), ("", []), ("-1", []), ("1,-1,2", ["1"]), ("GPU-7", ["GPU-7"])],
)
def test_cuda_visible_devices_is_obeyed(machine: Any, chosen: str, seen: list[str]) -> None:
    machine(8)
    assert launch.visible_gpus({"CUDA_VISIBLE_DEVICES": chosen}) == seen


def test_a_cpu_build_of_torch_sees_no_gpu(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(8)
    monkeypatch.setattr(launch, "is_cpu_torch", lambda: True)
    assert launch.visible_gpus({}) == []


def test_a_users_own_accelerate_config_changes_nothing(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate.commands import launch as command

    machine(1)
    monkeypatch.setattr(command, "default_config_file", str(ACCELERATE / "fsdp2.yaml"))
    assert not launched("auto")[0].use_fsdp


@pytest.mark.parametrize(
    ("environment", "seen"),
    [
        ({}, "0"),
        ({"CUDA_VISIBLE_DEVICES": "4,5"}, "4"),
        ({"WORLD_SIZE": "8"}, None),
        ({"ACCELERATE_USE_CPU": "True"}, None),
    ],
)
def test_a_training_of_one_process_sees_one_gpu(machine: Any, environment: dict[str, str], seen: str | None) -> None:
    machine(8)
    launch.use_one_gpu(environment)
    assert environment.get("CUDA_VISIBLE_DEVICES") == seen


def test_a_training_meant_for_several_processes_refuses_to_be_one(machine: Any, tmp_path: Path) -> None:
    machine(8)
    for asked, number in (("auto", 8), (ACCELERATE / "ddp.yaml", 2)):
        launch.refuse_lone_process(asked, number)
        with pytest.raises(UserError, match=f"asks for {number} processes"):
            launch.refuse_lone_process(asked, 1)
    launch.refuse_lone_process(ACCELERATE / "single_gpu.yaml", 1)
    (tmp_path / "x.yaml").write_text("- a list\n")
    with pytest.raises(UserError, match="no config of `accelerate launch`"):
        launch.refuse_lone_process(tmp_path / "x.yaml", 1)
