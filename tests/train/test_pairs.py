"""Preference pairs: where the prompt stands, what teaches nothing, and what `max_length` leaves of a pair."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthloop.conversations import Unread
from synthloop.errors import UserError
from train.pairs import PairTokens, cut_pairs, describe_pairs, read_pairs

SYSTEM = {"role": "system", "content": "Answer in one word."}
ASKED = {"role": "user", "content": "Which sea?"}
GOOD = {"role": "assistant", "content": "Dead."}
BAD = {"role": "assistant", "content": "I like swimming."}
AGAIN = {"role": "user", "content": "And which lake?"}


def write_lines(path: Path, *lines: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def sides(*context: dict[str, str]) -> dict[str, Any]:
    return {"chosen": [*context, GOOD], "rejected": [*context, BAD]}


@pytest.mark.parametrize(
    ("line", "prompt"),
    [
        ({"prompt": "Which sea?", **sides(SYSTEM, ASKED)}, [SYSTEM, ASKED]),
        ({"prompt": "Which sea? ", **sides(ASKED)}, [ASKED]),
        ({"prompt": "And which lake?", **sides(ASKED, GOOD, AGAIN)}, [ASKED, GOOD, AGAIN]),
        ({"prompt": "Which sea?", **sides(ASKED, GOOD, AGAIN)}, [ASKED, GOOD, AGAIN]),
        ({"prompt": "something else", **sides(ASKED)}, [ASKED]),
        ({"prompt": [SYSTEM, ASKED], **sides()}, [SYSTEM, ASKED]),
        ({"prompt": [SYSTEM, ASKED], **sides(SYSTEM, ASKED)}, [SYSTEM, ASKED]),
        (sides(SYSTEM, ASKED), [SYSTEM, ASKED]),
    ],
)
def test_the_prompt_is_what_trl_makes_of_the_line(tmp_path: Path, line: dict[str, Any], prompt: list[Any]) -> None:
    from trl import maybe_extract_prompt

    (row,) = read_pairs(write_lines(tmp_path / "pairs.jsonl", line))
    assert [dict(turn) for turn in row.messages] == prompt
    assert (row.completion, row.rejected) == (GOOD["content"], BAD["content"])
    if line["chosen"][0] != (line.get("prompt") or [None])[0]:  # TRL itself repeats turns that stand on both sides
        theirs = maybe_extract_prompt(line)
        assert theirs["prompt"] == prompt
        assert (theirs["chosen"], theirs["rejected"]) == ([GOOD], [BAD])


@pytest.mark.parametrize(
    "line",
    [
        {"question": "Which sea?", "chosen": "Dead.", "rejected": "I like swimming."},
        {"instruction": "Which sea?", "input": "", "chosen": "Dead.", "rejected": "I like swimming."},
        {"prompt": "Which sea?", **sides()},
        {
            "conversations": [{"from": "human", "value": "Which sea?"}],
            "chosen": {"from": "gpt", "value": "Dead."},
            "rejected": {"from": "gpt", "value": "I like swimming."},
        },
    ],
)
def test_the_problem_has_the_names_that_sft_reads(tmp_path: Path, line: dict[str, Any]) -> None:
    (row,) = read_pairs(write_lines(tmp_path / "pairs.jsonl", line))
    assert (list(row.messages), row.completion, row.rejected) == ([ASKED], GOOD["content"], BAD["content"])


def test_a_prompt_that_contradicts_the_conversation_is_refused(tmp_path: Path) -> None:
    line = {"prompt": [SYSTEM], **sides(ASKED)}
    with pytest.raises(UserError, match="line 1: 'chosen' is a whole conversation, and 'prompt' is not how it begins"):
        read_pairs(write_lines(tmp_path / "pairs.jsonl", line))


def test_a_prompt_that_is_left_aside_and_says_something_else_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    read_pairs(write_lines(tmp_path / "pairs.jsonl", {"prompt": "Which sea?", **sides(ASKED)}))
    assert "not read" not in caplog.text
    read_pairs(write_lines(tmp_path / "pairs.jsonl", {"prompt": "Which ocean?", **sides(ASKED)}))
    assert "keys that training does not read: 'prompt' in 1 of 1 rows" in caplog.text


def test_pairs_that_teach_nothing_are_left_out_and_counted(tmp_path: Path) -> None:
    good = {"prompt": "Which sea?", "chosen": "Dead.", "rejected": "Red."}
    lines = [
        good,
        {**good, "rejected": "Dead. "},
        {**good, "rejected": ""},
        {**good, "chosen": None},
        {**good, "prompt": " "},
        {**good, "chosen": {**GOOD, "weight": 0}},
        {**good, "weight": 0},
        {**good, "chosen": []},
    ]
    unread = Unread()
    (row,) = read_pairs(write_lines(tmp_path / "pairs.jsonl", *lines), unread)
    assert row.id == "pairs:1"
    assert unread.facts == {
        "left_out": {
            "a chosen and a rejected answer that are the same": 1,
            "an empty answer": 3,
            "an empty problem": 1,
            "an answer that is marked as not to be learned (`weight` 0 or `train` false)": 1,
            "`weight` 0": 1,
        }
    }
    with pytest.raises(UserError, match="no rows to train on. 7 rows are left out: 3 with an empty answer"):
        read_pairs(write_lines(tmp_path / "pairs.jsonl", *lines[1:]))


def test_weights_that_dpo_would_not_use_are_refused(tmp_path: Path) -> None:
    lines = [{"prompt": "Which sea?", "chosen": "Dead.", "rejected": "Red.", "weight": w} for w in (0.5, 0.5, 2)]
    with pytest.raises(UserError, match=r"weights from 0.5 to 2, and train.objective: dpo counts every pair alike"):
        read_pairs(write_lines(tmp_path / "pairs.jsonl", *lines))
    assert len(read_pairs(write_lines(tmp_path / "pairs.jsonl", *lines[:2]))) == 2


def test_a_key_of_a_turn_that_is_not_read_is_refused(tmp_path: Path) -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "map", "arguments": {}}}]}
    with pytest.raises(UserError, match="line 1: 'chosen' should hold turns .* found 'tool_calls' in"):
        read_pairs(write_lines(tmp_path / "pairs.jsonl", {"prompt": [ASKED], "chosen": [call], "rejected": [BAD]}))


IDS = st.lists(st.integers(1, 3), min_size=1, max_size=6)


@given(st.lists(st.tuples(IDS, IDS, IDS), min_size=1, max_size=5), st.one_of(st.none(), st.integers(1, 10)))
def test_a_pair_is_trained_if_and_only_if_what_trl_keeps_of_its_sides_differs(
    pairs: list[Any], max_length: int | None
) -> None:
    """TRL cuts prompt and completion together at `max_length`."""
    given_pairs = [PairTokens(*one) for one in pairs]
    whole = [[(one.prompt_ids + side)[:max_length] for side in one[1:]] for one in given_pairs]
    expected = [sides for sides in whole if sides[0] != sides[1]]
    kept = cut_pairs(given_pairs, max_length)
    assert [[one.prompt_ids + one.chosen_ids, one.prompt_ids + one.rejected_ids] for one in kept] == expected
    try:
        facts = describe_pairs(given_pairs, max_length)
    except UserError:
        assert not kept
    else:
        assert kept
        assert facts["rows"] - facts["lost_rows"] - facts["equal_rows"] == len(kept)


def test_pairs_that_are_all_equal_as_text_or_after_the_cut_are_refused_with_the_length_to_set() -> None:
    pair = PairTokens([1, 2], [3, 4, 5], [3, 4, 6])
    with pytest.raises(UserError, match=r"2 of 2 pairs have the same two answers .*max_length=4.* Set it to 5"):
        describe_pairs([pair, pair], 4)
    assert describe_pairs([pair, pair], 5)["equal_rows"] == 0
