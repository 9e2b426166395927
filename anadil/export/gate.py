"""Which version of a graph is written: float, int8 or float16, by size, speed and errors on real speech."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from anadil.errors import AnadilError
from anadil.evaluation.errors import ErrorCounts
from anadil.evaluation.evaluate import Evaluation
from anadil.evaluation.intervals import rate_interval
from anadil.export.layout import ExportedSettings
from anadil.export.quantize import (
    Int8,
    Layers,
    open_session,
    read_layers,
    sensitivities,
    simplified,
    write_dynamic,
    write_float16,
)
from anadil.export.speech import Speech, batches, feed, recognise, speeds
from anadil.text.rules import TextRules

Precision = Literal["float32", "int8", "float16"]
Wish = Literal["never", "auto", "always"]
WISHES = ("never", "auto", "always")

MAX_CER_INCREASE = 0.3
"""Percentage points that int8 may cost."""

_FASTER, _SMALLER = 1.05, 0.9
"""From these on a version counts as faster or smaller; speeds vary by a few percent."""
_UNCERTAIN = 3.0
"""Times `max_increase` that the upper end of the interval may reach. With 200 utterances it is 0.3 points above the mean."""
_USELESS_CER = 0.75
_CALIBRATION_UTTERANCES = 64
_FLOAT_SHARES = (0.1, 0.25, 0.5)
"""Shares of the network's parts, the most sensitive first, that stay float if int8 throughout has too many errors."""


@dataclass(frozen=True)
class Version:
    """One version of the graph, measured."""

    name: str
    precision: Precision
    size: int  # bytes
    speed: float  # seconds of audio per second of processor time
    evaluation: Evaluation
    increase: float  # of the CER against float, a fraction
    interval: tuple[float, float] | None  # 95 %, of that increase, paired over utterances or speakers
    float_parts: tuple[str, ...] = ()  # of an int8 version: what stays float because it is sensitive

    def has_too_many_errors(self, max_increase: float) -> bool:
        """Whether the increase of the CER is above `max_increase`, a fraction, or may be far above it."""
        return self.interval is None or self.increase > max_increase or self.interval[1] > _UNCERTAIN * max_increase

    def is_good(self, of_float: Version, max_increase: float) -> str | None:
        """None if this version may replace `of_float`, or the reason why not. `max_increase` is a fraction."""
        if self.interval is None:
            return "too few utterances for an interval"
        if self.increase > max_increase:
            return f"its CER is {100 * self.increase:.2f} points higher, allowed are {100 * max_increase:g}"
        if self.interval[1] > _UNCERTAIN * max_increase:
            return (
                f"its CER may be {100 * self.interval[1]:.2f} points higher at the end of the interval, allowed there are "
                f"{100 * _UNCERTAIN * max_increase:g}: more utterances would tell"
            )
        if self.size > _SMALLER * of_float.size and self.speed < _FASTER * of_float.speed:
            return "it is neither smaller nor faster"
        return None


@dataclass(frozen=True)
class Choice:
    """The versions that were measured, float first, and the one that was written."""

    versions: tuple[Version, ...]
    kept: Version
    reasons: tuple[str, ...]  # one line for each version that was not kept, and for one kept in spite of its errors
    manifest: str
    n_calibration: int
    max_increase: float

    def rows(self) -> list[list[str]]:
        """The table: version, size, speed, CER with interval, increase with interval, and whether it was kept."""
        rows = []
        for one in self.versions:
            increase = "" if one is self.versions[0] else f"{100 * one.increase:+.2f} points"
            if one.interval and increase:
                increase += f" ({100 * one.interval[0]:+.2f} to {100 * one.interval[1]:+.2f})"
            rows.append(
                [
                    one.name,
                    f"{one.size / 1e6:.1f} MB",
                    f"{one.speed:,.0f}",
                    rate_with_interval(one.evaluation.cer, one.evaluation.cer_interval),
                    increase,
                    "kept" if one is self.kept else "",
                ]
            )
        return rows


COLUMNS = ("version", "size", "x real time, one core", "CER, greedy", "against float", "")


