"""The user's own JSONL: which fields are read, each scorer, and every mistake a file can hold."""

from __future__ import annotations

import json
import logging
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from eval.scoring import final_number, only_number
from synthloop.errors import UserError
from synthloop.records import Example
from synthloop.task import Task, open_task


def task_of(folder: Path, *rows: Any, **settings: Any) -> Task:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "t.jsonl").write_text("".join(line + "\n" for line in lines))
    return open_task("jsonl", {"path": folder, "train": "t.jsonl", **settings})


def only(task: Task) -> Example:
    (example,) = task.load("train")
    return example


@pytest.mark.parametrize(
    ("row", "settings", "expected"),
    [
        ({"input": "2+2", "output": "2+2=4", "answer": 4}, {}, ("2+2", "2+2=4", "4", None)),
        ({"prompt": "2+2", "completion": "so 4", "slice": "sum"}, {}, ("2+2", "so 4", "4", "sum")),
        ({"question": "2+2", "answer": "it is 4"}, {}, ("2+2", "it is 4", "4", None)),
        ({"prompt": "2+2", "response": "4."}, {}, ("2+2", "4.", "4", None)),
        (
            {"input": "other", "q": "2+2", "sol": "so 4", "gold": 4, "kind": 7},
            {"input": "q", "output": "sol", "answer": "gold", "slice": "kind"},
            ("2+2", "so 4", "4", "7"),
        ),
    ],
)
def test_fields(tmp_path: Path, row: dict[str, Any], settings: dict[str, str], expected: tuple[str, ...]) -> None:
    task = task_of(tmp_path, row, scorer="numeric", **settings)
    example = only(task)
    assert (example.input, example.completion, example.answer, example.slice) == expected
    assert example.messages == ({"role": "user", "content": "2+2"},)
    assert task.score(example, example.completion).correct
    assert list(task.load("test")) == []


def test_messages(tmp_path: Path) -> None:
    system = {"role": "system", "content": "Be brief."}
    turns = [{"role": "user", "content": "2+2"}, {"role": "assistant", "content": "4"}]
    example = only(task_of(tmp_path, {"messages": turns}, scorer="numeric", system="Be brief."))
    assert example.messages == (system, turns[0])
    assert (example.input, example.completion, example.answer) == ("2+2", "4", "4")
    again = {"role": "user", "content": "and 2 more"}
    longer = only(task_of(tmp_path, {"messages": [system, *turns, again], "answer": 6}, scorer="numeric"))
    assert longer.messages == (system, *turns, again)
    assert (longer.input, longer.completion, longer.answer) == ("and 2 more", "6", "6")


@pytest.mark.parametrize(
    ("settings", "row", "right", "wrong"),
    [
        ({"scorer": "exact"}, {"input": "a", "output": "Paris"}, " Paris", "paris"),
        ({"scorer": "exact", "ignore_case": True}, {"input": "a", "output": "Paris"}, "paris", "in Paris"),
        ({"scorer": "choice", "labels": ["yes", "no"]}, {"input": "a", "output": "yes"}, "Yes!", "no"),
        ({"scorer": "json"}, {"input": "a", "output": {"x": [1, None]}}, '{"x": [1.0, null]}', '{"x": [1]}'),
        ({"scorer": "json"}, {"input": "a", "output": '{"x": true}'}, '{"x":true}', '{"x":1}'),
        ({"scorer": "regex", "pattern": r"is (\w)"}, {"input": "a", "output": "It is B"}, "is A, is B", "B"),
    ],
)
def test_each_scorer(tmp_path: Path, settings: dict[str, Any], row: Any, right: str, wrong: str) -> None:
    task = task_of(tmp_path, row, **settings)
    example = only(task)
    assert task.score(example, right).correct
    assert not task.score(example, wrong).correct
    assert not task.score(example, "").correct


