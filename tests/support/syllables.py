"""Sounds with the levels of speech and of pauses."""

from __future__ import annotations

import numpy as np

RATE = 8000


def clip(seconds: float = 2.0, seed: int = 0) -> np.ndarray:
    """Syllables of noise, four a second, 30 dB above what is between them."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    envelope = 0.01 + 0.3 * np.clip(np.sin(2 * np.pi * 4 * time), 0, 1)
    return (envelope * rng.standard_normal(len(time))).astype(np.float32)


def background(seconds: float, level_db: float) -> np.ndarray:
    noise = np.random.default_rng(7).standard_normal(round(seconds * RATE)) * 10 ** (level_db / 20)
    return noise.astype(np.float32)
