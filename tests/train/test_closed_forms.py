"""What theory says of training on one's own samples, reproduced with the data sets that `train.mix` assembles.

Rows carry no text: their ids name numpy samples, drawn from the model of the round before. A model is fitted to exactly
the rows that `mix_rows` returns, so a row that should not be there, or is missing, moves the result off its closed
form. The rows chosen don't depend on the samples, so many independent chains are fitted to the same choice at once;
each mean over chains is compared at 4 of its own standard errors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from synthloop.mixing import Mix
from synthloop.records import Row
from train.mix import mix_rows

Floats = NDArray[np.float64]


def sample_row(round: int, index: int) -> Row:
    """The row that stands for sample `index` of round `round`; those of round 0 are real."""
    source: Literal["real", "synthetic"] = "synthetic" if round else "real"
    return Row(id=f"{round}/{index}", source=source, messages=(), completion="", round=round, num_tokens=1)


def data_sets(policy: Literal["replace", "accumulate"], num_rounds: int, size: int) -> Iterator[NDArray[np.int64]]:
    """For rounds 1, 2, ...: the (round, index) of each sample the round's model is fitted to, shape (rows, 2)."""
    real = [sample_row(0, index) for index in range(size)]
    synthetic: list[Row] = []
    for round in range(1, num_rounds + 1):
        synthetic += [sample_row(round, index) for index in range(size)]
        mixed = mix_rows(real, synthetic, Mix(policy=policy), seed=0, round=round)
        yield np.array([[int(part) for part in row.id.split("/")] for row in mixed])


def assert_mean(values: Floats, expected: float, what: str) -> None:
    """The mean of independent `values` is within 4 standard errors of `expected`."""
    error = values.std(ddof=1) / math.sqrt(len(values))
    distance = abs(values.mean() - expected)
    assert distance < 4 * error, (
        f"{what}: {values.mean():.5f} is {distance / error:.1f} SE ({error:.5f}) off {expected:.5f}"
    )


NUM_CATEGORIES, NUM_SAMPLES, NUM_CHAINS = 10, 30, 3000


def diversity_by_round(policy: Literal["replace", "accumulate"], num_rounds: int) -> list[Floats]:
    """1 - Σp² of the maximum-likelihood categorical of rounds 0, 1, ..., each of shape (chains,)."""
    generator = np.random.default_rng(0)
    start = np.arange(NUM_SAMPLES) % NUM_CATEGORIES  # every category as often as the others
    drawn = [np.tile(start, (NUM_CHAINS, 1))]
    found = []

    def fit(chosen: NDArray[np.int64]) -> Floats:
        values = np.stack(drawn, axis=1)[:, chosen[:, 0], chosen[:, 1]]  # (chains, rows)
        return (values[:, :, None] == np.arange(NUM_CATEGORIES)).mean(axis=1)

    p = fit(np.array([[0, index] for index in range(NUM_SAMPLES)]))
    found.append(1 - (p**2).sum(axis=1))
    mixes = data_sets(policy, num_rounds, NUM_SAMPLES)
    for _ in range(num_rounds):
        uniform = generator.random((NUM_CHAINS, NUM_SAMPLES, 1))
        drawn.append((uniform > p.cumsum(axis=1)[:, None, :-1]).sum(axis=2))  # by inversion of the cdf
        p = fit(next(mixes))
        found.append(1 - (p**2).sum(axis=1))
    return found


def test_diversity_decays_by_1_minus_1_over_n_a_round_where_data_is_replaced() -> None:
    """E[H_t] = H_0 (1 - 1/n)^t, as n multinomial samples of p have E[Σp'²] = Σp² + (1 - Σp²)/n.

    For a recursively trained language model: Seddik et al. 2024, arXiv:2404.05090 (S_m = 1 - (1 - 1/n)^m (1 - S_0) in
    the fully synthetic case); in genetics it is the heterozygosity of Wright 1931, Genetics 16:97.
    """
    found = diversity_by_round("replace", 12)
    assert found[0] == pytest.approx(0.9)
    for round in range(1, 13):
        assert_mean(found[round], 0.9 * (1 - 1 / NUM_SAMPLES) ** round, f"diversity of round {round}")


