"""Rows: the formats that are read, the mistakes that are named, the tokens the loss is on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from synthloop.chat import completion_ids, load_tokenizer, prompt_ids
from synthloop.errors import UserError
from synthloop.records import Message, Row
from tests.shapes import SHAPES, tokenizer_of
from tests.train.jobs import example_rows
from train.rows import Tokens, describe_changes, describe_lengths, read_training_rows, tokenise

USER = {"role": "user", "content": "3 + 4?"}
REPLY = {"role": "assistant", "content": "7"}


def write_lines(path: Path, *lines: Any) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def test_every_format_becomes_the_same_row(tmp_path: Path) -> None:
    loop_row = Row(id="a", source="synthetic", messages=(Message(role="user", content="3 + 4?"),), completion="7")
    path = write_lines(
        tmp_path / "rows.jsonl",
        {"messages": [USER, REPLY]},
        {"prompt": [USER], "completion": [REPLY]},
        {"prompt": "3 + 4?", "completion": "7"},
        {"input": "3 + 4?", "output": 7},
        {"instruction": "3 + 4?", "input": "", "output": "7"},
        {"question": "3 + 4?", "answer": "7"},
        loop_row.model_dump(),
    )
    rows = read_training_rows(path)
    assert {(row.messages[0]["content"], row.completion) for row in rows} == {("3 + 4?", "7")}
    assert [row.id for row in rows] == [*(f"rows:{number}" for number in range(1, 7)), "a"]
    assert rows[6].source == "synthetic"


def test_in_a_conversation_the_last_turn_is_the_completion(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", {"messages": [USER, REPLY, USER, REPLY]})
    (row,) = read_training_rows(path)
    assert [turn["role"] for turn in row.messages] == ["user", "assistant", "user"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{not json", "line 2: not valid JSON"),
        ("[1]", "line 2: expected a JSON object"),
        ({"text": "hello"}, "line 2: none of the fields messages, instruction, input, prompt, question"),
        ({"messages": [USER]}, "line 2: none of the fields output"),
        ({"messages": [REPLY]}, "line 2: expected a conversation that ends with an assistant turn"),
        ({"messages": "hello"}, "line 2: none of the fields output"),
        ({"messages": [USER, REPLY], "tools": [{"name": "add"}]}, "line 2: the field 'tools' is not read"),
        (
            {"messages": [USER, {"role": "assistant", "content": None}]},
            "line 2: 'messages' should hold turns of `role`",
        ),
        ({"messages": [USER, {**REPLY, "tool_calls": []}]}, "line 2: 'messages' should hold turns of `role`"),
        ({"id": "x", "source": "real"}, "line 2: 'messages' is missing"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: Any, message: str) -> None:
    path = write_lines(tmp_path / "rows.jsonl", {"messages": [USER, REPLY]}, line)
    with pytest.raises(UserError) as error:
        read_training_rows(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_an_empty_or_missing_file_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no rows to train on"):
        read_training_rows(write_lines(tmp_path / "empty.jsonl"))
    with pytest.raises(UserError, match="no such file"):
        read_training_rows(tmp_path / "absent.jsonl")


def test_keys_that_are_not_read_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_lines(tmp_path / "rows.jsonl", *[{"messages": [USER, REPLY], "topic": "sums"}] * 3)
    read_training_rows(path)
    assert "'topic' in 3 of 3 rows" in caplog.text


def test_tokens_are_the_prompt_of_inference_then_the_completion(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    rows = example_rows(6)
    for row, tokens in zip(rows, tokenise(tokenizer, rows), strict=True):
        prompt = prompt_ids(tokenizer, row.messages)
        assert tokens.input_ids[: len(prompt)] == prompt
        assert tokens.completion_mask == [0] * len(prompt) + [1] * (len(tokens.input_ids) - len(prompt))
        assert tokenizer.decode(tokens.input_ids[len(prompt) :]) == f"{row.completion}<|end|>\n"


@pytest.mark.parametrize(
    ("shape", "line", "message"),
    [
        ("thinks", {"messages": [{"role": "developer", "content": "Add."}, USER, REPLY]}, "drops the developer turn"),
        ("no system", {"messages": [{"role": "system", "content": "Add."}, USER, REPLY]}, "System role not supported"),
        ("no system", {"messages": [REPLY, USER, REPLY]}, "Roles must alternate"),
    ],
)
def test_a_row_whose_turns_the_template_refuses_or_drops_is_named(
    tmp_path: Path, shape: str, line: Any, message: str
) -> None:
    rows = read_training_rows(write_lines(tmp_path / "rows.jsonl", {"messages": [USER, REPLY]}, line))
    with pytest.raises(UserError, match=rf"^rows, line 2: .*{message}"):
        tokenise(tokenizer_of(SHAPES[shape]), rows)


def test_a_text_that_the_template_changes_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    tokenizer, turns = tokenizer_of(SHAPES["no system"]), example_rows(1)[0].messages

    def changed(*texts: str) -> int:
        completions = [completion_ids(tokenizer, turns, text) for text in texts]
        return describe_changes(tokenizer, texts, completions)["changed_completions"]

    assert changed("7", "It is 7.") == 0
    assert caplog.text == ""
    assert changed("7", "   ", "It is 7. ") == 2
    assert "changes the text of 2 of 3 completions" in caplog.text
    assert "'   ', is learned as ''" in caplog.text


def test_special_tokens_in_the_text_of_rows_are_counted(tiny_model: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    plain, other = example_rows(2)
    tokenise(tokenizer, [plain, other])
    assert "special tokens" not in caplog.text
    tokenise(tokenizer, [plain, other.model_copy(update={"completion": f"4{tokenizer.eos_token}5"})])
    assert f"1 of 2 rows hold special tokens of the tokenizer in their own text ({tokenizer.eos_token})" in caplog.text


def test_rows_beyond_max_length_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    tokens = [Tokens([1] * 5, [0, 0, 0, 1, 1]), Tokens([1] * 3, [0, 1, 1]), Tokens([1] * 9, [0] * 6 + [1] * 3)]
    facts = describe_lengths(tokens, max_length=4)
    assert (facts["truncated_rows"], facts["lost_rows"], facts["longest_row"]) == (2, 1, 9)
    assert "2 of 3 rows are longer" in caplog.text
    assert describe_lengths(tokens, None)["truncated_rows"] == 0
    with pytest.raises(UserError, match="max_length to 9"):
        describe_lengths(tokens[2:], max_length=4)