def test_choice_reads_its_labels_from_the_data(tmp_path: Path) -> None:
    rows = [{"input": "a", "output": "yes"}, {"input": "b", "output": "no"}]
    task = task_of(tmp_path, *rows, scorer="choice", prompt="{{ labels | join('/') }}? {{ input }}")
    first, _ = task.load("train")
    assert first.messages[0]["content"] == "no/yes? a"
    assert not task.score(first, "yes and no").correct


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", r"t.jsonl, line 2: not valid JSON"),
        ("[1]", r"t.jsonl, line 2: expected a JSON object, found list"),
        ({"text": "a", "output": "4"}, r"line 2: none of the fields messages, .*has: text, output"),
        ({"input": "a"}, r"line 2: none of the fields output, .*has: input"),
        ({"input": "a", "output": ["4"]}, r"line 2: 'output' should hold turns of `role` .* found '4'"),
        ({"input": "a", "output": "none"}, r"line 2: scorer 'numeric' finds no answer in the output 'none'"),
        (
            {"input": "a", "output": "4", "answer": "four"},
            r"1 of 2 answers of 'train' are not one number .*line 2: 'four'\. Write",
        ),
        ({"messages": [{"role": "user"}], "output": "4"}, r"line 2: 'messages' should hold turns of `role`"),
        ({"messages": [{"role": "assistant", "content": "4"}]}, r"line 2: expected a conversation that ends"),
        ({"input": "a", "output": "4", "weight": -1}, r"line 2: 'weight' should be .* found -1\. .*set task.ignore"),
        ({"input": "a", "output": "4", "weight": "2 kg"}, r"line 2: 'weight' should be .* found '2 kg'"),
        (
            {"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "3"}], "output": "4"},
            "line 2: 'p",
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: Any, told: str) -> None:
    task = task_of(tmp_path, {"input": "a", "output": "4"}, line, scorer="numeric")
    with pytest.raises(UserError, match=told):
        list(task.load("train"))


def test_a_configured_field_must_be_there(tmp_path: Path) -> None:
    task = task_of(tmp_path, {"input": "a", "output": "4"}, scorer="numeric", slice="sort")
    with pytest.raises(UserError, match=r"line 1: no field 'sort'.* The row has: input, output"):
        list(task.load("train"))


def test_missing_and_empty_files(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b'{"input": "a", "output": "4"}\n{"input": "\xe9", "output": "4"}\n')
    with pytest.raises(UserError, match="latin, line 2: not UTF-8"):
        list(task_of(tmp_path, scorer="numeric", test="latin").load("test"))
    with pytest.raises(UserError, match="t.jsonl: no rows in it"):
        list(task_of(tmp_path, scorer="numeric").load("train"))
    with pytest.raises(UserError, match="gone.jsonl: no such file"):
        list(task_of(tmp_path, scorer="numeric", test="gone.jsonl").load("test"))


def test_outputs_that_the_scorer_calls_wrong(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wrong = {"input": "a", "output": "5", "answer": "4"}
    with pytest.raises(UserError, match="calls every output of 'train' wrong"):
        list(task_of(tmp_path, wrong, scorer="numeric").load("train"))
    with caplog.at_level(logging.WARNING):
        assert len(list(task_of(tmp_path, wrong, {"input": "b", "output": "4"}, scorer="numeric").load("train"))) == 2
    assert "calls 1 of 2 outputs of 'train' wrong" in caplog.text


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"scorer": "exact", "judge": "critic"}, "`judge` is read by scorer 'judge' only"),
        ({"scorer": "numerc"}, "Did you mean 'numeric'"),
        ({"scorer": "numeric", "pattern": "x"}, "`pattern` is read by scorer 'regex' only"),
        ({"scorer": "regex"}, "needs `pattern`"),
        ({"scorer": "regex", "pattern": "("}, "not a regular expression"),
        ({"scorer": "numeric", "train": None}, "name the file of the real training rows"),
        ({"scorer": "numeric", "revision": "main"}, "belong to a hub `dataset`"),
        ({}, "scorer"),
    ],
)
def test_bad_settings(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        open_task("jsonl", {"train": "t.jsonl", **settings})


def test_fields_that_are_not_read_are_told_once_a_split(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"input": f"{n}", "output": "4", "url": "u", "topic": "t" if n else None} for n in range(3)]
    task = task_of(tmp_path, *rows, scorer="numeric")
    assert len(list(task.load("train"))) == 3
    assert caplog.messages == [
        "task: fields of 'train' that are not read: 'topic' in 2, 'url' in 3 of 3 rows. Name them in task.ignore if so "
        "meant."
    ]
    caplog.clear()
    list(task_of(tmp_path, *rows, scorer="numeric", ignore=["url", "topic"]).load("train"))
    assert caplog.messages == []


