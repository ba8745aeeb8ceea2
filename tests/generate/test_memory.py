"""The retrieval score of the paper, by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generate.memory import DECAY, MemoryStream, relevance, scaled


def stream(*memories: tuple[str, int, float]) -> MemoryStream:
    made = MemoryStream()
    for memory in memories:
        made.add(*memory)
    return made


def test_the_score_is_the_sum_of_the_three_scaled_terms() -> None:
    made = stream(("red apples", 1, -10), ("green pears", 10, 0), ("red pears", 4, -5))
    recency = [DECAY**10, 1.0, DECAY**5]
    scaled_recency = [0.0, 1.0, (recency[2] - recency[0]) / (recency[1] - recency[0])]
    importance = [0.0, 1.0, 3 / 9]
    relevant = [1.0, 0.0, 0.5]  # cosines with the query: 1, 0 and 1/2
    expected = [sum(terms) for terms in zip(scaled_recency, importance, relevant, strict=True)]
    assert made.scores("red apples", 0) == pytest.approx(expected)


def test_what_is_retrieved_was_accessed_now() -> None:
    made = stream(("a b", 5, -9), ("c d", 5, -9), ("e f", 5, -9))
    assert made.retrieve("c d", 1, 1) == ["c d"]
    assert [one.accessed for one in made.memories] == [-9, 1, -9]
    # Its recency now outweighs the others' nothing.
    assert made.retrieve("unrelated", 2, 2) == ["c d", "a b"]


def test_equal_memories_come_in_the_order_they_were_added() -> None:
    assert stream(("a", 5, 0), ("b", 5, 0), ("c", 5, 0)).retrieve("x", 0, 9) == ["a", "b", "c"]
    assert stream().retrieve("x", 0, 3) == []


def test_importance_adds_up() -> None:
    assert stream(("a", 5, 0), ("b", 7, 0)).importance == 12


@pytest.mark.parametrize(
    ("a", "b", "expected"), [("Red apples", "apples, RED!", 1), ("a a b", "a", 2 / 5**0.5), ("a", "b", 0), ("", "a", 0)]
)
def test_relevance(a: str, b: str, expected: float) -> None:
    assert relevance(a, b) == pytest.approx(expected)


@given(st.lists(st.floats(-1e6, 1e6)))
def test_scaled_keeps_the_order_within_0_and_1(values: list[float]) -> None:
    result = scaled(values)
    assert all(0 <= value <= 1 for value in result)
    assert all(result[i] <= result[j] for i, a in enumerate(values) for j, b in enumerate(values) if a <= b)
