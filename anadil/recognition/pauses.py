"""Long recordings: cut where it is quiet, so that each piece fits the model's memory and training lengths."""

from __future__ import annotations

import numpy as np

FRAME_S = 0.02
SMOOTH_FRAMES = 11  # 0.2 s: a pause between words, not the closure of a stop


def cut_at_pauses(samples: np.ndarray, sample_rate: int, longest_s: float = 20.0) -> list[tuple[int, int]]:
    """Pieces (start, end) in samples that cover the recording in order, none longer than `longest_s`.

    Each cut is at the quietest fifth of a second in the second half of what is allowed. A recording that is
    short enough is one piece.
    """
    longest, frame = int(longest_s * sample_rate), max(1, int(FRAME_S * sample_rate))
    pieces, start = [], 0
    while len(samples) - start > longest:
        window = samples[start + longest // 2 : start + longest]
        n_frames = len(window) // frame
        power = np.square(window[: n_frames * frame].reshape(n_frames, frame)).mean(axis=1)
        smooth = np.convolve(power, np.full(SMOOTH_FRAMES, 1 / SMOOTH_FRAMES), mode="same")
        # the window's edges only seem quiet, because the sum there sees fewer frames
        inside = smooth[SMOOTH_FRAMES // 2 : n_frames - SMOOTH_FRAMES // 2]
        cut = start + longest // 2 + (int(inside.argmin()) + SMOOTH_FRAMES // 2) * frame
        pieces.append((start, cut))
        start = cut
    return [*pieces, (start, len(samples))]
