"""The `accelerate launch` command line of a training, by the devices of this machine where no file says otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Literal

import yaml

from synthloop.errors import UserError

AUTO_CPU, AUTO_GPU = (Path(__file__).with_name(f"auto_{device}.yaml") for device in ("cpu", "gpu"))
"""What `auto` starts from, so that a default config of the user's (`accelerate config`) changes nothing."""


def launch(accelerate: Path | Literal["auto"], module: str, *arguments: str) -> list[str]:
    """The command line that starts `module` under `accelerate launch`, from this Python's own environment.

    `auto` is one process for each visible NVIDIA GPU (data parallel), and one on the CPU where there is none; a file is
    taken as it is.
    """
    program = str(Path(sys.executable).with_name("accelerate"))
    config = automatic(visible_gpus()) if accelerate == "auto" else [str(accelerate)]
    return [program, "launch", "--quiet", "--config_file", *config, "-m", module, *arguments]


def automatic(gpus: list[str]) -> list[str]:
    """Config file and options of `accelerate launch` for one process on each of `gpus`, or one on the CPU."""
    if not gpus:
        return [str(AUTO_CPU)]
    placed = ["--multi_gpu"] if len(gpus) > 1 else ["--gpu_ids", gpus[0]]
    return [str(AUTO_GPU), *placed, "--num_processes", str(len(gpus)), "--mixed_precision", "bf16"]


def visible_gpus(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The NVIDIA GPUs that a training would see, as CUDA_VISIBLE_DEVICES names them; none with a CPU build of torch.
    Loads no torch."""
    if is_cpu_torch():
        return []
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return []
    present = [str(number) for number, _ in enumerate(line for line in listed.splitlines() if line.startswith("GPU "))]
    if (chosen := environment.get("CUDA_VISIBLE_DEVICES")) is None or not present:
        return present
    names = [name.strip() for name in chosen.split(",")]
    end = next((place for place, name in enumerate(names) if name in ("", "-1")), len(names))
    return names[:end]


def is_cpu_torch() -> bool:
    """Whether torch is not installed, or in a build that knows no GPU."""
    try:
        return "+cpu" in metadata.version("torch")
    except metadata.PackageNotFoundError:
        return True


def use_one_gpu(environment: dict[str, str] | os._Environ[str] = os.environ) -> None:
    """Hide all GPUs but the first from a training of one process; call it before torch is imported.

    Else TRL spreads the model over all of them (`device_map="auto"` in trl/trainer/utils.py of 1.16), layer after layer
    with all but one GPU waiting, or refuses to train.
    """
    alone = int(environment.get("WORLD_SIZE", "1")) == 1
    if alone and not on_cpu(environment) and len(gpus := visible_gpus(environment)) > 1:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[0]


def on_cpu(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the launcher was told to use the CPU, whatever the machine has."""
    return environment.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "y", "on", "t")


def num_processes(accelerate: Path | Literal["auto"]) -> int:
    """How many processes a training is meant to have. Raises `UserError` where the file is no config of accelerate."""
    if accelerate == "auto":
        return max(1, len(visible_gpus()))
    try:
        settings = yaml.safe_load(accelerate.read_text(encoding="utf-8"))
        return int(settings.get("num_processes", 1))
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise UserError(
            f"'train.accelerate': {accelerate} is no config of `accelerate launch` ({error}). Shipped ones: "
            "configs/accelerate/*.yaml; `auto` needs none."
        ) from error


def refuse_lone_process(accelerate: Path | Literal["auto"], started: int) -> None:
    """Refuse a training that was meant for several processes and got one: each of several lone ones would train on all
    rows and write to the same folder.

    Args:
        started: the processes of this training's group (WORLD_SIZE).

    Raises:
        UserError: `accelerate` asks for more than one process, and `started` is 1.
    """
    asked = num_processes(accelerate)
    if started == 1 and asked > 1:
        raise UserError(
            f"'train.accelerate' ({accelerate}) asks for {asked} processes, and this training is one process by itself."
            " On a CPU `accelerate launch` starts one only: use torchrun --nproc_per_node there. With one GPU, set "
            "train.accelerate=auto or configs/accelerate/single_gpu.yaml."
        )
