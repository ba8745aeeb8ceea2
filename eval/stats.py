"""Intervals and tests for scores: every number the loop decides by comes with its uncertainty.

Scores of 0 and 1 get closed forms (Wilson, Newcombe, exact McNemar), others the bootstrap and a sign-flip test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Literal, NamedTuple

import numpy as np

from synthloop.errors import UserError

RESAMPLES = 9_999
"""Bootstrap resamples and sign flips: SciPy's default, enough for two digits of a 95% bound."""


class Interval(NamedTuple):
    """A two-sided confidence interval."""

    low: float
    high: float


class PairedGain(NamedTuple):
    """The mean of new minus old over the same n examples. `p_value` is one-sided (gain > 0)."""

    gain: float
    ci_low: float
    ci_high: float
    p_value: float
    p_value_two_sided: float
    wins: int
    losses: int
    n: int


def mean_interval(values: Sequence[float], confidence: float, seed: int = 0) -> Interval:
    """The interval of a mean: `wilson` where all values are 0 or 1, else the BCa `bootstrap`."""
    if _is_binary(values):
        return wilson(round(sum(values)), len(values), confidence)
    return bootstrap(values, confidence, seed)


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """The score interval of a proportion (Wilson 1927, JASA 22:209, without continuity correction)."""
    assert 0 <= successes <= n > 0, (successes, n)
    z = _z(confidence)
    rate = successes / n
    centre = rate + z * z / (2 * n)
    spread = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At the ends the formula gives 0 and 1 but for rounding.
    low = 0.0 if successes == 0 else (centre - spread) / scale
    high = 1.0 if successes == n else (centre + spread) / scale
    return Interval(low, high)


def bootstrap(
    values: Sequence[float], confidence: float = 0.95, seed: int = 0, method: Literal["BCa", "percentile"] = "BCa"
) -> Interval:
    """The bootstrap interval of the mean (Efron 1987, JASA 82:171, for BCa); a point where all values are equal.

    The mean does not depend on the order of `values`, and neither does the interval: they are sorted first.
    """
    from scipy import stats

    data = np.sort(np.asarray(values, dtype=float))
    if data[0] == data[-1]:
        return Interval(float(data[0]), float(data[0]))
    # Batches bound the memory to a few megabytes for any n.
    batch = max(1, 1_000_000 // len(data))
    # The acceleration of BCa cubes the values, which underflows below 1e-100; a power of two changes no digit.
    scale = 2.0 ** math.floor(math.log2(max(abs(data[0]), abs(data[-1]))))
    result = stats.bootstrap(
        (data / scale,),
        np.mean,
        confidence_level=confidence,
        n_resamples=RESAMPLES,
        method=method,
        rng=np.random.default_rng(seed),
        batch=batch,
    )
    return Interval(float(result.confidence_interval.low * scale), float(result.confidence_interval.high * scale))


def paired_gain(old: Sequence[float], new: Sequence[float], confidence: float = 0.95, seed: int = 0) -> PairedGain:
    """How much better `new` is than `old`, score by score on the same examples.

    For scores of 0 and 1: Newcombe's paired interval and the exact McNemar test. The two may disagree near the border,
    since one is a score interval and the other an exact test. For other scores: the BCa bootstrap of the mean
    difference and the sign-flip test.

    Raises:
        UserError: there is nothing to compare, or the two differ in length.
    """
    if not old or len(old) != len(new):
        raise UserError(f"A paired comparison needs the same examples on both sides; found {len(old)} and {len(new)}.")
    differences = [after - before for before, after in zip(old, new, strict=True)]
    wins, losses = (int(sum(one * sign > 0 for one in differences)) for sign in (1, -1))
    n = len(differences)
    if _is_binary(old) and _is_binary(new):
        both = sum(before == after == 1 for before, after in zip(old, new, strict=True))
        interval = newcombe_paired(both, wins, losses, n, confidence)
        p_value, two_sided = mcnemar(wins, losses)
    else:
        interval = bootstrap(differences, confidence, seed)
        p_value, two_sided = sign_flip(differences, seed)
    return PairedGain(math.fsum(differences) / n, *interval, p_value, two_sided, wins, losses, n)


def newcombe_paired(both: int, wins: int, losses: int, n: int, confidence: float = 0.95) -> Interval:
    """The score interval of the difference of two paired proportions, new minus old.

    Newcombe 1998, Statistics in Medicine 17:2635, method 10: the Wilson limits of the two proportions, squared and
    added with a correlation phi that is continuity-corrected where it is positive.

    Args:
        both: examples right both times; `wins` only the new time, `losses` only the old; `n` all.
    """
    neither = n - both - wins - losses
    assert min(both, wins, losses, neither) >= 0 < n, (both, wins, losses, n)
    new, old = (both + wins) / n, (both + losses) / n
    new_low, new_high = wilson(both + wins, n, confidence)
    old_low, old_high = wilson(both + losses, n, confidence)
    margins = math.prod([both + wins, losses + neither, both + losses, wins + neither])
    product = both * neither - wins * losses
    corrected = product if product < 0 else max(product - n / 2, 0)
    phi = corrected / math.sqrt(margins) if margins else 0.0
    below, above = new - new_low, old_high - old
    low = new - old - math.sqrt(max(0.0, below**2 - 2 * phi * below * above + above**2))
    below, above = old - old_low, new_high - new
    high = new - old + math.sqrt(max(0.0, below**2 - 2 * phi * below * above + above**2))
    return Interval(low, high)


def mcnemar(wins: int, losses: int) -> tuple[float, float]:
    """(one-sided p for 'new is better', two-sided p): the exact binomial test on the examples that changed.

    McNemar 1947, Psychometrika 12:153. Both are 1 where nothing changed.
    """
    from scipy import stats

    changed = wins + losses
    better = float(stats.binom.sf(wins - 1, changed, 0.5))
    worse = float(stats.binom.cdf(wins, changed, 0.5))
    return better, min(1.0, 2 * min(better, worse))


def sign_flip(differences: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """(one-sided p for a mean above 0, two-sided p): the Monte-Carlo sign-flip test of paired differences.

    Under the null each difference is as likely with the other sign (Fisher 1935, The Design of Experiments, s. 21). The
    observed data count as one of the draws, so p is never 0 (Phipson and Smyth 2010, arXiv:1603.05766).
    """
    data = np.sort(np.asarray(differences, dtype=float))
    generator = np.random.default_rng(seed)
    observed = float(data.sum())
    # Equal sums may differ in the last bits with the order of addition.
    slack = 1e-9 * float(np.abs(data).sum())
    better = worse = 0
    batch = max(1, 1_000_000 // len(data))
    for start in range(0, RESAMPLES, batch):
        rows = min(batch, RESAMPLES - start)
        sums = (generator.integers(0, 2, (rows, len(data))) * 2 - 1) @ data
        better += int((sums >= observed - slack).sum())
        worse += int((sums <= observed + slack).sum())
    p_better, p_worse = (better + 1) / (RESAMPLES + 1), (worse + 1) / (RESAMPLES + 1)
    return p_better, min(1.0, 2 * min(p_better, p_worse))


def _is_binary(values: Sequence[float]) -> bool:
    return all(value in (0, 1) for value in values)


def _z(confidence: float) -> float:
    """The two-sided standard normal quantile."""
    return NormalDist().inv_cdf((1 + confidence) / 2)
