"""Classification: each format, the labels, bad input, and the published files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from eval.labels import refuse_alike
from eval.scoring import choice
from synthloop.errors import UserError
from synthloop.task import open_task
from tests.real_data import real_data

FORMATS: dict[str, tuple[dict[str, Any], str]] = {
    "label_text": ({"format": "label_text", "label_separator": ":"}, "NUM:dist How far ?\n\nHUM:ind Who is\u00e9 ?\n"),
    "tsv, no header": ({"format": "tsv", "label": 0, "text": 1}, "NUM\tHow far ?\nHUM\tWho is\u00e9 ?\n"),
    "tsv": ({"format": "tsv"}, "text\tlabel\nHow far ?\tNUM\nWho is\u00e9 ?\tHUM\n"),
    "csv": ({"format": "csv", "text": "question"}, '"question","label"\n"How far ?",NUM\n"Who is\u00e9 ?",HUM\n'),
    "jsonl": (
        {"label": "kind"},
        '{"text": "How far ?", "kind": "NUM"}\n{"text": "Who is\u00e9 ?", "kind": "HUM"}\n',
    ),
    "json": (
        {"format": "json", "train": "train#main", "text": 0, "label": 1},
        '{"main": [["How far ?", "NUM"], ["Who is\u00e9 ?", "HUM"]]}',
    ),
}


@pytest.mark.parametrize(
    ("name", "encoding"),
    [*((name, None) for name in FORMATS), *((name, "latin-1") for name in FORMATS if name != "jsonl")],
)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str, encoding: str | None) -> None:
    settings, text = FORMATS[name]
    (tmp_path / "train").write_text(text, encoding=encoding or "utf-8")
    chosen = {} if encoding is None else {"encoding": encoding}
    task = open_task("classification", {"path": tmp_path, "train": "train", **settings, **chosen})
    examples = list(task.load("train"))
    assert [(one.input, one.completion, one.answer, one.slice) for one in examples] == [
        ("How far ?", "NUM", "NUM", "NUM"),
        ("Who is\u00e9 ?", "HUM", "HUM", "HUM"),
    ]
    assert "one of: HUM, NUM." in examples[0].messages[0]["content"]
    assert task.messages("How far ?") == examples[0].messages
    assert list(task.load("test")) == []


def test_labels_can_be_mapped_and_given(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1 good\n0 bad\n")
    settings = {"path": tmp_path, "train": "a", "test": ["a", "a"], "format": "label_text"}
    task = open_task("classification", {**settings, "label_map": {"0": "negative", "1": "positive"}})
    good, _ = task.load("train")
    assert task.score(good, "It is Positive.").correct
    assert not task.score(good, "positive or negative").correct
    assert len(list(task.load("test"))) == 4
    with pytest.raises(UserError, match=r"a, line 2: the label '0' is not in task.labels"):
        list(open_task("classification", {**settings, "labels": ["1", "2"]}).load("train"))


@pytest.mark.parametrize(
    ("settings", "text", "told"),
    [
        ({"format": "tsv"}, "text\tlabel\na\tb\nonly one\n", "line 3: expected 2 columns"),
        ({"format": "tsv"}, "text\tkind\na\tb\n", "line 2: no field 'label'.* The row has: text, kind"),
        ({"format": "csv"}, "text,label\u200b\na,b\n", r"no field 'label'. Did you mean 'label\\u200b'\\?"),
        ({"format": "tsv"}, "text\tlabel\n", "the file has no rows"),
        ({"format": "label_text"}, "x y\nalone\n", "line 2: the field 'text' is blank"),
        ({"format": "json", "train": "f#trian"}, '{"train": []}', "no key 'trian'.* Did you mean 'train'"),
        ({"format": "json"}, '{"train": []}', "expected a list of rows, found dict"),
        ({"format": "json"}, "[1]", "item 0: expected an object or a list, found int"),
        ({"format": "json"}, "[\n1,]", "line 2: not valid JSON"),
        ({"format": "label_text", "encoding": "ascii"}, "x \u00e9", "not ascii.* Set task.encoding"),
        ({"format": "label_text", "encoding": "nope"}, "x y", "task.encoding: unknown encoding"),
        ({"format": "label_text", "train": "g"}, "x y", "g: no such file"),
        ({"format": "json"}, '[{"text": "\\ud800", "label": "b"}]', "ud800 is half of a surrogate pair"),
        ({"format": "json"}, '[{"text": NaN, "label": "b"}]', "NaN is no number"),
        ({"format": "json"}, "[" * 100_000, "nested more than 100 levels deep"),
        ({"format": "tsv", "train": "."}, "", "a folder. Expected a text file"),
        ({}, '{"text": "a", "label": ["b", "c"]}\n', r"line 1: 2 labels .* Keep one"),
        ({"format": "label_text"}, "__label__b a\n__label__b __label__c d e\n", r"line 2: 2 labels \(\['b', 'c'\]"),
        (
            {"format": "csv"},
            "text,label\na,Good\nb,good\nc,Good\n",
            r"'Good' \(2\) and 'good' \(1\)\. .*\"good\": \"Good\"",
        ),
        ({"format": "csv"}, "text,label\na,ｇｏｏｄ\nb,good\n", "differ in case, width"),
        ({"format": "csv"}, "text,label\na,toxic\nb,toxic.\n", "'toxic.' can never be right"),
        ({}, '{"text": "a", "label": "b"}\n{"text": "a", "label": "b\u200b"}\n', r"'b\\u200b' \(1\)\. Join"),
        ({"labels": ["b", "B"]}, '{"text": "a", "label": "b"}\n', "'b' .* and 'B'"),
        (
            {"format": "csv", "encoding": "latin-1"},
            "\ufefftext,label\na,b\n",
            "byte order mark of UTF-8, so it is not lat",
        ),
        ({}, '{"text": "a", "label": null}\n', "line 1: the field 'label' should be text, found None"),
    ],
)
def test_bad_input_is_named_by_file_and_line(tmp_path: Path, settings: dict[str, Any], text: str, told: str) -> None:
    (tmp_path / "f").write_text(text, encoding="utf-8")
    task = open_task("classification", {"path": tmp_path, "train": "f", **settings})
    with pytest.raises(UserError, match=told):
        list(task.load("train"))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"format": "label_text", "label": "x", "train": "f"}, "`label` is not read"),
        ({"encoding": "latin-1", "train": "f"}, "`encoding` is not read"),
        ({"dataset": "someone/else", "format": "csv"}, "`format` is not read"),
    ],
)
def test_settings_that_nothing_reads_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        open_task("classification", settings)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "settings", "sizes", "num_labels"),
    [
        (
            "trec",
            {"train": "TREC.train", "test": "TREC.test", "encoding": "latin-1", "label_separator": ":"},
            (5452, 0, 500),
            6,
        ),
        ("trec", {"train": "TREC.train", "test": "TREC.test", "encoding": "latin-1"}, (5452, 0, 500), 50),
        (
            "sst2",
            {"train": "stsa.binary.train", "validation": "stsa.binary.dev", "test": "stsa.binary.test"},
            (6920, 872, 1821),
            2,
        ),
        ("sms_spam", {"format": "tsv", "train": "sms.tsv", "label": 0, "text": 1}, (5574, 0, 0), 2),
        (
            "clinc150",
            {
                "format": "json",
                "train": "data_full.json#train",
                "validation": "data_full.json#val",
                "test": ["data_full.json#test", "data_full.json#oos_test"],
                "text": 0,
                "label": 1,
            },
            (15000, 3000, 5500),
            151,
        ),
    ],
)
def test_published_files(name: str, settings: dict[str, Any], sizes: tuple[int, ...], num_labels: int) -> None:
    task = open_task("classification", {"path": real_data(name), "format": "label_text", **settings})
    examples = {split: list(task.load(split)) for split in ("train", "validation", "test")}
    assert tuple(map(len, examples.values())) == sizes
    rows = [row for split in examples.values() for row in split]
    assert len({row.answer for row in rows}) == num_labels
    assert all(task.score(row, row.completion).correct for row in rows)
    assert not any(task.score(row, "").correct for row in rows)


def test_a_file_of_excel_is_read_and_other_columns_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "f.csv").write_text("text,label,id\na,b,1\nc,d,2\n", encoding="utf-8-sig")
    task = open_task("classification", {"path": tmp_path, "train": "f.csv", "format": "csv"})
    assert [row.input for row in task.load("train")] == ["a", "c"]
    assert caplog.messages == ["task: fields of 'train' that are not read: 'id' in 2 of 2 rows."]


def test_what_others_export_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a").write_text("__label__up it rose\n\nno label here\n__label__down  it fell\n")
    task = open_task("classification", {"path": tmp_path, "train": "a", "format": "label_text"})
    assert [(row.input, row.answer) for row in task.load("train")] == [("it rose", "up"), ("it fell", "down")]
    (tmp_path / "b").write_text('{"text": "it rose", "label": ["up"]}\n{"text": "it stood", "label": []}\n')
    task = open_task("classification", {"path": tmp_path, "train": "b"})
    assert [(row.input, row.answer) for row in task.load("train")] == [("it rose", "up")]
    told = "task: 1 rows of 'train' have no label and are left out: "
    assert caplog.messages == [f"{told}{tmp_path}/a, line 3.", f"{told}{tmp_path}/b, line 2."]


def test_labels_that_are_alike_can_be_joined(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("Good fine\ngood nice\n")
    settings = {"path": tmp_path, "train": "a", "format": "label_text", "label_map": {"good": "Good"}}
    task = open_task("classification", settings)
    assert all(task.score(row, "good").correct for row in task.load("train"))
    assert task.labels == ("Good",)


LABELS = st.lists(st.text("aAｂb \ufeffß", min_size=1).filter(str.strip), min_size=1, max_size=4, unique=True)


@given(LABELS)
def test_each_label_that_is_not_refused_can_be_right(labels: list[str]) -> None:
    try:
        refuse_alike(dict.fromkeys(labels, 1), "")
    except UserError:
        return
    scorer = choice(tuple(labels))
    assert all(scorer(label, label).correct for label in labels if len(label.strip()) > 1)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", [name for name in FORMATS if name != "jsonl"])
def test_a_byte_order_mark_is_not_text(tmp_path: Path, name: str, encoding: str) -> None:
    settings, text = FORMATS[name]
    (tmp_path / "train").write_text(text, encoding=encoding)
    task = open_task("classification", {"path": tmp_path, "train": "train", "encoding": encoding, **settings})
    assert [row.answer for row in task.load("train")] == ["NUM", "HUM"]
