"""Which recipe to ask more of: Thompson sampling on the gain in held-out score per teacher token.

A round's trials with the rows of all recipes, and those without one recipe's, give what each one adds, with a standard
error; over the teacher tokens it took so far that is a normal posterior of its gain per token. Each of the next round's
seeds goes to the recipe that is best in one draw from the posteriors (Thompson 1933, Biometrika 25:285; Chapelle and Li
2011, NeurIPS): a recipe gets seeds with the probability that it is the best one. The trials of a round hold the rows of
all rounds, so the newest measurement has seen all there is. `FLOOR` of the seeds are shared out evenly, so that one bad
measurement closes no recipe off.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FLOOR = 0.1
"""Chosen: with two recipes and 400 seeds the worse one still gets 20, enough to notice that it has become good."""
DRAWS = 20_000


MIN_ERROR = 1e-4
"""Of a gain: a hundredth of a point, finer than any trial tells."""


class Gain(NamedTuple):
    """What a recipe adds to the held-out score (0..1), its standard error, and the teacher tokens it took."""

    gain: float
    error: float
    tokens: int

    @property
    def per_million(self) -> tuple[float, float]:
        """Gain per million tokens, and its standard error; a server that counts no tokens took one."""
        tokens = max(1, self.tokens)
        return self.gain / tokens * 1e6, self.error / tokens * 1e6


def measure(whole: NDArray[np.float64], without: NDArray[np.float64] | None, noise: float, tokens: int) -> Gain:
    """The gain of a recipe from the scores of trials with it and without, shape (seeds, examples) each.

    `noise` is the variance of a score between trainings; the examples are the same on both sides. `without` is None for
    a recipe of which no sample was kept: it adds nothing.
    """
    training = 2 * noise / len(whole)
    if without is None:
        return Gain(0.0, max(MIN_ERROR, math.sqrt(training)), tokens)
    differences = whole.mean(axis=0) - without.mean(axis=0)
    spread = float(np.var(differences, ddof=1)) / len(differences)
    return Gain(float(differences.mean()), max(MIN_ERROR, math.sqrt(spread + training)), tokens)


def shares(gains: Mapping[str, Gain], seed: int) -> dict[str, float]:
    """Recipe -> its share of the next round's seeds, each above 0, together 1. Each has taken tokens."""
    told = [one.per_million for one in gains.values()]
    means, errors = np.array(told).T
    draws = np.random.default_rng(seed).normal(means, errors, (DRAWS, len(told)))
    won = np.bincount(draws.argmax(axis=1), minlength=len(told)) / DRAWS
    even = 1 / len(told)
    return {name: FLOOR * even + (1 - FLOOR) * float(one) for name, one in zip(gains, won, strict=True)}
