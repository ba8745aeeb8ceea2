"""Diversity at a fixed budget: closed forms against brute force, and what must not change it."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval import diversity
from eval.diversity import bigrams, distinct_share, profile, rare_types, reference, sample, unigram_entropy, words

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


REAL = ["the cat sat", "the dog sat", "the owl slept"] * 4


def test_rare_types_are_the_least_frequent_that_make_up_a_tenth() -> None:
    assert rare_types(Counter("a" * 90 + "bbbb" + "cccc" + "de")) == {"b", "c", "d", "e"}
    assert rare_types(Counter("a" * 90 + "bbbbbb" + "cccccc" + "de")) == {"d", "e"}, "all of a frequency, or none"
    assert rare_types(Counter("aaabb")) == {"b"}, "the least frequent ones at the least"
    assert rare_types(Counter()) == frozenset()


def test_real_text_is_as_far_from_itself_as_nothing() -> None:
    real = reference(REAL)
    found = profile(sample(REAL, 36), real)
    assert found["js_to_real"] == pytest.approx(0, abs=1e-12)
    assert found["rare_type_coverage"] == pytest.approx(1)
    assert profile(sample(["x y", "z"], 36), real)["js_to_real"] == pytest.approx(1)
    assert profile(sample(["x y", "z"], 36), real)["rare_type_coverage"] == 0


def test_jensen_shannon_known_answer() -> None:
    """p = (1, 0), q = (1/2, 1/2): 1/2 log2(4/3) + 1/4 log2(2/3) + 1/4 bits, of words; there are no pairs."""
    expected = 0.5 * math.log2(4 / 3) + 0.25 * math.log2(2 / 3) + 0.25
    assert diversity.js_to_real(sample(["a", "a"], 9), reference(["a", "b"])) == pytest.approx(expected)


def test_coverage_is_the_mean_over_all_subsamples() -> None:
    real = reference(["a a a a a a a a b c"])  # b and c are rare
    expected = {
        tuple(text): sum(len(set(part) & {"b", "c"}) for part in itertools.combinations(text, 3)) / 10
        for text in ("aaabc", "aaabb")
    }
    real_3 = 2 * 3 / 10  # of three words of the real ten, one of either rare word
    for text, met in expected.items():
        assert diversity.rare_type_coverage(sample([" ".join(text)], 3), real) == pytest.approx(met / real_3)


def test_vendi_counts_texts_that_share_nothing() -> None:
    real = reference(REAL)
    assert diversity.vendi(sample(["a b", "c d", "e f"], 9), real) == pytest.approx(3)
    assert diversity.vendi(sample(["a b"] * 5, 9), real) == pytest.approx(1)
    assert diversity.vendi(sample(["a b", "a b", "c d", "c d"], 9), real) == pytest.approx(2)
    # Eigenvalues of [[1, c], [c, 1]] / 2 with c = 1/2.
    entropy_of_two = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert diversity.vendi(sample(["a b", "a c"], 9), real) == pytest.approx(math.exp(entropy_of_two))


def test_repetition_compresses_better() -> None:
    real = reference(REAL)
    varied = [f"{n} {n * n} {n**3}" for n in range(60)]
    same = ["12 144 1728"] * 60
    ratio = diversity.compression_ratio
    assert ratio(sample(same, 180), real) > 2 * ratio(sample(varied, 180), real)  # type: ignore[operator]
    assert ratio(sample(same * 9, 180), real) == ratio(sample(same, 180), real), "the budget is a budget"


def test_nothing_written_is_measured_as_nothing() -> None:
    assert set(profile(sample([], 10), reference(REAL)).values()) <= {None, 0}
    assert profile(sample(["", ""], 10), reference(REAL))["vendi"] == pytest.approx(1)
