from collections.abc import Iterator
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthloop.config import Splits
from synthloop.errors import UserError
from synthloop.records import Example
from synthloop.splits import HELD_OUT, split
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
