"""The curve of held-out score against synthetic data, what is sure about it, and the ratio that follows.

    score(r) = a + b (1 - exp(-r / c))

A saturating curve, as held-out gains of fine-tuning data flatten (Zhang et al. 2024, arXiv:2402.17193); `b` may be
negative: synthetic data that harms. It is used where it fits: where the scores stray from it by more than seeds do (the
F test of lack of fit, Draper and Smith, Applied Regression Analysis, 1998, ch. 2), the mean of each ratio is used
instead.

Two things make a trial's score uncertain, and both are drawn anew `DRAWS` times: the held-out examples (bootstrap, the
same examples for all trials, so that what they have in common cancels) and the training (Gaussian noise). The variance
of the second is what remains of the trials' means after the effects of ratio and seed, less the part of it that comes
from single examples, which the bootstrap has; its own uncertainty is a chi-squared draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from synthloop.errors import UserError

F = NDArray[np.float64]

DRAWS = 4000
"""Enough for the 1% quantile of a difference within a tenth of its standard error."""
MIN_RATIOS = 4
"""Of a curve with three parameters."""
LACK_OF_FIT = 0.05
SCALES = np.geomspace(1 / 8, 8, 49)
"""Values tried for c, as parts of the largest ratio. The curve is all but straight at the upper end."""


class Effect(NamedTuple):
    """The gain of a ratio over the one in force; `separated` where its lower bound is above 0."""

    ratio: float
    value: float
    gain: float
    ci_low: float
    ci_high: float
    separated: bool


class Curve(NamedTuple):
    """Estimates at `ratios`, with their two-sided 95% intervals: of the curve where it `fits`, else the seeds' means.

    `a`, `b`, `c` and `p_lack_of_fit` are None where there are too few ratios for a curve.
    """

    ratios: list[float]
    values: list[float]
    low: list[float]
    high: list[float]
    fits: bool
    a: float | None
    b: float | None
    c: float | None
    p_lack_of_fit: float | None

    def at(self, ratios: Sequence[float]) -> list[float]:
        """The estimate between the ratios: the curve, or straight lines where it does not fit."""
        if not self.fits:
            return [float(one) for one in np.interp(ratios, self.ratios, self.values)]
        return self.fitted(ratios)

    def fitted(self, ratios: Sequence[float]) -> list[float]:
        """The curve at `ratios`, whether it fits or not; there must be one."""
        assert self.a is not None
        assert self.b is not None
        assert self.c is not None
        return [float(self.a + self.b * -np.expm1(-ratio / self.c)) for ratio in ratios]


class Choice(NamedTuple):
    """The ratio to take, why, and what it rests on: an `Effect` for every other ratio than the one in force."""

    ratio: float
    reason: str
    effects: list[Effect]
    curve: Curve


class Scores(NamedTuple):
    """What trials scored: `values[r, s, i]` of ratio r, seed s and held-out example i."""

    ratios: list[float]
    values: F

    @classmethod
    def of(cls, scored: Sequence[tuple[float, int, Sequence[float]]]) -> Scores:
        """From (ratio, seed, score of each example in order). Raises `UserError` where a ratio lacks a seed."""
        table = {(ratio, seed): values for ratio, seed, values in scored}
        ratios, seeds = (sorted({key[axis] for key in table}) for axis in (0, 1))
        missing = [(ratio, seed) for ratio in ratios for seed in seeds if (ratio, seed) not in table]
        if missing or len(seeds) < 2:
            raise UserError(f"Each ratio needs the same two seeds or more; found {sorted(table)}.")
        return cls([float(one) for one in ratios], np.array([[table[r, int(s)] for s in seeds] for r in ratios], float))


def choose(scores: Scores, current: float, alpha: float, seed: int) -> Choice:
    """The ratio of `scores` with the best estimate among those separated from `current`; `current` where there is none.

    The one-sided level `alpha` is shared out over the other ratios (Bonferroni). `current` is one of the ratios.
    """
    drawn, curve = estimate(scores, seed)
    position = scores.ratios.index(current)
    others = [index for index in range(len(scores.ratios)) if index != position]
    level = alpha / max(1, len(others))
    effects = []
    for index in others:
        low, high = np.quantile(drawn[:, index] - drawn[:, position], [level, 1 - level])
        gain = curve.values[index] - curve.values[position]
        effects.append(
            Effect(scores.ratios[index], curve.values[index], gain, float(low), float(high), separated=bool(low > 0))
        )
    better = [one for one in effects if one.separated]
    best = max(better, key=lambda one: (one.value, -one.ratio), default=None)
    return Choice(current if best is None else best.ratio, _reason(current, best, effects, alpha), effects, curve)


def _reason(current: float, best: Effect | None, effects: Sequence[Effect], alpha: float) -> str:
    if best is not None:
        return (
            f"{best.ratio:.3g} synthetic per real instead of {current:.3g}: {100 * best.gain:+.1f} points on gate "
            f"[{100 * best.ci_low:+.1f}, {100 * best.ci_high:+.1f}], separated at alpha {alpha:g}"
        )
    if not effects:
        return f"{current:.3g} synthetic per real stays: no other ratio can be reached"
    nearest = max(effects, key=lambda one: one.gain)
    return (
        f"{current:.3g} synthetic per real stays: no ratio is separated from it at alpha {alpha:g}; the nearest is "
        f"{nearest.ratio:.3g} with {100 * nearest.gain:+.1f} points on gate "
        f"[{100 * nearest.ci_low:+.1f}, {100 * nearest.ci_high:+.1f}]"
    )


def estimate(scores: Scores, seed: int) -> tuple[F, Curve]:
    """Draws of the estimate at each ratio, shape (DRAWS, ratios), and the estimate itself."""
    means = scores.values.mean(axis=(1, 2))
    p_value = lack_of_fit(scores)
    fits = p_value is not None and p_value > LACK_OF_FIT
    ratios = np.array(scores.ratios)
    samples = _draws(scores, seed)
    drawn = fit(ratios, samples)[0] if fits else samples
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    a = b = c = None
    values = means
    if p_value is not None:
        fitted, parameters = fit(ratios, means[None])
        a, b, c = map(float, parameters[0])
        values = fitted[0] if fits else means
    return drawn, Curve(scores.ratios, values.tolist(), low.tolist(), high.tolist(), fits, a, b, c, p_value)


def _draws(scores: Scores, seed: int) -> F:
    """Mean scores at each ratio had there been other examples and other trainings, shape (DRAWS, ratios)."""
    generator = np.random.default_rng(seed)
    num_seeds, num_examples = scores.values.shape[1:]
    weights = generator.multinomial(num_examples, np.full(num_examples, 1 / num_examples), DRAWS) / num_examples
    examples = weights @ scores.values.mean(axis=1).T
    variance, freedom = noise(scores)
    variances = np.maximum(0, variance * freedom / generator.chisquare(freedom, DRAWS) - by_example(scores))
    training = generator.standard_normal(examples.shape) * np.sqrt(variances / num_seeds)[:, None]
    return np.asarray(examples + training)


def noise(scores: Scores) -> tuple[float, int]:
    """The variance of one training's mean score beyond ratio and seed, and its degrees of freedom."""
    table = scores.values.mean(axis=2)
    rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + table.mean()
    freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
    return float((rest**2).sum() / max(1, freedom)), max(1, freedom)


