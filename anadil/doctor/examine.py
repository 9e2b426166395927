"""Examine manifests, texts and audio before training, and report everything that would spoil it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from anadil.doctor import findings as kinds
from anadil.doctor.audio import (
    AudioLimits,
    MeasuredUtterance,
    MeasureTasks,
    length_findings,
    measure_all,
    measure_here,
)
from anadil.doctor.findings import KINDS, Finding, FindingKind, Severity
from anadil.doctor.fit import label_findings, rate_findings
from anadil.doctor.splits import TEST, TRAIN, VALID, SplitData, between, splits_of, within
from anadil.doctor.text import character_findings, read_texts
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance, iter_manifest, write_manifest
from anadil.text.rules import RulesByLanguage

OnProgress = Callable[[str, int, int], None]
_READING = "reading texts"


@dataclass
class CheckedManifest:
    """A manifest that was read, and the split it belongs to."""

    path: Path
    split: str
    utterances: list[Utterance] = field(default_factory=list)  # without `extra`: a million lines must fit
    broken: list[Problem] = field(default_factory=list)
    pseudo: list[str] = field(default_factory=list)  # lines whose text a model wrote


@dataclass(frozen=True)
class Model:
    """What the checks need to know of a model. `frames_of`: its output frames for a number of samples."""

    sample_rate: int
    frames_of: Callable[[int], int]
    labels_from_training: bool


@dataclass
class Report:
    """All findings, in the order of `KINDS`, the worst of each kind first."""

    parts: list[CheckedManifest]
    findings: list[Finding]
    seconds: float  # of all utterances
    durations: dict[str, float]  # seconds, by line, of the utterances that findings name
    intended: Counter[str]  # letters of a second script that seem to belong to the orthography
    audio_decoded: bool

    @property
    def spoiled(self) -> bool:
        return any(finding.severity is Severity.SPOILS for finding in self.findings)

    def by_kind(self) -> Iterator[tuple[FindingKind, list[Finding]]]:
        for kind in KINDS:
            findings = [finding for finding in self.findings if finding.kind is kind]
            if findings:
                yield kind, findings

    def seconds_of(self, findings: Sequence[Finding]) -> float:
        """Seconds of audio that the findings concern; each utterance counts once."""
        lines = {line for finding in findings for line in finding.lines}
        return sum(self.durations.get(line, 0.0) for line in lines)

    def to_dict(self) -> dict[str, Any]:
        """All findings, for JSON."""
        return {
            "manifests": [
                {"path": str(part.path), "split": part.split, "utterances": len(part.utterances)}
                | ({"pseudo_labels": len(part.pseudo)} if part.pseudo else {})
                for part in self.parts
            ],
            "hours": self.seconds / 3600,
            "audio": self.audio_decoded,
            "spoiled": self.spoiled,
            "findings": [
                {
                    "kind": one.kind.name,
                    "severity": one.severity.value,
                    "where": one.where,
                    "what": one.what,
                    "value": one.value,
                    "lines": one.lines,
                }
                for one in self.findings
            ],
        }


def read_parts(
    manifests: Sequence[Path], train: Sequence[str] = (), valid: Sequence[str] = ()
) -> list[CheckedManifest]:
    """Read manifests; `train` and `valid` are the paths in a config. Raises AnadilError if one is missing or empty."""
    parts = [
        CheckedManifest(path, split) for path, split in zip(manifests, splits_of(manifests, train, valid), strict=True)
    ]
    for part in parts:
        no_extra: dict[str, Any] = {}
        for one in iter_manifest(part.path, part.broken.append):
            if one.is_pseudo_label:
                part.pseudo.append(one.source)
            part.utterances.append(
                Utterance(
                    one.audio_filepath,
                    one.duration,
                    one.text,
                    one.offset,
                    one.speaker,
                    one.language,
                    no_extra,
                    one.source,
                    one.channel,
                )
            )
        if not part.utterances and not part.broken:
            raise AnadilError(f"{part.path}: the manifest is empty\n  next: check what wrote it")
    return parts


def examine(
    parts: Sequence[CheckedManifest],
    rules: RulesByLanguage,
    limits: AudioLimits,
    model: Model | None = None,
    decode_audio: bool = True,
    on_progress: OnProgress = lambda stage, done, total: None,
    measure_tasks: MeasureTasks = measure_here,
) -> Report:
    """Find everything that would spoil training. `rules` hold the model's labels if there is a `model`.

    `measure_tasks` decodes and measures the recordings: `measure_here`, or in shards (`doctor/shards.py`).
    """
    by_split: dict[str, list[Utterance]] = {}
    for part in parts:
        by_split.setdefault(part.split, []).extend(part.utterances)
    everything = [one for utterances in by_split.values() for one in utterances]
    total = len(everything)
    findings = [Finding(kinds.BROKEN_LINE, (one.where,), one.what, 1.0) for part in parts for one in part.broken]
    findings += [
        Finding(kinds.PSEUDO_LABELS, (line,), f"in {part.split}", 1.0)
        for part in parts
        for line in part.pseudo
        if part.split in (VALID, TEST)
    ]
    if decode_audio:
        measured, new_findings = measure_all(
            everything, limits, lambda done: on_progress("decoding audio", done, total), measure_tasks
        )
        everything = [one.utterance for one in measured]  # with their true durations
        findings += new_findings
    else:
        measured = [MeasuredUtterance(one) for one in everything]
    labels = rules.default.labels if model and not model.labels_from_training else ()
    splits: list[SplitData] = []
    start = 0
    for name, split_utterances in by_split.items():
        end = start + len(split_utterances)
        utterances = everything[start:end]
        texts, new_findings = read_texts(utterances, rules, labels, partial(_report_reading, on_progress, start, total))
        findings += new_findings
        splits.append(SplitData(name, utterances, texts, measured[start:end]))
        findings += within(splits[-1])
        start = end
    on_progress(_READING, total, total)
    findings += between(splits, rules, labels)
    train_split = next((split for split in splits if split.name == TRAIN), splits[0])
    new_findings, intended = character_findings(train_split.utterances, train_split.texts, rules)
    findings += new_findings
    findings += length_findings(measured, limits)
    findings += rate_findings(measured, [n for split in splits for n in split.texts.n_characters])
    if model:
        findings += label_findings(measured, rules, model.sample_rate, model.frames_of, model.labels_from_training)
    named = {line for finding in findings for line in finding.lines}
    durations = {one.source: one.duration or 0.0 for one in everything if one.source in named}
    seconds = sum(one.duration or 0.0 for one in everything)
    return Report(list(parts), _sorted(findings), seconds, durations, intended, decode_audio)


def write_without(
    parts: Sequence[CheckedManifest], report: Report, names: Collection[str], out: Path
) -> list[tuple[Path, int]]:
    """Write each manifest to `out` without the utterances that have findings of these kinds.

    Returns the files and how many utterances were omitted from each. Lines that are not utterances are omitted too.
    """
    named = {line for finding in report.findings if finding.kind.name in names for line in finding.lines}
    written = []
    for part in parts:
        kept = [one for one in iter_manifest(part.path, lambda problem: None) if one.source not in named]
        path = out / part.path.name
        write_manifest(path, kept)
        written.append((path, len(part.utterances) - len(kept)))
    return written


def _report_reading(on_progress: OnProgress, start: int, total: int, done: int) -> None:
    on_progress(_READING, start + done, total)


def _sorted(findings: Iterable[Finding]) -> list[Finding]:
    order = {kind.name: i for i, kind in enumerate(KINDS)}
    return sorted(findings, key=lambda one: (order[one.kind.name], one.kind.worst.value * one.value))
