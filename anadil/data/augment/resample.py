"""Resampling for augmentation: matrix products with a windowed sinc, a quarter of the work of a general resampler.

With `up` samples out for every `down` samples in, the same few hundred inputs make the same hundred outputs all along the
clip; so the filter is one small matrix, made once for each ratio, and processors do nothing faster than such products.
Float32 (samples,) in and out.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import soxr

ZEROS = 32
"""Zero crossings of the sinc on either side: what is let through is flat to 0.88 of the lower rate's half."""

CUTOFF, WINDOW_BETA = 0.95, 6.8
"""Half-power point as a share of the lower rate's half, and Kaiser's parameter for 70 dB.

What is let through comes out right within -60 dB, aliases included (tested)."""

OUTPUTS = 50
"""Outputs of one product: more means more zeros in the matrix, fewer smaller products."""

LARGEST_STEP = 1000
"""Ratios of larger numbers go to soxr: their matrices would be used once or fill the memory."""

MULTIPLICATIONS = 1 << 18
"""Of one product. OpenBLAS spreads larger ones over threads of its own, which would fight the model's for the cores."""


def resampled(samples: np.ndarray, down: int, up: int, n_samples: int) -> np.ndarray:
    """`n_samples` samples at `up` / `down` times the rate, not delayed; zeros are taken to lie before and behind."""
    divisor = math.gcd(down, up)
    down, up = down // divisor, up // divisor
    if down == up or len(samples) == 0:
        return exactly(samples, n_samples).copy()
    if max(down, up) > LARGEST_STEP:
        return exactly(soxr.resample(samples, down, up, quality="HQ"), n_samples)
    several = -(-OUTPUTS // up)
    return _product(samples, down * several, up * several, n_samples)


def exactly(samples: np.ndarray, n_samples: int) -> np.ndarray:
    """Cut or zero-padded at the end to `n_samples`."""
    if len(samples) >= n_samples:
        return samples[:n_samples]
    return np.concatenate([samples, np.zeros(n_samples - len(samples), dtype=np.float32)])


def _product(samples: np.ndarray, down: int, up: int, n_samples: int) -> np.ndarray:
    reach, pieces = _matrices(down, up)
    n_blocks = -(-n_samples // up)
    most = max(1, MULTIPLICATIONS // max(matrix.size for _, _, matrix in pieces))
    groups = max(1, -(-n_blocks // most))
    rows = -(-n_blocks // groups)
    padded = np.zeros((groups * rows + 1) * down + 2 * reach, dtype=np.float32)
    heard = samples[: len(padded) - reach]
    padded[reach : reach + len(heard)] = heard
    out = np.empty((groups, rows, up), dtype=np.float32)
    step = padded.itemsize
    for first, outputs, matrix in pieces:
        shape, strides = (groups, rows, len(matrix)), (rows * down * step, down * step, step)
        windows = np.lib.stride_tricks.as_strided(padded[reach + first :], shape, strides, writeable=False)
        np.matmul(np.ascontiguousarray(windows), matrix, out=out[:, :, outputs])
    return out.reshape(-1)[:n_samples]


@functools.lru_cache(maxsize=256)
def _matrices(down: int, up: int) -> tuple[int, list[tuple[int, slice, np.ndarray]]]:
    """How far the filter reaches, and the pieces of a block: first input, outputs, float32 (inputs, outputs)."""
    scale = min(1.0, up / down)
    reach = math.ceil(ZEROS / scale)
    n_pieces = max(1, round(up / OUTPUTS))
    pieces = []
    for i in range(n_pieces):
        outputs = slice(up * i // n_pieces, up * (i + 1) // n_pieces)
        places = np.arange(outputs.start, outputs.stop) * down / up
        first = math.floor(places[0]) - reach + 1
        distance = np.arange(first, math.floor(places[-1]) + reach + 1)[:, None] - places
        window = np.i0(WINDOW_BETA * np.sqrt(np.maximum(0, 1 - np.square(distance / reach))))
        matrix = np.sinc(CUTOFF * scale * distance) * window * (np.abs(distance) < reach)
        pieces.append((first, outputs, np.ascontiguousarray(matrix / matrix.sum(axis=0), dtype=np.float32)))
    return reach, pieces
