"""A data set as a folder: every value as it was written, whatever the file's format."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.tasks import _sources
from eval.tasks._datasets import _is_widened, _reading, table_rows
from eval.tasks._sources import local_rows
from synthloop.errors import UserError
from synthloop.records import Example
from synthloop.task import open_task


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


def load(split: str = "train", **settings: Any) -> list[Example]:
    return list(open_task("jsonl", {"scorer": "exact", **settings}).load(split))


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8") as stream:
            table = csv.DictWriter(stream, rows[0], delimiter="\t" if path.suffix == ".tsv" else ",")
            table.writeheader()
            table.writerows(rows)
    return path.parent


ODD = ["02116", "1.10", "007", " 5 ", "true", "null", "None", "N/A", "NaN", "1e-12", "[1, 2]", '"a"', "12:30", "x\ny"]
WRITABLE = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1).filter(str.strip)


@given(st.lists(st.sampled_from(ODD) | WRITABLE, min_size=1, max_size=6))
def test_text_is_the_same_in_every_format(texts: list[str]) -> None:
    """JSON lines, a JSON array, CSV and TSV, by path and by data set."""
    rows = [{"input": str(number), "output": text} for number, text in enumerate(texts)]
    with tempfile.TemporaryDirectory() as folder:
        paths = {suffix: Path(folder) / f"train.{suffix}" for suffix in ("jsonl", "json", "csv", "tsv")}
        for path in paths.values():
            write(path, rows)
        assert [row for _, row in local_rows(paths["jsonl"])] == rows
        assert [row for _, row in _reading([paths["jsonl"], paths["json"]], None)()] == rows + rows
        for suffix, delimiter in (("csv", ","), ("tsv", "\t")):
            assert [row for _, row in table_rows(paths[suffix], delimiter)] == rows


def test_examples_are_the_same_by_path_and_by_dataset(tmp_path: Path) -> None:
    rows = [
        {"input": f"{number} {text}", "output": text, "answer": text, "label": text.replace("\n", " ")}
        for number, text in enumerate(ODD)
    ]
    by_path = load(path=write(tmp_path / "path" / "train.jsonl", rows), train="train.jsonl")
    assert [one.answer for one in by_path] == [text.strip() for text in ODD]
    assert [one.completion for one in by_path] == ODD
    for suffix in ("jsonl", "json", "csv", "tsv"):
        assert load(dataset=str(write(tmp_path / suffix / f"train.{suffix}", rows))) == by_path, suffix
    as_csv = {"path": tmp_path / "csv", "format": "csv", "train": "train.csv"}
    for settings in (as_csv, {"dataset": str(tmp_path / "jsonl")}):
        task = open_task("classification", {"text": "input", "label": "label", **settings})
        assert [one.completion for one in task.load("train")] == [row["label"].strip() for row in rows]


def test_text_beside_numbers_stays_text(tmp_path: Path) -> None:
    """`datasets` makes one Json column of both and reads the texts that are JSON anew."""
    rows = [{"input": f"{i}", "output": f"{i}", "answer": f"{i:02d}" if i < 40 else i} for i in range(50)]
    by_dataset = load(dataset=str(write(tmp_path / "train.jsonl", rows)))
    assert [one.answer for one in by_dataset] == [str(row["answer"]) for row in rows]


def test_a_row_may_lack_what_others_have(tmp_path: Path) -> None:
    """Whichever comes first; and a whole file of columns that `datasets` takes for an agent's traces."""
    rows = [{"input": "a", "output": "A"}, {"input": "b", "output": "B", "answer": "B!", "slice": "s"}]
    for order in (rows, rows[::-1]):
        folder = write(tmp_path / order[0]["input"] / "train.jsonl", order)
        found = load(dataset=str(folder), scorer="regex", pattern="(.+)")
        assert {one.input: (one.answer, one.slice) for one in found} == {"a": ("A", None), "b": ("B!", "s")}
    turns = [{"role": "user", "content": "2?"}, {"role": "assistant", "content": "two", "name": None}]
    trace = {"id": "1", "source": "s", "model": "m", "system_prompt": "Be brief.", "messages": turns}
    folder = write(tmp_path / "traces" / "train.jsonl", [trace])
    assert [one.completion for one in load(dataset=str(folder), ignore=["system_prompt"])] == ["two"]


