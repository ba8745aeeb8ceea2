"""What `eval/trend.py` says of the chains of `study_collapse.py`, and how often it is wrong where there is no trend."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eval import trend
from eval.trend import Rule, Verdict
from scripts.recursion import SIGNALS, Signals

NULLS = ("normal", "resampled", "inherited")
INHERITED = 0.5
"""Of a round's deviation, in the chains of that name."""

Curves = dict[str, Any]
Floats = NDArray[np.float64]
Band = tuple[float, float, float]
"""Mean over seeds, lower and upper end of its 95% interval."""


def band(values: Sequence[float]) -> Band:
    """Student's t interval; without width where there is one value."""
    from scipy import stats

    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, mean, mean
    half = float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    return mean, mean - half, mean + half


def means(curves: Curves) -> dict[str, dict[str, list[Band]]]:
    """Arm -> signal -> the band of each round."""
    found: dict[str, dict[str, list[Band]]] = {}
    for arm, chains in curves["chains"].items():
        if arm != "controls":
            rounds = list(zip(*chains.values(), strict=True))
            found[arm] = {name: [band([one[name] for one in round]) for round in rounds] for name in SIGNALS}
    return found


def growth(curves: Curves, arm: str, name: str) -> tuple[Band, Band]:
    """The change from round 1 to the last, and the mean change a round over the second half of the rounds."""
    chains = [[one[name] for one in chain] for chain in curves["chains"][arm].values()]
    middle = curves["rounds"] // 2
    late = [(chain[-1] - chain[middle]) / (len(chain) - 1 - middle) for chain in chains]
    return band([chain[-1] - chain[1] for chain in chains]), band(late)


class Case(NamedTuple):
    """How a run would be set up: its rule, and whether it has controls."""

    title: str
    rule: Rule
    calibrated: bool = True


def verdicts(chain: Sequence[Signals], controls: Sequence[Signals], case: Case) -> list[Verdict]:
    """What the loop would have said after rounds 1, 2, ... of `chain`, whose first entry is round 0."""
    known = {name: [value for one in controls if (value := one[name]) is not None] for name in SIGNALS}
    said = []
    for newest in range(1, len(chain)):
        history = {name: {round: chain[round][name] for round in range(newest + 1)} for name in SIGNALS}
        said.append(trend.judge(history, SIGNALS, known if case.calibrated else None, case.rule))
    return said


def first(said: Sequence[Verdict], *names: str) -> int | None:
    """The first round with one of these verdicts."""
    return next((round for round, one in enumerate(said, start=1) if one.verdict in names), None)


def judge_arm(curves: Curves, arm: str, case: Case) -> dict[str, Any]:
    """By seed: the first round with an alarm and with 'stop'; and which signals were in the first alarms."""
    alarms, stops, signals = {}, {}, Counter[str]()
    for seed, chain in curves["chains"][arm].items():
        said = verdicts(chain, curves["chains"]["controls"][seed], case)
        alarms[seed], stops[seed] = first(said, "warn", "stop"), first(said, "stop")
        if (round := alarms[seed]) is not None:
            signals.update(one.signal for one in said[round - 1].tests if one.alarm)
    return {"first_alarm": alarms, "first_stop": stops, "first_signals": dict(signals.most_common())}


class Null(NamedTuple):
    """What chains without a trend are made of: signals, their mean, and how real-only generations deviate from it."""

    names: list[str]
    mean: Floats  # (signals,)
    deviations: Floats  # (generations, signals)


def null_of(curves: Curves) -> Null:
    """Controls and real-only chains: deviations from the mean of their seed, scaled up for the mean taken out."""
    chains = curves["chains"]
    groups = [[*chains["controls"][seed], *chain] for seed, chain in chains["real only"].items()]
    names = [name for name in SIGNALS if all(one[name] is not None for many in groups for one in many)]
    tables = [np.array([[one[name] for name in names] for one in many]) for many in groups]
    scaled = [(one - one.mean(axis=0)) * np.sqrt(len(one) / (len(one) - 1)) for one in tables]
    return Null(names, np.concatenate(tables).mean(axis=0), np.concatenate(scaled))


def judge_null(curves: Curves, kind: str, case: Case, num_chains: int) -> dict[str, Any]:
    """How many chains without a trend have an alarm in any round; exact 95% interval (Clopper and Pearson 1934)."""
    from scipy import stats

    null, generator = null_of(curves), np.random.default_rng(0)
    num_controls = len(next(iter(curves["chains"]["controls"].values())))
    alarms = 0
    for _ in range(num_chains):
        drawn = _draw(null, kind, num_controls + curves["rounds"] + 1, generator)
        rows = [dict.fromkeys(SIGNALS) | dict(zip(null.names, one.tolist(), strict=True)) for one in null.mean + drawn]
        alarms += first(verdicts(rows[num_controls:], rows[:num_controls], case), "warn", "stop") is not None
    interval = stats.binomtest(alarms, num_chains).proportion_ci(method="exact")
    return {"alarms": alarms, "chains": num_chains, "ci_low": float(interval.low), "ci_high": float(interval.high)}


def _draw(null: Null, kind: str, count: int, generator: np.random.Generator) -> Floats:
    """`count` deviations, (count, signals), of one chain of the `kind` with its controls."""
    if kind == "resampled":
        return null.deviations[generator.integers(len(null.deviations), size=count)]
    covariance = np.cov(null.deviations, rowvar=False)
    drawn: Floats = generator.multivariate_normal(np.zeros(len(null.mean)), covariance, size=count)
    if kind == "inherited":
        # The spread of a round stays that of the controls.
        for row in range(1, count):
            drawn[row] = INHERITED * drawn[row - 1] + (1 - INHERITED**2) ** 0.5 * drawn[row]
    return drawn


def median_round(rounds: Iterable[int | None]) -> int | None:
    """The lower median; None where fewer than half had one."""
    ordered = sorted(rounds, key=lambda round: float("inf") if round is None else round)
    return ordered[(len(ordered) - 1) // 2]
