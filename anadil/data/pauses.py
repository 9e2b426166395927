"""Where a recording has speech: pauses are cut out and long stretches cut where they are quiet.

So a model sees pieces like its training utterances: as short, and with no more silence, which would move the per-utterance
normalisation of its features (docs/robustness.md has the error rates with and without).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from anadil import audio

FRAME_S = 0.02
BLOCK_S = 300.0  # decoded at a time
SMOOTH_FRAMES = 11  # 0.2 s: a pause between words, not the closure of a stop

DIGITAL_PAUSE_S, DIGITAL_MARGIN_S, _DIGITAL_DB = 0.3, 0.04, 60.0
"""A level so far below the speech is digital silence. It moves the normalisation of features most, and no training
utterance has it, so it is cut out whatever `PauseLimits` say."""

BOUNDARY_S = 0.5
"""No word has so long a pause, in any text or format, whatever the model writes."""

WHOLE_S = 600.0
"""A recording of this length or less is looked at as a whole."""

OVERLAP_S = 1.0
"""Longer than nearly all words, so that there is a gap between two words in the overlap of two pieces."""

LEAST_PAUSE_S = 0.25  # the closures of stops and geminates are shorter


_LONG_EDGE = 2.5
"""Times the margin, which is the median of the ends in training. Twice cuts clean clips that are better whole
(docs/robustness.md)."""


@dataclass(frozen=True, slots=True)
class PauseLimits:
    """Which silence a model knows from its training. Seconds; the defaults are for models that do not say."""

    longest_s: float = 1.5  # longer pauses between words are cut out
    margin_s: float = 0.5  # so much of them is kept at each side of the speech

    @property
    def edge_s(self) -> float:
        """Longer silence at an end of a recording is cut to the margin: an end with so much of it is rare in training."""
        return min(self.longest_s, _LONG_EDGE * self.margin_s)


NOT_MEASURED = PauseLimits()


_BACKGROUND, _LOUD = 10, 95
"""Percentiles of the frames of a recording that give the levels of its background and of its speech."""

_ABOVE_BACKGROUND_DB, _LEAST_RANGE_DB, _BELOW_SPEECH_DB = 10.0, 15.0, 40.0
_SMOOTH_S = 0.1
_STEADY_WINDOW_S, _STEADY_RANGE_DB, _STEADY_BELOW_DB = 0.3, 3.0, 8.0
_LEAST_VOICE_S = 0.06
"""A piece without so long a stretch of loud frames, not smoothed, has clicks (of keys, of a switch) and no vowel."""
_NOISE_S, _NOISE_RANGE_DB = 3.0, 6.5
"""A piece of this length or more, whose level has a smaller range from the 10th to the 90th percentile, is noise. Pink noise
has 6.1 dB; of 800 recordings of Mboshi and English the least has 7.9, half of them have more than 34."""
_FLOOR = 1e-12  # -120 dBFS


def speech_pieces(
    samples: np.ndarray, sample_rate: int, longest_s: float = 20.0, limits: PauseLimits = NOT_MEASURED
) -> list[tuple[int, int]]:
    """Pieces (start, end) in samples that hold the speech of a recording, in order, none longer than `longest_s`.

    Digital silence of more than DIGITAL_PAUSE_S is cut out, and so are pauses and ends longer than `limits` allow, except for
    a margin. A frame is quiet if it is at most 10 dB above the background (but 15 dB below the loud frames), if it
    is 40 dB below the loud frames, or if its level hardly changes for 0.3 s. Clicks and steady noise are no pieces. Longer
    stretches of speech are cut by `cut_at_pauses`.
    """
    frame = max(1, int(FRAME_S * sample_rate))
    if len(samples) // frame < LEAST_PAUSE_S / FRAME_S:
        return cut_at_pauses(samples, sample_rate, longest_s)
    pieces: list[tuple[int, int]] = []
    for first, last in _without_digital_silence(samples, frame):
        part = samples[first:last]
        for start, end in _speech(part, frame, limits):
            cuts = cut_at_pauses(part[start:end], sample_rate, longest_s)
            pieces += [(first + start + inner, first + start + outer) for inner, outer in cuts]
    return pieces


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of speech, float32 (samples,), that starts at sample `start` of the recording.

    Its first `lead` and last `tail` samples belong to the pieces before and after it: where nobody pauses, pieces overlap.
    """

    start: int
    samples: np.ndarray
    lead: int = 0
    tail: int = 0

    @property
    def end(self) -> int:
        """The sample after its last one."""
        return self.start + len(self.samples)


