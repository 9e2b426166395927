"""A long recording and its text to a manifest of segments that are cut at pauses: sermons, stories, radio programmes.

One search over the whole recording finds the times of the words, the text that is not spoken and the speech that is not in
the text (`decoding/alignment.py`). No step depends on an earlier one, so a silence or a wrong passage cannot make it lose
its place. What is not part of a segment is listed with the reason.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from anadil.audio import Channel, probe
from anadil.decoding.alignment import Gaps
from anadil.decoding.labelled_text import LabelledText, labelled_text
from anadil.decoding.word_times import LEAST_PAUSE_S, delay
from anadil.errors import AnadilError
from anadil.manifest import Utterance, measured
from anadil.recognition.align import (
    ALIGNMENT,
    DOUBTFUL,
    AlignedWord,
    Placed,
    Progress,
    SpeechFrames,
    place,
    speech_frames,
)
from anadil.recognition.recognizer import Recognizer
from anadil.text.written import as_written

FOREIGN_ENTRY, FOREIGN_FRAME, SKIP_ENTRY, SKIP_LABEL = 16.0, 1.5, 16.0, 1.5
"""What leaving the text costs, in nats (`Gaps`). With 5 % of Mboshi's sentences deleted from the text and 5 % inserted, on four
seeds, these found all deleted and inserted ones and omitted 0.3 % of the spoken words; half the entry costs 1 %."""

MARGIN_S = 0.2
"""So much of a pause is kept at each side of a segment."""

_SENTENCE_END_S, _SENTENCE_MARKS = 0.3, ".?!…。！？؟।॥"
"""A pause at the end of a sentence or a line counts as this much longer when a cut is chosen."""


@dataclass(frozen=True)
class SegmentLimits:
    """Which segments are kept."""

    longest_s: float = 20.0
    least_score: float = DOUBTFUL


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Text or speech that is in no segment. Seconds from the start of the recording."""

    reason: str
    start: float
    end: float
    text: str = ""  # as written; empty for speech that is not in the text
    recognized: str = ""  # what the model recognises there
    line: int | None = None  # of the text
    score: float | None = None

    def to_dict(self) -> dict[str, Any]:
        times = {"reason": self.reason, "start": round(self.start, 3), "end": round(self.end, 3)}
        more = {"text": self.text, "line": self.line, "recognized": self.recognized}
        score = None if self.score is None else round(self.score, 4)
        return (
            times | {key: value for key, value in more.items() if value} | ({} if score is None else {"score": score})
        )


NOT_SPOKEN, NOT_IN_TEXT = "text that is not spoken", "speech that is not in the text"
LOW_SCORE, NO_PAUSE = "score below the limit", "no pause between it and what is not in the text"


@dataclass
class Segmented:
    """The segments of a recording, and everything else."""

    segments: list[Utterance] = field(default_factory=list)  # with the alignment in `extra`
    words: list[list[AlignedWord]] = field(default_factory=list)  # of each segment
    left_out: list[LeftOut] = field(default_factory=list)  # in order of time
    ignored: Counter[str] = field(default_factory=Counter)  # characters without a label
    duration: float = 0.0  # of the recording, s
    n_words: int = 0  # of the text
    n_cuts_without_pause: int = 0

    def of(self, reason: str) -> list[LeftOut]:
        return [one for one in self.left_out if one.reason == reason]


@dataclass(frozen=True)
class Found:
    """A recording aligned with a text that may not be all that is spoken, nor all be spoken."""

    whole: Utterance
    log_probs: np.ndarray  # float32 (frames, labels + blank)
    placed: Placed
    words: list[AlignedWord | None]  # None for a word that is not spoken
    foreign: list[tuple[int, float, float]]  # speech that is not in the text: gap, from and to in seconds


def read_speech(
    recognizer: Recognizer,
    recording: Path,
    channel: Channel = "mix",
    on_progress: Progress = lambda stage, done, total: None,
) -> tuple[Utterance, SpeechFrames]:
    """A recording of any length as one utterance without text, and its log-probs. Raises AnadilError if it cannot be read."""
    whole = measured(Utterance(str(recording), channel=channel, language=recognizer.rules.language), probe(recording))
    duration = whole.duration or 0.0
    errors: list[AnadilError] = []

    def reject(index: int, error: AnadilError) -> None:
        errors.append(error)

    found = list(speech_frames(recognizer, [whole], reject, lambda done: on_progress("recognising", done, duration)))
    if errors:
        raise errors[0]
    on_progress("recognising", duration, duration)
    return whole, found[0][1]


