"""Curves with intervals as one SVG file: a small panel a signal, a colour an arm. No plotting library is needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

Band = tuple[float, float, float]
Bands = Mapping[str, Mapping[str, Sequence[Band]]]
"""Arm -> panel -> (mean, low, high) of each round."""

WIDTH, HEIGHT, MARGIN, COLUMNS = 320, 220, 44, 3
COLORS = ("#dc2626", "#ea580c", "#ca8a04", "#16a34a", "#2563eb", "#7c3aed", "#334155")


def write(path: Path, bands: Bands, panels: Sequence[str], arms: Sequence[str]) -> None:
    """Draw `panels`, each with its own scale, and a legend of `arms` below."""
    rows = -(-len(panels) // COLUMNS)
    width, height = WIDTH * COLUMNS, HEIGHT * rows + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"',
        ' font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for number, panel in enumerate(panels):
        x, y = WIDTH * (number % COLUMNS), HEIGHT * (number // COLUMNS)
        parts += [f'<g transform="translate({x},{y})">', *_panel(panel, bands, arms), "</g>"]
    for number, arm in enumerate(arms):
        x = MARGIN + number * (width - MARGIN) // len(arms)
        parts.append(f'<rect x="{x}" y="{height - 22}" width="12" height="12" fill="{COLORS[number]}"/>')
        parts.append(f'<text x="{x + 17}" y="{height - 12}">{escape(arm)}</text>')
    path.write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")


def _panel(panel: str, bands: Bands, arms: Sequence[str]) -> Iterator[str]:
    lows = [low for arm in arms for _, low, _ in bands[arm][panel]]
    highs = [high for arm in arms for _, _, high in bands[arm][panel]]
    bottom, top = min(lows), max(max(highs), min(lows) + 1e-9)
    last = max(1, max(len(bands[arm][panel]) for arm in arms) - 1)

    def point(round: int, value: float) -> str:
        x = MARGIN + (WIDTH - 1.5 * MARGIN) * round / last
        y = HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * (value - bottom) / (top - bottom)
        return f"{x:.1f},{y:.1f}"

    left, right, floor = MARGIN, WIDTH - MARGIN / 2, HEIGHT - MARGIN
    yield f'<text x="{left}" y="{MARGIN - 12}" font-weight="bold">{escape(panel)}</text>'
    yield f'<path d="M{left},{MARGIN} V{floor} H{right}" fill="none" stroke="#94a3b8"/>'
    for value, y in ((top, MARGIN), (bottom, floor)):
        yield f'<text x="{left - 4}" y="{y + 4}" text-anchor="end">{value:.3g}</text>'
    for round in range(last + 1):
        x = point(round, bottom).split(",")[0]
        yield f'<text x="{x}" y="{floor + 14}" text-anchor="middle">{round}</text>'
    for arm, color in zip(arms, COLORS, strict=False):
        rounds = bands[arm][panel]
        edge = [point(at, one[2]) for at, one in enumerate(rounds)]
        edge += [point(at, rounds[at][1]) for at in reversed(range(len(rounds)))]
        line = " ".join(point(at, one[0]) for at, one in enumerate(rounds))
        yield f'<polygon points="{" ".join(edge)}" fill="{color}" fill-opacity="0.15"/>'
        yield f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="1.5"/>'
