"""Line charts as SVG, drawn by matplotlib through its objects: pyplot keeps global state, and training runs in threads."""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH_IN, HEIGHT_IN = 6.7, 2.9  # of one chart
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#e69f00", "#cc79a7", "#000000")
"""Okabe and Ito's, for all kinds of colour vision; the line styles differ as well, for print without colour."""
LINE_STYLES = ("-", "--", "-.", ":", "-", "--")

_RC_LOCK = threading.Lock()  # matplotlib's settings are global

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
    dots: Mapping[str, Points] = field(default_factory=dict)  # points without a line


def svg(charts: Sequence[Chart]) -> str:
    """SVG text of these charts, one below the other. matplotlib is imported here, as that takes 0.4 s."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    file = io.StringIO()
    # a fixed salt: the same curves give the same bytes; "none": text stays text, which is smaller and can be searched
    with _RC_LOCK, rc_context({"svg.hashsalt": "anadil", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN * len(charts)), layout="constrained")
        for axes, chart in zip(figure.subplots(len(charts), squeeze=False).flat, charts, strict=True):
            _draw(axes, chart)
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def _draw(axes: Axes, chart: Chart) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    axes.set_title(chart.title, loc="left", fontweight="bold")
    axes.set_xlabel(chart.x_title)
    axes.set_prop_cycle(color=COLOURS, linestyle=LINE_STYLES)
    lowest, highest = 0.0, 0.0
    for name, points in chart.curves.items():
        finite = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
        if not finite:
            continue
        last = f"{finite[-1][1]:.1%}" if chart.percent else f"{finite[-1][1]:.4g}"
        (line,) = axes.plot(
            *zip(*finite, strict=True), label=f"{name} {last}", marker="o", markersize=4, markevery=[-1]
        )
        line.set_gid(f"{chart.title}: {name}")  # the id of its <g>
        ys = [y for _, y in finite]
        lowest, highest = min(lowest, *ys), max(highest, *ys)
    for name, points in chart.dots.items():
        axes.plot(*zip(*points, strict=True), label=name, marker="o", markersize=5, linestyle="", color="#000000")
        highest = max(highest, *(y for _, y in points))
    if not axes.lines:
        axes.text(0.5, 0.5, "nothing yet", transform=axes.transAxes, ha="center")
        axes.set(xticks=[], yticks=[])
        return
    if chart.log_x:
        axes.set_xscale("log")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    if chart.percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylim(lowest, 1.05 * highest or 1.0)
    axes.grid(axis="y", color="#dddddd")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    for name, x in chart.marks.items():
        axes.axvline(x, color="#555555", linestyle="--", linewidth=1)
        axes.annotate(name, (x, 1), xycoords=("data", "axes fraction"), xytext=(3, -9), textcoords="offset points")