def find_words(
    recognizer: Recognizer,
    whole: Utterance,
    frames: SpeechFrames,
    text: str,
    on_progress: Progress = lambda stage, done, total: None,
) -> Found:
    """Align what `read_speech` returns with a text. Raises AnadilError if no word of the text is found."""
    labelled = labelled_text(recognizer.rules, text)
    gaps = Gaps(*labelled.gaps, FOREIGN_ENTRY, FOREIGN_FRAME, SKIP_ENTRY, SKIP_LABEL)
    placed = place(recognizer, frames, labelled, gaps, lambda done, total: on_progress("aligning", done, total))
    if not placed.is_spoken.any():
        raise AnadilError(
            f"{whole.audio_filepath}: no word of the text is found in the recording\n"
            "  next: check that they belong together, and that the model recognises this language: anadil transcribe"
        )
    words, foreign = placed.timed(delay([placed.spikes]))
    return Found(whole, frames.log_probs, placed, words, foreign)


def segment_recording(
    recognizer: Recognizer,
    recording: Path,
    text: str,
    limits: SegmentLimits,
    channel: Channel = "mix",
    on_progress: Progress = lambda stage, done, total: None,
) -> Segmented:
    """Align a recording of any length with its text, and cut it into segments.

    Raises AnadilError if the audio cannot be read, if the text cannot be aligned, or if no word of it is found.
    """
    labelled_text(recognizer.rules, text)  # whose errors should come before the network runs
    whole, frames = read_speech(recognizer, recording, channel, on_progress)
    found = find_words(recognizer, whole, frames, text, on_progress)
    labelled, words, duration = found.placed.text, found.words, found.whole.duration or 0.0
    result = Segmented(ignored=labelled.ignored, duration=duration, n_words=len(labelled.words))
    result.left_out += _foreign_speech(recognizer, found)
    result.left_out += _unspoken(labelled, words, duration)
    for first, end in _stretches(words, {gap for gap, _, _ in found.foreign}):
        _cut_stretch(result, found, recognizer.name, first, end, limits)
    result.left_out.sort(key=lambda one: (one.start, one.end))
    return result


def _foreign_speech(recognizer: Recognizer, found: Found) -> Iterator[LeftOut]:
    """Yield time and recognised text of each speech that is not in the text."""
    for _, start_s, end_s in found.foreign:
        frames = slice(*np.searchsorted(found.placed.times, (start_s, end_s)).tolist())
        yield LeftOut(NOT_IN_TEXT, start_s, end_s, recognized=recognizer.decoder.decode(found.log_probs[frames]).text)


def _unspoken(labelled: LabelledText, words: Sequence[AlignedWord | None], duration: float) -> Iterator[LeftOut]:
    """Yield each run of words that are not spoken, with the times of the words around it."""
    for is_omitted, run in itertools.groupby(range(len(words)), key=lambda i: words[i] is None):
        if not is_omitted:
            continue
        numbers = list(run)
        before, after = words[numbers[0] - 1] if numbers[0] else None, words[numbers[-1] + 1 : numbers[-1] + 2]
        start = before.end if before else 0.0
        end = after[0].start if after and after[0] else duration
        own = labelled.words[numbers[0] : numbers[-1] + 1]
        yield LeftOut(NOT_SPOKEN, start, max(start, end), as_written(own), line=own[0].line)


def _stretches(words: Sequence[AlignedWord | None], foreign: set[int]) -> Iterator[tuple[int, int]]:
    """Yield (first, end) of the runs of words that follow one another without omitted words or other speech."""
    first = 0
    for i in range(len(words) + 1):
        if i == len(words) or words[i] is None or i in foreign:
            if first < i:
                yield first, i
            first = i if i < len(words) and words[i] is not None else i + 1


