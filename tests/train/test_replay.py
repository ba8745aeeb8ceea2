"""Which rows of an earlier skill may be trained on again."""

from __future__ import annotations

import pytest

from synthloop.records import Example, Message, Row
from train.replay import not_held_out

LAST = "And how many of them are left over for the neighbours when the fair is over and all have gone?"


def turns(*texts: str) -> tuple[Message, ...]:
    return tuple(Message(role=("user", "assistant")[n % 2], content=text) for n, text in enumerate(texts))


def said(number: int) -> str:
    return f"Barn {number} held {number * 7} hens, {number * 13} geese and {number * 31} eggs."


@pytest.mark.parametrize(
    ("texts", "is_free"),
    [
        ((said(1), "Noted.", LAST), False),
        ((said(2), "Noted.", LAST), True),
        ((LAST,), True),
        ((said(1),), False),  # the held-out row goes on from it
        ((said(1), "Noted.", LAST, "None.", "Why?"), False),
        ((said(1), "Oh.", said(3)), True),
    ],
)
def test_a_row_is_held_out_by_its_whole_conversation(texts: tuple[str, ...], is_free: bool) -> None:
    held_out = Example(id="h", input=LAST, messages=turns(said(1), "Noted.", LAST), completion="9")
    row = Row(id="r", source="replay", messages=turns(*texts), completion="x")
    assert not_held_out([row], [held_out], 0.8) == [row] * is_free


def test_a_row_is_held_out_by_the_raw_problem_and_as_the_student_sees_it() -> None:
    held_out = Example(id="h", input=said(1), messages=turns(f"Read with care. {said(1)} Sum up."), completion="9")
    rows = [
        Row(id=f"{n}", source="replay", messages=turns(text), completion="x")
        for n, text in enumerate([said(1), f"Read with care. {said(1)} Sum up.", said(2)])
    ]
    assert not_held_out(rows, [held_out], 0.8) == rows[2:]
