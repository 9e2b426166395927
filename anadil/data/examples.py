"""Before training: which utterances can be used, and why the others cannot. Nothing is dropped unnoticed."""

from __future__ import annotations

import itertools
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from anadil import audio
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance
from anadil.text.rules import TextRules

DURATION_TOLERANCE_S = 0.05
"""Manifests round; MP3 headers are off by up to a frame (18 ms over 100 Common Voice clips)."""

MIN_DURATION_S, MAX_DURATION_S = 0.1, 20.0
"""What training uses unless the config says otherwise."""


@dataclass(frozen=True, slots=True)
class Example:
    """An utterance that can be trained on: its true duration is filled in, its text is encoded."""

    utterance: Utterance
    labels: tuple[int, ...]
    weight: float = 1.0  # in the loss of training

    @property
    def duration(self) -> float:
        assert self.utterance.duration is not None
        return self.utterance.duration


@dataclass
class Checked:
    """Outcome of `check`. `problems` cannot be used; `notes` count what was used all the same, or set aside."""

    examples: list[Example] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    total: int = 0

    @property
    def hours(self) -> float:
        return sum(example.duration for example in self.examples) / 3600


def check(
    utterances: Sequence[Utterance],
    rules: TextRules,
    sample_rate: int,
    frames_of: Callable[[int], int],
    min_duration: float = 0.0,
    max_duration: float = float("inf"),
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Checked:
    """Probe every file and encode every text.

    `frames_of` gives the model's output frames for a number of samples at `sample_rate`: CTC needs one for each
    label and one more between two equal labels. Durations in seconds; utterances outside the limits are set aside.
    """
    checked = Checked(total=len(utterances))
    paths = list(dict.fromkeys(utterance.audio_filepath for utterance in utterances))
    infos: dict[str, audio.AudioInfo | AnadilError] = {}
    with ThreadPoolExecutor(max_workers=min(8, 2 * (os.cpu_count() or 1))) as pool:
        for done, (path, info) in enumerate(zip(paths, pool.map(_probe, paths), strict=True), start=1):
            infos[path] = info
            on_progress(done, len(paths))
    checked.notes.update(note for info in infos.values() for note in file_notes(info))
    for utterance in utterances:
        try:
            measured = _measure(utterance, infos[utterance.audio_filepath], checked.notes)
            example = Example(measured, tuple(_encode(utterance, rules)))
            if not min_duration <= example.duration <= max_duration:
                side = (
                    "shorter than data.min_duration"
                    if example.duration < min_duration
                    else "longer than data.max_duration"
                )
                checked.notes[f"set aside, {side}"] += 1
                continue
            require_frames(example, frames_of(round(example.duration * sample_rate)))
        except AnadilError as error:
            checked.problems.append(Problem(utterance.source or utterance.audio_filepath, str(error)))
        else:
            checked.examples.append(example)
    return checked


def min_ctc_frames(labels: Sequence[int]) -> int:
    """Fewest frames a CTC path for `labels` can have: a blank must part two equal neighbours (Graves et al. 2006)."""
    return len(labels) + sum(a == b for a, b in itertools.pairwise(labels))


def _probe(path: str) -> audio.AudioInfo | AnadilError:
    try:
        return audio.probe(path)
    except AnadilError as error:
        return error


def file_notes(info: audio.AudioInfo | AnadilError) -> list[str]:
    """What a user should know about a file that is used all the same."""
    if isinstance(info, AnadilError):
        return []
    notes = []
    if info.promised > info.duration:
        notes.append("cut off: the header promises more samples than the file has (used as far as it goes)")
    if info.channels > 1:
        notes.append(f"{info.channels} channels, mixed down to one")
    return notes


def _measure(utterance: Utterance, info: audio.AudioInfo | AnadilError, notes: Counter[str]) -> Utterance:
    """The utterance with the duration that its audio really has."""
    if isinstance(info, AnadilError):
        raise info
    available = info.duration - utterance.offset
    if info.duration <= 0:
        raise AnadilError(f"audio has no samples: {utterance.audio_filepath}")
    if available <= 0:
        raise AnadilError(
            f"offset {utterance.offset:g} s lies past the end of {utterance.audio_filepath} ({info.duration:.2f} s)"
        )
    duration = available if utterance.duration is None else utterance.duration
    if duration <= 0:
        raise AnadilError('"duration" is 0: there is nothing to hear')
    if (
        duration > available + DURATION_TOLERANCE_S
        and info.promised - utterance.offset < duration - DURATION_TOLERANCE_S
    ):
        notes["manifest says longer than the audio is (the audio's length counts)"] += 1
    elif utterance.offset == 0 and duration < available - DURATION_TOLERANCE_S:
        notes["manifest says shorter than the audio is (taken as a segment from the start)"] += 1
    return replace(utterance, duration=min(duration, available))


def _encode(utterance: Utterance, rules: TextRules) -> list[int]:
    text = rules.normalize(utterance.text)
    if not text:
        why = "empty text" if not utterance.text.strip() else f"nothing is left of the text {utterance.text!r}"
        raise AnadilError(why)
    return rules.encode(text)


def require_frames(example: Example, n_frames: int) -> None:
    """Raise AnadilError if CTC cannot place the labels in so many frames."""
    needed, n_labels = min_ctc_frames(example.labels), len(example.labels)
    if needed > n_frames:
        raise AnadilError(
            f"text too long for its audio: {n_labels} labels and {needed - n_labels} repeats need {needed} frames, "
            f"the model makes {n_frames} of {example.duration:.2f} s"
        )


# How much an utterance counts in training: the manifest's key "weight", and the config's for pseudo labels.

WEIGHT = "weight"
LARGEST = 1000.0


def weighed(checked: Checked, of_pseudo_labels: float | None = None) -> Checked:
    """Examples with their weights; `of_pseudo_labels` is that of all pseudo labels, None: what their lines say.

    What is weighed 0 is set aside and noted; a weight that is none is a problem.
    """
    result = Checked([], list(checked.problems), Counter(checked.notes), checked.total)
    for example in checked.examples:
        one = example.utterance
        try:
            weight = weight_of(one)
            if one.is_pseudo_label and of_pseudo_labels is not None:
                weight = of_pseudo_labels
        except AnadilError as error:
            result.problems.append(Problem(one.source or one.audio_filepath, str(error)))
        else:
            if weight:
                result.examples.append(replace(example, weight=weight) if weight != 1 else example)
            else:
                result.notes["set aside, weight 0"] += 1
    return result


def weight_of(utterance: Utterance) -> float:
    """The line's weight, 1 if it has none. Raises AnadilError if it is no number from 0 to 1000."""
    value = utterance.extra.get(WEIGHT)
    if value is None:
        return 1.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LARGEST:
        raise AnadilError(f'"{WEIGHT}" must be a number from 0 to {LARGEST:g}, found {json.dumps(value)}')
    return float(value)