def rate_with_interval(rate: float, interval: tuple[float, float] | None) -> str:
    """Such as "23.68% (22.51% to 24.90%)"."""
    return f"{rate:.2%}" + (f" ({interval[0]:.2%} to {interval[1]:.2%})" if interval else "")


def choose_int8(
    graph: Path,
    settings: ExportedSettings,
    rules: TextRules,
    speech: Speech,
    wish: Wish,
    max_increase: float,
    say: Callable[[str], None] = lambda text: None,
) -> Choice:
    """Replace `graph` by its best int8 version if it is good enough, or if `wish` is always.

    Every third utterance (at most 64) calibrates; errors are counted on the others. If int8 throughout has too many errors,
    the parts of the network that are most sensitive stay float. Raises AnadilError if nothing can be quantised, or if the model
    does not recognise the speech.
    """
    calibration = list(range(0, len(speech.utterances), 3))[:_CALIBRATION_UTTERANCES]
    tested = speech.part([i for i in range(len(speech.utterances)) if i not in set(calibration)])
    calibrating = speech.part(calibration)
    layers = read_layers(graph)
    with tempfile.TemporaryDirectory(dir=graph.parent, prefix=".int8-") as name:
        folder = Path(name)
        simple = folder / "simple.onnx"
        simplified(graph, simple)
        layers = read_layers(simple)
        compare = _Comparison(graph, settings, rules, tested)
        if compare.versions[0].evaluation.cer > _USELESS_CER:
            raise AnadilError(
                f"{speech.manifest}: the model's CER there is {compare.versions[0].evaluation.cer:.0%}: it does not recognise "
                "this speech, so errors of int8 could not be seen\n  next: give speech in the language of the model"
            )
        say(f"float: CER {compare.versions[0].evaluation.cer:.2%} on {len(tested.utterances):,} utterances")
        if write_dynamic(simple, layers, folder / "dynamic.onnx"):
            compare.add("int8, dynamic", "int8", folder / "dynamic.onnx")
        int8 = Int8(simple, layers, [feed([waveform], settings.min_samples) for waveform in calibrating.waveforms])
        int8.write(folder / "static.onnx")
        static = compare.add("int8, calibrated", "int8", folder / "static.onnx")
        say(f"int8, calibrated: CER {static.evaluation.cer:.2%}")
        if static.interval is not None and static.has_too_many_errors(max_increase):
            _keep_sensitive_float(compare, int8, layers, calibrating, folder, max_increase, say)
        return compare.choose(graph, wish, max_increase, len(calibration))


def choose_float16(
    graph: Path, settings: ExportedSettings, rules: TextRules, speech: Speech, max_increase: float
) -> Choice:
    """Replace `graph` by its float16 version. Raises AnadilError if that has more errors than allowed."""
    with tempfile.TemporaryDirectory(dir=graph.parent, prefix=".fp16-") as name:
        simple, half = Path(name) / "simple.onnx", Path(name) / "half.onnx"
        simplified(
            graph, simple
        )  # the converter also halves constants that are nodes, those of the features among them
        write_float16(simple, read_layers(simple), half)
        compare = _Comparison(graph, settings, rules, speech)
        version = compare.add("float16", "float16", half)
        if version.has_too_many_errors(max_increase):
            raise AnadilError(
                f"float16: CER {version.evaluation.cer:.2%} instead of {compare.versions[0].evaluation.cer:.2%}, allowed are "
                f"{100 * max_increase:g} points more\n  next: export without --fp16"
            )
        return compare.choose(graph, "always", max_increase, 0)


