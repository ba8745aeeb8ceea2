"""A row as its whole conversation: what is compared, what is shown, and which rows are cut from one."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthloop import problems
from synthloop.records import Candidate, Example, Message, Row
from synthloop.similarity import components
from tests.generate import rows

ROLES = ("user", "assistant")
turn_texts = st.lists(st.text(st.sampled_from("aAé \n.?"), min_size=1, max_size=4), min_size=1, max_size=7).map(
    lambda texts: texts[: len(texts) - 1 + len(texts) % 2]  # the last is the user's
)


def turns(*texts: str, system: str | None = None) -> tuple[Message, ...]:
    first = [Message(role="system", content=system)] if system is not None else []
    return (*first, *(Message(role=ROLES[n % 2], content=text) for n, text in enumerate(texts)))


def chat(*texts: str, system: str | None = None) -> Example:
    return rows.example(input=texts[-1], messages=turns(*texts, system=system))


@pytest.mark.parametrize(
    ("row", "shown", "compared"),
    [
        (rows.example(input="2 + 2?", messages=turns("Work out: 2 + 2?")), "2 + 2?", "2 + 2?"),
        (chat("2 + 2?", system="Be brief."), "system: Be brief.\n\nuser: 2 + 2?", "Be brief.\n2 + 2?"),
        (
            chat("I have 7 cows.", "Good.", "How many?"),
            "user: I have 7 cows.\n\nassistant: Good.\n\nuser: How many?",
            "I have 7 cows.\nGood.\nHow many?",
        ),
        (  # what a recipe put after the problem is no part of it, and its introduction stands around it
            rows.candidate(input="2 + 2?", messages=turns("You have tools.\n2 + 2?", "add(2, 2)", "Result: 4")),
            "user: You have tools.\n2 + 2?\n\nassistant: add(2, 2)\n\nuser: Result: 4",
            "2 + 2?",
        ),
        (  # a recipe that writes conversations has all their turns as `input`
            rows.candidate(input="Hi\n\nHello\n\nAdd.", messages=turns("Hi", "Hello", "Add.")),
            "user: Hi\n\nassistant: Hello\n\nuser: Add.",
            "Hi\nHello\nAdd.",
        ),
        (
            Row(id="a", source="replay", messages=turns("Hi", "Hello", "Add."), completion="x"),
            "user: Hi\n\nassistant: Hello\n\nuser: Add.",
            "Hi\nHello\nAdd.",
        ),
    ],
)
def test_what_is_shown_and_what_is_compared(row: Example | Candidate | Row, shown: str, compared: str) -> None:
    assert (problems.shown(row), problems.compared(row)) == (shown, compared)


def test_the_system_turn_of_most_rows_is_shown_and_not_compared() -> None:
    many = [chat(f"{n}?", system="Be brief.") for n in range(3)]
    shared = problems.shared_system([*many, chat("3?", system="Be kind."), chat("4?")])
    assert [problems.compared(one, shared) for one in many] == ["0?", "1?", "2?"]
    assert problems.compared(chat("3?", system="Be kind."), shared) == "Be kind.\n3?"
    assert problems.shown(many[0]).startswith("system: Be brief.")
    assert problems.shown(many[0], "Be brief.") == "0?"
    assert problems.dialogue(chat("3?", "4", "5?", system="Text.")) == list(turns("Text.\n\n3?", "4", "5?"))


@given(turn_texts, turn_texts)
def test_problems_are_the_same_where_all_their_turns_are_but_for_white_space_and_case(
    ours: list[str], theirs: list[str]
) -> None:
    same = [problems.same_text(text) for text in ours] == [problems.same_text(text) for text in theirs]
    assert (problems.beginnings(chat(*ours))[-1] == problems.beginnings(chat(*theirs))[-1]) == same
    written_anew = [unicodedata.normalize("NFD", f"  {text.upper()}\n") for text in ours]
    assert problems.beginnings(chat(*written_anew)) == problems.beginnings(chat(*ours))


@given(st.lists(turn_texts, min_size=1, max_size=12))
def test_a_row_is_cut_from_a_conversation_where_the_turns_of_one_begin_with_the_others(texts: list[list[str]]) -> None:
    paths = [tuple(map(problems.same_text, one)) for one in texts]
    begins = [problems.beginnings(chat(*one)) for one in texts]
    for path, ends in zip(paths, problems.begun_with(begins), strict=True):
        known = {begin[-1] for other, begin in zip(paths, begins, strict=True) if path[: len(other)] == other != path}
        assert set(ends) == known
    for split in range(len(texts)):
        one, held = paths[split], [*paths[:split], *paths[split + 1 :]]
        (is_cut,) = problems.cut_from(begins[split : split + 1], [*begins[:split], *begins[split + 1 :]])
        assert is_cut == any(a[: len(b)] == b != a for other in held for a, b in ((one, other), (other, one)))


def window(*texts: str) -> Example:
    return chat(*texts[:-1]).model_copy(update={"completion": texts[-1]})


@given(st.integers(2, 5), st.integers(1, 8), st.booleans(), st.integers(0, 1))
def test_windows_that_slide_over_one_chat_are_joined_where_they_share_a_turn_and_its_reply(
    size: int, step: int, is_long: bool, offset: int
) -> None:
    """Whatever opens or closes every chat: it stands at the same end of all."""
    words = "over the hills and far away" if is_long else ""
    told = [[f"{name} says {number} {words}" for number in range(30)] for name in ("Ada", "Bo")]
    chats = [["Hello", "How " * 12, *texts, "Thanks", "Any time, " * 12] for texts in told]
    starts = range(offset, 34 - 2 * size, step * 2)
    rows = [window(*chat[start : start + 2 * size]) for chat in chats for start in starts]
    groups = components(len(rows), problems.overlaps(rows))
    first, other = groups[: len(starts)], groups[len(starts) :]
    assert not set(first) & set(other)
    if step >= size:
        assert len(set(groups)) == len(rows)
    elif is_long:
        assert len(set(first)) == len(set(other)) == 1


def test_rows_that_share_examples_or_a_farewell_are_no_one_conversation() -> None:
    example, farewell = ("What is 2 + 2 ?", "It is 4 " * 6), ("Thanks", "You are welcome " * 6)
    rows = [window(*example, f"What is {n} + 2 ?", f"It is {n + 2}", *farewell) for n in range(9)]
    assert problems.overlaps(rows) == []
