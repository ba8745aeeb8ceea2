"""Calibration: hand-worked numbers, and a well-calibrated model."""

from __future__ import annotations

from random import Random

import pytest

from generate.calibration import calibrate


def test_by_hand() -> None:
    # Bins 0.2 (one, wrong), 0.9 (two, one right): gaps 0.2 and |1 - 1.85| over three; 1.0 falls into the last bin.
    found = calibrate([0.2, 0.9, 0.95], [False, True, False])
    assert found is not None
    assert found.n == 3
    assert found.ece == pytest.approx((0.2 + 0.85) / 3)
    assert found.brier == pytest.approx((0.04 + 0.01 + 0.9025) / 3)
    assert found.base_rate == pytest.approx(1 / 3)
    assert str(found) == "ECE 0.350, Brier 0.318, 33% right (n=3)"


def test_the_ends() -> None:
    assert calibrate([], []) is None
    assert calibrate([1.0, 0.0], [True, False]) == (2, 0.0, 0.0, 0.5)
    assert calibrate([1.0, 0.0], [False, True]) == (2, 1.0, 1.0, 0.5)


def test_stated_probabilities_that_are_true_have_no_error() -> None:
    rng = Random(0)
    stated = [rng.random() for _ in range(20_000)]
    found = calibrate(stated, [rng.random() < one for one in stated])
    assert found is not None
    assert found.ece < 0.02
    assert found.brier == pytest.approx(1 / 6, abs=0.01)
