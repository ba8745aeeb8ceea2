"""The quickstart made small: one round through every real part, in about two minutes on two cores."""

import hashlib
import sqlite3
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

SMALL = [
    "rounds=1",
    "task.num_train=300",
    "task.num_test=60",
    "splits.train=100",
    "splits.probe=80",
    "splits.gate=60",
    "generate.num_seeds=120",
    "generate.allocation=thompson",
    "mix.policy=adaptive",
    "mix.max_synthetic_ratio=1",
    "mix.ratios=[0,1]",
    "mix.proxies.max_real_rows=20",
    "train.args.num_train_epochs=1",
    "train.args.save_steps=2",
    "train.args.logging_steps=1",
    "collapse.num_prompts=8",
    "decide.max_p_value=1",
    "decide.min_gain=-1",
]


def command(root: Path, *overrides: str) -> list[str]:
    """The command line of the small run in the run directory `root`."""
    synthloop = str(Path(sys.executable).with_name("synthloop"))
    return [synthloop, "run", "configs/quickstart.yaml", *SMALL, *overrides, "--run-dir", str(root)]


def run(root: Path, *overrides: str) -> str:
    """Run it to its end; what it printed."""
    done = subprocess.run(command(root, *overrides), capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


DATA_FILES = (
    "data/*.jsonl",
    "round-*/*.jsonl",
    "round-*/funnel.json",
    "round-*/mix.json",
    "round-*/round.json",
    "round-*/collapse.json",
    "round-*/eval/*",
    "round-*/adapter/*",
    "round-*/trials/*/adapter/*",
)
"""What must be the same, byte by byte, however often a run was killed."""


def contents(root: Path) -> dict[str, str]:
    """Path -> hash of every file of DATA_FILES."""
    files = sorted({path for pattern in DATA_FILES for path in root.glob(pattern) if path.is_file()})
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def asked(root: Path) -> list[tuple[str, str]]:
    """(key, reply) of every request in the journal."""
    with sqlite3.connect(root / "journal.sqlite") as db:
        return sorted(db.execute("SELECT key, reply FROM replies"))