def pieces_of_blocks(
    blocks: Iterable[np.ndarray], sample_rate: int, longest_s: float = 20.0, limits: PauseLimits = NOT_MEASURED
) -> Iterator[Piece]:
    """The pieces of `speech_pieces` of a recording of any length, which comes in blocks of float32 (samples,).

    A recording of more than WHOLE_S seconds is looked at in windows of that length, each half of which was seen before. So the
    levels of background and speech are those of the minutes around a piece, and memory is constant. Where a cut is not quiet,
    both pieces reach OVERLAP_S past it.
    """
    whole, overlap = round(WHOLE_S * sample_rate), round(OVERLAP_S * sample_rate)
    rest = iter(blocks)
    samples, start = np.zeros(0, dtype=np.float32), 0  # the window, and its place in the recording
    n_before = 0  # samples of the window that were in pieces already: what the first piece may reach back to
    is_joined = False  # the last piece ended there, and not at a pause
    is_last = False
    while not is_last:
        samples, is_last = _filled(samples, rest, n_before + whole)
        found = speech_pieces(samples[n_before:], sample_rate, longest_s, limits)
        found = [(n_before + first, n_before + last) for first, last in found]
        middle = n_before + whole // 2
        n_done = len(found) if is_last else sum(last <= middle for _, last in found)
        for i, (first, last) in enumerate(found[:n_done]):
            is_joined = is_joined if i == 0 else found[i - 1][1] == first
            follows = i + 1 < len(found) and found[i + 1][0] == last
            lead = overlap if is_joined and not _is_quiet(samples, first, sample_rate) else 0
            tail = overlap if follows and not _is_quiet(samples, last, sample_rate) else 0
            lead, tail = min(lead, first), min(tail, len(samples) - last)
            yield Piece(start + first - lead, samples[first - lead : last + tail].copy(), lead, tail)
        reached = found[n_done - 1][1] if n_done else n_before
        following = found[n_done][0] if n_done < len(found) else max(reached, middle)
        is_joined = following == reached and (n_done > 0 or is_joined)
        n_before = min(following, overlap)
        samples, start = samples[following - n_before :], start + following - n_before


def _filled(samples: np.ndarray, rest: Iterator[np.ndarray], n_samples: int) -> tuple[np.ndarray, bool]:
    """The samples and those that follow, until there are more than `n_samples`; and whether all are there."""
    parts, n_there = [samples], len(samples)
    for block in rest:
        parts.append(block)
        n_there += len(block)
        if n_there > n_samples:
            return np.concatenate(parts), False
    return np.concatenate(parts), True


def _is_quiet(samples: np.ndarray, cut: int, sample_rate: int) -> bool:
    """Whether the tenths of a second around a cut are 15 dB below the loud frames around it."""
    frame = max(1, int(FRAME_S * sample_rate))
    near = samples[max(0, cut - 5 * frame) : cut + 5 * frame]
    around = samples[max(0, cut - round(5 * sample_rate)) : cut + round(5 * sample_rate)]
    level = 10 * np.log10(np.mean(np.square(near)) + _FLOOR)
    loud = np.percentile(10 * np.log10(frame_powers(around, frame) + _FLOOR), _LOUD)
    return bool(level <= loud - _LEAST_RANGE_DB)


def pauses_within(samples: np.ndarray, sample_rate: int) -> list[tuple[float, float]]:
    """Pauses (start, end) in seconds between the loud frames of a piece, each of BOUNDARY_S or more: boundaries of words."""
    frame = max(1, int(FRAME_S * sample_rate))
    if len(samples) < 2 * frame:
        return []
    loud = measure_levels(frame_powers(samples, frame)).loud
    gaps = np.flatnonzero(np.diff(loud) > round(BOUNDARY_S / FRAME_S))
    return [(float(loud[i] + 1) * frame / sample_rate, float(loud[i + 1]) * frame / sample_rate) for i in gaps]


def step_levels(samples: np.ndarray, sample_rate: int, step_s: float) -> np.ndarray:
    """The level of each step of `step_s` in dBFS, not smoothed: float32 (steps,)."""
    step = max(1, round(step_s * sample_rate))
    n = len(samples) // step
    power = np.square(samples[: n * step].reshape(n, step)).mean(axis=1)
    levels: np.ndarray = (10 * np.log10(power + _FLOOR)).astype(np.float32)
    return levels


