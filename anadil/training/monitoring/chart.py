"""Curves as SVG, written by ourselves: a page of them needs no plotting library, and opens in any browser."""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 280, 56, 150, 34, 40
COLOURS = ("#1b6ca8", "#d1495b", "#3a7d44", "#edae49", "#6c4f9c", "#555555")
"""Told apart by most colour-blind people; each curve is named at its end as well."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Chart:
    """Curves by name, in the order of their colours; points that are not finite are left out."""

    title: str
    x_title: str
    curves: Mapping[str, Points]
    log_x: bool = False
    percent: bool = False
    marks: Mapping[str, float] = field(default_factory=dict)  # vertical lines: name to x


def svg(charts: Sequence[Chart]) -> str:
    """A picture of these charts, one below the other."""
    drawn = [f'<g transform="translate(0 {i * HEIGHT})">{_draw(chart)}</g>' for i, chart in enumerate(charts)]
    total = HEIGHT * len(charts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total}" width="{WIDTH}" height="{total}" '
        'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>'
        + "".join(drawn)
        + "</svg>\n"
    )


def _draw(chart: Chart) -> str:
    curves = {
        name: [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
        for name, points in chart.curves.items()
    }
    all_points = [point for points in curves.values() for point in points]
    parts = [f'<text x="{LEFT}" y="18" font-size="13" font-weight="bold">{html.escape(chart.title)}</text>']
    if not all_points:
        return "".join([*parts, f'<text x="{LEFT}" y="{HEIGHT // 2}">nothing yet</text>'])
    xs = [_scaled(x, chart.log_x) for x, _ in all_points]
    ys = [0.0, *(y for _, y in all_points)]
    (x_low, x_high), (y_low, y_high) = _range(xs), _range(ys)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (_scaled(x, chart.log_x) - x_low) / (x_high - x_low)
        up = (y - y_low) / (y_high - y_low)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    for y in _ticks(y_low, y_high):
        _, at = place(all_points[0][0], y)
        label = f"{y:.0%}" if chart.percent else f"{y:g}"
        parts.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{label}</text>')
    for tick in _ticks(x_low, x_high, whole=True):
        x = 10**tick if chart.log_x else tick
        at, _ = place(x, y_low)
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{x:g}</text>')
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 8}">{html.escape(chart.x_title)}</text>')
    for name, x in chart.marks.items():
        at, _ = place(x, y_low)
        parts.append(f'<path d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#555" stroke-dasharray="4 3"/>')
        parts.append(f'<text x="{at + 4:.1f}" y="{TOP + 10}">{html.escape(name)}</text>')
    ends = _apart([place(*points[-1])[1] if points else 0.0 for points in curves.values()])
    for colour, end, (name, points) in zip(_colours(len(curves)), ends, curves.items(), strict=True):
        if not points:
            continue
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        x, y = place(*points[-1])
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
        last = f"{points[-1][1]:.1%}" if chart.percent else f"{points[-1][1]:.4g}"
        parts.append(f'<text x="{x + 8:.1f}" y="{end + 4:.1f}" fill="{colour}">{html.escape(name)} {last}</text>')
    return "".join(parts)


def _scaled(x: float, log: bool) -> float:
    return math.log10(x) if log else x


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low, low + 1)


def _ticks(low: float, high: float, whole: bool = False) -> list[float]:
    """About five round numbers between `low` and `high`."""
    rough = (high - low) / 5
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    step = max(1.0, round(step)) if whole else step
    return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _apart(heights: Sequence[float], gap: float = 13) -> list[float]:
    """Heights of the curves' names, moved so that none covers another."""
    moved = list(heights)
    order = sorted(range(len(moved)), key=moved.__getitem__)
    for before, after in itertools.pairwise(order):
        moved[after] = max(moved[after], moved[before] + gap)
    return moved


def _colours(n: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(n)]
