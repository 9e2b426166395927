"""Forced alignment of a manifest: word and character times of texts that are known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from anadil.data.pauses import BLOCK_S, speech_pieces, step_levels
from anadil.decoding.alignment import Alignment, Gaps, align_labels
from anadil.decoding.ctc import require_frames
from anadil.decoding.labelled_text import LabelledText, labelled_text
from anadil.decoding.transcript import Word
from anadil.decoding.word_times import STEP_S, USUAL_DELAY, Delay, Spikes, corrected, delay
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance, measured, probe_all, read_audio
from anadil.recognition.recognizer import BATCH_SECONDS, Recognizer

ALIGNMENT = "alignment"
"""Key of `extra` that holds the times."""

DOUBTFUL = 0.1
"""A score below it is doubtful: on Mboshi 1 of 100 utterances with its own text has one, and 99 of 100 with another's."""

Progress = Callable[[str, float, float], None]  # stage, done, total


@dataclass(frozen=True)
class SpeechFrames:
    """The log-probs of the speech in a stretch of a recording; long pauses have none."""

    log_probs: np.ndarray  # float32 (frames, labels + blank)
    times: np.ndarray  # float64 (frames,): seconds from the start of the recording
    levels: np.ndarray  # float32 (steps of STEP_S,): dBFS
    offset_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class AlignedWord:
    """A word as written. Times in seconds from the start of the recording.

    `score` is the probability of the text's path per label, over that of the model's own path: 1 is what the model recognises
    too. The characters are those of the normalised text.
    """

    text: str
    spoken: str
    start: float
    end: float
    score: float  # in [0, 1]
    characters: tuple[Word, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; times in seconds to 3 decimals, scores to 4. `spoken` only if it differs from the text."""
        spoken = {} if self.spoken == self.text else {"spoken": self.spoken}
        characters = [
            {
                "text": one.text,
                "start": round(one.start, 3),
                "end": round(one.end, 3),
                "score": round(one.confidence, 4),
            }
            for one in self.characters
        ]
        times = {"start": round(self.start, 3), "end": round(self.end, 3), "score": round(self.score, 4)}
        return {"text": self.text} | spoken | times | {"characters": characters}


@dataclass(frozen=True)
class Placed:
    """A text on its path through the log-probs; its times are still those of the spikes."""

    text: LabelledText
    found: Alignment
    costs: np.ndarray  # float32 (frames,): by how much the path is less likely than the likeliest label, nats
    times: np.ndarray  # float64 (frames,)
    labels: tuple[str, ...]  # of the model
    spikes: Spikes  # of the words that are not omitted, and of speech that is not in the text, in order
    foreign: dict[int, int]  # the gap of such speech, by its index in `spikes`

    @property
    def is_spoken(self) -> np.ndarray:
        """bool (words,): whether a word is aligned, and not omitted."""
        spoken: np.ndarray = self.found.starts[self.text.firsts] >= 0
        return spoken

    def score(self, first: int, end: int) -> float:
        """Score of the words `first` to `end`, none of them omitted, from their first label to their last."""
        frames = slice(self.found.starts[self.text.firsts[first]], self.found.ends[self.text.ends[end - 1] - 1])
        return self.score_of(frames, first, end)

    def score_of(self, frames: slice, first: int, end: int) -> float:
        """The same over other frames."""
        n_labels = int((self.text.ends[first:end] - self.text.firsts[first:end]).sum())
        return float(np.exp(-self.costs[frames].sum(dtype=np.float64) / n_labels))

    def timed(self, by: Delay) -> tuple[list[AlignedWord | None], list[tuple[int, float, float]]]:
        """Corrected times: the words, None for one that is omitted; and gap, start and end of speech that is not in the text."""
        starts, ends = (times.tolist() for times in corrected(self.spikes, by))
        times = ((starts[i], ends[i]) for i in range(len(starts)) if i not in self.foreign)
        words = [
            self._word(number, *next(times), by.start_s) if is_spoken else None
            for number, is_spoken in enumerate(self.is_spoken.tolist())
        ]
        return words, [(gap, starts[i], ends[i]) for i, gap in self.foreign.items()]

    def _word(self, number: int, start: float, end: float, delay_s: float) -> AlignedWord:
        written, first, last = self.text.words[number], self.text.firsts[number], self.text.ends[number]
        runs = list(zip(self.found.starts[first:last].tolist(), self.found.ends[first:last].tolist(), strict=True))
        spikes = self.times[self.found.starts[first:last]] - delay_s
        edges = np.maximum.accumulate([start, *np.clip(spikes[1:], start, end), end]).tolist()
        characters = tuple(
            Word(
                self.labels[label].strip() or self.labels[label],
                edges[i],
                edges[i + 1],
                float(np.exp(-self.costs[a:b].mean())),
            )
            for i, (label, (a, b)) in enumerate(zip(self.text.labels[first:last], runs, strict=True))
        )
        return AlignedWord(written.text, written.spoken, start, end, self.score(number, number + 1), characters)


@dataclass
class Aligned:
    """Aligned utterances in the order of the manifest, and what could not be aligned."""

    utterances: list[Utterance] = field(default_factory=list)  # with the alignment in `extra`
    words: list[list[AlignedWord]] = field(default_factory=list)  # of each utterance
    problems: list[Problem] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)  # characters without a label
    doubtful: list[tuple[Utterance, float]] = field(default_factory=list)  # score below DOUBTFUL
    delay: Delay = USUAL_DELAY  # of the model's spikes
    total: int = 0


def align_manifest(
    recognizer: Recognizer, utterances: Sequence[Utterance], on_progress: Progress = lambda stage, done, total: None
) -> Aligned:
    """Align each utterance's own text. Those that cannot be aligned are in `problems`, with the reason."""
    result = Aligned(total=len(utterances))
    infos = probe_all(utterances)
    ready: list[Utterance] = []
    texts: list[LabelledText] = []
    for utterance in utterances:
        try:
            text = labelled_text(recognizer.rules, utterance.text)
            ready.append(measured(utterance, infos[utterance.audio_filepath]))
            texts.append(text)
        except AnadilError as error:
            result.problems.append(_problem(utterance, error))
    placed: dict[int, Placed] = {}
    done_s, all_s = 0.0, sum(one.duration or 0.0 for one in ready)
    for index, frames in speech_frames(
        recognizer, ready, lambda index, error: result.problems.append(_problem(ready[index], error))
    ):
        try:
            placed[index] = place(recognizer, frames, texts[index])
        except AnadilError as error:
            result.problems.append(_problem(ready[index], error))
        done_s += ready[index].duration or 0.0
        on_progress("aligning", done_s, all_s)
    result.delay = delay(one.spikes for one in placed.values())
    for index in sorted(placed):
        words = [word for word in placed[index].timed(result.delay)[0] if word is not None]
        score = placed[index].score_of(slice(None), 0, len(words))
        result.utterances.append(_with_alignment(ready[index], words, score, recognizer.name))
        result.words.append(words)
        result.ignored.update(texts[index].ignored)
        if score < DOUBTFUL:
            result.doubtful.append((ready[index], score))
    return result


def _problem(utterance: Utterance, error: AnadilError) -> Problem:
    return Problem(utterance.source or utterance.audio_filepath, str(error))


def _with_alignment(utterance: Utterance, words: Sequence[AlignedWord], score: float, model: str) -> Utterance:
    content = {"model": model, "score": round(score, 4), "words": [word.to_dict() for word in words]}
    return replace(utterance, extra=utterance.extra | {ALIGNMENT: content})


def place(
    recognizer: Recognizer,
    frames: SpeechFrames,
    text: LabelledText,
    gaps: Gaps | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Placed:
    """Align a text to log-probs. Raises AnadilError if there are too few frames for it."""
    if gaps is None:
        require_frames(text.labels, len(frames.log_probs), frames.end_s - frames.offset_s)
    blank = recognizer.rules.blank_id
    try:
        found = align_labels(frames.log_probs, text.labels, blank, gaps, on_progress)
    except ValueError as error:
        raise AnadilError(f"the text cannot be aligned: {error}") from error
    path = np.full(len(frames.log_probs), blank)
    for label, start, end in zip(text.labels, found.starts.tolist(), found.ends.tolist(), strict=True):
        path[start:end] = label  # nothing for an omitted label, -1 to -1
    costs = frames.log_probs.max(axis=1, initial=-np.inf) - frames.log_probs[np.arange(len(path)), path]
    for _, start, end in found.foreign:
        costs[start:end] = 0.0
    spoken = found.starts[text.firsts] >= 0
    runs = np.stack((found.starts[text.firsts[spoken]], found.ends[text.ends[spoken] - 1]), axis=1)
    other = list(_other_speech(found, frames, recognizer))
    if other:
        runs = np.concatenate((runs, [(first, end) for _, first, end in other]))
    order = np.argsort(runs[:, 0], kind="stable")
    index_of = {int(run): index for index, run in enumerate(order)}
    foreign = {index_of[int(spoken.sum()) + number]: gap for number, (gap, _, _) in enumerate(other)}
    starts, ends = runs[order].T
    end_times = np.minimum(frames.times[ends - 1] + recognizer.frame_s, frames.end_s)
    spikes = Spikes(frames.times[starts], end_times, frames.levels, frames.offset_s, frames.end_s)
    return Placed(text, found, costs, frames.times, recognizer.rules.labels, spikes, foreign)


def _other_speech(found: Alignment, frames: SpeechFrames, recognizer: Recognizer) -> Iterator[tuple[int, int, int]]:
    """Yield gap, first frame and the one after the last of speech that is not in the text.

    It goes from the first to the last label that the model recognises between the two words; a label that touches a word is
    that word's. (The path itself may pass over weak labels at both ends as if they were blank.)
    """
    blank = recognizer.rules.blank_id
    best = frames.log_probs.argmax(axis=1)
    silent = blank, *(i for i, label in enumerate(recognizer.rules.labels) if not label.strip())
    spoken = np.flatnonzero(found.starts >= 0)
    for gap, first, end in found.foreign:
        after = np.searchsorted(found.starts[spoken], first)
        low = int(found.ends[spoken[after - 1]]) if after else 0
        high = int(found.starts[spoken[after]]) if after < len(spoken) else len(best)
        while low < first and best[low] != blank:
            low += 1
        while high > end and best[high - 1] != blank:
            high -= 1
        loud = low + np.flatnonzero(~np.isin(best[low:high], silent))
        if len(loud):
            yield gap, int(loud[0]), int(loud[-1]) + 1


def speech_frames(
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    reject: Callable[[int, AnadilError], None],
    on_progress: Callable[[float], None] = lambda done_s: None,
) -> Iterator[tuple[int, SpeechFrames]]:
    """Yield (index, log-probs of the speech) of each utterance, in order; the network runs on batches of pieces.

    An utterance must have its true duration. One whose audio cannot be read goes to `reject`. Five minutes are decoded at a
    time. `on_progress` gets seconds of audio.
    """
    waiting: list[_Block] = []
    parts: dict[int, list[SpeechFrames]] = {}
    done_s = 0.0
    for index, utterance in enumerate(utterances):
        try:
            for block in _blocks(recognizer, index, utterance):
                waiting.append(block)
                if sum(one.end_s - one.offset_s for one in waiting) >= BATCH_SECONDS:
                    yield from _flush(recognizer, waiting, parts)
                    done_s += sum(one.end_s - one.offset_s for one in waiting)
                    waiting = []
                    on_progress(done_s)
        except AnadilError as error:
            waiting = [one for one in waiting if one.index != index]
            parts.pop(index, None)
            reject(index, error)
    yield from _flush(recognizer, waiting, parts)


@dataclass(frozen=True)
class _Block:
    """Up to five minutes of an utterance, cut into pieces of speech."""

    index: int
    pieces: list[tuple[float, np.ndarray]]  # start in seconds, float32 (samples,)
    levels: np.ndarray
    offset_s: float
    end_s: float
    is_last: bool  # of the utterance


def _blocks(recognizer: Recognizer, index: int, utterance: Utterance) -> Iterator[_Block]:
    """Decode and cut an utterance. A piece that a block's end cuts off begins the next block."""
    rate, duration = recognizer.sample_rate, utterance.duration or 0.0
    end = utterance.offset + duration
    start, is_last = utterance.offset, False
    while not is_last:
        length = min(BLOCK_S, end - start)
        is_last = start + length >= end
        samples = read_audio(replace(utterance, offset=start, duration=length), rate)
        is_last = is_last or len(samples) < (length - STEP_S) * rate  # the file ends here, whatever its header says
        pieces = speech_pieces(samples, rate, recognizer.longest_s, recognizer.pauses)
        if is_last and not pieces and start == utterance.offset:
            pieces = [(0, len(samples))]
        step = max(1, round(STEP_S * rate))
        used = len(samples)
        if not is_last and pieces and pieces[-1][1] >= len(samples) > 0 and pieces[-1][0] >= step:
            used = pieces.pop()[0] // step * step
        levels = step_levels(samples, rate, STEP_S)[: used // step]
        cut = [(start + a / rate, samples[a:b].copy()) for a, b in pieces]
        yield _Block(index, cut, levels, start, start + used / rate, is_last)
        start += used / rate


def _flush(
    recognizer: Recognizer, blocks: Sequence[_Block], parts: dict[int, list[SpeechFrames]]
) -> Iterator[tuple[int, SpeechFrames]]:
    """Run the network on blocks; yield the utterances that are complete. `parts` keeps the blocks of the others, by index."""
    found = iter(recognizer.log_probs_by_length([samples for block in blocks for _, samples in block.pieces]))
    n_outputs = len(recognizer.rules.labels) + 1
    for block in blocks:
        log_probs: list[np.ndarray] = [np.zeros((0, n_outputs), np.float32)]
        times: list[np.ndarray] = [np.zeros(0)]
        for start, _ in block.pieces:
            log_probs.append(next(found))
            times.append(start + np.arange(len(log_probs[-1])) * recognizer.frame_s)
        own = parts.setdefault(block.index, [])
        own.append(
            SpeechFrames(np.concatenate(log_probs), np.concatenate(times), block.levels, block.offset_s, block.end_s)
        )
        if block.is_last:
            yield (
                block.index,
                SpeechFrames(
                    np.concatenate([part.log_probs for part in own]),
                    np.concatenate([part.times for part in own]),
                    np.concatenate([part.levels for part in own]),
                    own[0].offset_s,
                    block.end_s,
                ),
            )
            del parts[block.index]
