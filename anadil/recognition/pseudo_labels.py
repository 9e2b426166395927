"""Pseudo labels: a model's hypotheses for untranscribed speech, kept where its confidence is high.

Self-training with confidence (Kahn, Lee and Hannun 2020, arXiv:1909.09116): the kept lines are a manifest to train on.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from anadil import audio
from anadil.data.pauses import cut_file
from anadil.errors import AnadilError
from anadil.evaluation.calibration import Threshold, thresholds
from anadil.evaluation.errors import ErrorCounts, character_errors, total
from anadil.files import escape_surrogates
from anadil.manifest import (
    CONFIDENCE,
    MAX_DURATION_S,
    MIN_DURATION_S,
    PSEUDO_LABEL,
    PSEUDO_LABEL_MODEL,
    Utterance,
    measured,
    refuse_pseudo_labels,
)
from anadil.recognition.recognize_manifest import measure
from anadil.recognition.recognizer import Recognizer

Progress = Callable[[str, float, float], None]  # stage, done, total
Labelled = Mapping[str, Sequence[tuple[float, float, audio.Channel]]]
"""Stretches (start, end) in seconds of each recording and the channel, by its real path."""


@dataclass(frozen=True, slots=True)
class _Hypothesis:
    """A model's text. Confidence is rounded as in the manifest, so that a printed threshold keeps the same lines."""

    text: str
    confidence: float  # in [0, 1]; 0 if the text is empty


@dataclass(frozen=True, slots=True)
class DurationLimits:
    """Seconds; longer recordings are cut at pauses, shorter pieces are rejected."""

    shortest_s: float = MIN_DURATION_S
    longest_s: float = MAX_DURATION_S


@dataclass(frozen=True)
class Calibration:
    """How character errors depend on the confidence threshold, on validation data."""

    thresholds: list[Threshold]
    characters: ErrorCounts  # of all utterances
    n_utterances: int
    n_set_aside: int  # outside the limits: in the speech to label such utterances are cut or rejected


@dataclass
class PseudoLabels:
    """Kept utterances in the order of the input, and rejected ones, with "reason" in `extra`."""

    kept: list[Utterance] = field(default_factory=list)
    rejected: list[Utterance] = field(default_factory=list)
    n_texts: int = 0  # input utterances that had a text already
    n_cut: int = 0  # input utterances longer than the limit
    languages: Counter[str] = field(
        default_factory=Counter
    )  # languages of the kept utterances that are not the model's

    @property
    def reasons(self) -> Counter[str]:
        return Counter(one.extra["reason"].partition(":")[0] for one in self.rejected)


def calibrate(
    recognizer: Recognizer,
    valid: Sequence[Utterance],
    limits: DurationLimits,
    on_progress: Progress = lambda stage, done, total: None,
) -> Calibration:
    """Recognise labelled validation data, and count the character errors above each confidence threshold.

    Raises AnadilError if a text is itself a pseudo label, or an utterance cannot be scored.
    """
    refuse_pseudo_labels(valid, "calibration")
    valid = measure(valid, recognizer.rules)
    used = [one for one in valid if limits.shortest_s <= (one.duration or 0.0) <= limits.longest_s]

    def unreadable(index: int, error: AnadilError) -> None:
        raise AnadilError(f"{used[index].source}: {error}") from error

    hypotheses = _recognize(recognizer, used, unreadable, lambda done, all_s: on_progress("calibrating", done, all_s))
    in_order = [hypotheses[index] for index in range(len(used))]
    counts = [
        character_errors(recognizer.rules.normalize(one.text), hypothesis.text)
        for one, hypothesis in zip(used, in_order, strict=True)
    ]
    speakers = [one.speaker for one in used if one.speaker]
    found = thresholds(
        [hypothesis.confidence for hypothesis in in_order], counts, speakers if len(speakers) == len(used) else None
    )
    return Calibration(found, total(counts), len(used), len(valid) - len(used))


def stretches_of(labelled: Sequence[Utterance]) -> Labelled:
    """Return the stretches of recordings that have labels already and must not be labelled again."""
    found: dict[str, list[tuple[float, float, audio.Channel]]] = {}
    for one in labelled:
        end = float("inf") if one.duration is None else one.offset + one.duration
        found.setdefault(os.path.realpath(one.audio_filepath), []).append((one.offset, end, one.channel))
    return found


