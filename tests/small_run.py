"""The quickstart made small: one round through every real part, in about two minutes on two cores."""

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
