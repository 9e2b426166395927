"""Pictures of a report as SVG, drawn by matplotlib; their text and axes take the colour of the page, light or dark."""

from __future__ import annotations

import io
import math
import threading
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from anadil.evaluation.analysis import ConfidenceBin, Group
from anadil.evaluation.evaluate import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072b2", "#d55e00")
"""Okabe and Ito's blue and vermilion, for all kinds of colour vision."""

MOST_BARS, MOST_LETTERS = 20, 24

_INK = "#010203"  # becomes currentColor
_RC_LOCK = threading.Lock()  # matplotlib's settings are global


def groups_chart(title: str, groups: Mapping[str, Sequence[Group]]) -> str:
    """SVG of the WER of each group with its interval; name of the system to its groups, at most 20, in their order."""
    names = list(dict.fromkeys(one.name for own in groups.values() for one in own))[:MOST_BARS]

    def draw(axes: Axes) -> None:
        height = 0.8 / len(groups)
        for number, (system, own) in enumerate(groups.items()):
            by_name = {one.name: one for one in own}
            shown = [(place, by_name[name]) for place, name in enumerate(names) if name in by_name]
            rates = [min(one.words.rate, 2.0) for _, one in shown]
            intervals = [one.wer_interval or (rate, rate) for (_, one), rate in zip(shown, rates, strict=True)]
            errors = [
                [max(0.0, rate - low) for rate, (low, _) in zip(rates, intervals, strict=True)],
                [max(0.0, min(high, 2.0) - rate) for rate, (_, high) in zip(rates, intervals, strict=True)],
            ]
            places = [place + (number - (len(groups) - 1) / 2) * height for place, _ in shown]
            axes.barh(
                places,
                rates,
                height,
                xerr=errors,
                color=COLOURS[number],
                ecolor=_INK,
                label=shortened_name(system),
                capsize=2,
            )
        counts = {one.name: one.n_utterances for own in groups.values() for one in own}
        axes.set_yticks(range(len(names)), [f"{shortened_name(name)} ({counts[name]:,})" for name in names])
        axes.invert_yaxis()
        axes.set_xlabel("word error rate, 95 % interval (number of utterances)")
        _percent(axes.xaxis)
        axes.set_xlim(left=0)
        axes.grid(axis="x", color=_INK, alpha=0.15)

    return _svg(title, draw, height_in=1.1 + 0.26 * len(names) * max(1.0, 0.75 * len(groups)))


def letters_chart(title: str, confused: Counter[tuple[str, str]]) -> str | None:
    """SVG of the letters that are confused most: reference rows, hypothesis columns; None if no letter is."""
    pairs = [(pair, n) for pair, n in confused.most_common(120)]
    letters = Counter[str]()
    for (a, b), n in pairs:
        letters.update({a: n, b: n})
    names = sorted(letter for letter, _ in letters.most_common(MOST_LETTERS))
    if len(names) < 2:
        return None
    place = {name: i for i, name in enumerate(names)}
    table = [[0] * len(names) for _ in names]
    for (a, b), n in confused.items():
        if a in place and b in place:
            table[place[a]][place[b]] = n

    def draw(axes: Axes) -> None:
        largest = max(map(max, table)) or 1
        for i, row in enumerate(table):
            for j, n in enumerate(row):
                if n:
                    area = 14.0 * math.sqrt(n / largest)
                    axes.plot(j, i, "s", markersize=max(1.5, area), color=COLOURS[0], markeredgewidth=0)
        shown = [visible(name) for name in names]
        axes.set_xticks(range(len(names)), shown)
        axes.set_yticks(range(len(names)), shown)
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlabel("hypothesis (∅: missing)")
        axes.set_ylabel("reference (∅: inserted)")
        axes.grid(color=_INK, alpha=0.1)
        axes.set_aspect("equal")

    return _svg(title, draw, height_in=max(3.0, 0.6 + 0.24 * len(names)), width_in=6.0)


