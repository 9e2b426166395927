"""Rooms: impulse responses, generated or recorded, and fast convolution with them."""

from __future__ import annotations

import math

import numpy as np

from anadil.data.augment.fourier import multiplied
from anadil.data.augment.level import active_power, amplitude
from anadil.data.augment.noise import white

FIRST_ECHO_S = 0.002  # a wall at 34 cm
ROOMY_TRANSFORM = 20480  # larger ones leave the nearest caches: a point of theirs takes half as long again

LONGEST_S = 2.0  # of a recorded response; what comes later is far below speech


def generated_response(rate: int, rt60: float, direct_db: float, rng: np.random.Generator) -> np.ndarray:
    """Direct sound and noise that decays by 60 dB in `rt60` seconds (Moorer 1979): float32 (samples,).

    `direct_db`: energy of the direct sound over that of the echo.
    """
    n, first = max(2, round(rt60 * rate)), max(1, round(FIRST_ECHO_S * rate))
    response: np.ndarray = np.exp(np.arange(n, dtype=np.float32) * np.float32(-3 * math.log(10) / (rt60 * rate)))
    response *= white(n, rng)
    response[: min(first, n - 1)] = 0
    response *= amplitude(-direct_db) / np.sqrt(np.dot(response, response))
    response[0] = 1
    return response


def recorded_response(recording: np.ndarray, rate: int) -> np.ndarray:
    """A measured impulse response from its direct sound, the peak, on; the peak is 1 or -1."""
    start = int(np.abs(recording).argmax())
    response: np.ndarray = recording[start : start + round(LONGEST_S * rate)]
    return response / np.float32(abs(response[0]))


def reverberate(samples: np.ndarray, rate: int, response: np.ndarray) -> np.ndarray:
    """Samples as heard in the room: as long, as loud where somebody speaks, and not delayed."""
    before = active_power(samples, rate)
    if before == 0:
        return samples.copy()
    heard = convolve(samples, response)[: len(samples)]
    after = active_power(heard, rate)
    return heard * np.float32(math.sqrt(before / after)) if after > 0 else heard


def convolve(samples: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Full convolution, float32 (samples + kernel - 1,), by overlap-add: blocks that stay in the processor's cache."""
    n_out = len(samples) + len(kernel) - 1
    size = _block(len(samples), len(kernel))
    step = size - len(kernel) + 1
    n_blocks = -(-len(samples) // step)
    blocks = np.zeros((n_blocks, step), dtype=np.float32)
    blocks.reshape(-1)[: len(samples)] = samples
    parts = multiplied(blocks, kernel.astype(np.float32), size)
    out = np.zeros(n_blocks * step + size - step, dtype=np.float32)
    out[: n_blocks * step] = parts[:, :step].reshape(-1)
    tails = parts[:, step:]
    for i in range(n_blocks):
        out[(i + 1) * step : (i + 1) * step + tails.shape[1]] += tails[i]
    return out[:n_out]


def _block(n_samples: int, n_kernel: int) -> int:
    """Size of the transforms that takes the least time: 1024 and up, a power of 2 times 4, 5 or 6."""

    def operations(size: int) -> float:
        roomy = 1.5 if size > ROOMY_TRANSFORM else 1
        return (2 * -(-n_samples // (size - n_kernel + 1)) + 1) * size * math.log2(size) * roomy

    most = max(1024, 2 * (n_samples + n_kernel)).bit_length()
    sizes = [factor << power for power in range(8, most) for factor in (4, 5, 6)]
    return min((size for size in sizes if size >= 1.5 * n_kernel), key=operations)
