"""Statistics against published values, and their coverage in simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from eval import stats
from synthloop.errors import UserError


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_known_answers(successes: int, n: int, low: float, high: float) -> None:
    assert stats.wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.6, 0.99))
def test_wilson_is_scipys(case: tuple[int, int], confidence: float) -> None:
    successes, n = case
    theirs = scipy_stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    assert stats.wilson(successes, n, confidence) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@pytest.mark.parametrize(
    ("both", "wins", "losses", "n", "low", "high"),
    [
        # Altman et al. 2000, Statistics with Confidence, table 6.2: 0.122 (0.011 to 0.226).
        (14, 5, 0, 41, 0.011, 0.226),
        # Newcombe 1998, Statistics in Medicine 17:2635, method 10.
        (36, 12, 2, 50, 0.0569, 0.3404),
        # Fagerland et al. 2014, Statistics in Medicine 33:2850: Bentur et al., before and after transplantation.
        (1, 1, 7, 21, -0.507, -0.026),
    ],
)
def test_newcombe_paired_known_answers(both: int, wins: int, losses: int, n: int, low: float, high: float) -> None:
    assert stats.newcombe_paired(both, wins, losses, n) == pytest.approx((low, high), abs=5e-4)


@pytest.mark.parametrize("level", [0.05, 0.3, 0.6])
def test_newcombe_paired_covers(level: float) -> None:
    """95% intervals of a true gain of 5 points hold it in 93 to 98% of 2,000 studies of 120 correlated pairs."""
    rng = np.random.default_rng(0)
    shares = (level, 0.08, 0.03, 1 - level - 0.11)
    tables = rng.multinomial(120, shares, size=2000)
    held = 0
    for both, wins, losses, _ in tables:
        low, high = stats.newcombe_paired(int(both), int(wins), int(losses), 120)
        held += low <= 0.05 <= high
    assert 0.93 <= held / 2000 <= 0.98


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_newcombe_paired_holds_the_gain_and_mirrors(both: int, wins: int, losses: int, neither: int) -> None:
    n = both + wins + losses + neither
    if n == 0:
        return
    low, high = stats.newcombe_paired(both, wins, losses, n)
    assert -1 <= low <= (wins - losses) / n <= high <= 1
    assert stats.newcombe_paired(both, losses, wins, n) == pytest.approx((-high, -low))


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_scipys_binomial_test(wins: int, losses: int) -> None:
    better, two_sided = stats.mcnemar(wins, losses)
    if wins + losses == 0:
        assert (better, two_sided) == (1.0, 1.0)
        return
    test = scipy_stats.binomtest
    assert better == pytest.approx(test(wins, wins + losses, alternative="greater").pvalue)
    assert two_sided == pytest.approx(test(wins, wins + losses).pvalue)


def test_paired_gain_of_binary_scores() -> None:
    old, new = [0, 0, 0, 1, 1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 0, 1, 1, 1, 0, 0]
    gain = stats.paired_gain(old, new)
    assert (gain.gain, gain.wins, gain.losses, gain.n) == (0.5, 6, 1, 10)
    assert gain.p_value == pytest.approx(8 / 128)
    assert gain.p_value_two_sided == pytest.approx(16 / 128)
    assert gain[1:3] == stats.newcombe_paired(1, 6, 1, 10)


def test_paired_gain_of_graded_scores() -> None:
    rng = np.random.default_rng(1)
    old = rng.random(200)
    same = stats.paired_gain(list(old), list(old + rng.normal(0, 0.2, 200)))
    better = stats.paired_gain(list(old), list(old + 0.05 + rng.normal(0, 0.2, 200)))
    assert same.ci_low < 0 < same.ci_high
    assert same.p_value > 0.05
    assert better.ci_low > 0
    assert better.p_value < 0.01
    assert better.p_value_two_sided < 0.02


def test_sign_flip_is_the_t_test_for_normal_differences() -> None:
    differences = list(np.random.default_rng(3).normal(0.1, 1, 400))
    better, two_sided = stats.sign_flip(differences)
    assert better == pytest.approx(scipy_stats.ttest_1samp(differences, 0, alternative="greater").pvalue, abs=0.01)
    assert two_sided == pytest.approx(scipy_stats.ttest_1samp(differences, 0).pvalue, abs=0.02)
    assert stats.sign_flip([0.0, 0.0]) == (1.0, 1.0)


@pytest.mark.parametrize("method", ["BCa", "percentile"])
def test_bootstrap_is_near_the_normal_interval(method: str) -> None:
    values = list(np.random.default_rng(2).normal(0.4, 0.1, 500))
    low, high = stats.bootstrap(values, method=method)  # type: ignore[arg-type]
    half = 1.96 * float(np.std(values, ddof=1)) / 500**0.5
    assert (low, high) == pytest.approx((np.mean(values) - half, np.mean(values) + half), abs=half / 10)


@settings(deadline=None, max_examples=20)
@example([0.0, 6.7821913965793625e-183])
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_intervals_hold_the_mean_and_ignore_order(values: list[float]) -> None:
    interval = stats.mean_interval(values, 0.95)
    assert interval.low - 1e-9 <= np.mean(values) <= interval.high + 1e-9
    assert stats.mean_interval(values[::-1], 0.95) == interval


def test_nothing_to_compare_is_an_error() -> None:
    with pytest.raises(UserError, match="same examples"):
        stats.paired_gain([1.0], [1.0, 0.0])
