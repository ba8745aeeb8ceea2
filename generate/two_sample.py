"""Permutation tests of two samples whose statistic is the effect size, and Holm's correction over a family of them.

A labelling says of each row whether it counts as real. A statistic takes a matrix of them, `(rows, labellings)` with 1
for real and 0 for synthetic, and gives one effect, synthetic minus real, per labelling; it is built around the pooled
rows, real ones first. The first labelling is the observed one, the others are random exchanges of whole rows: rows and
not words, because the words of a text depend on one another (Good 2005, Permutation, Parametric and Bootstrap Tests of
Hypotheses, chapter 3).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Labellings = NDArray[Any]
Statistic = Callable[[Labellings], Vector]
Tail = Literal["both", "upper", "lower"]

BATCH = 128
"""Labellings at a time: bounds the memory to some 100 MB for 100,000 distinct bigrams."""


class Outcome(NamedTuple):
    """`expected` is the mean effect over the exchanges: what these rows give where the sides do not differ."""

    effect: float
    expected: float
    p_value: float


def labellings(n_real: int, n_synthetic: int, permutations: int, seed: int) -> Labellings:
    """The observed labelling and `permutations` random ones, bool `(rows, 1 + permutations)`."""
    observed = np.arange(n_real + n_synthetic) < n_real
    exchanged = np.random.default_rng(seed).permuted(np.tile(observed, (permutations, 1)), axis=1)
    return np.vstack([observed, exchanged]).T


def permutation_test(statistic: Statistic, given: Labellings, tail: Tail) -> Outcome:
    """Monte-Carlo permutation test; the observed labelling counts as one, so p is never 0 (Phipson and Smyth 2010,
    arXiv:1603.05766). 'both' counts effects as far from their mean as the observed one, on either side."""
    starts = range(0, given.shape[1], BATCH)
    effects = np.concatenate([statistic(given[:, start : start + BATCH].astype(float)) for start in starts])
    expected = float(effects.mean())
    signed = {"both": np.abs(effects - expected), "upper": effects, "lower": -effects}[tail]
    # Equal effects may differ in the last bits with the order of addition.
    slack = 1e-9 * (abs(signed[0]) + abs(expected))
    return Outcome(float(effects[0]), float(effects[1:].mean()), float((signed >= signed[0] - slack).mean()))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values (Holm 1979, Scand. J. Statist. 6:65), in the order given.

    Rejecting those at or below a rate keeps the chance of any false rejection at or below it, under any dependence.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda one: p_values[one])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def cohens_d(values: Vector) -> Statistic:
    """The difference of means in pooled standard deviations (Cohen 1988, Statistical Power Analysis, 2.2).

    Where no value varies within its side, d is infinite; it is held at a large finite number.
    """
    centred = values - values.mean()
    total = float(centred @ centred)

    def statistic(real: Labellings) -> Vector:
        n, n_real = len(real), real.sum(axis=0)
        difference = _difference(centred, real)
        between = difference**2 * n_real * (n - n_real) / n
        result: Vector = difference / np.sqrt(np.maximum(total - between, 1e-12 * total) / (n - 2))
        return result

    return statistic


def cliffs_delta(values: Vector) -> Statistic:
    """P(synthetic > real) - P(synthetic < real) (Cliff 1993, Psychological Bulletin 114:494), in [-1, 1].

    Two over n times the difference of mean ranks: the test is that of Mann and Whitney, exact under ties.
    """
    from scipy import stats

    ranks = stats.rankdata(values)
    return lambda real: _difference(ranks, real) * 2 / len(real)


def _difference(values: Vector, real: Labellings) -> Vector:
    """Mean of the synthetic rows minus mean of the real ones."""
    n_real, sum_real = real.sum(axis=0), values @ real
    result: Vector = (values.sum() - sum_real) / (len(real) - n_real) - sum_real / n_real
    return result


def correlation_difference(real_pairs: Vector, synthetic_pairs: Vector) -> Statistic:
    """The difference of Pearson's r, from pairs `(rows, 2)` of which neither column is constant.

    Each side is standardised before rows are exchanged, so that different means or variances are no correlation, and r
    is computed anew after it. Measured on normal, log-normal and integer pairs, 400 times each, 20 to 100 rows a side:
    1.8% to 8.0% rejected at 5%. (Exchanging the influence values of r instead rejected up to 21%.)
    """
    x, y = np.concatenate([(side - side.mean(0)) / side.std(0) for side in (real_pairs, synthetic_pairs)]).T
    moments = np.stack([x, y, x * x, y * y, x * y])

    def pearson(sums: Vector, count: Vector) -> Vector:
        mean_x, mean_y, mean_xx, mean_yy, mean_xy = sums / count
        spread = np.sqrt(np.maximum((mean_xx - mean_x**2) * (mean_yy - mean_y**2), 1e-24))
        result: Vector = (mean_xy - mean_x * mean_y) / spread
        return result

    def statistic(real: Labellings) -> Vector:
        n_real, sums = real.sum(axis=0), moments @ real
        return pearson(moments.sum(axis=1)[:, None] - sums, len(real) - n_real) - pearson(sums, n_real)

    return statistic


class Counts(NamedTuple):
    """How often each type occurs in each row: a sparse matrix `(types, rows)`."""

    matrix: Any

    @classmethod
    def of(cls, documents: Sequence[Sequence[Hashable]]) -> Counts:
        """Counts of the items of each document; types are numbered in the order of their first occurrence."""
        from scipy import sparse

        numbers: dict[Hashable, int] = {}
        types = [numbers.setdefault(item, len(numbers)) for document in documents for item in document]
        rows = np.repeat(np.arange(len(documents)), [len(document) for document in documents])
        shape = (len(numbers), len(documents))
        return cls(sparse.coo_array((np.ones(len(types)), (types, rows)), shape=shape).tocsr())

    def sides(self, real: Labellings) -> tuple[NDArray[Any], NDArray[Any]]:
        """Counts `(types, labellings)` of the real and of the synthetic rows."""
        real_counts = self.matrix @ real
        return real_counts, self.matrix.sum(axis=1)[:, None] - real_counts


def cramers_v(counts: Counts) -> Statistic:
    """The root of chi-squared over n (Cramér 1946, Mathematical Methods of Statistics, 21.9), for one type a row."""
    totals = counts.matrix.sum(axis=1)[:, None]

    def statistic(real: Labellings) -> Vector:
        n, n_real = len(real), real.sum(axis=0)
        expected = totals * n_real / n
        squared = (counts.matrix @ real - expected) ** 2
        # The deviations of the two sides are equal but for the sign.
        chi_squared = (squared / expected + squared / (totals - expected)).sum(axis=0)
        result: Vector = np.sqrt(chi_squared / n)
        return result

    return statistic


def jensen_shannon(counts: Counts) -> Statistic:
    """The divergence of the sides' type distributions in bits, in [0, 1] (Lin 1991, IEEE Trans. Inf. Theory 37:145)."""
    from scipy import special

    def entropy(shares: NDArray[Any]) -> Vector:
        result: Vector = special.entr(shares).sum(axis=0) / np.log(2)
        return result

    def statistic(real: Labellings) -> Vector:
        p, q = (side / side.sum(axis=0) for side in counts.sides(real))
        return np.maximum(entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2, 0)

    return statistic


