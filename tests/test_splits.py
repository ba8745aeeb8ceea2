from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthloop.config import Splits
from synthloop.errors import UserError
from synthloop.records import Example, Message
from synthloop.splits import HELD_OUT, split, split_rows
from synthloop.task import Task, TaskConfig, make_example


def fake_task(**published: list[str]) -> Task:
    module = ModuleType("fake")

    def load(cfg: TaskConfig, name: str) -> Iterator[Example]:
        for text in published.get(name, []):
            yield make_example(cfg, input=text, completion="c", answer="c")

    module.load = load  # type: ignore[attr-defined]
    return Task(module, TaskConfig())


def sentences(count: int) -> list[str]:
    return [f"row {index} speaks of thing {index * 7} and of thing {index * 13}" for index in range(count)]


@settings(deadline=None, max_examples=20)
@given(count=st.integers(20, 60), seed=st.integers(0, 99))
def test_every_row_is_in_one_split_and_the_same_seed_gives_the_same_splits(count: int, seed: int) -> None:
    task = fake_task(train=sentences(count))
    splits, _ = split(task, Splits(), seed)
    ids = [row.id for rows in splits.values() for row in rows]
    assert len(ids) == len(set(ids)) == count
    assert split(task, Splits(), seed)[0] == splits


def test_near_duplicates_stay_on_one_side() -> None:
    base = sentences(30)
    copies = [text + " indeed" for text in base]
    splits, notes = split(fake_task(train=base + copies), Splits(near_duplicate=0.6), 0)
    home = {row.input: name for name, rows in splits.items() for row in rows}
    assert all(home[text] == home[text + " indeed"] for text in base)
    assert notes["near_duplicate_rows"] == 30


def test_probe_and_gate_come_from_validation_where_it_is_published() -> None:
    rows = sentences(90)
    task = fake_task(train=rows[:30], validation=rows[30:60], test=rows[60:])
    splits, notes = split(task, Splits(probe=0.5, gate=10), 0)
    assert {name: len(part) for name, part in splits.items()} == {"probe": 15, "gate": 10, "test": 30, "train": 30}
    assert notes["unused_validation_rows"] == 5


def test_test_rows_in_train_are_refused_or_dropped_and_counted() -> None:
    rows = sentences(40)
    task = fake_task(train=rows, test=[rows[3].upper(), "one row all by itself"])
    with pytest.raises(UserError, match="1 of the 40 rows of 'train' also stand in 'test'"):
        split(task, Splits(), 0)
    splits, notes = split(task, Splits(on_overlap="drop"), 0)
    assert notes["dropped_overlap"] == {"train rows that stand in test": 1}
    assert all(rows[3] != row.input for name in ("train", *HELD_OUT[:2]) for row in splits[name])


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(UserError, match="'train' is empty"):
        split(fake_task(train=[]), Splits(), 0)
    with pytest.raises(UserError, match="'probe' is empty"):
        split(fake_task(train=sentences(3)), Splits(probe=0.01), 0)


def chat(*texts: str, system: str | None = None) -> Example:
    """A row of which the last of `texts`, the user's and the assistant's in turn, is the completion."""
    turns = [Message(role=("user", "assistant")[n % 2], content=text) for n, text in enumerate(texts[:-1])]
    first = [Message(role="system", content=system)] if system else []
    whole = make_example(TaskConfig(), input=repr([system, *texts]), completion=texts[-1], answer=None)
    return whole.model_copy(update={"input": turns[-1]["content"], "messages": (*first, *turns)})


def split_chats(cfg: Splits, **published: list[Example]) -> tuple[dict[str, list[Example]], dict[str, Any]]:
    return split_rows({name: published.get(name, []) for name in ("train", "validation", "test")}, cfg, 0)


def talk(number: int, num_turns: int = 2) -> list[str]:
    """The turns of one conversation, unlike those of others but for the user's after the first."""
    said = [f"Chapter {number} tells of {number * 7} ships at {number * 13}.", f"It took place in year {number * 31}."]
    return [*said, *(f"more, {n} of {number * 17}" if n % 2 else "Continue, please." for n in range(2 * num_turns))]


def a_row_a_turn(conversation: list[str]) -> list[Example]:
    return [chat(*conversation[: end + 1]) for end in range(1, len(conversation), 2)]


def test_chats_are_told_apart_by_all_their_turns() -> None:
    chats = [chat(*talk(number)) for number in range(60)]
    splits, notes = split_chats(Splits(), train=chats[:40], test=chats[40:])
    assert (len(splits["test"]), notes["dropped_overlap"], notes["near_duplicate_rows"]) == (20, {}, 0)


@pytest.mark.parametrize("systems", [["Be brief."], ["Be brief.", "Be kind.", "Be exact."]])
def test_a_system_turn_tells_rows_apart_where_it_is_not_that_of_most(systems: list[str]) -> None:
    rows = [chat("What does the text say?", f"{n}", system=f"Text {n}: {n * 7} and {n * 13}.") for n in range(30)]
    same = [chat(f"{n} and {n * 7}?", f"{n}", system=systems[n % len(systems)]) for n in range(30)]
    assert split_chats(Splits(), train=rows)[1]["near_duplicate_rows"] == 0
    assert split_chats(Splits(), train=same)[1]["near_duplicate_rows"] == 0


