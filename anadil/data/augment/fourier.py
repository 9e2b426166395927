"""Products of spectra in single precision: what convolution and the search for alike waveforms have in common."""

from __future__ import annotations

import numpy as np


def multiplied(rows: np.ndarray, other: np.ndarray, size: int, correlate: bool = False) -> np.ndarray:
    """Circular convolution (or correlation: how alike at each lag) over `size` of the last axes, float32 (..., size)."""
    spectrum, kernel = _spectrum(rows, size), _spectrum(other, size)
    kernel *= np.float32(size) * np.float32(size)
    spectrum *= np.conj(kernel) if correlate else kernel
    out: np.ndarray = np.fft.irfft(spectrum, size, axis=-1)
    return out


def _spectrum(rows: np.ndarray, size: int) -> np.ndarray:
    """Divided by `size`: without a factor of its own type, NumPy 2.4 computes float32 in double, at twice the time."""
    spectrum: np.ndarray = np.fft.rfft(rows, size, axis=-1, norm="forward")
    return spectrum
