"""Whether the texts fit their recordings: speaking rates that cannot be, and what CTC cannot learn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from anadil.data import findings as kinds
from anadil.data.audio_findings import Heard
from anadil.data.checks import Example, min_ctc_frames, require_frames
from anadil.data.findings import Finding, found
from anadil.errors import AnadilError
from anadil.text.rules import TextRules, describe

DEVIATIONS = 3.0
LEAST_DEVIATION = 0.1  # of the logarithm: no corpus is so even that 10 % would be strange
MIN_UTTERANCES = 20  # fewer have no usual rate


def rate_findings(heard: Sequence[Heard], n_characters: Sequence[int]) -> Iterator[Finding]:
    """Characters a second of speech beyond 3 robust deviations (1.4826 x MAD of the logarithm) of their median.

    Utterances of several languages are judged each among its own.
    """
    groups: dict[str | None, list[int]] = defaultdict(list)
    for i, one in enumerate(heard):
        if one.speech_s > 0 and n_characters[i] > 0:
            groups[one.utterance.language].append(i)
    for group in groups.values():
        if len(group) < MIN_UTTERANCES:
            continue
        rates = np.array([n_characters[i] / heard[i].speech_s for i in group])
        logs = np.log(rates)
        median = np.median(logs)
        spread = max(LEAST_DEVIATION, 1.4826 * float(np.median(np.abs(logs - median))))
        deviations = (logs - median) / spread
        for k in np.flatnonzero(np.abs(deviations) > DEVIATIONS):
            one = heard[group[k]]
            what = (
                f"{rates[k]:.1f} characters a second of speech, {np.exp(median):.1f} are usual "
                f"({deviations[k]:+.1f} deviations): {one.utterance.text!r}"
            )
            yield found(kinds.SPEAKING_RATE, one.utterance, what, abs(float(deviations[k])))


def label_findings(
    heard: Sequence[Heard], rules: TextRules, sample_rate: int, frames_of: Callable[[int], int], from_training: bool
) -> Iterator[Finding]:
    """Texts that have no labels, or more than CTC can place in the model's frames.

    `from_training`: the labels are the characters of the training text, so what is missing has been told.
    """
    for one in heard:
        text = rules.normalize(one.utterance.text)
        unknown = rules.unknown_characters(text)
        if unknown:
            if not from_training:
                what = f"no label for {describe(unknown)} in {text!r}"
                yield found(kinds.NO_LABEL, one.utterance, what, len(unknown))
            continue
        duration = one.utterance.duration
        if not text or not duration:
            continue
        example = Example(one.utterance, tuple(rules.encode(text)))
        n_frames = frames_of(round(duration * sample_rate))
        try:
            require_frames(example, n_frames)
        except AnadilError as error:
            n_missing = min_ctc_frames(example.labels) - n_frames
            yield found(kinds.TOO_MANY_LABELS, one.utterance, str(error), n_missing)