@settings(deadline=None, max_examples=25)
@given(lengths=st.lists(st.integers(0, 3), min_size=12, max_size=30), seed=st.integers(0, 9))
def test_rows_cut_from_one_conversation_lie_in_one_split(lengths: list[int], seed: int) -> None:
    talks = [talk(number, length) for number, length in enumerate(lengths)]
    rows = [row for one in talks for row in a_row_a_turn(one)]
    splits, notes = split_rows({"train": rows, "validation": [], "test": []}, Splits(near_duplicate=1.0), seed)
    homes = {row.id: name for name, part in splits.items() for row in part}
    assert all(len({homes[row.id] for row in a_row_a_turn(one)}) == 1 for one in talks)
    several = [len(a_row_a_turn(one)) for one in talks if len(a_row_a_turn(one)) > 1]
    assert notes["conversations_of_several_rows"] == {"conversations": len(several), "rows": sum(several)}


def test_conversations_across_published_splits_are_refused_or_dropped_and_counted() -> None:
    others, talks = [chat(*talk(number)) for number in range(20, 60)], [talk(number) for number in range(3)]
    train = [a_row_a_turn(talks[0])[1], a_row_a_turn(talks[1])[0], chat(*talks[2][:1], "another answer")]
    test = [a_row_a_turn(talks[0])[2], a_row_a_turn(talks[1])[2], a_row_a_turn(talks[2])[1], chat("Other?", "Yes.")]
    published = {"train": [*train, *others], "test": test}
    with pytest.raises(UserError, match="3 of the 43 rows of 'train' are cut from conversations in 'test'"):
        split_chats(Splits(), **published)
    splits, notes = split_chats(Splits(on_overlap="drop"), **published)
    assert notes["dropped_overlap"] == {"train rows that are cut from conversations in test": 3}
    assert not {row.id for row in train} & {row.id for part in splits.values() for row in part}


def windows(conversation: list[str]) -> list[Example]:
    """Of three turns and their replies, each a turn after the one before."""
    return [chat(*conversation[start : start + 6]) for start in range(0, len(conversation) - 5, 2)]


def test_windows_of_one_conversation_lie_in_one_split() -> None:
    talks = [windows([f"Page {page} of book {number}: {'so ' * page}" for page in range(10)]) for number in range(30)]
    settings = Splits(near_duplicate=1.0)
    splits, _ = split_chats(settings, train=[row for rows in talks for row in rows])
    homes = {row.id: name for name, part in splits.items() for row in part}
    assert all(len({homes[row.id] for row in rows}) == 1 for rows in talks)
    with pytest.raises(UserError, match="2 of the 89 rows of 'train' are cut from conversations in 'test'"):
        split_chats(settings, train=[*talks[0][:2], *(row for rows in talks[1:] for row in rows)], test=talks[0][2:])


def test_a_greeting_before_most_chats_makes_them_no_one_conversation() -> None:
    greeting = ["Hello", "Hello! How can I help?"]
    rows = [chat(*greeting), *(chat(*greeting, *talk(number)) for number in range(60))]
    splits, notes = split_chats(Splits(), train=rows)
    assert notes["conversations_of_several_rows"] == {"conversations": 0, "rows": 0}
    assert len(splits["train"]) > 30


RULES = " ".join(f"Rule {n}: of topic {n} say nothing but its name, and that only once." for n in range(12))


@pytest.mark.parametrize("row", ["{rules}\nText: {own}", "{own}\n{rules}", "{rules} {own} {rules}"])
def test_an_instruction_in_every_row_makes_them_no_duplicates(row: str) -> None:
    texts = [row.format(rules=RULES, own=own) for own in sentences(60)]
    splits, notes = split(fake_task(train=texts), Splits(), 0)
    assert (notes["near_duplicate_rows"], len(splits["train"])) == (0, 33)


def test_a_group_larger_than_a_split_is_named(caplog: pytest.LogCaptureFixture) -> None:
    alike = [f"{RULES} {number}" for number in range(40)]
    with pytest.raises(UserError, match=r"40 rows are one near-duplicate group .*'Rule 0: of topic 0 say"):
        split(fake_task(train=alike), Splits(), 0)
    split(fake_task(train=[*alike, *sentences(60)]), Splits(), 0)
    assert "40 rows are one near-duplicate group" in caplog.text


@pytest.mark.parametrize(("text", "same"), [("A  ROW\nhere", True), ("a row: here", False), ("12 × 5", False)])
def test_overlap_is_of_texts(text: str, same: bool) -> None:
    _, notes = split(
        fake_task(train=[*sentences(40), text], test=["a row here", "12 ÷ 5"]), Splits(on_overlap="drop"), 0
    )
    assert notes["dropped_overlap"] == ({"train rows that stand in test": 1} if same else {})
