"""Before training: which utterances can be used, and why the others cannot. Nothing is dropped unnoticed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from anadil import audio
from anadil.decoding.ctc import require_frames
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance, duration_error_s, measured, probe_all
from anadil.text.rules import TextRules


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
    infos = probe_all(utterances, on_progress)
    checked.notes.update(
        note for info in infos.values() if not isinstance(info, AnadilError) for note in audio.file_notes(info)
    )
    for utterance in utterances:
        info = infos[utterance.audio_filepath]
        try:
            with_duration = measured(utterance, info)
            _note_duration(utterance, info, checked.notes)
            example = Example(with_duration, tuple(_encode(utterance, rules)))
            if not min_duration <= example.duration <= max_duration:
                side = (
                    "shorter than data.min_duration"
                    if example.duration < min_duration
                    else "longer than data.max_duration"
                )
                checked.notes[f"set aside, {side}"] += 1
                continue
            require_frames(example.labels, frames_of(round(example.duration * sample_rate)), example.duration)
        except AnadilError as error:
            checked.problems.append(Problem(utterance.source or utterance.audio_filepath, str(error)))
        else:
            checked.examples.append(example)
    return checked


def _note_duration(utterance: Utterance, info: audio.AudioInfo | AnadilError, notes: Counter[str]) -> None:
    assert not isinstance(info, AnadilError)
    error_s = duration_error_s(utterance, info)
    if error_s > 0:
        notes["manifest says longer than the audio is (the audio's length counts)"] += 1
    elif error_s < 0:
        notes["manifest says shorter than the audio is (taken as a segment from the start)"] += 1


def _encode(utterance: Utterance, rules: TextRules) -> list[int]:
    text = rules.normalize(utterance.text)
    if not text:
        why = "empty text" if not utterance.text.strip() else f"nothing is left of the text {utterance.text!r}"
        raise AnadilError(why)
    return rules.encode(text)


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
