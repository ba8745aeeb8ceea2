"""Does a signal get worse round by round? Tested with a stated chance of one false alarm in a whole run.

    judge({"nll": {1: 2.0, 2: 2.2, 3: 2.5}}, {"nll": Signal("fit", "up")}, {"nll": [2.0, 2.01, 1.99]}, Rule(horizon=3))

A student moves in round 1, when it first meets synthetic data: collapse is the trend from there on (Shumailov et al.
2024, Nature 631:755; Alemohammad et al. 2023, arXiv:2307.01850). So round 0 is never looked at, and what is tested is
the least-squares slope of rounds 1 to r, three of them at least. How far a signal moves from one training to the next
is measured apart, by retrains on real data alone with other seeds and subsamples (the controls).

A signal alarms when the lower confidence bound of its slope, in its bad direction, is above the margin. The null
hypothesis, all signals at once: from round 1 on none worsens by more than its margin a round, and around that its
rounds are independent and normal with the spread of the controls. The chance of any alarm in a run is at most `alpha`:
each channel has half of it, shared equally by its signals, and then

| horizon | looks at                  | level of one look        | lower bound of the slope                  |
|---------|---------------------------|--------------------------|-------------------------------------------|
| known   | newest `window` rounds    | a signal's share / looks | Student's t, with the controls' degrees   |
| open    | all rounds, without end   | a signal's share         | a confidence sequence, at all rounds      |

Bonferroni's inequality holds whatever the dependence: between signals, between overlapping windows, and through the
spread that all looks share. The confidence sequence is Robbins' normal mixture (Howard et al. 2021, arXiv:1810.08240,
eq. 14). A slope times its sum of squares is a sum of independent recursive residuals (Brown, Durbin and Evans 1975,
JRSS B 37:149), so the mixture over worsening slopes is an e-process. It is at least as large as the two-sided one used
here wherever that can alarm, and Ville's inequality bounds it at all rounds together (Ramdas et al. 2023,
arXiv:2210.01948). Half of the share pays for the spread, which is replaced by its upper confidence bound.

Without controls the spread is assumed (`Signal.assumed`) and the margin is wider: a gross trend still alarms, but no
error rate is stated. Limits: rounds that inherit the noise of the round before (a student trained on) alarm more often
than stated; `scripts/study_collapse.py` measures how often.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

Channel = Literal["fit", "diversity"]
Worse = Literal["up", "down"]
Values = Mapping[int, float | None]
"""Round -> value; None where it was not measured."""

MIN_ROUNDS = 3
"""Two rounds are a difference; a trend needs one more."""

MIN_CONTROLS = 3
"""Fewer say next to nothing of a spread."""

LARGE = 5.0
"""A slope that is surely this many margins is large: one channel is enough to stop (chosen, not measured)."""

_TYPICAL_SLOPE = 1.0
"""Slope, in spreads a round, at which the confidence sequence is tightest: the scale of its mixture (chosen)."""


class Signal(NamedTuple):
    """What is known of a signal before it is measured.

    `unit` is what margins are relative to: the level of the signal itself where it is None. `resolution` is the
    smallest spread that is believed, for shares of few texts. `assumed` is the spread, in units, without controls.
    """

    channel: Channel
    worse: Worse
    unit: float | None = None
    resolution: float = 0.0
    assumed: float = 0.02


class Rule(NamedTuple):
    """How to judge: `synthloop.config.Collapse` in numbers. `horizon` None is an open end.

    The margins, shares of a signal's level a round, were chosen on chains that `scripts/study_collapse.py` does not
    report (`--first-seed 100`): half a percent is above the slow drift of the loss under accumulated data and far below
    that under 10% real data, 3% a round at first. Without controls four times as much is asked.
    """

    alpha: float = 0.05
    window: int = 5
    horizon: int | None = None
    margin: float = 0.005
    uncalibrated_margin: float = 0.02


class SignalTest(NamedTuple):
    """The trend of one signal. `bound` is the lower bound of `worsening`, the slope in the bad direction."""

    signal: str
    channel: Channel
    direction: Worse
    rounds: int
    slope: float | None
    bound: float | None
    margin: float | None
    alarm: bool
    large: bool
    reason: str | None = None


class Verdict(NamedTuple):
    """'ok' is said only where the error rate is known; without it a quiet round is 'uncalibrated'."""

    verdict: Literal["ok", "warn", "stop", "uncalibrated"]
    reason: str
    calibrated: bool
    alpha: float
    predicate: str
    tests: tuple[SignalTest, ...]

    def as_json(self) -> dict[str, Any]:
        return {**self._asdict(), "tests": [one._asdict() for one in self.tests]}


class _Spread(NamedTuple):
    """How far a signal moves from training to training; `df` None where that is assumed. `unit` as in `Signal`."""

    value: float
    df: int | None
    unit: float


def judge(
    history: Mapping[str, Values],
    signals: Mapping[str, Signal],
    controls: Mapping[str, Sequence[float]] | None,
    rule: Rule,
) -> Verdict:
    """The verdict on the newest round of `history` (signal -> round -> value; round 0 and None are not looked at).

    With `controls` (signal -> values of real-only retrains) only signals with `MIN_CONTROLS` values or more are tested,
    so that the error rate holds. A round past the horizon is tested like the last one, but no error rate is stated.
    """
    tested = [name for name in signals if controls is None or len(controls.get(name, ())) >= MIN_CONTROLS]
    newest = max((round for values in history.values() for round in values), default=0)
    tests = []
    for name, signal in signals.items():
        if name not in tested:
            tests.append(_untested(name, signal, f"fewer than {MIN_CONTROLS} control values"))
            continue
        sharing = sum(signals[other].channel == signal.channel for other in tested)
        share = rule.alpha / 2 / sharing
        values = {round: value for round, value in history.get(name, {}).items() if round > 0 and value is not None}
        tests.append(_test(name, signal, values, controls[name] if controls else None, rule, share))
    doubt = None
    if controls is None:
        doubt = "no control retrains say how far these signals move from run to run"
    elif not tested:
        doubt = f"no signal has {MIN_CONTROLS} control values"
    elif rule.horizon is not None and newest > rule.horizon:
        doubt = f"round {newest} is past the horizon of {rule.horizon} rounds"
    return _verdict(tests, doubt, rule, rule.margin if controls else rule.uncalibrated_margin)


def _untested(name: str, signal: Signal, reason: str) -> SignalTest:
    return SignalTest(name, signal.channel, signal.worse, 0, None, None, None, False, False, reason)


def _test(
    name: str, signal: Signal, values: dict[int, float], controls: Sequence[float] | None, rule: Rule, share: float
) -> SignalTest:
    used = sorted(values) if rule.horizon is None else sorted(values)[-rule.window :]
    if len(used) < MIN_ROUNDS:
        return _untested(name, signal, f"{len(used)} rounds after round 0, {MIN_ROUNDS} make a trend")
    slope, sum_of_squares, residual = _line(used, [values[round] for round in used])
    spread = _measured(signal, controls) if controls else _assumed(signal, [values[round] for round in used], residual)
    margin = (rule.margin if controls else rule.uncalibrated_margin) * spread.unit
    worsening = slope if signal.worse == "up" else -slope
    bound = worsening - _width(spread, sum_of_squares, share, rule)
    alarm = bound > margin
    large = bound > LARGE * margin
    return SignalTest(name, signal.channel, signal.worse, len(used), slope, bound, margin, alarm, large)


def _line(rounds: Sequence[int], values: Sequence[float]) -> tuple[float, float, float]:
    """(least-squares slope, sum of squares of the rounds around their mean, residual standard deviation)."""
    x, y = np.asarray(rounds, dtype=float), np.asarray(values, dtype=float)
    x, y = x - x.mean(), y - y.mean()
    sum_of_squares = float(x @ x)
    slope = float(x @ y) / sum_of_squares
    return slope, sum_of_squares, math.sqrt(float(((y - slope * x) ** 2).sum()) / (len(x) - 2))


def _measured(signal: Signal, controls: Sequence[float]) -> _Spread:
    values = np.asarray(controls, dtype=float)
    unit = abs(float(values.mean())) if signal.unit is None else signal.unit
    return _Spread(max(float(values.std(ddof=1)), signal.resolution), len(values) - 1, unit)


def _assumed(signal: Signal, values: Sequence[float], residual: float) -> _Spread:
    """The spread assumed of the signal, or what is seen around its line where that is more."""
    unit = abs(values[0]) if signal.unit is None else signal.unit
    return _Spread(max(signal.assumed * unit, signal.resolution, residual), None, unit)


def _width(spread: _Spread, sum_of_squares: float, share: float, rule: Rule) -> float:
    """How far the lower bound lies below the slope. `share` is the signal's part of alpha, for the whole run."""
    from scipy import stats

    if rule.horizon is not None:
        level = share / max(1, rule.horizon - MIN_ROUNDS + 1)
        quantile = stats.norm.isf(level) if spread.df is None else stats.t.isf(level, spread.df)
        return float(quantile) * spread.value / math.sqrt(sum_of_squares)
    level, spread_now = share, spread.value
    if spread.df is not None:
        level = share / 2
        spread_now *= math.sqrt(spread.df / float(stats.chi2.ppf(level, spread.df)))
    precision = sum_of_squares + 1 / _TYPICAL_SLOPE**2
    radius = math.sqrt(precision * (2 * math.log(1 / level) + math.log(precision * _TYPICAL_SLOPE**2)))
    return spread_now * radius / sum_of_squares


