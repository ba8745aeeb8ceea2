"""Thompson sampling between recipes against the chances it is defined by."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist

import numpy as np
import pytest

from eval.bandit import FLOOR, Gain, measure, shares


def test_two_recipes_share_by_the_chance_of_being_better() -> None:
    better, worse = Gain(0.05, 0.02, 1_000_000), Gain(0.02, 0.03, 1_000_000)
    chance = NormalDist().cdf((0.05 - 0.02) / sqrt(0.02**2 + 0.03**2))
    found = shares({"better": better, "worse": worse}, seed=0)
    assert found["better"] == pytest.approx(FLOOR / 2 + (1 - FLOOR) * chance, abs=0.01)
    assert sum(found.values()) == pytest.approx(1)


def test_what_is_gained_counts_by_the_tokens_it_took() -> None:
    found = shares({"cheap": Gain(0.02, 0.001, 10_000), "dear": Gain(0.04, 0.001, 100_000)}, seed=0)
    assert found["cheap"] > 0.9


def test_equal_recipes_share_equally_and_none_is_closed_off() -> None:
    equal = shares({name: Gain(0.03, 0.01, 1000) for name in "abcd"}, seed=1)
    assert list(equal.values()) == pytest.approx([0.25] * 4, abs=0.02)
    hopeless = shares({"good": Gain(0.2, 0.001, 1000), "bad": Gain(-0.2, 0.001, 1000)}, seed=1)
    assert hopeless["bad"] == pytest.approx(FLOOR / 2)


def test_a_gain_is_the_paired_difference_with_both_kinds_of_noise() -> None:
    whole, without = np.array([[1.0, 1, 1, 0], [1, 1, 1, 0]]), np.array([[0.0, 1, 1, 0], [0, 1, 1, 0]])
    found = measure(whole, without, noise=0.0004, tokens=500)
    assert found.gain == pytest.approx(0.25)
    assert found.error == pytest.approx(sqrt(np.var([1, 0, 0, 0], ddof=1) / 4 + 2 * 0.0004 / 2))
    assert found.per_million == pytest.approx((500.0, found.error / 500 * 1e6))


def test_a_recipe_of_which_nothing_was_kept_adds_nothing() -> None:
    found = measure(np.ones((2, 4)), None, noise=0.0004, tokens=500)
    assert (found.gain, found.error) == (0.0, pytest.approx(0.02))
