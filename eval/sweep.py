"""`synthloop sweep`: held-out score against the amount and the share of synthetic data, as JSON, SVG and a table.

    amount   all real rows and `value` x as much synthetic data
    share    as much data as there is real data, `value` of it synthetic: what synthetic data is worth beside real

To each a saturating curve is fitted (`eval/curve.py`); its band is a 95% interval at each point.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from eval import curve
from synthloop.screen import say
from synthloop.store import write_json
from synthloop.terminal import open_console
from synthloop.trials import Trained

Scored = Sequence[tuple[Trained, list[float]]]

LABELS = {"amount": "synthetic per real, beside all real rows", "share": "share of synthetic data, at equal size"}
WIDTH, HEIGHT, MARGIN = 420, 280, 48


def write(folder: Path, scored: Scored, seed: int) -> None:
    """Write `sweep.json` and `sweep.svg` into `folder` and print the table."""
    axes = {axis: drawn for axis in LABELS if (drawn := axis_facts(scored, axis, seed))}
    write_json(folder / "sweep.json", {"split": "gate", "axes": axes})
    (folder / "sweep.svg").write_text(svg(axes), encoding="utf-8")
    console = open_console()
    for axis, facts in axes.items():
        console.print(table(axis, facts))
        console.print(told(facts["curve"]), highlight=False, markup=False, soft_wrap=True)
    for name in ("sweep.json", "sweep.svg"):
        say(str(folder / name))


def axis_facts(scored: Scored, axis: str, seed: int) -> dict[str, Any] | None:
    """The trials of one axis and the curve through them; None where there are none."""
    mine = [(trained, values) for trained, values in scored if trained.trial.axis == axis]
    if not mine:
        return None
    points = [(trained.trial.value, trained.trial.seed, values) for trained, values in mine]
    _, fitted = curve.estimate(curve.Scores.of(points), seed)
    return {
        "trials": [{**trained.model_dump(), "value": float(np.mean(values))} for trained, values in mine],
        "n": len(mine[0][1]),
        "curve": fitted._asdict(),
    }


def table(axis: str, facts: dict[str, Any]) -> Table:
    """One line a value: what was trained on, what each seed scored, the estimate with its interval."""
    drawn = Table(title=f"{LABELS[axis]}: percent on gate (n={facts['n']}), 95% intervals", title_justify="left")
    for heading in (axis, "rows (synthetic)", "seeds", "mean or curve"):
        drawn.add_column(heading, justify="right")
    fitted = facts["curve"]
    for value, *band in zip(*(fitted[name] for name in ("ratios", "values", "low", "high")), strict=True):
        trials = [one for one in facts["trials"] if one["trial"]["value"] == value]
        drawn.add_row(
            f"{value:.3g}",
            f"{trials[0]['rows']} ({trials[0]['synthetic_rows']})",
            " ".join(f"{100 * one['value']:.1f}" for one in trials),
            "{:.1f} [{:.1f}, {:.1f}]".format(*(100 * one for one in band)),
        )
    return drawn


def told(fitted: dict[str, Any]) -> str:
    """The fit in words."""
    if fitted["a"] is None:
        return f"No curve through fewer than {curve.MIN_RATIOS} values; these are the means of the seeds."
    a, b, c = 100 * fitted["a"], 100 * fitted["b"], fitted["c"]
    if c > max(fitted["ratios"]) * curve.SCALES[-2]:
        found = f"score = {a:.1f} {b / c:+.1f} x (straight: no saturation in sight)"
    else:
        found = f"score = {a:.1f} {b:+.1f} (1 - exp(-x / {c:.3g}))"
    lack = f"lack of fit p={fitted['p_lack_of_fit']:.2g}"
    return f"{found}, {lack}" if fitted["fits"] else f"{found} does not fit, {lack}; these are the means of the seeds."


def svg(axes: dict[str, Any]) -> str:
    """One panel an axis: seeds as dots, the estimate, its interval as a band; dashed, a curve that does not fit."""
    width = WIDTH * len(axes)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}"',
        ' font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{HEIGHT}" fill="white"/>',
    ]
    for number, (axis, facts) in enumerate(axes.items()):
        parts += [f'<g transform="translate({WIDTH * number},0)">', *panel(LABELS[axis], facts), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def panel(label: str, facts: dict[str, Any]) -> Iterator[str]:
    """The elements of one panel; its scale runs over all that is drawn in it."""
    fitted = curve.Curve(**facts["curve"])
    dots = [(one["trial"]["value"], one["value"]) for one in facts["trials"]]
    right = max(fitted.ratios) or 1
    fine = [float(value) for value in np.linspace(min(fitted.ratios), right, 81)]
    heights = [*fitted.low, *fitted.high, *(value for _, value in dots)]
    heights += [] if fitted.a is None else fitted.fitted(fine)
    bottom, top = min(heights), max(max(heights), min(heights) + 0.01)

    def x(value: float) -> float:
        return round(MARGIN + (WIDTH - 1.5 * MARGIN) * value / right, 1)

    def y(value: float) -> float:
        return float(round(HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * (value - bottom) / (top - bottom), 1))

    floor = HEIGHT - MARGIN
    yield f'<path d="M{MARGIN},{MARGIN} V{floor} H{WIDTH - MARGIN / 2}" fill="none" stroke="#94a3b8"/>'
    yield f'<text x="{MARGIN}" y="{MARGIN - 16}" font-weight="bold">percent on gate (n={facts["n"]})</text>'
    yield f'<text x="{WIDTH / 2}" y="{HEIGHT - 10}" text-anchor="middle">{label}</text>'
    for value in np.linspace(bottom, top, 5):
        yield f'<text x="{MARGIN - 6}" y="{y(value) + 4}" text-anchor="end">{100 * value:.0f}</text>'
    for value in fitted.ratios:
        yield f'<text x="{x(value)}" y="{floor + 15}" text-anchor="middle">{value:.2g}</text>'
    edge = [*zip(fitted.ratios, fitted.high, strict=True), *reversed([*zip(fitted.ratios, fitted.low, strict=True)])]
    band = coordinates((x(at), y(value)) for at, value in edge)
    yield f'<polygon points="{band}" fill="#2563eb" fill-opacity="0.15"/>'
    line = coordinates((x(at), y(value)) for at, value in zip(fine, fitted.at(fine), strict=True))
    yield f'<polyline points="{line}" fill="none" stroke="#2563eb" stroke-width="1.5"/>'
    if fitted.a is not None and not fitted.fits:
        tried = coordinates((x(at), y(value)) for at, value in zip(fine, fitted.fitted(fine), strict=True))
        yield f'<polyline points="{tried}" fill="none" stroke="#94a3b8" stroke-dasharray="4 3"/>'
    for at, value in dots:
        yield f'<circle cx="{x(at)}" cy="{y(value)}" r="3.5" fill="#dc2626" fill-opacity="0.7"/>'


def coordinates(points: Iterator[tuple[float, float]]) -> str:
    return " ".join(f"{at},{value}" for at, value in points)
