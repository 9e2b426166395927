"""Cutting long recordings where they are quiet, so that each piece is as short as the training utterances."""

from __future__ import annotations

import numpy as np

from anadil import audio

FRAME_S = 0.02
BLOCK_S = 300.0  # decoded at a time
SMOOTH_FRAMES = 11  # 0.2 s: a pause between words, not the closure of a stop


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
