"""`report.html`: the report as one self-contained page, with no script and no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from synthloop.files import write_text
from synthloop.store import Run
from synthloop.terminal import closing_lines, interval

WIDTH, HEIGHT, MARGIN = 640, 260, 40
COLORS = {"probe": "#9aa5b1", "gate": "#2563eb", "test": "#dc2626"}


def write(run: Run, report: dict[str, Any]) -> Path:
    """Render `report` to `report.html` in the run directory and return its path."""
    path = run.root / "report.html"
    write_text(path, render(report))
    return path


def render(report: dict[str, Any]) -> str:
    """The page, as HTML."""
    folder = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters["interval"] = interval
    return environment.get_template("report.html.jinja").render(
        report=report, lines=closing_lines(report), chart=chart(report), width=WIDTH, height=HEIGHT, margin=MARGIN
    )


def chart(report: dict[str, Any]) -> list[dict[str, Any]]:
    """One series a split: its colour and, a round, the pixel position of the score and of its interval's ends."""
    last = max((one["round"] for one in report["rounds"]), default=0)

    def x(round: int) -> float:
        return MARGIN + (WIDTH - 2 * MARGIN) * round / max(last, 1)

    def y(value: float) -> float:
        return HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * value

    series = []
    for split, color in COLORS.items():
        points = [
            {
                "x": x(one["round"]),
                "y": y(one["eval"][split]["value"]),
                "low": y(one["eval"][split]["ci_low"]),
                "high": y(one["eval"][split]["ci_high"]),
                "accepted": one["accepted"],
            }
            for one in report["rounds"]
            if split in one["eval"]
        ]
        series.append({"split": split, "color": color, "points": points})
    return series