def type_token_ratios(counts: Counts, real: Labellings) -> tuple[Vector, Vector]:
    """Types a word of either side, both at as many words as the smaller side has.

    The exact expectation over subsamples of the larger side's words (rarefaction: Hurlbert 1971, Ecology 52:577):
    sum_i 1 - C(N - n_i, m) / C(N, m).
    """
    from scipy import special

    sides = [side.astype(np.int64) for side in counts.sides(real)]
    totals = [side.sum(axis=0) for side in sides]
    budget = np.minimum(*totals)
    log_factorial = special.gammaln(np.arange(max(total.max() for total in totals) + 1) + 1)

    def ratio(side: NDArray[Any], total: NDArray[Any]) -> Vector:
        left = total - side - budget
        log_missed = log_factorial[total - side] - log_factorial[np.maximum(left, 0)]
        log_missed += log_factorial[total - budget] - log_factorial[total]
        missed = np.where(left < 0, 0.0, np.exp(log_missed))
        result: Vector = (1 - missed).sum(axis=0) / budget
        return result

    return ratio(sides[0], totals[0]), ratio(sides[1], totals[1])


def type_token_difference(counts: Counts) -> Statistic:
    """The difference of `type_token_ratios`."""

    def statistic(real: Labellings) -> Vector:
        of_real, of_synthetic = type_token_ratios(counts, real)
        return of_synthetic - of_real

    return statistic


def rare_coverage(counts: Counts, rare: int) -> Statistic:
    """The share of the types seen 1 to `rare` times in real that synthetic has too; 1 where there are none."""

    def statistic(real: Labellings) -> Vector:
        of_real, of_synthetic = counts.sides(real)
        is_rare = (of_real > 0) & (of_real <= rare)
        missed = (is_rare & (of_synthetic == 0)).sum(axis=0)
        result: Vector = 1 - missed / np.maximum(is_rare.sum(axis=0), 1)
        return result

    return statistic


def unknown_share(counts: Counts) -> Statistic:
    """The share of synthetic words whose type does not occur in real (out of vocabulary)."""

    def statistic(real: Labellings) -> Vector:
        of_real, of_synthetic = counts.sides(real)
        result: Vector = (of_synthetic * (of_real == 0)).sum(axis=0) / of_synthetic.sum(axis=0)
        return result

    return statistic


def energy_coefficient(points: NDArray[Any]) -> Statistic:
    """Energy distance over twice the mean distance between the sides, in [0, 1]; 0 for equal distributions.

    2 E|X - Y| - E|X - X'| - E|Y - Y'| (Székely and Rizzo 2013, J. Stat. Plan. Inference 143:1249), as a V-statistic.
    `points` are `(rows, width)`, not all equal. Memory is quadratic in rows.
    """
    from scipy.spatial import distance

    distances = distance.cdist(points, points)

    def statistic(real: Labellings) -> Vector:
        n_real = real.sum(axis=0)
        n_synthetic = len(real) - n_real
        towards_real = distances @ real
        within_real = (real * towards_real).sum(axis=0)
        across = towards_real.sum(axis=0) - within_real
        within_synthetic = distances.sum() - within_real - 2 * across
        between = 2 * across / (n_real * n_synthetic)
        energy = between - within_real / n_real**2 - within_synthetic / n_synthetic**2
        result: Vector = energy / between
        return result

    return statistic
