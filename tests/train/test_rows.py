"""Rows: the formats that are read, the mistakes that are named, the tokens the loss is on."""

from __future__ import annotations

import json
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthloop.chat import completion_ids, load_tokenizer, prompt_ids
from synthloop.conversations import Unread
from synthloop.errors import UserError
from synthloop.records import Candidate, Message, Row
from tests.shapes import SHAPES, tokenizer_of
from tests.train.jobs import example_rows
from train.rows import (
    IGNORED,
    Cut,
    Tokens,
    cut_rows,
    describe_changes,
    describe_lengths,
    describe_sequences,
    read_training_rows,
    sft_cut,
    tokenise,
)

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
        ({"prompt": [USER, REPLY], "completion": "8"}, "line 2: 'prompt' ends with an answer"),
        ({"messages": [REPLY]}, "line 2: expected a conversation that ends with an assistant turn"),
        ({"messages": "hello"}, "line 2: none of the fields output"),
        ({"messages": [USER, REPLY], "tools": [{"name": "add"}]}, "line 2: the field 'tools' is not read"),
        ({"messages": [USER, {"role": "assistant"}]}, "line 2: 'messages' should hold turns of `role`"),
        ({"messages": [USER, {**REPLY, "tool_calls": [{"id": "1"}]}]}, "`content` (text) alone, found 'tool_calls' in"),
        ({"messages": [USER, {**REPLY, "reasoning_content": "so 7"}]}, "alone, found 'reasoning_content' in"),
        ({"messages": [USER, REPLY], "weight": "2"}, "line 2: 'weight' should be a number of 0 or more, found '2'"),
        ({"id": "x", "source": "real"}, "line 2: none of the fields messages"),
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
    facts = describe_lengths(tokens, Cut(4))
    assert (facts["truncated_rows"], facts["lost_rows"], facts["longest_row"]) == (2, 1, 9)
    assert "2 of 3 rows are longer" in caplog.text
    assert describe_lengths(tokens, Cut(None))["truncated_rows"] == 0
    with pytest.raises(UserError, match="max_length to 9"):
        describe_lengths(tokens[2:], Cut(4))


def test_a_users_own_source_is_a_column_like_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = [
        {"messages": [USER, REPLY], "source": "web/forum"},
        {"id": "7", "messages": [USER, REPLY], "source": "real"},
        {"id": "7", "messages": [USER], "completion": "7", "source": "web/forum"},
        {"prompt": "3 + 4?", "completion": "7", "source": "synthetic", "seed_id": "x"},
    ]
    rows = read_training_rows(write_lines(tmp_path / "rows.jsonl", *lines))
    assert [(row.id, row.messages, row.completion) for row in rows] == [
        (f"rows:{number}", (Message(role="user", content="3 + 4?"),), "7") for number in range(1, 5)
    ]
    assert "'source' in 4 of 4 rows" in caplog.text


def test_a_candidate_of_the_loop_is_a_row_with_its_weight(tmp_path: Path) -> None:
    turns = (Message(role="user", content="3 + 4?"),)
    one = Candidate(
        id="c", round=2, recipe="preference", seed_id="s", input="3 + 4?", messages=turns, completion="7", answer="7",
        rejected="8", weight=0.5,
    )  # fmt: skip
    (row,) = read_training_rows(write_lines(tmp_path / "curated.jsonl", one.model_dump()))
    assert (row.id, row.source, row.completion, row.weight, row.round) == ("c", "synthetic", "7", 0.5, 2)


def test_rows_without_an_answer_to_learn_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = {"messages": [USER, REPLY], "label": True}, {"messages": [USER, REPLY], "label": False}
    unread = Unread()
    lines = [good, bad, {"prompt": "3 + 4?", "completion": " "}, {"messages": [USER, {**REPLY, "weight": 0}]}]
    (row,) = read_training_rows(write_lines(tmp_path / "rows.jsonl", *lines), unread)
    assert row.id == "rows:1"
    assert sum(unread.facts["left_out"].values()) == 3
    assert "3 rows are left out: 1 with an answer that `label` calls bad (first " in caplog.text
    assert "does not read" not in caplog.text
    with pytest.raises(UserError, match="no rows to train on. 1 row is left out: 1 with an answer that `label`"):
        read_training_rows(write_lines(tmp_path / "rows.jsonl", bad))


