"""Parts of a manifest, and the table and plot, of examples/scratch_vs_transfer.sh.

python examples/scratch_vs_transfer.py part MANIFEST PERCENT SEED OUT    utterances drawn at random
python examples/scratch_vs_transfer.py table RUNS                         RUNS/table.md and RUNS/plot.svg
"""

from __future__ import annotations

import csv
import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from anadil.manifest import read_manifest, write_manifest

TITLES = {
    "scratch": "from scratch",
    "new": "transfer, random head",
    "map": "transfer, letters from their relatives",
    "frozen": "the same, encoder still at first",
}
COLOURS = {"scratch": "#c0392b", "new": "#e08e0b", "map": "#1f6fb2", "frozen": "#2e8b57"}
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
    width, height, left, bottom, top = 640, 400, 60, 340, 20
    percents = sorted({percent for _, percent in found})
    rates = [100 * cer for pairs in found.values() for cer, _ in pairs]
    low, high = 10 * math.floor(min(rates) / 10), 10 * math.ceil(max(rates) / 10)

    def x(percent: float) -> float:
        span = math.log(percents[-1] / percents[0]) or 1.0
        return left + 30 + (width - left - 60) * math.log(percent / percents[0]) / span

    def y(rate: float) -> float:
        return bottom - (bottom - top) * (rate - low) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for rate in range(low, high + 1, 10):
        parts.append(f'<path d="M{left} {y(rate):.1f}H{width - 20}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8}" y="{y(rate) + 4:.1f}" text-anchor="end">{rate} %</text>')
    for percent in percents:
        label = f"{hours * percent / 100:.2f} h"
        parts.append(f'<text x="{x(percent):.1f}" y="{bottom + 20}" text-anchor="middle">{label}</text>')
    shown = [way for way in TITLES if any(name == way for name, _ in found)]
    for place, way in enumerate(shown):
        colour, shift = COLOURS[way], 3 * (place - 1.5)
        points = []
        for percent in percents:
            values = [100 * cer for cer, _ in found.get((way, percent), [])]
            if values:
                mean, half = float(np.mean(values)), interval(values)
                points.append(f"{x(percent) + shift:.1f},{y(mean):.1f}")
                ends = (min(high, mean + half), max(low, mean - half))
                parts.append(
                    f'<path d="M{x(percent) + shift:.1f} {y(ends[0]):.1f}V{y(ends[1]):.1f}" stroke="{colour}" opacity=".6"/>'
                )
        parts.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        across = left + 10 + 285 * (place % 2)
        parts.append(f'<text x="{across}" y="{bottom + 42 + 16 * (place // 2)}" fill="{colour}">{TITLES[way]}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


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
