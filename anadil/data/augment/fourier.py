"""Circular convolution and correlation by FFT in single precision."""

from __future__ import annotations

import numpy as np


def circular_convolution(rows: np.ndarray, other: np.ndarray, size: int, correlate: bool = False) -> np.ndarray:
    """Circular convolution, or correlation, of length `size` over the last axis: float32 (..., size)."""
    spectrum, kernel = _spectrum(rows, size), _spectrum(other, size)
    kernel *= np.float32(size) * np.float32(size)
    spectrum *= np.conj(kernel) if correlate else kernel
    out: np.ndarray = np.fft.irfft(spectrum, size, axis=-1)
    return out


def _spectrum(rows: np.ndarray, size: int) -> np.ndarray:
    """Spectrum divided by `size`: without a normalisation, NumPy 2.4 computes float32 in double precision, in twice the time."""
    spectrum: np.ndarray = np.fft.rfft(rows, size, axis=-1, norm="forward")
    return spectrum
