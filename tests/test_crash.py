"""The real loop, killed with SIGKILL in every stage and run again, ends as one that was never killed."""

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import small_run


def num_replies(root: Path, stage: str) -> int:
    """Replies in the journal that this stage asked for; 0 while it cannot be read."""
    if not (root / "journal.sqlite").exists():
        return 0
    try:
        with sqlite3.connect(f"file:{root / 'journal.sqlite'}?mode=ro", uri=True, timeout=1) as db:
            return int(db.execute("SELECT COUNT(*) FROM replies WHERE stage = ?", (stage,)).fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def exists(pattern: str) -> Callable[[Path], bool]:
    return lambda root: any(root.glob(pattern))


KILL_POINTS: dict[str, Callable[[Path], bool]] = {
    "in the baseline's evaluation": exists("round-000/eval.partial/eval/probe.jsonl"),
    "in generation": lambda root: num_replies(root, "1/generate") >= 150,
    "in curation": exists("round-001/logs/curate.log"),
    "in the training of the second trial": exists("round-001/trials.partial/trials/*-seed-0/trial.json"),
    "in the search": exists("round-001/logs/search.log"),
    "in the mix": exists("round-001/logs/mix.log"),
    "in the middle of training": exists("round-001/train.partial/checkpoints/checkpoint-4/complete"),
    "in the round's evaluation": exists("round-001/eval.partial/eval/probe.jsonl"),
    "in the final test": exists("round-001/logs/test.log"),
}


def kill_at(root: Path, reached: Callable[[Path], bool]) -> bool:
    """Start the loop, SIGKILL it once `reached`; whether it was still running then."""
    command = small_run.command(root, "tracking.wandb=off")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, cwd=small_run.ROOT) as process:
        while not reached(root):
            if process.poll() is not None:
                return False
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    return True


@pytest.mark.slow
def test_killed_in_every_stage_it_ends_byte_identical(whole_run: Path, tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    for name, reached in KILL_POINTS.items():
        assert kill_at(killed, reached), f"the loop ended before it was killed {name}"
    small_run.run(killed, "tracking.wandb=off")
    expected, found = small_run.contents(whole_run), small_run.contents(killed)
    assert {"round-001/adapter/adapter_model.safetensors", "round-001/candidates.jsonl"} <= expected.keys()
    assert found == expected, {name for name in expected | found if expected.get(name) != found.get(name)}
    # The journal refuses a second reply to one request, so equal contents mean that none was asked twice.
    assert small_run.asked(killed) == small_run.asked(whole_run), "a reply was lost, or another was asked for"
