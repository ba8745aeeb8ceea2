"""GSM8K: what a published row becomes, the whole published files, and broken ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from synthloop.errors import UserError
from synthloop.task import open_task
from tests.real_data import real_data

ROW = {
    "question": "Natalia sold clips to 48 friends, then half as many. How many?",
    "answer": "She sold 48/2 = <<48/2=24>>24 clips in May.\nIn all 48+24 = <<48+24=72>>1,072.\n#### 1,072",
}


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_row(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", ROW)
    task = open_task("gsm8k", {"path": tmp_path})
    (example,) = task.load("train")
    assert example.input == ROW["question"]
    assert example.completion == "She sold 48/2 = 24 clips in May.\nIn all 48+24 = 1,072.\n#### 1,072"
    assert (example.answer, example.slice) == ("1072", "2-steps")
    assert task.score(example, example.completion).correct
    assert list(task.load("test")) == list(task.load("validation")) == []
    (marked,) = open_task("gsm8k", {"path": tmp_path, "calculator_marks": True}).load("train")
    assert marked.completion == ROW["answer"]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"question": "?", "answer": "no mark 5"}, r"line 2: the answer should end with '#### <number>'"),
        ({"question": "?", "answer": "#### none"}, r"line 2: the answer should end with"),
        ({"question": "?", "solution": "#### 5"}, r"line 2: no field 'answer'.* The row has: question, solution"),
        ({"question": "", "answer": "#### 5"}, r"line 2: the field 'question' is blank"),
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path: Path, row: dict[str, str], told: str) -> None:
    write(tmp_path / "train.jsonl", ROW, row)
    with pytest.raises(UserError, match=told):
        list(open_task("gsm8k", {"path": tmp_path}).load("train"))


def test_bad_files(tmp_path: Path) -> None:
    task = open_task("gsm8k", {"path": tmp_path})
    with pytest.raises(UserError, match="no such file"):
        list(task.load("train"))
    write(tmp_path / "train.jsonl")
    with pytest.raises(UserError, match="no rows in it"):
        list(task.load("train"))
    with pytest.raises(ValidationError, match="set `path`"):
        open_task("gsm8k", {})


def test_a_path_wins_over_the_hub(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", ROW)
    task = open_task("gsm8k", {"path": tmp_path, "dataset": "openai/gsm8k"})
    assert len(list(task.load("train"))) == 1
    assert getattr(task.config, "dataset", "") is None
    assert getattr(open_task("gsm8k", {"dataset": "openai/gsm8k"}).config, "subset", "") == "main"


def test_a_dataset_folder_is_read_as_the_hub_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "copy").mkdir()
    write(tmp_path / "copy" / "train.jsonl", ROW)
    task = open_task("gsm8k", {"dataset": str(tmp_path / "copy"), "subset": None})
    assert [example.answer for example in task.load("train")] == ["1072"]
    assert list(task.load("test")) == []


@pytest.mark.real_data
@pytest.mark.parametrize(("split", "size"), [("train", 7473), ("test", 1319)])
def test_every_published_answer_scores_1_and_an_empty_one_0(split: str, size: int) -> None:
    task = open_task("gsm8k", {"path": real_data("gsm8k")})
    examples = list(task.load(split))
    assert len(examples) == size
    assert all(task.score(example, example.completion).value == 1 for example in examples)
    assert not any(task.score(example, "").value for example in examples)
    assert not any("<<" in example.completion for example in examples)
