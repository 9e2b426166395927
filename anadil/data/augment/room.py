"""Reverberation: generated and recorded impulse responses, and fast convolution."""

from __future__ import annotations

import math

import numpy as np

from anadil.data.augment.fourier import circular_convolution
from anadil.data.augment.level import active_power, amplitude
from anadil.data.augment.noise import white

_FIRST_ECHO_S = 0.002  # a wall at a distance of 34 cm
_CACHED_FFT = 20480  # points; larger FFTs do not fit into the fast caches and take 1.5 times as long per point

_LONGEST_S = 2.0  # of a recorded response; the rest is far below the level of speech


def generated_response(rate: int, rt60: float, direct_db: float, rng: np.random.Generator) -> np.ndarray:
    """Direct sound, then noise that decays by 60 dB in `rt60` seconds (Moorer 1979): float32 (samples,).

    `direct_db`: energy of the direct sound relative to the reverberation.
    """
    n, first = max(2, round(rt60 * rate)), max(1, round(_FIRST_ECHO_S * rate))
    response: np.ndarray = np.exp(np.arange(n, dtype=np.float32) * np.float32(-3 * math.log(10) / (rt60 * rate)))
    response *= white(n, rng)
    response[: min(first, n - 1)] = 0
    response *= amplitude(-direct_db) / np.sqrt(np.dot(response, response))
    response[0] = 1
    return response


def recorded_response(recording: np.ndarray, rate: int) -> np.ndarray:
    """A recorded impulse response from its peak (the direct sound) on, scaled to a peak of 1 or -1."""
    start = int(np.abs(recording).argmax())
    response: np.ndarray = recording[start : start + round(_LONGEST_S * rate)]
    return response / np.float32(abs(response[0]))


def reverberate(samples: np.ndarray, rate: int, response: np.ndarray) -> np.ndarray:
    """Reverberant samples of the same length and active level, without delay."""
    before = active_power(samples, rate)
    if before == 0:
        return samples.copy()
    reverberant = convolve(samples, response)[: len(samples)]
    after = active_power(reverberant, rate)
    return reverberant * np.float32(math.sqrt(before / after)) if after > 0 else reverberant


def convolve(samples: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Full convolution, float32 (samples + kernel - 1,), by overlap-add in blocks that fit the processor's cache."""
    n_out = len(samples) + len(kernel) - 1
    size = _block(len(samples), len(kernel))
    step = size - len(kernel) + 1
    n_blocks = -(-len(samples) // step)
    blocks = np.zeros((n_blocks, step), dtype=np.float32)
    blocks.reshape(-1)[: len(samples)] = samples
    parts = circular_convolution(blocks, kernel.astype(np.float32), size)
    out = np.zeros(n_blocks * step + size - step, dtype=np.float32)
    out[: n_blocks * step] = parts[:, :step].reshape(-1)
    tails = parts[:, step:]
    for i in range(n_blocks):
        out[(i + 1) * step : (i + 1) * step + tails.shape[1]] += tails[i]
    return out[:n_out]


def _block(n_samples: int, n_kernel: int) -> int:
    """FFT size with the least estimated time: 1024 or more, a power of 2 times 4, 5 or 6."""

    def operations(size: int) -> float:
        cost = 1.5 if size > _CACHED_FFT else 1
        return (2 * -(-n_samples // (size - n_kernel + 1)) + 1) * size * math.log2(size) * cost

    most = max(1024, 2 * (n_samples + n_kernel)).bit_length()
    sizes = [factor << power for power in range(8, most) for factor in (4, 5, 6)]
    return min((size for size in sizes if size >= 1.5 * n_kernel), key=operations)
