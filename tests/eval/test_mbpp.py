"""MBPP: what a published row becomes, programs that are run, and the whole published file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from synthloop.errors import UserError
from synthloop.task import Task, open_task
from synthloop.unit_tests import fenced
from tests.generate.sandboxed import skip_unless_confined
from tests.real_data import real_data

RUNNER = "generate.sandbox.run_python"
CODE = "def double(x):\n    return 2 * x"
ROW = {
    "task_id": 601,
    "text": "Write a function to double a number.",
    "code": CODE.replace("\n", "\r\n"),
    "test_setup_code": "base = 2",
    "test_list": ["assert double(base) == 4", "assert double(3) == 6"],
}


@pytest.fixture(autouse=True)
def confined() -> None:
    skip_unless_confined()


def task(folder: Path, *rows: dict[str, Any]) -> Task:
    (folder / "mbpp.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return open_task("mbpp", {"path": folder, "runner": RUNNER})


def test_a_row(tmp_path: Path) -> None:
    opened = task(tmp_path, {**ROW, "task_id": 11}, ROW, {**ROW, "task_id": 3})
    (example,) = opened.load("train")
    assert example.input == "Write a function to double a number.\n\nassert double(base) == 4"
    assert example.messages[0]["content"].startswith(f"{example.input}\n\nReply with")
    assert (example.completion, example.answer) == (fenced(CODE), CODE)
    assert example.meta == {"tests": ["base = 2\nassert double(base) == 4", "base = 2\nassert double(3) == 6"]}
    assert "assert double(3)" not in str(example.messages), "the other tests stay hidden"
    assert [len(list(opened.load(split))) for split in ("test", "validation", "prompt")] == [1, 0, 0]


@pytest.mark.parametrize(
    ("reply", "correct", "reason"),
    [
        (f"So:\n{fenced(CODE)}", True, None),
        (fenced("def double(x): return x ** 2"), False, "1 of 2 tests pass."),
        (fenced("raise SystemExit(0)"), False, "0 of 2 tests pass. SystemExit"),
        ("twice", False, "no code"),
    ],
)
def test_a_reply_is_run(tmp_path: Path, reply: str, correct: bool, reason: str | None) -> None:
    opened = task(tmp_path, ROW)
    (example,) = opened.load("train")
    found = opened.score(example, reply)
    assert (found.correct, found.value) == (correct, float(correct))
    assert (found.reason or "").startswith(reason or "")
    assert (found.parsed is None) == (reason == "no code")


def test_a_written_problem_has_no_tests_to_score_by(tmp_path: Path) -> None:
    opened = task(tmp_path, ROW)
    (example,) = opened.load("train")
    found = opened.score(example.model_copy(update={"meta": {}}), fenced(CODE))
    assert (found.correct, found.parsed, found.reason) == (False, CODE, "no tests")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"test_list": []}, "line 1: 'test_list' should be"),
        ({"code": ""}, "line 1: the field 'code'"),
        ({"code": "def double(x): return 1"}, "line 1: the row's own code does not pass"),
    ],
)
def test_broken_rows_are_named(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        list(task(tmp_path, {**ROW, **change}).load("train"))


@pytest.mark.parametrize("runner", ["generate.sandbox.run_pyton", "generate.sandbox.DEFAULTS", None])
def test_a_runner_must_be_named(tmp_path: Path, runner: str | None) -> None:
    with pytest.raises(ValidationError, match="runner"):
        open_task("mbpp", {"path": tmp_path, **({"runner": runner} if runner else {})})
    with pytest.raises(ValidationError, match=r"mbpp\.jsonl"):
        open_task("mbpp", {"runner": RUNNER})


@pytest.mark.real_data
def test_the_published_file() -> None:
    opened = open_task("mbpp", {"path": real_data("mbpp"), "runner": RUNNER})
    sizes = {split: len(list(opened.load(split))) for split in ("train", "validation", "test")}
    assert sizes == {"train": 464, "validation": 0, "test": 500}
