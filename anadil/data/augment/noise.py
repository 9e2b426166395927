"""Add noise to speech at a given signal-to-noise ratio: white noise, or recordings."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import replace
from threading import Lock

import numpy as np

from anadil.data.augment.level import active_power, mean_power
from anadil.errors import AnadilError, Problem, summarize
from anadil.manifest import Utterance, measured, probe_all, read_audio, read_manifests

_CACHE_S = 3600.0 * 2
"""Recordings kept decoded, in the order of the manifest: 460 MB at 16 kHz. Of others, only the needed segment is read."""


def add_white_noise(samples: np.ndarray, rate: int, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    """Add white Gaussian noise `snr_db` below active speech. Silence stays as it is."""
    noise = white(len(samples), rng)
    return _add(samples, noise, active_power(samples, rate), mean_power(noise), snr_db)


def add_background(samples: np.ndarray, rate: int, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Add `noise`, as long as the samples, with its active level `snr_db` below active speech.

    By active level, a dog that barks once is as loud as one that barks all the time.
    """
    return _add(samples, noise, active_power(samples, rate), active_power(noise, rate), snr_db)


def _add(samples: np.ndarray, noise: np.ndarray, speech: float, power: float, snr_db: float) -> np.ndarray:
    if speech == 0 or power == 0:
        return samples.copy()
    return samples + np.float32(math.sqrt(speech / power) * 10 ** (-snr_db / 20)) * noise


def white(n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """A random segment of a stored minute of noise: new numbers for each clip take 20 times as long. Do not modify it."""
    stored = _stored_white()
    return looped(stored, int(rng.integers(max(1, len(stored) - n_samples))), n_samples)


@functools.cache
def _stored_white() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(1 << 20, dtype=np.float32)


class Recordings:
    """Recordings of noise or impulse responses in manifests, at one sample rate.

    Raises AnadilError naming every recording that cannot be used.
    """

    def __init__(self, manifests: Sequence[str], sample_rate: int, cache_s: float = _CACHE_S) -> None:
        self.sample_rate = sample_rate
        utterances = read_manifests(manifests)
        infos = probe_all(utterances)
        self._recordings: list[tuple[Utterance, float]] = []  # with their durations
        problems = []
        for one in utterances:
            try:
                self._recordings.append((one, measured(one, infos[one.audio_filepath]).duration or 0.0))
            except AnadilError as error:
                problems.append(Problem(one.source, str(error)))
        if problems:
            raise AnadilError(summarize(problems, "recordings", len(utterances), f"correct {', '.join(manifests)}"))
        # decided in advance: the first samples of a resampled segment differ from those of a resampled file
        self._keep = np.cumsum([seconds for _, seconds in self._recordings]) <= cache_s
        self._decoded: dict[int, np.ndarray] = {}
        self._lock = Lock()

    def draw(self, rng: np.random.Generator) -> int:
        """The index of a random recording."""
        return int(rng.integers(len(self._recordings)))

    def name(self, index: int) -> str:
        return self._recordings[index][0].audio_filepath

    def whole(self, index: int) -> np.ndarray:
        """The whole recording, float32 (samples,)."""
        with self._lock:  # so that two threads do not decode the same recording
            if index in self._decoded:
                return self._decoded[index]
            samples = self._read(index, 0.0, None)
            if self._keep[index]:
                self._decoded[index] = samples
        return samples

    def segment(self, index: int, n_samples: int, rng: np.random.Generator) -> np.ndarray:
        """A random segment of `n_samples`; a shorter recording starts anywhere and is looped."""
        seconds, wanted_s = self._recordings[index][1], n_samples / self.sample_rate
        position = float(rng.random())
        if not self._keep[index] and seconds > wanted_s + 0.1:
            samples = self._read(index, position * (seconds - wanted_s - 0.05), wanted_s + 0.05)
            return looped(samples, 0, n_samples)
        samples = self.whole(index)
        room = max(len(samples) - n_samples, 0) or len(samples)
        return looped(samples, int(position * room), n_samples)

    def _read(self, index: int, offset: float, duration: float | None) -> np.ndarray:
        utterance, seconds = self._recordings[index]
        try:
            stretch = replace(utterance, offset=utterance.offset + offset, duration=duration or seconds)
            samples = read_audio(stretch, self.sample_rate)
        except AnadilError as error:
            raise AnadilError(f"{utterance.source}: {error}") from error
        if len(samples) == 0:
            raise AnadilError(f"{utterance.source}: audio has no samples: {utterance.audio_filepath}")
        return samples


def looped(samples: np.ndarray, start: int, n_samples: int) -> np.ndarray:
    """`n_samples` from `start` on; after the end it goes on with the beginning. It may be a view."""
    if start + n_samples <= len(samples):
        return samples[start : start + n_samples]
    return np.resize(np.concatenate([samples[start:], samples[:start]]), n_samples)
