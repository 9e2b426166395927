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


PAUSE_S = 0.6
"""A quiet stretch of this length is a pause: between words, and longer than the closure of a stop or a geminate."""
MARGIN_S = 0.2
"""Kept of the pause before and after speech: quiet onsets and ends of words are in it."""
_QUIETEST_SHARE = 10  # percentile of the frames that gives the level of the background
_ABOVE_BACKGROUND_DB, _BELOW_SPEECH_DB, _LEAST_RANGE_DB = 6.0, 40.0, 15.0
_LOUD_SHARE = 95  # percentile of the frames that gives the level of speech
_FLOOR = 1e-12  # -120 dBFS
_STEADY_DB = 5.0
"""A piece whose frames differ by less, between the 10th and the 90th percentile, is noise: speech has syllables."""
_STEADY_S = 1.0  # shorter pieces are not judged by it


def speech_pieces(samples: np.ndarray, sample_rate: int, longest_s: float = 20.0) -> list[tuple[int, int]]:
    """Pieces (start, end) in samples that hold the speech of a recording, in order, none longer than `longest_s`.

    A frame is quiet if it is at most 6 dB above the background (the 10th percentile of the frames) or more than 40 dB below
    the loud ones (the 95th). PAUSE_S of quiet frames are cut out, but for MARGIN_S at each side of the speech. Steady
    noise without any speech is no piece; a recording without pauses is cut by `cut_at_pauses` alone.
    """
    frame = max(1, int(FRAME_S * sample_rate))
    n_frames = len(samples) // frame
    if n_frames < PAUSE_S / FRAME_S:
        return cut_at_pauses(samples, sample_rate, longest_s)
    power = np.square(samples[: n_frames * frame].reshape(n_frames, frame)).mean(axis=1)
    level = 10 * np.log10(power + _FLOOR)
    background, loud = np.percentile(level, _QUIETEST_SHARE), np.percentile(level, _LOUD_SHARE)
    limit = max(min(background + _ABOVE_BACKGROUND_DB, loud - _LEAST_RANGE_DB), loud - _BELOW_SPEECH_DB)
    is_loud = np.flatnonzero(level > limit)
    if not len(is_loud):
        return []
    gap, margin = round(PAUSE_S / FRAME_S), round(MARGIN_S / FRAME_S)
    breaks = np.flatnonzero(np.diff(is_loud) > gap)
    firsts, lasts = is_loud[[0, *(breaks + 1)]], is_loud[[*breaks, -1]]
    pieces: list[tuple[int, int]] = []
    for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
        levels = level[first : last + 1]
        if len(levels) * FRAME_S >= _STEADY_S and np.ptp(np.percentile(levels, (10, 90))) < _STEADY_DB:
            continue
        start = 0 if first <= gap else max(0, first - margin) * frame
        end = len(samples) if last >= n_frames - 1 - gap else min(n_frames, last + 1 + margin) * frame
        pieces += [
            (start + inner, start + outer) for inner, outer in cut_at_pauses(samples[start:end], sample_rate, longest_s)
        ]
    return pieces


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
