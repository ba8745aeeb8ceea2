"""What most rows repeat makes no two of them alike."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthloop import boilerplate
from synthloop.hashing import Ragged, hash_ngrams, row_sets
from synthloop.similarity import distinct, hashed_words, jaccard, links, ngrams

FRAME = "answer the question below in one word and never say how you found it question"
words = st.lists(
    st.sampled_from(["tom", "mia", "has", "buys", "three", "four", "apples", "pens", "and", "then"]),
    min_size=1,
    max_size=6,
)


def sets_of(texts: list[str], n: int = 3) -> list[Ragged]:
    return [row_sets(hash_ngrams(chunk.words, n)) for chunk in hashed_words(texts)]


@settings(max_examples=40, deadline=None)
@given(own=st.lists(words, min_size=40, max_size=70), num_framed=st.integers(0, 70))
def test_an_ngram_is_left_out_where_more_than_half_of_more_than_fifty_rows_have_it(
    own: list[list[str]], num_framed: int
) -> None:
    texts = [" ".join([FRAME, *one] if n < num_framed else one) for n, one in enumerate(own)]
    sets = [ngrams(text, 3) for text in texts]
    every = {gram for one in sets for gram in one}
    expected = {gram for gram in every if len(texts) > 50 and sum(gram in one for one in sets) > len(texts) / 2}
    found = boilerplate.common(sets_of(texts))
    assert len(found) == len(expected)
    left = [one for chunk in sets_of(texts) for one in boilerplate.without(chunk, found).lengths]
    assert left == [len(one - expected) for one in sets]
    whole = [one for chunk in sets_of(texts) for one in boilerplate.without(chunk, found, keep_whole=True).lengths]
    assert whole == [len(one - expected or one) for one in sets]


@settings(max_examples=20, deadline=None)
@given(own=st.lists(words.map(" ".join), min_size=51, max_size=60), threshold=st.floats(0.3, 1))
def test_framed_rows_are_joined_by_what_is_their_own(own: list[str], threshold: float) -> None:
    texts = [f"{FRAME} {text}" for text in own]
    sets = [ngrams(text, 3) for text in texts]
    repeated = {gram for one in sets for gram in one if sum(gram in other for other in sets) > len(texts) / 2}
    compared = [one - repeated or one for one in sets]
    assert all(jaccard(compared[a], compared[b]) >= threshold for a, b in links(texts, threshold))


@pytest.mark.parametrize(("num_equal", "num_kept"), [(2, 60), (60, 2)])
def test_rows_of_nothing_but_the_frame_are_duplicates_where_they_are_equal(num_equal: int, num_kept: int) -> None:
    texts = [FRAME] * num_equal + [f"{FRAME} {n} of {n * 7}" for n in range(62 - num_equal - 1)]
    kept = [found is None for found in distinct([], texts, 0.8)]
    assert kept == [True] + [False] * (num_equal - 1) + [True] * (61 - num_equal)
