"""ROUGE-L: known values, and the fast longest common subsequence against the plain one."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generate.rouge import common_words, rouge_l


@pytest.mark.parametrize(
    ("a", "b", "value"),
    [
        ("police killed the gunman", "police kill the gunman", 0.75),  # Lin 2004, section 3.1
        ("police killed the gunman", "the gunman kill police", 0.5),
        ("The cat sat.", "the CAT, sat", 1.0),
        ("one two three four", "one four", 2 / 3),
        ("a", "b", 0.0),
        ("", "", 0.0),
        ("", "a", 0.0),
        ("猫が好き", "犬が好き", 0.75),
    ],
)
def test_known_values(a: str, b: str, value: float) -> None:
    assert rouge_l(a, b) == pytest.approx(value)


def plain(a: list[str], b: list[str]) -> int:
    """The textbook table."""
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, j in product(range(len(a)), range(len(b))):
        table[i + 1][j + 1] = table[i][j] + 1 if a[i] == b[j] else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


WORDS = st.lists(st.sampled_from("abcd"), max_size=80)


@given(WORDS, WORDS)
def test_the_fast_subsequence_is_as_long_as_the_plain_one(a: list[str], b: list[str]) -> None:
    assert common_words(a, b) == plain(a, b)


@given(st.text(max_size=60), st.text(max_size=60))
def test_it_is_symmetric_and_between_0_and_1(a: str, b: str) -> None:
    assert rouge_l(a, b) == rouge_l(b, a)
    assert 0 <= rouge_l(a, b) <= 1