def calibration_chart(title: str, bins: Mapping[str, Sequence[ConfidenceBin]]) -> str:
    """SVG of the share of correct words against their confidence; name of the system to its bins."""

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], linestyle=":", color=_INK, linewidth=1)
        axes.annotate("as sure as it is right", (0.03, 0.07), rotation=0, fontsize=8, color=_INK, alpha=0.8)
        most = max(one.n_words for own in bins.values() for one in own)
        for number, (system, own) in enumerate(bins.items()):
            x, y = [one.confidence for one in own], [one.correct for one in own]
            axes.plot(x, y, color=COLOURS[number], linestyle="-" if number == 0 else "--", label=shortened_name(system))
            axes.scatter(x, y, [8 + 90 * one.n_words / most for one in own], color=COLOURS[number])
        axes.set_xlabel("confidence of a word (size of a dot: number of words)")
        axes.set_ylabel("share correct")
        axes.set_xlim(0, 1.02)
        axes.set_ylim(0, 1.04)
        _percent(axes.yaxis)
        axes.grid(color=_INK, alpha=0.15)

    return _svg(title, draw, height_in=3.2)


def noise_chart(title: str, clean: Evaluation, noisy: Sequence[tuple[str, Evaluation]]) -> str:
    """SVG of WER and CER with their intervals, clean first and then at each signal-to-noise ratio: (name, evaluation)."""
    shown = [("clean", clean), *noisy]

    def draw(axes: Axes) -> None:
        for number, (unit, own) in enumerate(
            (
                ("WER", [(one.wer, one.wer_interval) for _, one in shown]),
                ("CER", [(one.cer, one.cer_interval) for _, one in shown]),
            )
        ):
            rates = [min(rate, 2.0) for rate, _ in own]
            ends = [interval or (rate, rate) for rate, interval in own]
            errors = [
                [max(0.0, rate - low) for rate, (low, _) in zip(rates, ends, strict=True)],
                [max(0.0, min(high, 2.0) - rate) for rate, (_, high) in zip(rates, ends, strict=True)],
            ]
            places = [place + 0.06 * (2 * number - 1) for place in range(len(shown))]
            axes.errorbar(
                places,
                rates,
                yerr=errors,
                color=COLOURS[number],
                marker="os"[number],
                linestyle="-",
                capsize=3,
                label=unit,
            )
        axes.set_xticks(range(len(shown)), [name for name, _ in shown])
        axes.set_xlabel("signal-to-noise ratio")
        axes.set_ylabel("error rate, 95 % interval")
        axes.set_ylim(bottom=0)
        _percent(axes.yaxis)
        axes.grid(axis="y", color=_INK, alpha=0.15)

    return _svg(title, draw, height_in=3.4)


def visible(unit: str) -> str:
    """A letter as it can be seen alone: ∅ for none, ␣ for a space, a mark on a dotted circle."""
    if not unit:
        return "∅"
    if unit.isspace():
        return "␣"
    return f"◌{unit}" if unicodedata.category(unit[0]).startswith("M") else unit


def shortened_name(name: str) -> str:
    """The name of a system or group, short enough for a picture."""
    return name if len(name) <= 28 else f"{name[:27]}…"


def _percent(axis: object) -> None:
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1.0, decimals=0))  # type: ignore[attr-defined]


def _svg(title: str, draw: Callable[[Axes], None], height_in: float, width_in: float = 6.7) -> str:
    """The SVG element of one picture, without a declaration, to stand inside a page."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    file = io.StringIO()
    ink = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK)
    settings: dict[Any, Any] = {
        "svg.hashsalt": title,
        "svg.fonttype": "none",
        "font.size": 9,
        "axes.unicode_minus": False,
    } | ink
    # "$" starts a formula; names and letters of strangers are plain text
    with _RC_LOCK, rc_context({**settings, "text.parse_math": False}):
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        figure.patch.set_alpha(0.0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0.0)
        axes.set_title(title, loc="left", fontweight="bold")
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes)
        handles, names = axes.get_legend_handles_labels()
        if len(names) > 1:
            figure.legend(handles, names, loc="outside lower left", frameon=False, ncols=len(names))
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    return text[text.index("<svg") :].replace(_INK, "currentColor")
