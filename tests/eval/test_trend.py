"""The trend test: known answers, its false-alarm rate in simulation, and what it must and must not say."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from eval.trend import LARGE, Rule, Signal, Verdict, judge

NLL, ENTROPY = Signal("fit", "up"), Signal("diversity", "down")
BOTH = {"nll": NLL, "entropy": ENTROPY}
CONTROLS = {"nll": [2.0, 2.02, 1.98, 2.01, 1.99], "entropy": [5.0, 5.02, 4.98, 5.01, 4.99]}
SD = math.sqrt(2.5e-4)  # of either
SIX_ROUNDS = Rule(horizon=6)


def said(
    nll: Sequence[float] = (),
    entropy: Sequence[float] = (),
    controls: dict[str, list[float]] | None = CONTROLS,
    rule: Rule = SIX_ROUNDS,
) -> Verdict:
    """The verdict where round 0 was anything and rounds 1, 2, ... are given."""
    series = {"nll": nll, "entropy": entropy}
    history = {name: {0: -9.0, **dict(enumerate(values, start=1))} for name, values in series.items()}
    return judge(history, BOTH, controls, rule)


def test_the_bound_is_that_of_student_s_t() -> None:
    """Four rounds: slope 0.1, sum of squares 5; half of 5% for the channel, four looks, 4 degrees of freedom."""
    found = said([2.0, 2.1, 2.2, 2.3]).tests[0]
    assert (found.signal, found.rounds) == ("nll", 4)
    assert found.slope == pytest.approx(0.1)
    assert found.bound == pytest.approx(0.1 - stats.t.ppf(1 - 0.025 / 4, 4) * SD / math.sqrt(5))
    assert found.margin == pytest.approx(0.005 * 2.0)
    assert found.alarm


def test_the_bound_of_an_open_horizon_is_robbins_confidence_sequence() -> None:
    """Half of the signal's 2.5% is for the spread, half for the sequence: the e-value is 1/0.0125 at the bound."""
    found = said([2.0, 2.3, 2.6, 2.9], rule=Rule(horizon=None)).tests[0]
    assert found.bound is not None
    assert found.slope is not None
    spread = SD * math.sqrt(4 / stats.chi2.ppf(0.0125, 4))
    z = 5 * (found.slope - found.bound) / spread
    assert math.exp(z * z / (2 * 6)) / math.sqrt(6) == pytest.approx(1 / 0.0125)


def test_a_jump_into_round_1_is_no_trend() -> None:
    assert said([9.0, 9.0, 9.0, 9.0], [1.0, 1.0, 1.0, 1.0]).verdict == "ok"


def test_two_rounds_are_no_trend() -> None:
    found = said([2.0, 9.0])
    assert found.verdict == "ok"
    assert found.tests[0].reason == "2 rounds after round 0, 3 make a trend"
    assert said([2.0, 9.0, 16.0]).verdict == "stop"


def test_one_channel_warns_both_stop_and_so_does_a_large_slope() -> None:
    small = 0.04  # above a margin and below LARGE of them, surely
    nll, entropy = [2 + small * n for n in range(6)], [5 - 2 * small * n for n in range(6)]
    flat = [5.0] * 6
    assert said(nll, flat).verdict == "warn"
    assert said(nll, entropy).verdict == "stop"
    large = said([2 + 0.2 * n for n in range(6)], flat)
    assert large.verdict == "stop"
    assert large.tests[0].bound > LARGE * large.tests[0].margin  # type: ignore[operator]
    assert large.reason.startswith("nll (fit) rises by 0.2 a round over 5 rounds")


def test_better_is_never_an_alarm() -> None:
    assert said([9 - n for n in range(6)], [1.0 + n for n in range(6)]).verdict == "ok"


def test_a_slope_within_the_margin_is_no_alarm_however_sure() -> None:
    sharp = {"nll": [2.0, 2.0001, 1.9999], "entropy": [5.0, 5.0001, 4.9999]}
    assert said([2 + 0.009 * n for n in range(6)], controls=sharp).verdict == "ok"
    assert said([2 + 0.011 * n for n in range(6)], controls=sharp).verdict == "warn"


def test_an_old_trend_leaves_the_window() -> None:
    rounds = [2.0, 2.5, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0]
    assert said(rounds, rule=Rule(horizon=8, window=5)).verdict == "ok"
    assert said(rounds, rule=Rule(horizon=8, window=8)).verdict == "stop"


def test_without_controls_only_a_gross_trend_alarms() -> None:
    quiet = said([2.0, 2.08, 2.16], controls=None)
    assert (quiet.verdict, quiet.calibrated) == ("uncalibrated", False)
    assert "no error rate is stated" in quiet.predicate
    gross = said([2.0, 2.6, 3.2], controls=None)
    assert (gross.verdict, gross.calibrated) == ("stop" if gross.tests[0].large else "warn", False)
    assert "uncalibrated" in gross.reason
    noisy = said([2.0, 3.5, 2.3, 3.9], controls=None)
    assert noisy.verdict == "uncalibrated", "what is seen around the line counts as spread"