def _verdict(tests: Sequence[SignalTest], doubt: str | None, rule: Rule, margin: float) -> Verdict:
    """`doubt` says why no error rate can be stated, None where it can."""
    alarms = sorted((one for one in tests if one.alarm), key=_excess, reverse=True)
    name: Literal["ok", "warn", "stop", "uncalibrated"] = "uncalibrated" if doubt else "ok"
    if alarms:
        both = len({one.channel for one in alarms}) == 2
        name = "stop" if both or any(one.large for one in alarms) else "warn"
    tested = sum(one.slope is not None for one in tests)
    quiet = f"no trend in {tested} signals" if tested else f"a trend can be told from {MIN_ROUNDS} rounds on"
    reason = "; ".join(map(_told, alarms)) or quiet
    return Verdict(
        verdict=name,
        reason=f"{reason} (uncalibrated: {doubt})" if doubt else reason,
        calibrated=doubt is None,
        alpha=rule.alpha,
        predicate=_predicate(rule, margin, doubt),
        tests=tuple(tests),
    )


def _excess(one: SignalTest) -> float:
    """How many margins the bound is worth."""
    assert one.bound is not None, one
    return one.bound / one.margin if one.margin else math.inf


def _told(one: SignalTest) -> str:
    assert one.slope is not None, one
    verb = "rises" if one.slope > 0 else "falls"
    return (
        f"{one.signal} ({one.channel}) {verb} by {abs(one.slope):.3g} a round over {one.rounds} rounds, "
        f"lower bound {one.bound:.3g}, margin {one.margin:.3g}"
    )


def _predicate(rule: Rule, margin: float, doubt: str | None) -> str:
    over = "all rounds" if rule.horizon is None else f"the newest {rule.window} rounds"
    until = "at any length" if rule.horizon is None else f"of {rule.horizon} rounds"
    rate = f"the chance of any alarm in a run {until} without a trend is at most {rule.alpha:g}"
    return (
        f"a signal alarms when the lower bound of its slope, in its bad direction, over {over} after round 0 is above "
        f"{margin:g} of its level a round; warn on one channel, stop on both or above {LARGE:g} margins; "
        + (f"no error rate is stated: {doubt}" if doubt else rate)
    )
