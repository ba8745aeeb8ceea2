"""The GSM8K and TREC configs, two rounds end to end on the published files, with the quickstart models as stand-ins.

The toys cannot solve these tasks. What is shown is that the data, the prompts, the lengths and every stage fit; guided
decoding lets the toy teacher write replies that parse, so that samples are kept, mixed and trained on.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.real_data import real_data
from tests.stand_ins import CONTEXT, ROOT, long_context_copies

pytestmark = pytest.mark.real_data

QUESTION = "[A-Z][a-z]{2,7} has [1-9][0-9] [a-z]{3,7} and buys [1-9][0-9] more\\. How many [a-z]{3,7} are there\\?"
LABELS = ["ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM"]

SMALL = {
    "rounds": 2,
    "splits.train": 200,
    "splits.probe": 60,
    "splits.gate": 60,
    "generate.num_seeds": 60,
    "roles.teacher.args": {"dtype": "float32", "max_model_len": CONTEXT},
    "student.args": {"dtype": "float32", "max_model_len": CONTEXT},
    "train.accelerate": "configs/accelerate/cpu.yaml",
    "train.args.bf16": False,
    "train.args.max_length": 1024,
    "train.args.max_steps": 8,
    "train.args.per_device_train_batch_size": 4,
    "train.args.gradient_accumulation_steps": 1,
    "eval.sampling.max_tokens": 16,
    "collapse.num_prompts": 4,
    "decide.max_p_value": 1,
    "decide.min_gain": -1,
    "tracking.wandb": "off",
}


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    student, teacher = long_context_copies(tmp_path_factory.mktemp("stand-ins"))
    return {"student.model": str(student), "roles.teacher.model": str(teacher)}


def recipes(*names: str, guide: dict[str, Any]) -> list[dict[str, Any]]:
    shared = {
        "num_solutions": 2,
        "problem_sampling": {"structured_outputs": {"regex": QUESTION}},
        "solve_sampling": {"structured_outputs": guide, "temperature": 0.2},
    }
    return [{"name": name, "share": 1 / len(names), **shared} for name in names]


def run(config: str, folder: Path, overrides: dict[str, Any]) -> dict[str, Any]:
    command = [str(Path(sys.executable).with_name("synthloop")), "run", config, "--run-dir", str(folder)]
    command += [f"{key}={json.dumps(value)}" for key, value in {**SMALL, **overrides}.items()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


def check_rounds(folder: Path, report: dict[str, Any], num_test: int) -> None:
    assert len(report["rounds"]) == 3
    assert report["rounds"][0]["eval"]["test"]["n"] == num_test
    for number in (1, 2):
        funnel = json.loads((folder / f"round-{number:03d}" / "funnel.json").read_text())
        assert funnel["kept"] > 0, funnel
        assert (folder / f"round-{number:03d}" / "adapter" / "adapter_model.safetensors").is_file()


def test_gsm8k(stand_ins: dict[str, Any], tmp_path: Path) -> None:
    guided = recipes("repair", "variation", "explore", guide={"regex": "So it is [1-4]\\.\n#### [1-4]"})
    overrides = {"task.path": str(real_data("gsm8k")), "generate.recipes": guided}
    report = run("configs/gsm8k.yaml", tmp_path, stand_ins | overrides)
    check_rounds(tmp_path, report, num_test=1319)


def test_trec(stand_ins: dict[str, Any], tmp_path: Path) -> None:
    guided = recipes("repair", "explore", guide={"choice": LABELS})
    overrides = {"task.path": str(real_data("trec")), "generate.recipes": guided}
    report = run("configs/trec.yaml", tmp_path, stand_ins | overrides)
    check_rounds(tmp_path, report, num_test=500)
    curated = [json.loads(line) for line in (tmp_path / "round-001" / "curated.jsonl").read_text().splitlines()]
    assert {one["answer"] for one in curated} <= set(LABELS)
