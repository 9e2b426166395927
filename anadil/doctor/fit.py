"""Whether the texts fit their recordings: unusual speaking rates, and texts that CTC cannot align."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from anadil.decoding.ctc import min_ctc_frames, require_frames
from anadil.doctor import findings as kinds
from anadil.doctor.audio import MeasuredUtterance
from anadil.doctor.findings import Finding, make_finding
from anadil.doctor.text import normalized
from anadil.errors import AnadilError
from anadil.text.rules import RulesByLanguage, describe

_DEVIATIONS = 3.0
_LEAST_DEVIATION = 0.15  # of the logarithm: three are a factor of 1.6; anything less is normal
_MIN_UTTERANCES = 20  # fewer give no reliable median
_MIN_OF_SPEAKER = 5


def rate_findings(measured: Sequence[MeasuredUtterance], n_characters: Sequence[int]) -> Iterator[Finding]:
    """Utterances whose characters a second of speech are over 3 robust deviations (1.4826 x MAD of the log) off the median.

    A slow reader or a long pause does not mean a wrong transcript. So the rate must be unusual for the language and for
    the speaker, with pauses and without. Of 5,580 real utterances this reports 4; the language's median alone reports 90.
    """
    languages: dict[str | None, array[int]] = defaultdict(_numbers)
    for i, one in enumerate(measured):
        if min(one.speech_s) > 0 and n_characters[i] > 0:
            languages[one.utterance.language].append(i)
    for indices in languages.values():
        if len(indices) < _MIN_UTTERANCES:
            continue
        characters = np.fromiter((n_characters[i] for i in indices), float, len(indices))
        flat = np.fromiter((s for i in indices for s in measured[i].speech_s), float, 2 * len(indices))
        seconds = flat.reshape(-1, 2)  # with and without pauses
        logs = np.log(characters[:, None] / seconds)
        speakers: dict[str, array[int]] = defaultdict(_numbers)  # positions in `indices`
        for position, i in enumerate(indices):
            speakers[measured[i].utterance.speaker or ""].append(position)
        speakers.pop("", None)
        groups = [positions for positions in speakers.values() if len(positions) >= _MIN_OF_SPEAKER]
        deviations = np.stack([_deviations(column, groups) for column in logs.T])
        least = np.where(np.sign(deviations[0]) == np.sign(deviations[1]), np.abs(deviations).min(axis=0), 0)
        usual = float(np.exp(np.median(logs[:, 0])))
        for k in np.flatnonzero(least > _DEVIATIONS):
            one = measured[indices[k]]
            message = (
                f"{np.exp(logs[k, 0]):.1f} characters a second of speech, usual are {usual:.1f} "
                f"({least[k]:.1f} robust deviations): {one.utterance.text!r}"
            )
            yield make_finding(kinds.SPEAKING_RATE, one.utterance, message, float(least[k]))


def _numbers() -> array[int]:
    return array("q")  # a list of a million Python integers takes 36 MB


def _deviations(logs: np.ndarray, speakers: Sequence[Sequence[int]]) -> np.ndarray:
    """Robust deviations from the median of all or from the speaker's median, whichever is nearer."""
    median = np.median(logs)
    spread = max(_LEAST_DEVIATION, 1.4826 * float(np.median(np.abs(logs - median))))
    own = np.full(len(logs), median)
    for positions in speakers:
        own[positions] = np.median(logs[positions])
    from_all, from_own = logs - median, logs - own
    nearer = np.where(np.abs(from_all) < np.abs(from_own), from_all, from_own)
    deviations: np.ndarray = np.where(np.sign(from_all) == np.sign(from_own), nearer, 0) / spread
    return deviations


def label_findings(
    measured: Sequence[MeasuredUtterance],
    by_language: RulesByLanguage,
    sample_rate: int,
    frames_of: Callable[[int], int],
    from_training: bool,
) -> Iterator[Finding]:
    """Texts with characters that have no label, or with more labels than CTC can align with the model's frames.

    `from_training`: the labels are the characters of the training text, so that `between` reports missing ones. Only
    digits that no rule spells out are reported here: they are never made labels.
    """
    for one in measured:
        rules = by_language.of(one.utterance.language)
        text = normalized(one.utterance, by_language)
        unknown = rules.unknown_characters(text)
        if unknown:
            digits = rules.language_rules.digits == "spell" and "".join(filter(str.isdecimal, unknown))
            if not from_training or digits:
                message = f"no label for {describe(digits or unknown)} in {text!r}{rules.why_digits(unknown)}"
                yield make_finding(kinds.NO_LABEL, one.utterance, message, len(unknown))
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
            yield make_finding(kinds.TOO_MANY_LABELS, one.utterance, str(error), n_missing)