def test_signals_without_control_values_are_not_tested_and_take_no_share() -> None:
    alone = said([2.0, 2.1, 2.2], [5.0, 3.0, 1.0], controls={"nll": CONTROLS["nll"], "entropy": [5.0, 5.0]})
    assert [one.reason for one in alone.tests] == [None, "fewer than 3 control values"]
    assert not alone.tests[1].alarm
    nothing = said([2.0, 3.0, 4.0], controls={"other": [1.0, 2.0, 3.0]})
    assert (nothing.verdict, nothing.calibrated) == ("uncalibrated", False)


def test_a_round_past_the_horizon_has_no_error_rate() -> None:
    beyond = said([2.0] * 7)
    assert (beyond.verdict, beyond.calibrated) == ("uncalibrated", False)
    assert "past the horizon of 6" in beyond.reason
    assert said([2.0] * 7, rule=Rule(horizon=None)).verdict == "ok"


def test_a_share_that_no_control_moved_has_the_spread_of_one_text() -> None:
    signal = {"refusals": Signal("diversity", "up", unit=1.0, resolution=1 / 64)}
    flat = {"refusals": [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]}

    def verdict(*values: float) -> str:
        return judge({"refusals": dict(enumerate(values, start=1))}, signal, flat, Rule(horizon=3)).verdict

    assert verdict(0.0, 1 / 64, 2 / 64) == "ok"
    assert verdict(0.0, 0.3, 0.6) == "stop"


@given(st.lists(st.floats(-3, 3), min_size=3, max_size=6), st.floats(-5, 5), st.floats(0.1, 10))
def test_level_and_scale_do_not_matter(values: list[float], shift: float, scale: float) -> None:
    """With margins in units of their own, the test only looks at slopes against the spread."""
    signal = {"nll": NLL._replace(unit=1.0)}
    scaled = {"nll": NLL._replace(unit=scale)}
    before = judge({"nll": dict(enumerate(values, 1))}, signal, {"nll": CONTROLS["nll"]}, Rule(horizon=6)).tests[0]
    moved = {"nll": {round: shift + scale * value for round, value in enumerate(values, 1)}}
    controls = {"nll": [scale * value for value in CONTROLS["nll"]]}
    after = judge(moved, scaled, controls, Rule(horizon=6)).tests[0]
    assert after.bound == pytest.approx(scale * before.bound, rel=1e-6, abs=1e-6 * scale)  # type: ignore[operator]


@pytest.mark.parametrize("horizon", [8, None])
@pytest.mark.parametrize("slope", [0.0, 0.005])
def test_false_alarms_are_within_the_stated_rate(horizon: int | None, slope: float) -> None:
    """400 chains of 8 rounds, 6 correlated signals, 4 controls each: with no slope, and with one at the margin."""
    generator = np.random.default_rng(1)
    signals = {f"s{n}": Signal("fit" if n < 2 else "diversity", "up", unit=1.0) for n in range(6)}
    rule = Rule(alpha=0.1, horizon=horizon, margin=0.005)
    alarms = 0
    for _ in range(400):
        common = generator.normal(size=(12, 1))
        values = 0.02 * (0.6 * common + 0.8 * generator.normal(size=(12, 6)))
        values[4:] += 7 + slope * np.arange(8)[:, None]
        controls = {name: values[:4, n].tolist() for n, name in enumerate(signals)}
        history = {name: dict(enumerate(values[4:, n].tolist(), start=1)) for n, name in enumerate(signals)}
        alarms += any(
            judge({name: _until(one, newest) for name, one in history.items()}, signals, controls, rule).verdict != "ok"
            for newest in range(3, 9)
        )
    assert stats.binomtest(alarms, 400, 0.1, alternative="greater").pvalue > 0.01, alarms
    if slope and horizon:
        assert alarms > 0, "a test that never alarms at the margin has no power"


def _until(values: dict[int, float], newest: int) -> dict[int, float]:
    return {round: value for round, value in values.items() if round <= newest}


def test_ten_spreads_a_round_are_caught_by_round_4() -> None:
    generator = np.random.default_rng(2)
    caught = 0
    for _ in range(100):
        controls = {"nll": (2 + 0.02 * generator.normal(size=10)).tolist()}
        rounds = 2 + 0.2 * np.arange(4) + 0.02 * generator.normal(size=4)
        caught += judge({"nll": dict(enumerate(rounds.tolist(), 1))}, BOTH, controls, Rule(horizon=8)).verdict == "stop"
    assert caught >= 90