def test_a_weight_that_scales_the_loss_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A column of that name may be the weight of a parcel."""
    caplog.set_level("INFO")
    rows = [{"prompt": "3 + 4?", "completion": "7", "weight": weight} for weight in (12.0, None, 0.02)]
    assert [row.weight for row in read_training_rows(write_lines(tmp_path / "rows.jsonl", *rows))] == [12.0, 1.0, 0.02]
    assert caplog.text.count("`weight` scales the loss of each row, from 0.02 to 12") == 1


ROWS = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=6)


@settings(max_examples=25, deadline=None)
@given(ROWS, st.integers(2, 12), st.sampled_from(["bfd", "bfd_split"]))
def test_as_many_tokens_are_counted_as_trl_keeps_in_its_packs(rows: Any, max_length: int, strategy: str) -> None:
    """And no row is handed over that `bfd` would make a pack without a label of."""
    from datasets import Dataset
    from trl import pack_dataset

    cut = sft_cut(SimpleNamespace(max_length=max_length, packing=True, packing_strategy=strategy))
    tokens = [Tokens([7] * (given + learned), [0] * given + [1] * learned) for given, learned in rows]
    kept = [one for one in cut_rows(tokens, cut) if one.input_ids]
    labels = [
        [id if bit else IGNORED for id, bit in zip(one.input_ids, one.completion_mask, strict=True)] for one in kept
    ]
    if not kept:
        return
    columns = {"input_ids": [one.input_ids for one in kept], "labels": labels}
    packs = pack_dataset(Dataset.from_dict(columns), max_length, strategy)
    facts = describe_sequences(packs)
    assert facts["sequences"] == len(packs)
    assert facts["learned_tokens"] == sum(cut.learns(one.completion_mask) for one in kept)
    assert strategy == "bfd_split" or facts["empty_sequences"] == 0


@given(ROWS, st.one_of(st.none(), st.integers(1, 12)), st.sampled_from(["keep_start", "keep_end"]))
def test_without_packing_a_row_keeps_its_start_or_its_end(rows: Any, max_length: int | None, mode: str) -> None:
    cut = sft_cut(SimpleNamespace(max_length=max_length, packing=False, truncation_mode=mode))
    tokens = [Tokens(list(range(given + learned)), [0] * given + [1] * learned) for given, learned in rows]
    for whole, kept in zip(tokens, cut_rows(tokens, cut), strict=True):
        size = len(whole.input_ids) if max_length is None else min(max_length, len(whole.input_ids))
        part = slice(0, size) if mode == "keep_start" else slice(len(whole.input_ids) - size, None)
        learned = [id for id, bit in zip(whole.input_ids[part], whole.completion_mask[part], strict=True) if bit]
        is_lost = not [id for id in learned if id != whole.input_ids[part][0]]
        assert kept.input_ids == ([] if is_lost else whole.input_ids[part])


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(2, 12), st.sampled_from(["bfd_split", "wrapped"])
)
def test_rows_that_trl_trains_in_several_sequences_are_counted(lengths: Any, max_length: int, strategy: str) -> None:
    from datasets import Dataset
    from trl import pack_dataset

    cut = sft_cut(SimpleNamespace(max_length=max_length, packing=True, packing_strategy=strategy))
    ids = [[row] * length for row, length in enumerate(lengths)]
    packs = pack_dataset(Dataset.from_dict({"input_ids": ids, "labels": ids}), max_length, strategy)
    pieces: list[int] = []
    for pack in packs:
        starts = [0, *accumulate(pack.get("seq_lengths") or ())]
        pieces += [pack["input_ids"][start] for start in starts if start < len(pack["input_ids"])]
        if strategy == "wrapped":
            pieces += sorted(set(pack["input_ids"][1:]) - {pack["input_ids"][0]})
    assert cut.num_split(lengths) == sum(pieces.count(row) > 1 for row in range(len(lengths)))