def by_example(scores: Scores) -> float:
    """The part of `noise` that comes from single examples: their variance between seeds, over their number."""
    num_examples = scores.values.shape[2]
    centred = scores.values - scores.values.mean(axis=2, keepdims=True)
    return float(centred.var(axis=1, ddof=1).mean() / max(1, num_examples - 1))


def training_variance(scores: Scores) -> float:
    """The variance between trainings of one mean score, beyond what single examples make of it."""
    return max(0.0, noise(scores)[0] - by_example(scores))


def lack_of_fit(scores: Scores) -> float | None:
    """The p-value of the F test that the curve fits; None where there are too few ratios for a curve."""
    if len(scores.ratios) < MIN_RATIOS:
        return None
    means = scores.values.mean(axis=(1, 2))
    fitted = fit(np.array(scores.ratios), means[None])[0][0]
    variance, freedom = noise(scores)
    degrees = len(means) - 3
    strays = scores.values.shape[1] * float(((means - fitted) ** 2).sum()) / degrees
    if variance == 0:
        return float(strays < 1e-12)
    return float(stats.f.sf(strays / variance, degrees, freedom))


def fit(ratios: F, values: F) -> tuple[F, F]:
    """Least squares of the curve to each row of `values` (rows, ratios): fitted values, and (a, b, c) of each row.

    For each c of `SCALES` the curve is linear in a and b; the c with the least squares left is taken.
    """
    best = np.full(len(values), np.inf)
    fitted, parameters = np.empty_like(values), np.empty((len(values), 3))
    for c in SCALES * ratios.max():
        shape = -np.expm1(-ratios / c)
        centred = shape - shape.mean()
        b = (values @ centred) / (centred @ centred)
        a = values.mean(axis=1) - b * shape.mean()
        guess = a[:, None] + b[:, None] * shape
        left = ((values - guess) ** 2).sum(axis=1)
        better = left < best
        best[better], fitted[better] = left[better], guess[better]
        parameters[better] = np.column_stack([a, b, np.full_like(a, c)])[better]
    return fitted, parameters
