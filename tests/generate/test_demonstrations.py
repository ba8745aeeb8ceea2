"""Demonstrations of a task whose answers are labels: never all of one label, and no hint of the label to be found."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generate.context import Context, Desk
from generate.demonstrations import by_label, draw_across
from generate.prompts import Prompts
from generate.roles import Roles
from generate.seeds import make_seeds
from synthloop.config import Generate, RecipeRef
from synthloop.randomness import rng
from synthloop.records import Example, Failure, Seed
from synthloop.task import open_task
from tests.generate import rows
from tests.generate.runs import build_run

LABELS = ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM")


def labelled(counts: dict[str, int], split: str = "train", sliced: bool = True) -> list[Example]:
    return [
        rows.example(number, id=f"{split}-{label}-{number}", answer=label, slice=label if sliced else None)
        for label, count in counts.items()
        for number in range(count)
    ]


def seeds_of(train: list[Example], failed: list[Example], number: int, demonstrations: int) -> list[Seed]:
    recipes = (RecipeRef(name="repair"), RecipeRef(name="variation"), RecipeRef(name="rejection"))
    cfg = Generate(recipes=recipes, num_seeds=number, num_demonstrations=demonstrations, max_per_failure=number)
    wrong = [
        Failure(id=one.id, split="probe", example=one, response="?", parsed=None, truncated=False) for one in failed
    ]
    return make_seeds(cfg, train, wrong, 0, 1, LABELS)[0]


@settings(max_examples=60, deadline=None)
@given(
    counts=st.dictionaries(st.sampled_from(LABELS), st.integers(1, 30), min_size=2),
    number=st.integers(2, 9),
    sliced=st.booleans(),
)
def test_no_seed_shows_one_label_only_where_there_are_others(counts: dict[str, int], number: int, sliced: bool) -> None:
    train = labelled(counts, sliced=sliced)
    for seed in seeds_of(train, labelled(counts, "probe", sliced), 30, number):
        others = [one for one in train if one.id != seed.example.id]
        shown = Counter(one.answer for one in seed.demonstrations)
        assert len({one.id for one in seed.demonstrations}) == len(seed.demonstrations)
        assert seed.example.id not in {one.id for one in seed.demonstrations}
        if len({one.answer for one in others}) > 1:
            assert len(shown) > 1, (seed.example.answer, shown)
        if len(by_label(train)) == len(counts):
            room = min(counts[name] for name in counts) - 1
            assert max(shown.values()) - min(shown[name] for name in counts) <= 1 or min(shown.values()) >= room


@pytest.mark.parametrize("demonstrations", [1, 2, 3])
def test_what_is_shown_tells_nothing_of_the_label_to_be_found(demonstrations: int) -> None:
    """However uneven the labels are: the share of a label among the demonstrations is the same whatever the seed's."""
    train = labelled({"ABBR": 3, "DESC": 90, "ENTY": 120, "HUM": 100, "LOC": 30, "NUM": 60})
    shown: dict[str | None, Counter[str | None]] = defaultdict(Counter)
    for seed in seeds_of(train, [], 6000, demonstrations):
        shown[seed.example.answer].update(one.answer for one in seed.demonstrations)
    for own, found in shown.items():
        total = found.total()
        if total < 1000:
            continue
        # Five standard errors: one test in 1.7 million would fail by chance.
        spread = 5 * (1 / 6 * 5 / 6 / total) ** 0.5
        assert all(abs(found[label] / total - 1 / 6) < spread for label in LABELS), (own, found)


def test_a_single_row_of_a_label_is_not_missed_where_it_is_the_seed() -> None:
    groups = by_label(labelled({"ABBR": 1, "DESC": 5, "ENTY": 5}))
    assert list(groups) == ["DESC", "ENTY"]
    assert list(by_label(labelled({"ABBR": 1, "DESC": 5}))) == ["ABBR", "DESC"]
    shown = draw_across(groups, 4, rng(0), "train-DESC-0")
    assert Counter(one.answer for one in shown) == {"DESC": 2, "ENTY": 2}


def test_without_labels_the_slice_still_comes_first() -> None:
    train = labelled({"ABBR": 10, "DESC": 10})
    cfg = Generate(recipes=(RecipeRef(name="variation"),), num_seeds=10)
    seeds, _ = make_seeds(cfg, train, [], 0, 1)
    assert all(one.slice == seed.example.slice for seed in seeds for one in seed.demonstrations)


CLASSIFIED: dict[str, Any] = {"name": "classification", "format": "label_text", "train": "t", "labels": list(LABELS)}


@pytest.mark.parametrize(
    ("task", "labels"),
    [
        (CLASSIFIED, LABELS),
        ({"name": "jsonl", "train": "t", "scorer": "choice", "labels": ["a", "b"]}, ("a", "b")),
        ({"name": "jsonl", "train": "t", "scorer": "numeric"}, ()),
        ({"name": "word_problems"}, ()),
        ({"name": "inflection", "path": "p"}, ()),
    ],
)
def test_which_tasks_have_labels(task: dict[str, Any], labels: tuple[str, ...]) -> None:
    settings = {"path": ".", **task} if task["name"] != "word_problems" else task
    assert open_task(settings.pop("name"), settings).labels == labels


@pytest.mark.parametrize("template", ["solve", "self_align_answer", "self_refine_revise", "self_refine_critique"])
def test_a_prompt_never_shows_the_seeds_own_label_as_the_form_of_an_answer(tmp_path: Path, template: str) -> None:
    """Without demonstrations solvers are shown the seed's own answer, unless that is a label."""
    run = build_run(tmp_path)
    for task, told in (("word_problems", True), (CLASSIFIED, False)):
        name, settings = (task, {}) if isinstance(task, str) else ("classification", {"path": ".", **task})
        settings.pop("name", None)
        desk = Desk(0, 1, open_task(name, settings), Roles(run, 1), Prompts(None), 1)
        example = rows.example(1, completion="HUM", answer="HUM", slice="HUM")
        seed = Seed(id="s", recipe="repair", example=example)
        made = Context(desk, seed, None).ask(
            "teacher", f"{template}.jinja", prompt="p", answer="a", thoughts="t", principles={}, history=[]
        )
        assert ("HUM" in "".join(turn["content"] for turn in made.request.messages)) == told
