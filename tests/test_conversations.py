"""A user's row: the formats, the keys that change its meaning, and what is left out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthloop.conversations import LeftOut, Unread, read_conversation
from synthloop.errors import UserError

ASKED = {"role": "user", "content": "Which sea is salty?"}
TOLD = {"role": "assistant", "content": "The Dead Sea."}
TEXTS = ("Which sea is salty?", "The Dead Sea.")


def test_sharegpt_names_are_roles() -> None:
    turns = [
        {"from": "system", "value": "Be brief.", "weight": None},
        {"from": "human", "value": "Which sea is salty?", "weight": 0},
        {"from": "gpt", "value": "The Dead Sea.", "weight": 1},
    ]
    found = read_conversation({"conversations": turns}, "x")
    assert [(turn["role"], turn["content"]) for turn in found.turns] == [
        ("system", "Be brief."),
        ("user", TEXTS[0]),
        ("assistant", TEXTS[1]),
    ]
    with pytest.raises(UserError, match=r"should hold turns of `role`.*'observation'"):
        read_conversation({"conversations": [*turns, {"from": "observation", "value": "{}"}, turns[-1]]}, "x")


def test_a_field_that_says_nothing_is_passed_over() -> None:
    rows: tuple[dict[str, Any], ...] = (
        {"messages": [], "prompt": TEXTS[0], "output": None, "completion": TEXTS[1]},
        {"instruction": None, "input": TEXTS[0], "output": "", "response": TEXTS[1]},
        {"messages": [ASKED, {**TOLD, "tool_calls": [], "name": None, "reasoning_content": ""}]},
    )
    for row in rows:
        assert tuple(turn["content"] for turn in read_conversation(row, "x").turns) == TEXTS


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": "Say it.", "completion": " \n"}, "an empty answer"),
        ({"prompt": "Say it.", "completion": None}, "an empty answer"),
        ({"messages": [ASKED, {**TOLD, "content": None}]}, "an empty answer"),
        ({"messages": [ASKED]}, "no answer after the user's last turn"),
        ({"conversations": [{"from": "human", "value": "Say it."}]}, "no answer after the user's last turn"),
        ({"messages": []}, "an empty problem"),
        ({"prompt": "", "completion": "It."}, "an empty problem"),
        ({"messages": [], "completion": "It."}, "an empty problem"),
        ({"instruction": " ", "input": "", "output": "It."}, "an empty problem"),
        ({"messages": [ASKED, {**TOLD, "content": "\t"}]}, "an empty answer"),
        ({"messages": [{**ASKED, "content": ""}, TOLD]}, "an empty problem"),
        ({"messages": [ASKED, TOLD, {**ASKED, "content": " "}, TOLD]}, "an empty problem"),
        ({"messages": [ASKED, {**TOLD, "weight": 0}]}, "marked as not to be learned"),
        ({"messages": [ASKED, {**TOLD, "weight": 0.0}]}, "marked as not to be learned"),
        ({"messages": [ASKED, {**TOLD, "train": False}]}, "marked as not to be learned"),
        ({"messages": [ASKED, {**TOLD, "train": False, "weight": 1}]}, "marked as not to be learned"),
        ({"prompt": [ASKED], "completion": [{**TOLD, "weight": 0}]}, "marked as not to be learned"),
    ],
)
def test_a_row_without_an_answer_to_learn_is_left_out(row: dict[str, Any], why: str) -> None:
    with pytest.raises(LeftOut, match=why):
        read_conversation(row, "x")


@pytest.mark.parametrize(
    "mark", [{"weight": ""}, {"weight": 1}, {"weight": 1.0}, {"train": True}, {"weight": None}, {}]
)
def test_marks_of_turns_that_change_nothing_are_taken(mark: dict[str, Any]) -> None:
    """Earlier turns are context in any case, and a last one that is to be learned is learned."""
    earlier = {**TOLD, "weight": 0}
    assert len(read_conversation({"messages": [ASKED, earlier, ASKED, {**TOLD, **mark}]}, "x").turns) == 4


@pytest.mark.parametrize(
    ("turns", "told"),
    [
        ([ASKED, {**TOLD, "weight": 0.5}], "`weight` is 0.5; expected 0 or 1"),
        ([ASKED, {**TOLD, "train": "no"}], "`train` is 'no'; expected 0 or 1"),
        ([{**ASKED, "train": True}, TOLD], "a turn of the user that is to be learned"),
        ([ASKED, {**TOLD, "tool_calls": [{"function": {"name": "map"}}]}], "alone, found 'tool_calls' in"),
        ([ASKED, {**TOLD, "function_call": {"name": "map"}}], "alone, found 'function_call' in"),
        ([ASKED, {**TOLD, "thinking": "Salt ..."}], "alone, found 'thinking' in"),
    ],
)
def test_a_key_of_a_turn_whose_meaning_would_be_lost_is_refused(turns: list[Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        read_conversation({"messages": turns}, "f.jsonl, line 3")


@pytest.mark.parametrize("name", ["prompt", "messages", "conversations"])
@pytest.mark.parametrize("other", ["output", "completion", "response"])
def test_a_second_answer_is_refused_unless_it_repeats_the_first(name: str, other: str) -> None:
    for second in ("None is.", [{**TOLD, "content": "None is."}]):
        with pytest.raises(
            UserError, match=rf"x: '{name}' ends with an answer \('The Dead.*, and '{other}' holds another"
        ):
            read_conversation({name: [ASKED, TOLD], other: second}, "x")
    assert len(read_conversation({name: [ASKED, TOLD], other: f" {TEXTS[1]}", "answer": "Dead"}, "x").turns) == 2
    assert len(read_conversation({name: [ASKED, TOLD], other: {"id": 3}}, "x", others={other}).turns) == 2


@pytest.mark.parametrize(
    "row", [{"messages": [ASKED], "target": "It."}, {"messages": [ASKED], "output": ""}, {"messages": [ASKED]}]
)
def test_a_conversation_without_an_answer_costs_itself_alone(row: dict[str, Any]) -> None:
    with pytest.raises(LeftOut):
        read_conversation(row, "x")


@pytest.mark.parametrize("row", [{"prompt": "Say it."}, {"messages": [{"role": "tool", "content": "It."}]}])
def test_other_rows_without_an_output_are_refused(row: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="none of the fields output"):
        read_conversation(row, "x")


@pytest.mark.parametrize("name", ["system", "system_prompt", "passage", "functions", "image"])
def test_a_part_of_the_problem_that_is_not_read_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"'{name}' is not read, and by its name it is part of the problem"):
        Unread().add({"prompt": "a", name: "something"}, {"prompt"}, "x", "Join it.")


def test_a_preference_pair_is_named_where_an_answer_is_looked_for() -> None:
    with pytest.raises(UserError, match=r"a preference pair .*train\.objective=dpo"):
        read_conversation({"prompt": "a", "chosen": "b", "rejected": "c"}, "x")


def test_what_is_left_out_is_counted_by_why_with_its_first_place() -> None:
    unread = Unread()
    for line, why in ((2, "an empty answer"), (5, "an empty answer"), (7, "an empty problem")):
        unread.leave_out(LeftOut(why), f"f.jsonl, line {line}")
    assert unread.left_out == (
        "3 rows are left out: 2 with an empty answer (first f.jsonl, line 2), 1 with an empty problem (first f.jsonl, "
        "line 7)"
    )
    assert unread.facts == {"left_out": {"an empty answer": 2, "an empty problem": 1}}
    assert (Unread().left_out, Unread().facts) == ("", {})


TURNS = st.lists(
    st.tuples(
        st.sampled_from(["", " ", "\n\t", "yes", "0"]),
        st.sampled_from([{}, {"weight": 0}, {"weight": 1}, {"train": False}, {"train": True}, {"train": None}]),
    ),
    min_size=1,
    max_size=4,
)


@given(TURNS)
def test_a_conversation_is_learned_if_and_only_if_its_last_answer_may_be(answers: list[tuple[str, Any]]) -> None:
    """Whatever the earlier turns say and are marked with, they are read as they are."""
    turns = [turn for text, mark in answers for turn in (dict(ASKED), {"role": "assistant", "content": text, **mark})]
    text, mark = answers[-1]
    is_learned = bool(text.strip()) and 0 not in mark.values()
    try:
        found = read_conversation({"messages": turns}, "x")
    except LeftOut:
        assert not is_learned
        return
    assert is_learned
    assert [turn["content"] for turn in found.turns] == [turn["content"] for turn in turns]
