"""The curve against known truths: parameters, false moves at the stated rate, fits that are refused."""

from __future__ import annotations

import numpy as np
import pytest

from eval import curve
from eval.curve import Choice, Scores, by_example, choose, estimate, fit, noise, training_variance
from synthloop.errors import UserError

RATIOS = [0.0, 0.25, 0.5, 1.0, 2.0, 4.0]


def truth(a: float, b: float, c: float) -> np.ndarray:
    return a + b * (1 - np.exp(-np.array(RATIOS) / c))


def scores(means: np.ndarray, seed: int, examples: int = 250, seeds: int = 2, noise: float = 0.01) -> Scores:
    """Right and wrong answers of trainings whose chance on each example has these means and this training noise."""
    generator = np.random.default_rng(seed)
    skill = generator.normal(0, 0.3, examples)  # some examples are hard for all
    chances = means[:, None, None] + generator.normal(0, noise, (len(means), seeds, 1)) + skill
    return Scores(RATIOS[: len(means)], (generator.random(chances.shape) < chances).astype(float))


def test_the_fit_finds_the_parameters_it_was_made_from() -> None:
    for c in (0.5, 2.0, 8.0):
        fitted, parameters = fit(np.array(RATIOS), np.array([truth(0.4, 0.3, c), truth(0.6, -0.2, c)]))
        assert parameters[:, 2] == pytest.approx([c, c], rel=0.1)
        assert fitted == pytest.approx(np.array([truth(0.4, 0.3, c), truth(0.6, -0.2, c)]), abs=2e-3)


def test_where_more_helps_the_most_is_taken_and_the_reason_says_so() -> None:
    choice = choose(scores(truth(0.4, 0.4, 2.0), seed=1), 1.0, 0.05, seed=0)
    assert choice.ratio == 4.0
    assert "4 synthetic per real instead of 1" in choice.reason
    assert all(one.ci_low <= one.gain <= one.ci_high for one in choice.effects)
    assert choice.curve.b is not None
    assert choice.curve.b > 0.2


def test_where_synthetic_data_harms_none_is_taken() -> None:
    choice = choose(scores(truth(0.7, -0.4, 1.0), seed=2), 1.0, 0.05, seed=0)
    assert choice.ratio == 0.0


def test_without_evidence_the_ratio_in_force_stays() -> None:
    choice = choose(scores(truth(0.5, 0.0, 1.0), seed=3), 1.0, 0.05, seed=0)
    assert choice.ratio == 1.0
    assert "1 synthetic per real stays: no ratio is separated" in choice.reason


@pytest.fixture
def fewer_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curve, "DRAWS", 1000)


@pytest.mark.usefixtures("fewer_draws")
def test_false_moves_are_at_most_as_frequent_as_alpha() -> None:
    """200 searches in which the ratio does not matter: moves are binomial with 5% at most (upper 99.9% point: 22)."""
    moved = [choose(scores(truth(0.5, 0.0, 1.0), seed, 120), 1.0, 0.05, seed).ratio != 1.0 for seed in range(200)]
    assert sum(moved) <= 22


@pytest.mark.usefixtures("fewer_draws")
def test_intervals_hold_what_they_say() -> None:
    """Of 200 true gains of ratio 4 over 1, the intervals of level 98% (5% over five ratios, two-sided) miss few."""
    means = truth(0.4, 0.2, 2.0)
    missed = 0
    for seed in range(200):
        choice = choose(scores(means, seed, 120), 1.0, 0.05, seed)
        (effect,) = (one for one in choice.effects if one.ratio == 4.0)
        missed += not effect.ci_low <= means[5] - means[3] <= effect.ci_high
    assert missed <= 12  # the upper 99.9% point of a binomial with 2%


def test_a_curve_that_does_not_fit_is_not_used() -> None:
    step = np.array([0.2, 0.8, 0.2, 0.8, 0.2, 0.8])
    _, drawn = estimate(scores(step, seed=4, noise=0.001), seed=0)
    assert drawn.p_lack_of_fit is not None
    assert drawn.p_lack_of_fit < 0.05
    assert not drawn.fits
    assert drawn.values == pytest.approx(step, abs=0.15)
    assert drawn.at([0.125]) == pytest.approx([(drawn.values[0] + drawn.values[1]) / 2])


def test_three_ratios_have_means_and_no_curve() -> None:
    found = scores(truth(0.3, 0.6, 0.3)[:3], seed=5)
    choice = choose(found, 0.0, 0.05, seed=0)
    assert choice.curve.p_lack_of_fit is None
    assert choice.curve.values == pytest.approx(found.values.mean(axis=(1, 2)).tolist())
    assert choice.ratio > 0


def test_a_single_ratio_stays() -> None:
    choice: Choice = choose(Scores([1.0], np.ones((1, 2, 5))), 1.0, 0.05, seed=0)
    assert (choice.ratio, choice.effects) == (1.0, [])
    assert "no other ratio can be reached" in choice.reason


def test_scores_that_are_all_equal_are_no_evidence() -> None:
    choice = choose(Scores(RATIOS, np.ones((6, 2, 9))), 0.5, 0.05, seed=0)
    assert choice.ratio == 0.5
    assert all(one.gain == 0 for one in choice.effects)


def test_noise_is_what_ratio_and_seed_leave_over() -> None:
    table = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])  # effects of ratio and seed add up: nothing is left
    assert noise(Scores(RATIOS[:3], table[..., None]))[0] == pytest.approx(0)
    strayed = table + np.array([[0.03, 0], [0, 0], [0, 0.03]])
    value, freedom = noise(Scores(RATIOS[:3], strayed[..., None]))
    assert freedom == 2
    assert value == pytest.approx(np.var([0.03, 0, -0.03], ddof=1) / 2)


def test_noise_of_single_examples_is_not_counted_as_training_noise() -> None:
    """Coin flips alone: between two trainings of 400 examples the means differ by chance, and by nothing else."""
    generator = np.random.default_rng(0)
    found = [Scores(RATIOS, (generator.random((6, 2, 400)) < 0.5).astype(float)) for _ in range(40)]
    assert np.mean([noise(one)[0] for one in found]) == pytest.approx(0.25 / 400, rel=0.15)
    assert np.mean([by_example(one) for one in found]) == pytest.approx(0.25 / 400, rel=0.02)
    shifted = [Scores(RATIOS, one.values + generator.normal(0, 0.2, (6, 2, 1))) for one in found]
    assert np.mean([training_variance(one) for one in shifted]) == pytest.approx(0.04, rel=0.3)


def test_a_missing_trial_is_an_error() -> None:
    with pytest.raises(UserError, match="same two seeds"):
        Scores.of([(0.0, 0, [1.0]), (0.0, 1, [1.0]), (1.0, 0, [1.0])])
    with pytest.raises(UserError, match="same two seeds"):
        Scores.of([(0.0, 0, [1.0]), (1.0, 0, [1.0])])
    assert curve.Scores.of([(1.0, 0, [1.0]), (0.0, 0, [0.0]), (1.0, 1, [1.0]), (0.0, 1, [0.0])]).ratios == [0.0, 1.0]
