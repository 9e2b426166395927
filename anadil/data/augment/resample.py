"""Resampling for augmentation: matrix products with a windowed sinc, in a quarter of the time of a general resampler.

With `up` outputs for every `down` inputs, each block of outputs is the same linear function of its inputs. So the filter
is one small matrix, computed once for each ratio. Float32 (samples,) in and out.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import soxr

_ZEROS = 32
"""Zero crossings of the sinc on either side: the pass band is flat to 0.88 of half the lower rate."""

_CUTOFF, _WINDOW_BETA = 0.95, 6.8
"""Half-power point as a share of half the lower rate, and the parameter of the Kaiser window for 70 dB.

Errors in the pass band, aliases included, are below -60 dB (tested)."""

_OUTPUTS = 50
"""Outputs of one product: more mean more zeros in the matrix, fewer mean smaller products."""

LARGEST_STEP = 1000
"""Ratios of larger numbers are left to soxr: their matrices would be used once, or fill the memory."""

_MULTIPLICATIONS = 1 << 18
"""Of one product. OpenBLAS uses threads of its own for larger ones, which would compete with the model's."""


def resampled(samples: np.ndarray, down: int, up: int, n_samples: int) -> np.ndarray:
    """`n_samples` samples at `up` / `down` times the rate, without delay; the signal is zero before and after."""
    divisor = math.gcd(down, up)
    down, up = down // divisor, up // divisor
    if down == up or len(samples) == 0:
        return fit_length(samples, n_samples).copy()
    if max(down, up) > LARGEST_STEP:
        return fit_length(soxr.resample(samples, down, up, quality="HQ"), n_samples)
    factor = -(-_OUTPUTS // up)
    return _product(samples, down * factor, up * factor, n_samples)


def fit_length(samples: np.ndarray, n_samples: int) -> np.ndarray:
    """Samples cut or zero-padded at the end to `n_samples`."""
    if len(samples) >= n_samples:
        return samples[:n_samples]
    return np.concatenate([samples, np.zeros(n_samples - len(samples), dtype=np.float32)])


def _product(samples: np.ndarray, down: int, up: int, n_samples: int) -> np.ndarray:
    reach, pieces = _matrices(down, up)
    n_blocks = -(-n_samples // up)
    most = max(1, _MULTIPLICATIONS // max(matrix.size for _, _, matrix in pieces))
    groups = max(1, -(-n_blocks // most))
    rows = -(-n_blocks // groups)
    padded = np.zeros((groups * rows + 1) * down + 2 * reach, dtype=np.float32)
    used = samples[: len(padded) - reach]
    padded[reach : reach + len(used)] = used
    out = np.empty((groups, rows, up), dtype=np.float32)
    step = padded.itemsize
    for first, outputs, matrix in pieces:
        shape, strides = (groups, rows, len(matrix)), (rows * down * step, down * step, step)
        windows = np.lib.stride_tricks.as_strided(padded[reach + first :], shape, strides, writeable=False)
        np.matmul(np.ascontiguousarray(windows), matrix, out=out[:, :, outputs])
    return out.reshape(-1)[:n_samples]


@functools.lru_cache(maxsize=256)
def _matrices(down: int, up: int) -> tuple[int, list[tuple[int, slice, np.ndarray]]]:
    """The reach of the filter in samples, and the pieces of a block: first input, outputs, float32 (inputs, outputs)."""
    scale = min(1.0, up / down)
    reach = math.ceil(_ZEROS / scale)
    n_pieces = max(1, round(up / _OUTPUTS))
    pieces = []
    for i in range(n_pieces):
        outputs = slice(up * i // n_pieces, up * (i + 1) // n_pieces)
        times = np.arange(outputs.start, outputs.stop) * down / up  # of the outputs, in inputs
        first = math.floor(times[0]) - reach + 1
        distance = np.arange(first, math.floor(times[-1]) + reach + 1)[:, None] - times
        window = np.i0(_WINDOW_BETA * np.sqrt(np.maximum(0, 1 - np.square(distance / reach))))
        matrix = np.sinc(_CUTOFF * scale * distance) * window * (np.abs(distance) < reach)
        pieces.append((first, outputs, np.ascontiguousarray(matrix / matrix.sum(axis=0), dtype=np.float32)))
    return reach, pieces