def _without_digital_silence(samples: np.ndarray, frame: int) -> list[tuple[int, int]]:
    """Stretches (start, end) between digital silence, with a short margin of it on each side."""
    sounding = measure_levels(frame_powers(samples, frame)).sounding
    return _stretches(sounding, len(samples), frame, PauseLimits(DIGITAL_PAUSE_S, DIGITAL_MARGIN_S), DIGITAL_PAUSE_S)


def _speech(samples: np.ndarray, frame: int, limits: PauseLimits) -> list[tuple[int, int]]:
    """Stretches (start, end) of speech between pauses longer than `limits`, without clicks and steady noise."""
    if len(samples) < 2 * frame:
        return []
    levels = measure_levels(frame_powers(samples, frame))
    return [
        (start, end)
        for start, end in _stretches(levels.loud, len(samples), frame, limits, limits.edge_s)
        if levels.has_voice(start // frame, -(-end // frame))
    ]


def _stretches(
    frames: np.ndarray, n_samples: int, frame: int, limits: PauseLimits, edge_s: float
) -> list[tuple[int, int]]:
    """Stretches (start, end) in samples around these frames.

    Gaps longer than the longest pause and ends longer than `edge_s` are left out but for margins.
    """
    if not len(frames):
        return []
    pause, margin, edge = (round(one / FRAME_S) for one in (limits.longest_s, limits.margin_s, edge_s))
    n_frames = n_samples // frame
    breaks = np.flatnonzero(np.diff(frames) > pause)
    found = [
        [(first - margin) * frame, (last + 1 + margin) * frame]
        for first, last in zip(frames[[0, *(breaks + 1)]].tolist(), frames[[*breaks, -1]].tolist(), strict=True)
    ]
    if frames[0] <= max(edge, margin):
        found[0][0] = 0
    if n_frames - 1 - frames[-1] <= max(edge, margin):
        found[-1][1] = n_samples
    return [(start, end) for start, end in found]


def pause_limits(clips: Iterable[np.ndarray], sample_rate: int) -> PauseLimits | None:
    """What the silence of training utterances, float32 (samples,) each, lets a model know; None if none has speech.

    The longest pause is the 99th percentile of the longest one of each utterance, its edges included; the margin is the
    median of the longer edge, at most half of that.
    """
    longest, edges = [], []
    frame = int(FRAME_S * sample_rate)
    for clip in clips:
        n_frames = len(clip) // frame
        if n_frames < LEAST_PAUSE_S / FRAME_S:
            continue
        levels = measure_levels(frame_powers(clip, frame))
        loud = levels.loud
        if len(loud) and np.ptp(np.percentile(levels.smoothed, (_BACKGROUND, _LOUD))) >= _NOISE_RANGE_DB:
            edges.append(max(int(loud[0]), n_frames - 1 - int(loud[-1])) * FRAME_S)
            longest.append(max(edges[-1], (int(np.diff(loud).max(initial=1)) - 1) * FRAME_S))
    if not longest:
        return None
    longest_s = max(LEAST_PAUSE_S, round(float(np.percentile(longest, 99)), 2))
    return PauseLimits(longest_s, round(min(float(np.median(edges)), longest_s / 2), 2))


@dataclass(frozen=True, slots=True)
class Levels:
    """Levels of a stretch in frames of FRAME_S, and which of them have speech."""

    power: np.ndarray  # of each frame
    smoothed: np.ndarray  # dBFS
    limit_db: float  # frames above it are loud
    loud: np.ndarray  # indices of the frames with speech
    sounding: np.ndarray  # indices of the frames that are no digital silence

    def has_voice(self, first: int, last: int, noise_s: float = _NOISE_S) -> bool:
        """Whether the loud frames from `first` to before `last` are more than clicks and, from `noise_s` on, steady noise."""
        within = self.loud[(self.loud >= first) & (self.loud < last)]
        if not len(within):
            return False
        own = slice(int(within[0]), int(within[-1]) + 1)
        spread = np.ptp(np.percentile(self.smoothed[own], (10, 90)))
        is_noise = (own.stop - own.start) * FRAME_S >= noise_s and spread < _NOISE_RANGE_DB
        run_s = _longest_run(self.power[own] > 10 ** (self.limit_db / 10)) * FRAME_S
        return not is_noise and run_s >= _LEAST_VOICE_S


def frame_powers(samples: np.ndarray, frame: int) -> np.ndarray:
    """Mean power of each whole frame of `frame` samples."""
    n_frames = len(samples) // frame
    return np.asarray(np.square(samples[: n_frames * frame].reshape(n_frames, frame)).mean(axis=1))


def measure_levels(power: np.ndarray, n_before: int = 0) -> Levels:
    """The levels of frames with these powers. `power` must not be empty.

    The first `n_before` frames count for the levels of background and speech only; all that is returned is of the others.
    """
    level = 10 * np.log10(_smoothed(power) + _FLOOR)
    background, loud = np.percentile(level, (_BACKGROUND, _LOUD)).tolist()
    limit = max(min(background + _ABOVE_BACKGROUND_DB, loud - _LEAST_RANGE_DB), loud - _BELOW_SPEECH_DB)
    own = level[n_before:]
    is_loud = (own > limit) & ~((own < loud - _STEADY_BELOW_DB) & _is_steady(own))
    sounding = np.flatnonzero(own > loud - _DIGITAL_DB)
    return Levels(power[n_before:], own, limit, np.flatnonzero(is_loud), sounding)


def _longest_run(flags: np.ndarray) -> int:
    """How many true values follow one another at most."""
    ends = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    return int((ends[1::2] - ends[::2]).max(initial=0))


def _smoothed(power: np.ndarray) -> np.ndarray:
    """Mean power over _SMOOTH_S around each frame; at the ends, over the frames that there are."""
    ones = np.ones(round(_SMOOTH_S / FRAME_S))
    counts = np.convolve(np.ones(len(power)), ones, mode="same")
    return np.asarray(np.convolve(power, ones, mode="same") / counts)


def _is_steady(level: np.ndarray) -> np.ndarray:
    """Which frames lie in a window whose level hardly changes: background, whatever its level; speech has syllables."""
    size = round(_STEADY_WINDOW_S / FRAME_S)
    if len(level) < size:
        return np.zeros(len(level), dtype=bool)
    windows = np.lib.stride_tricks.sliding_window_view(level, size)
    is_start = np.ptp(windows, axis=1) < _STEADY_RANGE_DB
    return np.asarray(np.convolve(is_start, np.ones(size)) > 0.5)


def cut_at_pauses(samples: np.ndarray, sample_rate: int, longest_s: float = 20.0) -> list[tuple[int, int]]:
    """Pieces (start, end) in samples that cover the recording in order, none longer than `longest_s`.

    Each cut is at the quietest fifth of a second in the second half of the allowed length. A recording that is
    short enough is one piece.
    """
    longest, frame = int(longest_s * sample_rate), max(1, int(FRAME_S * sample_rate))
    pieces, start = [], 0
    while len(samples) - start > longest:
        window = samples[start + longest // 2 : start + longest]
        n_frames = len(window) // frame
        power = np.square(window[: n_frames * frame].reshape(n_frames, frame)).mean(axis=1)
        smooth = np.convolve(power, np.full(SMOOTH_FRAMES, 1 / SMOOTH_FRAMES), mode="same")
        # at the window's edges the mean is over fewer frames, so they only seem quiet
        inside = smooth[SMOOTH_FRAMES // 2 : n_frames - SMOOTH_FRAMES // 2]
        cut = start + longest // 2 + (int(inside.argmin()) + SMOOTH_FRAMES // 2) * frame
        pieces.append((start, cut))
        start = cut
    return [*pieces, (start, len(samples))]


def cut_file(
    path: str, sample_rate: int, offset: float, duration: float, longest_s: float, channel: audio.Channel = "mix"
) -> list[tuple[float, float]]:
    """Pieces (offset, duration) in seconds of a stretch of a file, cut as by `cut_at_pauses`.

    Five minutes are decoded at a time, so memory does not grow with the recording. Raises AnadilError if the
    file cannot be decoded.
    """
    pieces: list[tuple[float, float]] = []
    start, end = offset, offset + duration
    while end - start > longest_s:
        block_s = min(max(BLOCK_S, 4 * longest_s), end - start)
        samples = audio.read(path, sample_rate, start, block_s, channel)
        whole = (
            len(samples) >= (block_s - FRAME_S) * sample_rate
        )  # if not, the file ends here, whatever its header says
        found = cut_at_pauses(samples, sample_rate, longest_s)
        if whole and start + block_s < end:
            found = found[:-1]  # the last piece ends with the block, not at a pause: the next block starts with it
        pieces += [(start + first / sample_rate, (last - first) / sample_rate) for first, last in found if last > first]
        if not whole:
            return pieces
        start += found[-1][1] / sample_rate if start + block_s < end else block_s
    if end > start:
        pieces.append((start, end - start))
    return pieces
