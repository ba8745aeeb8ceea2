"""Normalisation, n-grams, and the near-duplicate index against brute force."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from synthloop import similarity
from synthloop.hashing import Ragged, hash_ngrams, hash_words, row_sets
from synthloop.overlap import Overlap, OverlapIndex
from synthloop.randomness import derive_seed, rng
from synthloop.similarity import (
    Match,
    NearDuplicates,
    distinct,
    groups,
    hashed_words,
    jaccard,
    ngrams,
    normalise,
)

WORDS = ["tom", "mia", "has", "buys", "3", "4", "12", "apples", "pens", "and", "then", "how", "many", "does", "left"]
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=20).map(" ".join)
any_texts = st.lists(
    st.text(
        st.sampled_from("aB1٣é数🙂 -+,.\n\0_!#:'=()$²½≤−ि") | st.characters(exclude_categories=["Co"]), max_size=40
    ),
    max_size=8,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Tom  has 3 apples.", "tom has 3 apples"),
        ("ＴＯＭ\thas\n“3” apples!?", "tom has 3 apples"),
        ("12+5 = 17", "12 + 5 = 17"),
        ("well-known, 12-5", "well known 12 - 5"),
        ("12kg, 5x but a1", "12 kg 5 x but a1"),
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


def hashed_sets(corpus: list[str], n: int) -> list[set[int]]:
    chunks = [row_sets(hash_ngrams(chunk.words, n)) for chunk in hashed_words(corpus)]
    return [row for chunk in chunks for row in rows_of(chunk)]


def rows_of(ragged: Ragged) -> list[set[int]]:
    return [set(row.tolist()) for row in np.split(ragged.values, ragged.starts[1:-1])]


@settings(max_examples=300, deadline=None)
@given(any_texts, st.integers(2, 4))
@example(["", "\0", " ", "?"], 2)
def test_hashed_ngrams_are_those_of_the_words(corpus: list[str], n: int) -> None:
    plain = [ngrams(text, n) for text in corpus]
    hashed = hashed_sets(corpus, n)
    assert [len(one) for one in hashed] == [len(one) for one in plain]
    for i in range(len(corpus)):
        for j in range(i):
            assert len(hashed[i] & hashed[j]) == len(plain[i] & plain[j]), (corpus[i], corpus[j])


def test_chunks_do_not_change_the_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = ["", "tom has 3 - 4 pens -", "7 more", "x" * 90, *(f"row {n} of many" for n in range(5000))]
    whole = hashed_sets(corpus, 3)
    monkeypatch.setattr(similarity, "_CHUNK_CHARS", 64)
    assert hashed_sets(corpus, 3) == whole
    assert len(whole) == len(corpus)


def test_hashes_do_not_change_between_versions() -> None:
    words, is_digits = hash_words([b"Tom has 12+5 incomprehensibilities"])
    assert words.values.tolist() == [
        0x38BC6870F6001887,
        0xCE1FE2EFE978B3CE,
        0xB0C99B5E2295C348,
        0x15F3DA10C10C5BE4,
        0xA78C553608DCD879,
        0x66E79C3B198A8DC,
    ]
    assert is_digits.tolist() == [False, False, True, False, True, False]


def one_number(text: str) -> str:
    """Numbers as '0', a run of them as one, by regular expression."""
    numbers = rf"(?:\d+|{'|'.join(similarity.NUMBER_WORDS)})"
    return re.sub(rf"\b{numbers}(?: {numbers})*\b", "0", normalise(text))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from([*WORDS, "two", "hundred", "a1", "-", "12kg", "5x"]), max_size=12).map(" ".join),
        max_size=6,
    )
)
def test_one_number_for_all(corpus: list[str]) -> None:
    merged = [set(row.values.tolist()) for row in split_rows(corpus)]
    for i, text in enumerate(corpus):
        for j in range(i):
            same = one_number(text).split() == one_number(corpus[j]).split()
            assert (split_rows(corpus)[i].values.tolist() == split_rows(corpus)[j].values.tolist()) == same
        assert len(merged[i]) == len(set(one_number(text).split()) or {""})


def split_rows(corpus: list[str]) -> list[Ragged]:
    rows = [
        Ragged(row, np.array([0, len(row)]))
        for chunk in hashed_words(corpus)
        for row in np.split(chunk.one_number().values, chunk.one_number().starts[1:-1])
    ]
    assert len(rows) == len(corpus)
    return rows


def test_nearest_takes_the_most_similar_and_the_first_of_equals() -> None:
    corpus = [
        "tom has 3 apples and mia has 4 pens",
        "tom has 3 apples and then buys 4 pens",
        "Tom has 3 apples, and then buys 4 pens.",
        "tom has 3 apples and then buys 4 pens!",
        "something else entirely is written here",
    ]
    index = NearDuplicates(corpus, 0.5)
    assert index.nearest(3) is None  # nothing has been added
    for position in range(3):
        index.add(position)
    assert index.nearest(3) == Match(1, 1.0)
    assert index.nearest(4) is None


@settings(max_examples=100, deadline=None)
@given(st.lists(texts, min_size=1, max_size=12), texts, st.sampled_from([0.3, 0.6, 0.8, 1.0]))
def test_nearest_agrees_with_brute_force(corpus: list[str], query: str, threshold: float) -> None:
    index = NearDuplicates([*corpus, query], threshold)
    for position in range(len(corpus)):
        index.add(position)
    scores = [jaccard(ngrams(query, 3), ngrams(text, 3)) for text in corpus]
    expected = None if max(scores) < threshold else Match(scores.index(max(scores)), max(scores))
    assert index.nearest(len(corpus)) == expected


def test_distinct_keeps_the_first_and_compares_with_what_was_kept_only() -> None:
    a, far = "tom has 3 apples and then buys 4 more pens", "something else entirely is written here"
    b = a + " today"
    c = b + " again"
    assert distinct([], [a, b, c, far, a], 0.75) == [None, Match(0, 8 / 9), Match(0, 8 / 10), None, Match(0, 1.0)]
    assert distinct([a], [b, far, far], 0.75) == [Match(0, 8 / 9), None, Match(2, 1.0)]
    assert distinct([], [a, b, c], 0.85) == [None, Match(0, 8 / 9), None]  # c is like b, which was not kept
    assert distinct([a, a], [], 0.8) == []


def test_recall_of_planted_near_duplicates() -> None:
    draw = random.Random(0)
    originals = [[f"w{draw.randrange(5000)}" for _ in range(60)] for _ in range(500)]
    changed = [[*words] for words in originals]
    for words in changed:
        for place in draw.sample(range(0, 60, 6), 2):
            words[place] = "changed"  # Jaccard 52/64 = 0.81 at the least
    plain, copies = ([" ".join(words) for words in rows] for rows in (originals, changed))
    found = distinct(plain, copies, 0.8)
    assert sum(match is not None and match.position == number for number, match in enumerate(found)) >= 499


def test_a_thousand_copies_cost_one_comparison_each() -> None:
    """Copies do not enter the index, so that a collapsed teacher does not make it quadratic."""
    copies = ["tom has 3 apples and then buys 4 more pens"] * 20_000
    assert groups(copies, 0.8) == [0] * 20_000
    assert distinct([], copies, 0.8)[1:] == [Match(0, 1.0)] * 19_999


def test_groups_join_chains_and_number_by_first_appearance() -> None:
    a = "tom has 3 apples and then buys 4 more pens"
    b = a + " today"
    c = b + " again"
    assert groups(["x y zoo", a, c, b, "x y zoo!"], 0.75) == [0, 1, 1, 1, 0]


@settings(max_examples=100, deadline=None)
@given(st.lists(texts, max_size=14), st.sampled_from([0.4, 0.8]))
def test_groups_are_the_connected_components(corpus: list[str], threshold: float) -> None:
    sets = [ngrams(text, 3) for text in corpus]
    component = list(range(len(corpus)))
    for i in range(len(corpus)):
        for j in range(i):
            if jaccard(sets[i], sets[j]) >= threshold:
                component = [component[j] if one == component[i] else one for one in component]
    numbers: dict[int, int] = {}
    assert groups(corpus, threshold) == [numbers.setdefault(one, len(numbers)) for one in component]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(texts, min_size=1, max_size=8), st.lists(texts, min_size=1, max_size=8), st.sampled_from([1, 50, 10**6])
)
def test_overlap_index_agrees_with_brute_force(held: list[str], corpus: list[str], max_pairs: int) -> None:
    sets = [[row_sets(hash_ngrams(one.words, 2)) for one in hashed_words(side)] for side in (held, corpus)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("synthloop.overlap._MAX_PAIRS", max_pairs)
        found = OverlapIndex(sets[0]).above(sets[1][0], 0.5)
    expected = {}
    for row, text in enumerate(corpus):
        grams = ngrams(text, 2)
        shares = [len(grams & ngrams(one, 2)) / min(len(grams), len(ngrams(one, 2))) for one in held]
        if max(shares) > 0.5:
            expected[row] = Overlap(shares.index(max(shares)), max(shares))
    assert found == expected


def test_derived_seeds_differ_and_repeat() -> None:
    seeds = {derive_seed(0, 1, "generate", "repair-0001", ask, sample) for ask in range(10) for sample in range(10)}
    assert len(seeds) == 100
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert derive_seed("a", 1) == derive_seed("a", 1) != derive_seed("a1")
    assert rng(1, "x").random() == rng(1, "x").random()
