"""The real loop, killed with SIGKILL in every stage and run again, ends as one that was never killed."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from scripts.kill_at_random import group
from tests import small_run

KILL_POINTS = {
    "while the data is split": "1 */data/splits.json*",
    "in the baseline's evaluation": "1 */round-000/eval.partial/eval/gate.jsonl*",
    "in generation": "150 INSERT INTO replies*",
    "in curation": "1 */curate.partial/rejected.jsonl*",
    "in the training of the second trial": "1 */trials/amount-1-seed-0/checkpoints/*/complete",
    "in the search": "1 */search.partial/search.json*",
    "in the mix": "1 */mix.partial/mix.json*",
    "in the middle of training": "1 */train.partial/checkpoints/checkpoint-6/complete",
    "in the round's evaluation": "1 */round-001/eval.partial/eval/gate.jsonl*",
    "in the decision": "1 */round-001/decide.partial/round.json*",
    "in the final test": "1 */round-001/test.partial/eval/test.json*",
}
"""By tests/kill_points/sitecustomize.py; a pattern that nothing fits lets the run end, and the test fails."""


def run_until(root: Path, point: str) -> tuple[int, str]:
    """Start the loop, which is killed at `point`; its exit code and output."""
    path = os.pathsep.join([str(small_run.ROOT / "tests" / "kill_points"), str(small_run.ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "KILL_AT": point}
    command = small_run.command(root, "tracking.wandb=off")
    output = root.with_suffix(".log")
    with output.open("w") as out:
        loop = subprocess.Popen(
            command, stdout=out, stderr=out, cwd=small_run.ROOT, env=environment, start_new_session=True
        )
        code = loop.wait()
    while group(loop.pid):  # the kernel is killing what the loop had started
        time.sleep(0.01)
    return code, output.read_text()


@pytest.mark.slow
def test_killed_in_every_stage_it_ends_byte_identical(whole_run: Path, tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    for name, point in KILL_POINTS.items():
        code, output = run_until(killed, point)
        assert code == -signal.SIGKILL, f"the loop ended with {code} and was not killed {name}: {output}"
    small_run.run(killed, "tracking.wandb=off")
    expected, found = small_run.contents(whole_run), small_run.contents(killed)
    assert {"round-001/adapter/adapter_model.safetensors", "round-001/candidates.jsonl"} <= expected.keys()
    assert found == expected, {name for name in expected | found if expected.get(name) != found.get(name)}
    # The journal refuses a second reply to one request, so equal contents mean that none was asked twice.
    assert small_run.asked(killed) == small_run.asked(whole_run), "a reply was lost, or another was asked for"