def _cut_stretch(result: Segmented, found: Found, model: str, first: int, end: int, limits: SegmentLimits) -> None:
    """Add the segments of a stretch to the result, and what of it is left out."""
    whole, placed, words = found.whole, found.placed, found.words
    own = [word for word in words[first:end] if word is not None]
    pauses = _pauses(found, first, end)
    # beside other speech or omitted words a segment begins and ends at a pause
    left, right = 0, len(own)
    if first > 0 and pauses[0] < LEAST_PAUSE_S:
        left = next((i for i in range(1, len(own)) if pauses[i] >= LEAST_PAUSE_S), len(own))
    if end < len(words) and pauses[-1] < LEAST_PAUSE_S:
        right = next((i for i in range(len(own) - 1, left, -1) if pauses[i] >= LEAST_PAUSE_S), left)
    for low, high in ((0, left), (right, len(own))):
        if low < high:
            result.left_out.append(_left_out(NO_PAUSE, placed, own[low:high], first + low))
    for low, high in _parts(placed, own, pauses, first, left, right, limits.longest_s):
        part = own[low:high]
        result.n_cuts_without_pause += low > left and pauses[low] < LEAST_PAUSE_S
        start_s = part[0].start - min(MARGIN_S, pauses[low] / 2)
        end_s = part[-1].end + min(MARGIN_S, pauses[high] / 2)
        frames = slice(*np.searchsorted(placed.times, (start_s, end_s)).tolist())
        score = placed.score_of(frames, first + low, first + high)
        if score < limits.least_score:
            result.left_out.append(_left_out(LOW_SCORE, placed, part, first + low, score))
            continue
        content = {"model": model, "score": round(score, 4), "words": [word.to_dict() for word in part]}
        result.words.append(part)
        result.segments.append(
            Utterance(
                whole.audio_filepath,
                round(end_s - start_s, 3),
                as_written(placed.text.words[first + low : first + high]),
                round(start_s, 3),
                language=whole.language,
                channel=whole.channel,
                extra={ALIGNMENT: content},
            )
        )


def _left_out(
    reason: str, placed: Placed, words: Sequence[AlignedWord], first: int, score: float | None = None
) -> LeftOut:
    written = placed.text.words[first : first + len(words)]
    return LeftOut(reason, words[0].start, words[-1].end, as_written(written), line=written[0].line, score=score)


def _pauses(found: Found, first: int, end: int) -> list[float]:
    """Seconds without speech before each word of a stretch, and after the last one; one more than there are words.

    Beside other speech they end where that speech begins.
    """
    own = [word for word in found.words[first:end] if word is not None]
    before = next((word.end for word in reversed(found.words[:first]) if word is not None), 0.0)
    after = next((word.start for word in found.words[end:] if word is not None), found.whole.duration or 0.0)
    for _, start, stop in found.foreign:
        if (start + stop) / 2 < own[0].start:
            before = max(before, stop)
        elif (start + stop) / 2 > own[-1].end:
            after = min(after, start)
    edges = [before, *(time for word in own for time in (word.start, word.end)), after]
    return [max(0.0, edges[i + 1] - edges[i]) for i in range(0, len(edges), 2)]


def _parts(
    placed: Placed,
    own: Sequence[AlignedWord],
    pauses: Sequence[float],
    first: int,
    left: int,
    right: int,
    longest_s: float,
) -> list[tuple[int, int]]:
    """Cut words `left` to `right` at the longest pause until each part fits, its margins included."""

    def weight(i: int) -> float:
        written, following = placed.text.words[first + i - 1], placed.text.words[first + i]
        ends = written.line != following.line or written.text.rstrip("\"'”’»)").endswith(tuple(_SENTENCE_MARKS))
        return pauses[i] + _SENTENCE_END_S * (ends and pauses[i] >= LEAST_PAUSE_S)

    found, waiting = [], [(left, right)] if left < right else []
    while waiting:
        low, high = waiting.pop()
        if high - low == 1 or own[high - 1].end - own[low].start + 2 * MARGIN_S <= longest_s:
            found.append((low, high))
            continue
        cut = max(range(low + 1, high), key=lambda i: (weight(i), -abs(2 * i - low - high)))
        waiting += [(cut, high), (low, cut)]
    return found
