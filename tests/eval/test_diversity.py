"""Diversity at a fixed budget: closed forms against brute force, and what must not change it."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.diversity import bigrams, distinct_share, unigram_entropy, words

items = st.lists(st.sampled_from("abcd"), min_size=1, max_size=9)


def entropy(sample: tuple[str, ...]) -> float:
    return -sum(n / len(sample) * math.log(n / len(sample)) for n in Counter(sample).values())


@given(items, st.integers(1, 9))
def test_both_are_the_mean_over_all_subsamples(pool: list[str], budget: int) -> None:
    size = min(budget, len(pool))
    samples = list(itertools.combinations(pool, size))
    assert unigram_entropy(pool, budget) == pytest.approx(sum(map(entropy, samples)) / len(samples), abs=1e-9)
    distinct = sum(len(set(sample)) / size for sample in samples) / len(samples)
    assert distinct_share(pool, budget) == pytest.approx(distinct)


def test_writing_more_of_the_same_is_not_more_varied() -> None:
    once, often = list("abcdefgh"), list("abcdefgh") * 50
    assert distinct_share(often, 8) < distinct_share(once, 8) == 1.0  # type: ignore[operator]
    assert unigram_entropy(once, 8) == pytest.approx(math.log(8))
    assert unigram_entropy(["a"] * 100, 20) == pytest.approx(0)


def test_words_and_pairs_stay_within_a_text() -> None:
    assert words("It costs $5.") == ["It", "costs", "$", "5", "."]
    assert bigrams("a b c") == [("a", "b"), ("b", "c")]
    assert unigram_entropy([], 10) is None
    assert distinct_share([], 10) is None
