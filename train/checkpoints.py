"""Checkpoints that can be trusted after a kill: one is complete if and only if it holds the mark written last.

The trainer writes `checkpoint-N/` file by file, in place, and finds the last one by its number alone; a process killed
on the way would resume from half a checkpoint, or crash on it for ever.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

MARK = "complete"


def mark_complete(checkpoint: Path) -> None:
    """Flush the checkpoint's files to disk, then mark it complete."""
    for path in [*checkpoint.rglob("*"), checkpoint]:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    (checkpoint / MARK).touch()


def latest_complete(folder: Path) -> Path | None:
    """The complete checkpoint with the most steps; None where there is none."""
    return max((path for path in _checkpoints(folder) if (path / MARK).exists()), key=_step, default=None)


def remove_incomplete(folder: Path) -> None:
    """Delete what a killed process left half-written."""
    for path in _checkpoints(folder):
        if not (path / MARK).exists():
            shutil.rmtree(path)


def _checkpoints(folder: Path) -> list[Path]:
    return [path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def interval(num_steps: int, logging_steps: float, num_checkpoints: int = 4) -> int:
    """Steps between checkpoints: about `num_checkpoints` in a run (chosen, not measured), on steps that are logged.

    On a logged step, because the trainer averages its loss since the last log and a resumed one has lost the part
    before the checkpoint.
    """
    every = max(1, -(-num_steps // (num_checkpoints + 1)))
    unit = int(logging_steps) if logging_steps >= 1 else max(1, round(logging_steps * num_steps))
    return -(-every // unit) * unit