@pytest.mark.parametrize("name", ["context", "system", "history", "tools"])
def test_an_unread_part_of_the_problem_is_refused_unless_ignored(tmp_path: Path, name: str) -> None:
    row = {"input": "a", "output": "4", name: "something"}
    with pytest.raises(
        UserError, match=rf"line 1: the field '{name}' is not read.* set task.ignore to a list with its name"
    ):
        list(task_of(tmp_path, row, scorer="numeric").load("train"))
    assert only(task_of(tmp_path, row, scorer="numeric", ignore=[name])).input == "a"


def test_alpaca_is_read_whole_whichever_field_is_named(tmp_path: Path) -> None:
    row = {"instruction": "Add.", "input": "2 and 2", "output": "4"}
    for settings in ({}, {"input": "instruction"}):
        assert only(task_of(tmp_path, row, scorer="numeric", **settings)).input == "Add.\n\n2 and 2"
    with pytest.raises(UserError, match="the field 'instruction' is not read"):
        list(task_of(tmp_path, row, scorer="numeric", input="input").load("train"))


def test_what_a_conversation_ends_with_is_its_output(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "2+2"}, {"role": "assistant", "content": "2+2 is 4"}]
    example = only(task_of(tmp_path, {"messages": turns, "answer": 4}, scorer="numeric"))
    assert (example.completion, example.answer) == ("2+2 is 4", "4")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("jsonl", "Without the hub, name local files: task.dataset=null task.train=FILE task.test=FILE."),
        ("gsm8k", "Without the hub, set task.path to a folder with the published files."),
    ],
)
def test_a_data_set_that_is_not_there(tmp_path: Path, name: str, told: str) -> None:
    scorer = {"scorer": "exact"} if name == "jsonl" else {}
    with pytest.raises(UserError, match=r"gone' cannot be loaded: .*[^.]\. Without") as error:
        list(open_task(name, {"dataset": str(tmp_path / "gone"), **scorer}).load("train"))
    assert str(error.value).endswith(told)


def test_a_folder_that_cannot_be_read_as_a_data_set(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(UserError, match="cannot be loaded: "):
        list(open_task("jsonl", {"dataset": str(tmp_path), "scorer": "exact"}).load("train"))


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"answer": "1 250"}, "1 250"),
        ({"answer": 0.00001}, "0.00001"),
        ({"answer": "-3/4"}, "-3/4"),
        ({"answer": ["12"]}, "12"),
        ({"output": "6 * 7 = 42"}, "42"),
        ({"output": "6 * 7 = 42\n42 / 2 = 21"}, "21"),
        ({"output": "2t = 18, so t = 9"}, "9"),
        ({"output": "3/4 cups"}, "0.75"),
        ({"output": "Thus, t = 7."}, "7"),
        ({"output": "2t = 14, t = 7"}, "7"),
        ({"output": "**8**"}, "8"),
        ({"output": "So they need 3 1/2 litres."}, "3.5"),
        ({"output": "Half.\n#### 12 eggs"}, "12"),
        ({"output": "総額は 1,200 円です"}, "1200"),
        ({"answer": "9 t^2 - 4"}, None),
        ({"answer": "6 or 8"}, None),
        ({"answer": "14:45"}, None),
        ({"answer": "2√7"}, None),
        ({"answer": "1.250.000"}, None),
        ({"answer": "x > 4"}, None),
        ({"output": "5 \\ln t + C"}, None),
        ({"output": "\\frac{t^3}{6} + C"}, None),
        ({"output": "x = 6, y = 8"}, None),
        ({"output": "x = 6 or x = 8"}, None),
        ({"output": "3t + 2"}, None),
        ({"output": "We integrate term by term.\n#### 4 t + C"}, None),
        ({"output": "Twice that.\n#### 3 million"}, None),
    ],
)
def test_a_numeric_reference_is_one_number_from_end_to_end(
    tmp_path: Path, row: dict[str, Any], answer: str | None
) -> None:
    task = task_of(
        tmp_path, {"input": "a", "output": f"It is {str(row.get('answer')).strip('[]')}.", **row}, scorer="numeric"
    )
    if answer is None:
        with pytest.raises(UserError, match="1 of 1 answers .*t.jsonl, line 1: .* task.scorer=exact"):
            list(task.load("train"))
    else:
        assert only(task).answer == answer


@given(st.decimals(-(10**9), 10**9, places=3), st.text("abcxyz ^+*()=<>", min_size=1))
def test_numeric_references_are_refused_or_only_the_number_equals_them(number: Decimal, rest: str) -> None:
    assert only_number(f"{number}") == final_number(f"{number}")
    if rest.strip():
        assert only_number(f"{number} {rest}") is None


