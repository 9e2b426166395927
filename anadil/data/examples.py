"""Check utterances before training: which can be used, why the others cannot, and the weight of each in the loss."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from anadil import audio
from anadil.decoding.ctc import require_frames
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance, duration_error_s, measured, probe_all
from anadil.text.rules import TextRules

_WEIGHT, MAX_WEIGHT = "weight", 1000.0
"""Key of a manifest line: how much the utterance counts in the loss, from 0 to 1000."""


@dataclass(frozen=True, slots=True)
class Example:
    """An utterance to train on, with its true duration and its encoded text."""

    utterance: Utterance
    labels: tuple[int, ...]
    weight: float = 1.0  # in the loss

    @property
    def duration(self) -> float:
        assert self.utterance.duration is not None
        return self.utterance.duration


@dataclass
class Checked:
    """Result of `check`: usable examples, problems of the others, and counted notes on what is used with changes or omitted."""

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
    """Probe every recording and encode every text.

    `frames_of`: the model's output frames for a number of samples at `sample_rate`. CTC needs one for each label and one
    more between two equal labels. Durations are in seconds; utterances outside the limits are omitted, with a note.
    """
    checked = Checked(total=len(utterances))
    infos = probe_all(utterances, on_progress)
    checked.notes.update(_notes(utterances, infos))
    for utterance in utterances:
        info = infos[utterance.audio_filepath]
        try:
            with_duration = measured(utterance, info)
            _note_duration(utterance, info, checked.notes)
            example = Example(with_duration, tuple(_encode(utterance, rules)))
            if not min_duration <= example.duration <= max_duration:
                is_short = example.duration < min_duration
                limit = "shorter than data.min_duration" if is_short else "longer than data.max_duration"
                checked.notes[f"set aside, {limit}"] += 1
                continue
            require_frames(example.labels, frames_of(round(example.duration * sample_rate)), example.duration)
        except AnadilError as error:
            checked.problems.append(Problem(utterance.source or utterance.audio_filepath, str(error)))
        else:
            checked.examples.append(example)
    return checked


def _notes(utterances: Sequence[Utterance], infos: Mapping[str, audio.AudioInfo | AnadilError]) -> Iterator[str]:
    """The notes on the recordings, once for each channel of each that is read."""
    for path, channel in dict.fromkeys((one.audio_filepath, one.channel) for one in utterances):
        info = infos[path]
        if not isinstance(info, AnadilError):
            yield from info.notes_for(channel)


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
        is_empty = not utterance.text.strip()
        raise AnadilError("empty text" if is_empty else f"nothing is left of the text {utterance.text!r}")
    return rules.encode(text)


def with_weights(checked: Checked, of_pseudo_labels: float | None = None) -> Checked:
    """The examples with their weights. `of_pseudo_labels` is the weight of all pseudo labels; None: as their lines say.

    Examples of weight 0 are omitted, with a note. An invalid weight is a problem.
    """
    result = Checked([], list(checked.problems), Counter(checked.notes), checked.total)
    for example in checked.examples:
        one = example.utterance
        try:
            weight = _weight_of(one)
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


def _weight_of(utterance: Utterance) -> float:
    """The weight of the manifest line, 1 if it has none. Raises AnadilError unless it is a number from 0 to 1000."""
    value = utterance.extra.get(_WEIGHT)
    if value is None:
        return 1.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_WEIGHT:
        raise AnadilError(f'"{_WEIGHT}" must be a number from 0 to {MAX_WEIGHT:g}, found {json.dumps(value)}')
    return float(value)
