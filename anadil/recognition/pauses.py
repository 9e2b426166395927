"""Where a recording has speech: pauses are cut out and long stretches cut where they are quiet.

So a model sees pieces like its training utterances: as short, and without the silence around them, which would move the
per-utterance normalisation of its features (docs/robustness.md has the error rates with and without).
"""

from __future__ import annotations

import numpy as np

from anadil import audio

FRAME_S = 0.02
BLOCK_S = 300.0  # decoded at a time
SMOOTH_FRAMES = 11  # 0.2 s: a pause between words, not the closure of a stop

PAUSE_S = 0.3
"""A quiet stretch longer than this is a pause between words; the closures of stops and geminates are shorter."""

_MARGIN_S, _SHORT_MARGIN_S, _FAR_BELOW_DB = 0.15, 0.04, 60.0
"""So much of a pause is kept on each side of the speech, for quiet starts and ends of words. Less if the background is so
far below the speech that it must be digital silence, which moves the normalisation of features most."""

_BACKGROUND, _LOUD = 10, 95
"""Percentiles of the frames of a recording that give the levels of its background and of its speech."""

_ABOVE_BACKGROUND_DB, _LEAST_RANGE_DB, _BELOW_SPEECH_DB = 10.0, 15.0, 40.0
_SMOOTH_S = 0.1
_STEADY_WINDOW_S, _STEADY_RANGE_DB, _STEADY_BELOW_DB = 0.3, 3.0, 8.0
_LEAST_VOICE_S = 0.06
"""A piece without so long a stretch of loud frames, not smoothed, has clicks (of keys, of a switch) and no vowel."""
_NOISE_S, _NOISE_RANGE_DB = 1.0, 8.0
"""A piece of this length or more, whose level has a smaller range from the 10th to the 90th percentile, is noise. Pink noise
has 6 dB; over 800 recordings of Mboshi and English the least of all pieces has 10.8, half of them have more than 34."""
_FLOOR = 1e-12  # -120 dBFS


def speech_pieces(samples: np.ndarray, sample_rate: int, longest_s: float = 20.0) -> list[tuple[int, int]]:
    """Pieces (start, end) in samples that hold the speech of a recording, in order, none longer than `longest_s`.

    A frame is quiet if it is at most 10 dB above the background (but 15 dB below the loud frames), if it is 40 dB below the
    loud frames, or if its level hardly changes for 0.3 s. Quiet stretches of more than PAUSE_S, also at both ends, are cut
    out except for a margin. Clicks and steady noise are no pieces. Longer stretches of speech are cut by `cut_at_pauses`.
    """
    frame = max(1, int(FRAME_S * sample_rate))
    n_frames = len(samples) // frame
    if n_frames < PAUSE_S / FRAME_S:
        return cut_at_pauses(samples, sample_rate, longest_s)
    power = np.square(samples[: n_frames * frame].reshape(n_frames, frame)).mean(axis=1)
    level = 10 * np.log10(_smoothed(power) + _FLOOR)
    background, loud = np.percentile(level, (_BACKGROUND, _LOUD)).tolist()
    limit = max(min(background + _ABOVE_BACKGROUND_DB, loud - _LEAST_RANGE_DB), loud - _BELOW_SPEECH_DB)
    is_loud = np.flatnonzero((level > limit) & ~((level < loud - _STEADY_BELOW_DB) & _is_steady(level)))
    if not len(is_loud):
        return []
    pause = round(PAUSE_S / FRAME_S)
    margin = round((_SHORT_MARGIN_S if background < loud - _FAR_BELOW_DB else _MARGIN_S) / FRAME_S)
    breaks = np.flatnonzero(np.diff(is_loud) > pause)
    firsts, lasts = is_loud[[0, *(breaks + 1)]], is_loud[[*breaks, -1]]
    pieces: list[tuple[int, int]] = []
    for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
        own = level[first : last + 1]
        is_noise = len(own) * FRAME_S >= _NOISE_S and np.ptp(np.percentile(own, (10, 90))) < _NOISE_RANGE_DB
        if is_noise or _longest_run(power[first : last + 1] > 10 ** (limit / 10)) * FRAME_S < _LEAST_VOICE_S:
            continue
        start = 0 if first <= pause else (first - margin) * frame
        end = len(samples) if last >= n_frames - 1 - pause else (last + 1 + margin) * frame
        pieces += [
            (start + inner, start + outer) for inner, outer in cut_at_pauses(samples[start:end], sample_rate, longest_s)
        ]
    return pieces


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
    steady = np.zeros(len(level), dtype=bool)
    if len(level) >= size:
        windows = np.lib.stride_tricks.sliding_window_view(level, size)
        for start in np.flatnonzero(np.ptp(windows, axis=1) < _STEADY_RANGE_DB).tolist():
            steady[start : start + size] = True
    return steady


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
    path: str, sample_rate: int, offset: float, duration: float, longest_s: float
) -> list[tuple[float, float]]:
    """Pieces (offset, duration) in seconds of a stretch of a file, cut as by `cut_at_pauses`.

    Five minutes are decoded at a time, so memory does not grow with the recording. Raises AnadilError if the
    file cannot be decoded.
    """
    pieces: list[tuple[float, float]] = []
    start, end = offset, offset + duration
    while end - start > longest_s:
        block_s = min(max(BLOCK_S, 4 * longest_s), end - start)
        samples = audio.read(path, sample_rate, start, block_s)
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
