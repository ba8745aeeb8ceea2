"""Whether a stated probability of being right is one: calibration against what turned out right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

NUM_BINS = 10
"""Equal-width bins of the expected calibration error, as in most reports of it (chosen, not measured)."""


class Calibration(NamedTuple):
    """Over `n` statements: the expected calibration error, the Brier score, and the share that was right."""

    n: int
    ece: float
    brier: float
    base_rate: float

    def __str__(self) -> str:
        return f"ECE {self.ece:.3f}, Brier {self.brier:.3f}, {self.base_rate:.0%} right (n={self.n})"


def calibrate(probabilities: Sequence[float], right: Sequence[bool]) -> Calibration | None:
    """The calibration of `probabilities` in [0, 1]; None where there are none.

    The error is sum over bins of |bin|/n * |share right - mean probability| (Guo et al., 2017, arXiv:1706.04599,
    equation 3); the Brier score the mean of (probability - right)^2. The error is biased upwards where bins hold few.
    """
    n = len(probabilities)
    if n == 0:
        return None
    bins: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    for probability, outcome in zip(probabilities, right, strict=True):
        assert 0 <= probability <= 1, probability
        bins[min(int(probability * NUM_BINS), NUM_BINS - 1)].append((probability, outcome))
    gaps = [abs(sum(outcome for _, outcome in one) - sum(stated for stated, _ in one)) for one in bins.values()]
    squares = [(stated - outcome) ** 2 for one in bins.values() for stated, outcome in one]
    return Calibration(n, sum(gaps) / n, sum(squares) / n, sum(right) / n)