def test_splits_are_found_as_published(tmp_path: Path) -> None:
    for name in ("train.csv", "dev.csv", "test.csv"):
        write(tmp_path / "data" / name, [{"input": name, "output": "1.0", "answer": ""}])
    found = {
        split: [one.input for one in load(split, dataset=str(tmp_path))] for split in ("train", "validation", "test")
    }
    assert found == {"train": ["train.csv"], "validation": ["dev.csv"], "test": ["test.csv"]}
    assert load("other", dataset=str(tmp_path)) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("input,output\na,b,c\n", "line 2: expected 2 columns"),
        ("input,input\na,b\n", "line 1: two columns have the same name"),
    ],
)
def test_a_table_that_is_not_one_is_refused_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "train.csv").write_text(text)
    with pytest.raises(UserError, match=told):
        load(dataset=str(tmp_path))


def saved(folder: Path) -> datasets.DatasetDict:
    rows = [{"input": f"q{i}", "output": f"{i}"} for i in range(4)]
    datasets.DatasetDict({"train": datasets.Dataset.from_list(rows)}).save_to_disk(folder)
    found = datasets.load_from_disk(str(folder))
    assert isinstance(found, datasets.DatasetDict)
    return found


def test_a_saved_data_set_has_the_rows_it_was_saved_with(tmp_path: Path) -> None:
    """`map` and `filter` write files into its folder, which are no rows of it."""
    opened = saved(tmp_path / "saved")
    before = load(dataset=str(tmp_path / "saved"))
    opened.map(lambda row: {"output": row["output"] + "!"})
    opened.filter(lambda row: row["input"] != "q1")
    assert len(list((tmp_path / "saved" / "train").glob("*.arrow"))) > 1
    assert load(dataset=str(tmp_path / "saved")) == before
    opened["train"].save_to_disk(tmp_path / "one")
    assert load(dataset=str(tmp_path / "one")) == before


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_file_that_changes_is_read_anew(suffix: str, tmp_path: Path) -> None:
    """Though its time is the same, as after `cp -p` or `rsync -t`: `datasets` would take what it cached."""
    path = tmp_path / f"train.{suffix}"
    for output in ("1", "2"):
        rows = [{"input": "a", "output": output}]
        datasets.Dataset.from_list(rows).to_parquet(str(path)) if suffix == "parquet" else write(path, rows)
        os.utime(path, (1_700_000_000, 1_700_000_000))
        assert [one.completion for one in load(dataset=str(tmp_path))] == [output]


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    """Whole numbers that an empty cell made floats are whole again; real floats stay."""
    rows = {"input": ["a", "b", "c"], "output": ["02116", "1.10", "x"], "answer": ["02116", "1.10", "x"]}
    numbers = {"count": [3.0, None, 4.0], "share": [3.0, 4.0, 5.0], "part": [0.5, None, 1.0]}
    datasets.Dataset.from_dict(rows | numbers).to_parquet(str(tmp_path / "train.parquet"))
    assert [one.answer for one in load(dataset=str(tmp_path))] == rows["answer"]
    for name, expected in {"count": "3", "share": "3.0", "part": "0.5"}.items():
        (first, *_) = load(dataset=str(tmp_path), slice=name)
        assert first.slice == expected


@given(st.lists(st.none() | st.floats(allow_infinity=False)))
def test_floats_are_whole_numbers_where_all_are_and_some_are_missing(values: list[float | None]) -> None:
    found = [value for value in values if value is not None and value == value]
    assert _is_widened(values) == (bool(found) and len(found) < len(values) and all(v == int(v) for v in found))


def test_what_fails_while_rows_are_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cause, and not that an error occurred."""
    for name, outputs in (("a", ["1"]), ("b", [{"x": 1}])):
        rows = {"input": ["q"], "output": outputs}
        datasets.Dataset.from_dict(rows).to_parquet(str(tmp_path / f"train-{name}.parquet"))
    with pytest.raises(UserError, match="cannot be loaded: ") as error:
        load(dataset=str(tmp_path))
    assert str(tmp_path) in str(error.value)

    def fail(*_: object) -> None:
        try:
            raise TypeError("Couldn't cast array of type int64 to null\nand more")
        except TypeError as cause:
            raise datasets.exceptions.DatasetGenerationError("An error occurred") from cause

    monkeypatch.setattr(_sources, "open_splits", fail)
    with pytest.raises(UserError, match=r"'org/name' cannot be loaded: Couldn't cast array of type int64 to null\. W"):
        load(dataset="org/name")
