"""A model without weights: it writes "a" for every loud frame of 40 ms. Shared by the tests of recognition."""

from __future__ import annotations

import numpy as np

from anadil.recognition.recognizer import Recognizer
from anadil.text.rules import TextSettings, text_rules

RATE, FRAME = 16000, 640


def loud_is_a(waveforms: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log-probs of a model that hears "a" in every loud frame of 40 ms, and a space in every other one.

    Beyond the frame counts, which nobody should read, it hears "a" too.
    """
    n_frames, frame_counts = -(-waveforms.shape[1] // FRAME), -(-counts // FRAME)
    padded = np.pad(waveforms, ((0, 0), (0, n_frames * FRAME - waveforms.shape[1])))
    loud = np.abs(padded).reshape(len(waveforms), n_frames, FRAME).max(axis=2) > 0.1
    loud |= np.arange(n_frames) >= frame_counts[:, None]
    return np.log(np.stack([~loud, loud, loud & ~loud], axis=2) * 0.98 + 0.01).astype(np.float32), frame_counts


def loudness_recognizer(longest_s: float = 20.0) -> Recognizer:
    rules = text_rules("en", TextSettings(), [" ", "a"])
    return Recognizer("loudness", rules, RATE, FRAME / RATE, 320, loud_is_a, longest_s)


def bursts(starts_s: list[float], duration_s: float, burst_s: float = 0.2, floor: float = 0.0) -> np.ndarray:
    """Float32 (samples,): bursts over noise of amplitude `floor`."""
    samples = np.zeros(round(duration_s * RATE), dtype=np.float32)
    samples += floor * np.random.default_rng(0).standard_normal(len(samples)).astype(np.float32)
    for start in starts_s:
        samples[round(start * RATE) : round((start + burst_s) * RATE)] = 0.5
    return samples
