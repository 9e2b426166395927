"""Levels of speech: the power of its active frames, similar to ITU-T P.56."""

from __future__ import annotations

import numpy as np

_FRAME_S = 0.02
_MARGIN = 10 ** (15.9 / 10)
"""Frames count as speech if they are less than 15.9 dB below the mean power of speech (ITU-T P.56, method B)."""


def active_power(samples: np.ndarray, rate: int) -> float:
    """Mean square of the active frames of (samples,); 0 for silence.

    The active frames are the loudest ones, as many as keep the quietest of them within the margin of their mean. P.56
    uses an envelope with a hangover instead; frames of 20 ms give a level up to about 1 dB higher.
    """
    n = max(1, round(_FRAME_S * rate))
    if len(samples) < n:
        return mean_power(samples)
    frames = samples[: len(samples) // n * n].reshape(-1, n)
    powers = np.sort(np.einsum("ij,ij->i", frames, frames).astype(np.float64) / n)[::-1]
    means = np.cumsum(powers) / np.arange(1, len(powers) + 1)
    active = np.flatnonzero(means <= _MARGIN * powers)
    return float(means[active[-1]]) if len(active) else 0.0


def mean_power(samples: np.ndarray) -> float:
    """Mean square of (samples,)."""
    return float(np.dot(samples, samples)) / len(samples) if len(samples) else 0.0


def peak(samples: np.ndarray) -> float:
    """Largest magnitude of (samples,), without a copy."""
    return max(float(samples.max()), -float(samples.min())) if len(samples) else 0.0


def amplitude(decibels: float) -> np.float32:
    """Factor for the samples that changes the level by `decibels`."""
    return np.float32(10 ** (decibels / 20))