def _keep_sensitive_float(
    compare: _Comparison,
    int8: Int8,
    layers: Layers,
    calibrating: Speech,
    folder: Path,
    max_increase: float,
    say: Callable[[str], None],
) -> None:
    """Measure versions in which ever more of the sensitive parts stay float, until one has few enough errors."""
    settings = compare.settings
    inputs = [one for _, one in batches(calibrating.waveforms[:16], settings.sample_rate, settings.min_samples)]
    ranked = sensitivities(int8, layers, compare.sessions["float"], folder, inputs, lambda done, total: None)
    say(f"the most sensitive part is {ranked[0][0]}")
    for share in _FLOAT_SHARES:
        parts = tuple(name for name, _ in ranked[: max(1, round(share * len(ranked)))])
        nodes = [node for part in parts for node in layers.groups[part]]
        path = folder / f"static-{len(parts)}.onnx"
        int8.write(path, nodes)
        name = f"int8, calibrated, {len(parts)} of {len(ranked)} parts float"
        version = compare.add(name, "int8", path, parts)
        say(f"{name}: CER {version.evaluation.cer:.2%}")
        if not version.has_too_many_errors(max_increase):
            return


class _Comparison:
    """The versions measured so far on the same speech."""

    def __init__(self, graph: Path, settings: ExportedSettings, rules: TextRules, speech: Speech) -> None:
        self.settings, self._rules, self._speech = settings, rules, speech
        self.sessions = {"float": open_session(graph)}
        self.paths = {"float": graph}
        evaluation = self._recognise("float")
        speed = speeds(self.sessions, speech, settings.min_samples, settings.sample_rate)["float"]
        self.versions = [Version("float", "float32", graph.stat().st_size, speed, evaluation, 0.0, None)]

    def add(self, name: str, precision: Precision, path: Path, float_parts: tuple[str, ...] = ()) -> Version:
        """Measure one more version; its speed is that of float times the ratio of both, taken in turns."""
        self.sessions[name], self.paths[name] = open_session(path), path
        evaluation = self._recognise(name)
        pair = {one: self.sessions[one] for one in ("float", name)}
        both = speeds(pair, self._speech, self.settings.min_samples, self.settings.sample_rate)
        of_float = self.versions[0]
        version = Version(
            name,
            precision,
            path.stat().st_size,
            of_float.speed * both[name] / both["float"],
            evaluation,
            evaluation.cer - of_float.evaluation.cer,
            paired_interval(of_float.evaluation, evaluation),
            float_parts,
        )
        self.versions.append(version)
        return version

    def choose(self, graph: Path, wish: Wish, max_increase: float, n_calibration: int) -> Choice:
        of_float, *others = self.versions
        faults = {one.name: one.is_good(of_float, max_increase) for one in others}
        good = [one for one in others if faults[one.name] is None]
        kept = max(good, key=lambda one: one.speed, default=of_float)
        if kept is of_float and wish == "always":
            kept = min(others, key=lambda one: one.evaluation.cer)
        reasons = []
        for one in others:
            if fault := faults[one.name]:
                reasons.append(f"{one.name}: {'kept, although ' if one is kept else 'not kept: '}{fault}")
            elif one is not kept:
                reasons.append(f"{one.name}: not kept: {kept.name} is faster")
        if kept is not of_float:
            shutil.copyfile(self.paths[kept.name], graph)
        return Choice(tuple(self.versions), kept, tuple(reasons), self._speech.manifest, n_calibration, max_increase)

    def _recognise(self, name: str) -> Evaluation:
        settings = self.settings
        return recognise(
            self.sessions[name],
            self._speech,
            self._rules,
            settings.frame_s,
            settings.min_samples,
            settings.sample_rate,
        )


def paired_interval(first: Evaluation, second: Evaluation) -> tuple[float, float] | None:
    """95 % interval of the second CER minus the first, of the same utterances in the same order.

    It is over speakers if there are at least five, else over utterances (evaluation/intervals.py).
    """
    differences = [
        ErrorCounts(b.characters.errors - a.characters.errors, 0, 0, a.characters.reference)
        for a, b in zip(first.scored, second.scored, strict=True)
    ]
    speakers = _speakers([one.utterance.speaker for one in first.scored])
    return rate_interval(differences, speakers, of_rate=False)


def _speakers(names: Sequence[str | None]) -> list[str] | None:
    known = [name for name in names if name]
    return known if len(known) == len(names) and len(set(known)) >= 5 else None
