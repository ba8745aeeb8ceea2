"""Decontamination on texts whose verdict is known, and on planted copies of real test items."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from generate.curation import FilterContext
from generate.filters import decontaminate
from generate.filters.decontaminate import Config, HeldOut
from scripts.bench_curate import contamination
from synthloop.store import Run, write_rows
from tests.generate import rows
from tests.generate.runs import build_run
from tests.real_data import real_data

LONG = (
    "A gardener plants seven rows of tulips with nine bulbs in every row, then digs up the twelve bulbs that rotted "
    "over the winter and gives half of the rest to a neighbour."
)
ANSWER = (
    "First we multiply the seven rows by the nine bulbs which gives sixty three bulbs in all, then the twelve rotten "
    "ones are taken away which leaves fifty one. #### 51"
)
OTHER = (
    "Quite unlike before we now look at trains which leave one station early and reach another late because of snow "
    "on their way through mountains where nobody lives since long ago"
)
ONLY_TRAIN = "only in train " + " ".join(f"word{n}" for n in range(30))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return build_run(tmp_path / "run")


@pytest.fixture
def held_out(run: Run) -> FilterContext:
    for split in ("probe", "gate", "test"):
        extra = rows.example(0, id=f"long-{split}", input=f"{LONG} {split}", completion=ANSWER)
        short = rows.example(0, id=f"short-{split}", input=f"walk V;PST {split}", completion="walked")
        write_rows(run.split(split), [extra, short])
    write_rows(run.split("train"), [rows.example(0, id="train", input=ONLY_TRAIN)])
    return FilterContext(run, 1)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"input": LONG + " test"}, "5-gram overlap: 1.00 with test long-test"),
        ({"input": LONG.replace("tulips", "roses") + " How many are left?"}, "5-gram overlap: "),
        (
            {"input": LONG.replace("seven", "3").replace("nine", "1,200").replace("twelve", "two hundred")},
            "5-gram over",
        ),
        ({"input": OTHER + LONG + OTHER.swapcase()}, "5-gram overlap: 0.93 with probe long-probe"),
        ({"input": OTHER + " " + " ".join(LONG.split()[:13])}, "13-gram: 'a gardener plants seven rows of tulips"),
        ({"input": OTHER + " " + " ".join(LONG.split()[:12])}, ""),
        ({"input": "walk V;PST gate"}, "same text: 'walk v pst gate' is gate short-gate"),
        ({"input": "walk V;PST"}, ""),
        ({"input": "fresh text", "completion": ANSWER}, "5-gram overlap: 1.00 with probe long-probe"),
        ({"input": "fresh text", "completion": ANSWER.replace("seven", "eight").replace("nine", "three")}, "5-gram ov"),
        ({"input": "fresh text", "completion": OTHER + " ".join(ANSWER.split()[:14])}, ""),
        ({"input": "fresh text", "completion": "walked"}, ""),
        ({"input": ONLY_TRAIN}, ""),
    ],
)
def test_verdicts(held_out: FilterContext, changes: dict[str, Any], reason: str) -> None:
    (decision,) = decontaminate.check(Config(), [rows.candidate(**changes)], held_out)
    assert decision.keep == (not reason)
    assert (decision.reason or "").startswith(reason)


def test_every_exact_copy_of_a_held_out_problem_is_caught(run: Run) -> None:
    ctx = FilterContext(run, 1)
    copies = [rows.candidate(input=one.input) for split in ("probe", "gate", "test") for one in ctx.real(split)]
    assert not any(one.keep for one in decontaminate.check(Config(), copies, ctx))


def keeps(cfg: Config, held: str, text: str) -> bool:
    (decision,) = HeldOut(cfg, [("test 1", held)]).check([text])
    return decision.keep


def test_templated_problems_pass_where_numbers_are_not_normalised() -> None:
    held = "Tom has 12 apples and buys 7 more. How many apples does he have now?"
    other = "Ava has 31 pens and buys 9 more. How many pens does she have now?"
    templated = Config(ngram=8, normalise_numbers=False, long_ngram=None)
    assert keeps(templated, held, other)
    assert not keeps(templated, held, held.replace("Tom", "Ava"))
    assert not keeps(Config(), held, held.replace("12", "31").replace("7", "9"))


@pytest.mark.parametrize("lemma", ["walk", "re-run", "come right back"])
def test_inflection_is_refused_only_where_lemma_and_tags_are_the_same(lemma: str) -> None:
    held = HeldOut(Config(), [(f"test {one}", f"{one} V;3;SG;PRS") for one in ("run", "be right back", lemma)])
    kept = [one.keep for one in held.check([f"{lemma} V;3;SG;PRS", f"{lemma} V;PST", "go right back V;3;SG;PRS"])]
    assert kept == [False, True, True]


def test_sums_and_series_are_compared_with_their_numbers() -> None:
    """Without their numbers nothing would be left of them."""
    assert keeps(Config(), "12 + 5 = ?", "31 + 9 = ?")
    assert keeps(Config(), "Go on: 1, 2, 3, 5, 8, 13, 21, 34", "Go on: 2, 4, 6, 8, 10, 12, 14, 16")
    assert not keeps(Config(), "12 + 5 = ?", "12+5=?")


def test_short_items_are_found_inside_a_longer_text() -> None:
    held = "What is 15 - 6?"
    for leak in (
        "Q: What is 15 − 6?",
        "Easy. What is 15 - 6? Say it.",
        'Tom asks "what is 15 - 6" and waits.',
        "问：What is 15-6？",
    ):
        assert not keeps(Config(), held, leak), leak
    for other in ("What is 15 - 6 + 3?", "So what is 15 - 60?", "What is 15 + 6?", "Guess what is 15 - 6 times 2."):
        assert keeps(Config(), held, other), other
    assert keeps(Config(), "Walk home.", "Let us go. Walk home. Sleep."), "too short to be no chance"


def test_numbers_with_their_units_are_numbers() -> None:
    held = "A cook has 14kg of flour, uses 2kg a day for 5days, then buys 6kg more and gives 1kg of it away."
    swapped = "A cook has 80kg of flour, uses 9kg a day for 3days, then buys 4kg more and gives 2kg of it away."
    assert not keeps(Config(), held, swapped)
    assert not keeps(Config(), held.replace("kg", " kg"), swapped)


def test_nothing_held_out_refuses_nothing() -> None:
    assert [one.keep for one in HeldOut(Config(), []).check([LONG, "", "walk"])] == [True, True, True]


@pytest.mark.real_data
def test_planted_copies_of_gsm8k_test_items_are_caught_and_training_rows_are_not() -> None:
    caught = contamination(real_data("gsm8k"))
    rates = {name: one.rate for name, one in caught.items()}
    assert rates["exact"] == 1.0
    assert rates["one word changed"] >= 0.99
    assert rates["sentences reordered"] >= 0.95
    assert rates["numbers swapped"] >= 0.95
    assert caught["real training rows"].num_texts == 5000
    assert rates["real training rows"] <= 0.002
