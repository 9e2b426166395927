"""The pitch of voices: recordings at a wrong sample rate sound too high or too deep for anybody."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

RATE = 8000
FRAME_S, HOP_S = 0.064, 0.032
LOWEST_HZ, HIGHEST_HZ = 24.0, 900.0
VOICED = 0.5
"""Of the autocorrelation's peak, 1 being a pure tone: frames below it have no pitch."""
FIRST_PEAK = 0.85
"""Share of the highest peak from which on an earlier one counts: two periods look as alike as one."""


def median_pitch(recordings: Iterable[np.ndarray]) -> float | None:
    """Hz over all voiced frames of recordings at `RATE`; None if hardly a frame is voiced.

    By normalised autocorrelation, the first of the high peaks (Rabiner 1977); frames of less than a tenth of a
    recording's loudest power are left out.
    """
    found: list[float] = []
    for samples in recordings:
        found += _pitches(np.asarray(samples, dtype=np.float64))
    return float(np.median(found)) if len(found) >= 20 else None


def _pitches(samples: np.ndarray) -> list[float]:
    size, hop = int(FRAME_S * RATE), int(HOP_S * RATE)
    if len(samples) < 2 * size:
        return []
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[::hop]
    frames = frames - frames.mean(axis=1, keepdims=True)
    power = (frames**2).mean(axis=1)
    frames = frames[power > 0.1 * np.percentile(power, 95)]
    spectrum = np.fft.rfft(frames, 2 * size, axis=1)
    lags = np.fft.irfft(spectrum.real**2 + spectrum.imag**2, axis=1)[:, : size - 1]
    overlap = 1 - np.arange(size - 1) / size  # later lags are sums over fewer samples
    shortest, longest = int(RATE / HIGHEST_HZ), int(RATE / LOWEST_HZ)
    likeness = (lags / np.maximum(lags[:, :1], 1e-12) / overlap)[:, :longest]
    pitches = []
    for row in likeness:
        inner = row[1:-1]
        peaks = np.flatnonzero((inner >= row[:-2]) & (inner > row[2:])) + 1
        peaks = peaks[peaks >= shortest]
        if len(peaks) == 0 or row[peaks].max() < VOICED:
            continue
        pitches.append(RATE / float(peaks[row[peaks] >= FIRST_PEAK * row[peaks].max()][0]))
    return pitches
