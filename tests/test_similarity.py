"""Normalisation, n-grams, and the near-duplicate index against brute force."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthloop.randomness import derive_seed, rng
from synthloop.similarity import NearDuplicates, groups, jaccard, ngrams, normalise

WORDS = ["tom", "mia", "has", "buys", "3", "4", "12", "apples", "pens", "and", "then", "how", "many", "does", "left"]
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=20).map(" ".join)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Tom  has 3 apples.", "tom has 3 apples"),
        ("ＴＯＭ\thas\n“3” apples!?", "tom has 3 apples"),
        ("12+5 = 17", "12 + 5 = 17"),
        ("well-known, 12-5", "well known 12 - 5"),
        ("?!", "?!"),
        ("数学 math", "数 学 math"),
        ("", ""),
    ],
)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected


def test_short_texts_are_compared_whole() -> None:
    assert ngrams("walk V;PST", 3) == {"walk v pst"}
    assert ngrams("walk PST", 3) == {"walk pst"}
    assert ngrams("a b c d", 3) == {"a b c", "b c d"}


def test_nearest_takes_the_most_similar_and_the_first_of_equals() -> None:
    index = NearDuplicates(0.5)
    index.add("far", "tom has 3 apples and mia has 4 pens")
    index.add("first", "tom has 3 apples and then buys 4 pens")
    index.add("second", "Tom has 3 apples, and then buys 4 pens.")
    match = index.nearest("tom has 3 apples and then buys 4 pens!")
    assert match is not None
    assert match.key == "first"
    assert match.jaccard == 1.0
    assert index.nearest("something else entirely is written here") is None


@settings(max_examples=50, deadline=None)
@given(st.lists(texts, min_size=1, max_size=12), texts)
def test_nearest_agrees_with_brute_force(corpus: list[str], query: str) -> None:
    index = NearDuplicates(0.6)
    for number, text in enumerate(corpus):
        index.add(str(number), text)
    scores = [jaccard(ngrams(query, 3), ngrams(text, 3)) for text in corpus]
    match = index.nearest(query)
    if max(scores) < 0.6:
        assert match is None
    else:
        assert match is not None
        assert match.key == str(scores.index(max(scores)))


def test_recall_of_planted_near_duplicates() -> None:
    draw = random.Random(0)
    index = NearDuplicates(0.8)
    originals = [[f"w{draw.randrange(5000)}" for _ in range(60)] for _ in range(500)]
    for number, words in enumerate(originals):
        index.add(str(number), " ".join(words))
    found = 0
    for number, words in enumerate(originals):
        changed = [*words]
        changed[draw.randrange(60)] = "changed"  # Jaccard 55/61 at the least
        match = index.nearest(" ".join(changed))
        found += match is not None and match.key == str(number)
    assert found >= 499


def test_groups_join_chains_and_number_by_first_appearance() -> None:
    a = "tom has 3 apples and then buys 4 more pens"
    b = a + " today"
    c = b + " again"
    assert groups(["x y z", a, c, b, "x y z!"], 0.75) == [0, 1, 1, 1, 0]


def test_derived_seeds_differ_and_repeat() -> None:
    seeds = {derive_seed(0, 1, "generate", "repair-0001", ask, sample) for ask in range(10) for sample in range(10)}
    assert len(seeds) == 100
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert derive_seed("a", 1) == derive_seed("a", 1) != derive_seed("a1")
    assert rng(1, "x").random() == rng(1, "x").random()
