"""Parts of a manifest, and the table and plot, of examples/scratch_vs_transfer.sh.

python examples/scratch_vs_transfer.py part MANIFEST PERCENT SEED OUT    utterances drawn at random
python examples/scratch_vs_transfer.py table RUNS                         RUNS/table.md and RUNS/plot.svg
"""

from __future__ import annotations

import csv
import io
import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from anadil.manifest import read_manifest, write_manifest

TITLES = {
    "scratch": "from scratch",
    "new": "transfer, random head",
    "map": "transfer, letters from their relatives",
    "frozen": "the same, encoder frozen for a quarter of the steps",
}
COLOURS = {"scratch": "#d55e00", "new": "#e69f00", "map": "#0072b2", "frozen": "#009e73"}  # Okabe and Ito's
T_95 = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57}
"""Student's t for 95 %, by degrees of freedom."""


def write_part(manifest: Path, percent: int, seed: int, out: Path) -> None:
    utterances = read_manifest(manifest)
    order = np.random.default_rng(seed).permutation(len(utterances))
    kept = sorted(order[: round(len(utterances) * percent / 100)].tolist())
    write_manifest(out, [utterances[i] for i in kept])


def results(runs: Path) -> dict[tuple[str, int], list[tuple[float, float]]]:
    """CER and WER of each finished run at its end, by way and percent of the data."""
    found = defaultdict(list)
    for folder in sorted(runs.glob("*-*-*")):
        way, percent, _ = folder.name.split("-")
        if way in TITLES and (folder / "best").is_dir():
            with open(folder / "metrics.csv", encoding="utf-8", newline="") as file:
                last = list(csv.DictReader(file))[-1]
            found[way, int(percent)].append((float(last["valid_cer"]), float(last["valid_wer"])))
    return found


def interval(values: Sequence[float]) -> float:
    """Half the 95 % interval of the mean over seeds; 0 for one seed."""
    if len(values) < 2:
        return 0.0
    return T_95.get(len(values) - 1, 2.0) * float(np.std(values, ddof=1)) / math.sqrt(len(values))


def table(found: dict[tuple[str, int], list[tuple[float, float]]], hours: float) -> str:
    """Markdown: CER in percent for each way and amount of data, with its interval and the number of seeds."""
    percents = sorted({percent for _, percent in found}, reverse=True)
    head = " | ".join(f"{hours * percent / 100:.2f} h ({percent} %)" for percent in percents)
    lines = [f"| valid CER | {head} |", "|---" * (len(percents) + 1) + "|"]
    for way, title in TITLES.items():
        cells = []
        for percent in percents:
            rates = [100 * cer for cer, _ in found.get((way, percent), [])]
            spread = f" ± {interval(rates):.1f}" if len(rates) > 1 else ""
            cells.append(f"{np.mean(rates):.1f}{spread} ({len(rates)})" if rates else "")
        if any(cells):
            lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def plot(found: dict[tuple[str, int], list[tuple[float, float]]], hours: float) -> str:
    """SVG: CER against hours (logarithmic), a line for each way, with intervals."""
    percents = sorted({percent for _, percent in found})
    figure = Figure(figsize=(6.7, 4.2), layout="constrained")
    axes = figure.subplots()
    for place, (way, title) in enumerate(TITLES.items()):
        points = [(percent, [cer for cer, _ in found[way, percent]]) for percent in percents if (way, percent) in found]
        if points:
            axes.errorbar(
                [hours * percent / 100 * (1 + 0.015 * (place - 1.5)) for percent, _ in points],  # bars side by side
                [float(np.mean(rates)) for _, rates in points],
                [interval(rates) for _, rates in points],
                color=COLOURS[way], marker="o", markersize=4, capsize=3, label=title,
            )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks([hours * percent / 100 for percent in percents], [f"{hours * p / 100:.2f} h" for p in percents])
    axes.minorticks_off()
    axes.set(xlabel="training speech", ylabel="valid CER")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.grid(axis="y", color="#dddddd")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    file = io.StringIO()
    with rc_context({"svg.hashsalt": "anadil", "svg.fonttype": "none"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def main(arguments: Sequence[str]) -> None:
    if arguments[:1] == ["part"] and len(arguments) == 5:
        write_part(Path(arguments[1]), int(arguments[2]), int(arguments[3]), Path(arguments[4]))
    elif arguments[:1] == ["table"] and len(arguments) == 2:
        runs = Path(arguments[1])
        found = results(runs)
        percent = max(percent for _, percent in found)
        part = next((runs / "parts").glob(f"{percent}-*.jsonl"))
        hours = sum(one.duration or 0 for one in read_manifest(part)) / 3600 * 100 / percent
        (runs / "table.md").write_text(table(found, hours), encoding="utf-8")
        (runs / "plot.svg").write_text(plot(found, hours), encoding="utf-8")
        print(table(found, hours))
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
