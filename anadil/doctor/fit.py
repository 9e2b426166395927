"""Whether the texts fit their recordings: speaking rates that cannot be, and what CTC cannot learn."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from anadil.decoding.ctc import min_ctc_frames, require_frames
from anadil.doctor import findings as kinds
from anadil.doctor.audio import Heard
from anadil.doctor.findings import Finding, found
from anadil.doctor.text import normalized
from anadil.errors import AnadilError
from anadil.text.rules import RulesByLanguage, describe

DEVIATIONS = 3.0
LEAST_DEVIATION = 0.15  # of the logarithm: three are a factor of 1.6, and nothing less is strange
MIN_UTTERANCES = 20  # fewer have no usual rate
MIN_OF_SPEAKER = 5


def rate_findings(heard: Sequence[Heard], n_characters: Sequence[int]) -> Iterator[Finding]:
    """Characters a second of speech beyond 3 robust deviations (1.4826 x MAD of the logarithm) of what is usual.

    A slow reader or one long pause is no wrong transcript: the rate must be strange for the language and for the
    speaker, with the pauses and without them. Over 5,580 real utterances that leaves 4; the first alone leaves 90.
    """
    languages: dict[str | None, array[int]] = defaultdict(_numbers)
    for i, one in enumerate(heard):
        if min(one.speech_s) > 0 and n_characters[i] > 0:
            languages[one.utterance.language].append(i)
    for indices in languages.values():
        if len(indices) < MIN_UTTERANCES:
            continue
        characters = np.fromiter((n_characters[i] for i in indices), float, len(indices))
        flat = np.fromiter((s for i in indices for s in heard[i].speech_s), float, 2 * len(indices))
        seconds = flat.reshape(-1, 2)  # with and without pauses
        logs = np.log(characters[:, None] / seconds)
        speakers: dict[str, array[int]] = defaultdict(_numbers)  # places among the `indices`
        for place, i in enumerate(indices):
            speakers[heard[i].utterance.speaker or ""].append(place)
        speakers.pop("", None)
        habits = [places for places in speakers.values() if len(places) >= MIN_OF_SPEAKER]
        deviations = np.stack([_deviations(column, habits) for column in logs.T])
        least = np.where(np.sign(deviations[0]) == np.sign(deviations[1]), np.abs(deviations).min(axis=0), 0)
        usual = float(np.exp(np.median(logs[:, 0])))
        for k in np.flatnonzero(least > DEVIATIONS):
            one = heard[indices[k]]
            what = (
                f"{np.exp(logs[k, 0]):.1f} characters a second of speech, {usual:.1f} are usual "
                f"({least[k]:.1f} robust deviations): {one.utterance.text!r}"
            )
            yield found(kinds.SPEAKING_RATE, one.utterance, what, float(least[k]))


def _numbers() -> array[int]:
    return array("q")  # a million in a list of Python's integers take 36 MB


def _deviations(logs: np.ndarray, speakers: Sequence[Sequence[int]]) -> np.ndarray:
    """Robust deviations from the median of all or from that of the speaker, whichever is nearer."""
    median = np.median(logs)
    spread = max(LEAST_DEVIATION, 1.4826 * float(np.median(np.abs(logs - median))))
    own = np.full(len(logs), median)
    for places in speakers:
        own[places] = np.median(logs[places])
    from_all, from_own = logs - median, logs - own
    nearer = np.where(np.abs(from_all) < np.abs(from_own), from_all, from_own)
    deviations: np.ndarray = np.where(np.sign(from_all) == np.sign(from_own), nearer, 0) / spread
    return deviations


def label_findings(
    heard: Sequence[Heard],
    by_language: RulesByLanguage,
    sample_rate: int,
    frames_of: Callable[[int], int],
    from_training: bool,
) -> Iterator[Finding]:
    """Texts that have no labels, or more than CTC can place in the model's frames.

    `from_training`: the labels are the characters of the training text, so what is missing has been told; but for digits
    that no rule spells, which are never made labels.
    """
    for one in heard:
        rules = by_language.of(one.utterance.language)
        text = normalized(one.utterance, by_language)
        unknown = rules.unknown_characters(text)
        if unknown:
            digits = rules.language_rules.digits == "spell" and "".join(filter(str.isdecimal, unknown))
            if not from_training or digits:
                what = f"no label for {describe(digits or unknown)} in {text!r}{rules.why_digits(unknown)}"
                yield found(kinds.NO_LABEL, one.utterance, what, len(unknown))
            continue
        duration = one.utterance.duration
        if not text or not duration:
            continue
        labels = rules.encode(text)
        n_frames = frames_of(round(duration * sample_rate))
        try:
            require_frames(labels, n_frames, duration)
        except AnadilError as error:
            n_missing = min_ctc_frames(labels) - n_frames
            yield found(kinds.TOO_MANY_LABELS, one.utterance, str(error), n_missing)