def test_labels_and_slices_that_look_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"input": "a", "output": "Yes", "slice": "Sums"}, {"input": "b", "output": "yes", "slice": "sums"}]
    with pytest.raises(UserError, match=r"case, width .*: 'Yes' \(1\) and 'yes' \(1\)\. Write one"):
        list(task_of(tmp_path, *rows, scorer="choice").load("train"))
    assert len(list(task_of(tmp_path, *rows, scorer="exact").load("train"))) == 2
    assert (
        "slices of 'train' that differ in case, width or spaces only are scored apart: 'Sums' (1 rows)" in caplog.text
    )


USER, REPLY = {"role": "user", "content": "2+2"}, {"role": "assistant", "content": "4"}


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"input": "2+2", "output": ""}, "an empty answer"),
        ({"input": " ", "output": "4"}, "an empty problem"),
        ({"messages": [], "output": "4"}, "an empty problem"),
        ({"messages": [USER, {**REPLY, "weight": 0}]}, "an answer that is marked as not to be learned"),
        ({"messages": [USER, {**REPLY, "train": False}]}, "an answer that is marked as not to be learned"),
        ({"messages": [USER, REPLY], "label": False}, "an answer that `label` calls bad"),
        ({"messages": [USER, REPLY], "feedback": "👎"}, "an answer that `feedback` calls bad"),
        ({"messages": [USER, {**REPLY, "content": None}]}, "an empty answer"),
        ({"conversations": [{"from": "human", "value": "2+2"}]}, "no answer after the user's last turn"),
        ({"input": "2+2", "output": "4", "weight": 0}, "`weight` 0"),
        ({"messages": [{"role": "system", "content": "Add."}, REPLY]}, "no turn of the user right before the output"),
        ({"messages": [USER, {"role": "tool", "content": "4"}, REPLY]}, "no turn of the user right before the output"),
    ],
)
def test_a_row_without_an_answer_to_learn_costs_itself_alone(
    tmp_path: Path, row: dict[str, Any], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    good = {"messages": [USER, REPLY]}
    assert only(task_of(tmp_path, row, good, scorer="numeric")).completion == "4"
    assert f"task: 'train': 1 row is left out: 1 with {why}" in caplog.text
    with pytest.raises(UserError, match=f"no row of 'train' can be used. 2 rows are left out: 2 with {why}"):
        list(task_of(tmp_path, row, row, scorer="numeric").load("train"))


def test_a_weight_that_the_task_reads_or_ignores_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    row = {"input": "a", "output": "4", "weight": 0}
    assert only(task_of(tmp_path, row, scorer="numeric", slice="weight")).slice == "0"
    assert only(task_of(tmp_path, row, scorer="numeric", ignore=["weight"])).slice is None
    assert only(task_of(tmp_path, {**row, "weight": 2}, scorer="numeric")).completion == "4"
    assert "'weight' in 1 of 1 rows" in caplog.text


def test_a_second_answer_that_the_task_reads_or_ignores_is_none(tmp_path: Path) -> None:
    row = {"messages": [USER, REPLY], "response": "5"}
    for settings in ({"ignore": ["response"]}, {"slice": "response"}):
        assert only(task_of(tmp_path, row, scorer="numeric", **settings)).completion == "4"


def test_labels_are_those_of_rows_that_are_used(tmp_path: Path) -> None:
    rows = [
        {"input": "a", "output": "yes"},
        {"input": "b", "output": "no"},
        {"input": "c", "output": "x", "label": False},
    ]
    task = task_of(tmp_path, *rows, scorer="choice", prompt="{{ labels | join('/') }}? {{ input }}")
    assert [example.messages[0]["content"] for example in task.load("train")] == ["no/yes? a", "no/yes? b"]


def test_a_verdict_that_the_task_reads_or_ignores_is_none(tmp_path: Path) -> None:
    row = {"input": "Is it?", "output": "so", "label": "false", "rating": 2}
    with pytest.raises(UserError, match=r"line 1: 'rating' is 2.*set task.ignore to a list with its name"):
        only(task_of(tmp_path, {**row, "label": "true"}, scorer="exact"))
    assert only(task_of(tmp_path, row, scorer="exact", slice="label", ignore=["rating"])).slice == "false"