def pseudo_label(
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    least: float,
    name: str,
    limits: DurationLimits,
    labelled: Labelled,
    on_progress: Progress = lambda stage, done, total: None,
) -> PseudoLabels:
    """Transcribe `utterances`, whatever text they have, and keep those of at least the confidence `least`.

    Long ones are cut at pauses. Each kept line is marked as a pseudo label, with its confidence and the
    model's `name`; its earlier text is kept as "original_text". `labelled` stretches are rejected.
    The same input gives the same lines.
    """
    found = PseudoLabels(n_texts=sum(bool(one.text.strip()) for one in utterances))

    def reject(utterance: Utterance, reason: str, **more: Any) -> None:
        where = {
            "where": escape_surrogates(utterance.source or utterance.audio_filepath),
            "reason": escape_surrogates(reason),
        }
        path = escape_surrogates(utterance.audio_filepath)
        found.rejected.append(replace(utterance, audio_filepath=path, extra=utterance.extra | where | more))

    pieces = list(_cut(recognizer.sample_rate, utterances, limits, labelled, found, reject, on_progress))
    hypotheses = _recognize(
        recognizer,
        pieces,
        lambda index, error: reject(pieces[index], f"not readable: {error}"),
        lambda done, all_s: on_progress("recognising", done, all_s),
    )
    for index, hypothesis in sorted(hypotheses.items()):
        piece = pieces[index]
        marks = {"pred_text": hypothesis.text, CONFIDENCE: hypothesis.confidence}
        if not hypothesis.text:
            reject(piece, "empty hypothesis", **marks)
        elif hypothesis.confidence < least:
            reject(piece, f"confidence below {least:g}", **marks)
        else:
            found.kept.append(_labelled(piece, hypothesis, name))
            if piece.language and piece.language != recognizer.rules.language:
                found.languages[piece.language] += 1
    return found


def _labelled(piece: Utterance, hypothesis: _Hypothesis, name: str) -> Utterance:
    original = {"original_text": piece.text} if piece.text.strip() and not piece.is_pseudo_label else {}
    marks = {PSEUDO_LABEL: True, CONFIDENCE: hypothesis.confidence, PSEUDO_LABEL_MODEL: name}
    return replace(piece, text=hypothesis.text, extra=piece.extra | original | marks)


def _cut(
    sample_rate: int,
    utterances: Sequence[Utterance],
    limits: DurationLimits,
    labelled: Labelled,
    found: PseudoLabels,
    reject: Callable[[Utterance, str], None],
    on_progress: Progress,
) -> Iterator[Utterance]:
    """Yield the stretches that can be recognised, cut to the limit."""
    seen: set[tuple[str, float, float, audio.Channel]] = set()
    for done, utterance in enumerate(utterances, start=1):
        on_progress("measuring", done, len(utterances))
        try:
            whole = measured(utterance, audio.probe(utterance.audio_filepath))
            assert whole.duration is not None
            parts = [whole]
            if whole.duration > limits.longest_s:
                cuts = cut_file(
                    whole.audio_filepath, sample_rate, whole.offset, whole.duration, limits.longest_s, whole.channel
                )
                found.n_cut += 1
                # the text of the whole does not belong to its pieces
                parts = [replace(whole, offset=start, duration=length, text="") for start, length in cuts]
        except AnadilError as error:
            reject(utterance, f"not readable: {error}")
            continue
        recording = os.path.realpath(whole.audio_filepath)
        for part in parts:
            duration = part.duration or 0.0
            end = part.offset + duration
            if duration < limits.shortest_s:
                reject(part, f"shorter than {limits.shortest_s:g} s")
            elif any(
                start < end and part.offset < stop and (channel == part.channel or "mix" in (channel, part.channel))
                for start, stop, channel in labelled.get(recording, ())
            ):
                reject(part, "labelled already (--calibrate, --exclude)")
            elif (recording, part.offset, duration, part.channel) in seen:
                reject(part, "given twice")
            else:
                seen.add((recording, part.offset, duration, part.channel))
                yield part


def _recognize(
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    reject: Callable[[int, AnadilError], None],
    on_progress: Callable[[float, float], None],
) -> dict[int, _Hypothesis]:
    """Return the hypotheses by the index of the utterance; progress is in seconds of audio."""
    decoder, hypotheses = recognizer.decoder, {}
    done_s, all_s = 0.0, sum(one.duration or 0.0 for one in utterances)
    for index, log_probs in recognizer.log_probs_of_utterances(utterances, reject):
        decoded = decoder.decode(log_probs)
        hypotheses[index] = _Hypothesis(decoded.text, round(decoder.confidence(log_probs, decoded), 4))
        done_s += utterances[index].duration or 0.0
        on_progress(done_s, all_s)
    return hypotheses