def test_diversity_stays_above_a_bound_where_data_accumulates() -> None:
    """E[H_t] = H_0 Π_{i=2}^{t+1} (1 - 1/(n i²)), which stays above H_0 sin(π/√n) / ((π/√n)(1 - 1/n)).

    Ours, by the step of the other test: the n new samples are 1/i of the data in round i - 1, so they add (1 - Σp²)/n
    to E[Σp²] times 1/i². The limit is Euler's product of the sine.
    """
    found = diversity_by_round("accumulate", 12)
    expected = 0.9
    for round in range(1, 13):
        expected *= 1 - 1 / (NUM_SAMPLES * (round + 1) ** 2)
        assert_mean(found[round], expected, f"diversity of round {round}")
    x = math.pi / math.sqrt(NUM_SAMPLES)
    limit = 0.9 * math.sin(x) / (x * (1 - 1 / NUM_SAMPLES))
    assert expected > limit > 0.9 * (1 - 1 / NUM_SAMPLES)


NUM_FEATURES, SAMPLE_SIZE, NOISE, NUM_FITS = 5, 25, 0.5, 4000
ONE_FIT = NOISE**2 * NUM_FEATURES / (SAMPLE_SIZE - NUM_FEATURES - 1)
"""σ²d/(T-d-1), the test error of least squares on T real samples of d isotropic features."""


def errors_by_iteration(policy: Literal["replace", "accumulate"], num_iterations: int) -> list[Floats]:
    """|ŵ_n - w*|² of the models fitted in iterations n = 1, 2, ..., each of shape (chains,); the first is on real data.

    The setting of Gerstgrasser et al. 2024, section 3: features X ~ N(0, I) of shape (T, d), the same in every
    iteration, labels Xŵ_{n-1} + σε with ŵ_0 = w*, ordinary least squares. w* = 0 without loss of generality.
    """
    generator = np.random.default_rng(0)
    features = generator.standard_normal((NUM_FITS, SAMPLE_SIZE, NUM_FEATURES))
    labels: list[Floats] = []
    weights = np.zeros((NUM_FITS, NUM_FEATURES))
    found = []
    only_real = np.array([[0, index] for index in range(SAMPLE_SIZE)])
    for chosen in [only_real, *data_sets(policy, num_iterations - 1, SAMPLE_SIZE)]:
        noise = NOISE * generator.standard_normal((NUM_FITS, SAMPLE_SIZE))
        labels.append(np.einsum("ctd,cd->ct", features, weights) + noise)
        weights = least_squares(features[:, chosen[:, 1]], np.stack(labels, axis=1)[:, chosen[:, 0], chosen[:, 1]])
        found.append((weights**2).sum(axis=1))
    return found


def least_squares(features: Floats, labels: Floats) -> Floats:
    """The weights of each chain, shape (chains, d), from features (chains, rows, d) and labels (chains, rows)."""
    gram = np.einsum("ctd,cte->cde", features, features)
    moments = np.einsum("ctd,ct->cd", features, labels)
    return np.asarray(np.linalg.solve(gram, moments[:, :, None])[:, :, 0])


def ratios(errors: Sequence[Floats]) -> list[float]:
    return [float(one.mean() / ONE_FIT) for one in errors]


def test_the_error_of_regression_grows_linearly_where_data_is_replaced() -> None:
    """σ²d/(T-d-1) x n (Gerstgrasser et al. 2024, arXiv:2404.01413, section 3, after Dohmatob et al. 2024,
    arXiv:2402.07712)."""
    errors = errors_by_iteration("replace", 8)
    for n, values in enumerate(errors, 1):
        assert_mean(values, ONE_FIT * n, f"error of iteration {n}")
    assert ratios(errors)[-1] > math.pi**2 / 6


def test_the_error_of_regression_is_bounded_where_data_accumulates() -> None:
    """At most σ²d/(T-d-1) x π²/6 (Gerstgrasser et al. 2024, arXiv:2404.01413, section 3): it is the sum of 1/i² over
    i = 1..n, as the noise of iteration i is 1/i of the data of the model that first sees it."""
    errors = errors_by_iteration("accumulate", 8)
    for n, values in enumerate(errors, 1):
        assert_mean(values, ONE_FIT * sum(1 / i**2 for i in range(1, n + 1)), f"error of iteration {n}")
    assert max(ratios(errors)) < math.pi**2 / 6
