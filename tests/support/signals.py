"""Signals whose measures are known."""

from __future__ import annotations

import numpy as np

RATE = 16000


def sine(hz: float, seconds: float = 2.0, amplitude: float = 0.3, rate: int = RATE) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def speech_with_pauses(seconds: float = 4.0, rate: int = RATE) -> np.ndarray:
    """A tone for the first quarter of each second, and nothing in the other three."""
    tone = sine(300, seconds, 0.2, rate)
    tone[(np.arange(len(tone)) % rate) >= rate // 4] = 0
    return tone


def loudest_hz(samples: np.ndarray, rate: int = RATE) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 4 * len(samples)))
    return float(spectrum.argmax() * rate / (4 * len(samples)))


def power_db(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64)) + 1e-30))


def lag(later: np.ndarray, samples: np.ndarray) -> int:
    """By how many samples `later` comes after `samples`."""
    size = 2 * max(len(later), len(samples))
    products = np.fft.irfft(np.fft.rfft(later, size) * np.conj(np.fft.rfft(samples, size)), size)
    best = int(products.argmax())
    return best if best < size // 2 else best - size


EXTREMES = {
    "nothing": np.zeros(0, dtype=np.float32),
    "one sample": np.full(1, 0.5, dtype=np.float32),
    "ten samples": np.linspace(-1, 1, 10, dtype=np.float32),
    "silence": np.zeros(5000, dtype=np.float32),
    "ones": np.ones(5000, dtype=np.float32),
    "a click": np.eye(1, 5000, 2500, dtype=np.float32)[0],
    "a square wave": np.where(np.arange(16000) % 100 < 50, 1, -1).astype(np.float32),
}
