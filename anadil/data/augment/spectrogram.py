"""Spectrograms as images."""

from __future__ import annotations

import io

import numpy as np

from anadil.errors import AnadilError

_WINDOW_S, _RANGE_DB = 0.025, 80.0
N_BANDS = 64  # a common number of features
LARGEST = (400, 160)  # columns and rows of a picture
_N_COLOURS = 33  # steps of 2.5 dB: half the file that 256 colours take


def log_spectrogram(samples: np.ndarray, rate: int, n_bands: int = LARGEST[1]) -> np.ndarray:
    """Power in dB relative to the loudest, float32 (bands, frames), lowest frequency first; at most 400 frames."""
    window = max(32, round(_WINDOW_S * rate))
    hop = max(window // 4, -(-len(samples) // LARGEST[0]))
    padded = np.pad(samples, (window // 2, window))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[: max(1, len(samples)) : hop]
    size = max(1 << (window - 1).bit_length(), 4 * n_bands)
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(window).astype(np.float32), size, axis=1)))
    edges = np.linspace(0, power.shape[1], n_bands + 1).astype(np.int64)[:-1]
    decibels = 10 * np.log10(np.add.reduceat(power, edges, axis=1).T + 1e-10)
    relative: np.ndarray = np.maximum(decibels - decibels.max(), -_RANGE_DB)
    return relative.astype(np.float32)


def png(picture: np.ndarray) -> bytes:
    """PNG of (bands, frames) in dB, -80 dark and 0 bright, low frequencies at the bottom. Raises AnadilError."""
    try:
        from matplotlib import colormaps
        from PIL import Image
    except ImportError:
        raise AnadilError(
            "pictures need matplotlib, which is not installed\n  next: pip install 'anadil[train]'"
        ) from None
    levels = np.clip(np.round((picture[::-1] / _RANGE_DB + 1) * (_N_COLOURS - 1)), 0, _N_COLOURS - 1).astype(np.uint8)
    image = Image.fromarray(levels)  # indices: matplotlib's own writer gives RGBA, 88 KB instead of 27
    image.putpalette(colormaps["magma"](np.linspace(0, 1, _N_COLOURS), bytes=True)[:, :3].tobytes())
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    return file.getvalue()
