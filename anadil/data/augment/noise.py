"""Noise under speech at a given distance, made up or from recordings."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from threading import Lock

import numpy as np

from anadil import audio
from anadil.data.augment.level import active_power, mean_power
from anadil.errors import AnadilError, Problem, summarize
from anadil.manifest import Utterance, measured, probe_all, read_manifests

CACHE_S = 3600.0 * 2
"""Recordings kept decoded, in order of the manifest: 460 MB at 16 kHz. Of the others, the stretch needed is read."""


def add_white_noise(samples: np.ndarray, rate: int, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    """White Gaussian noise `snr_db` below active speech. Silence has no such distance and stays."""
    noise = white(len(samples), rng)
    return _add(samples, noise, active_power(samples, rate), mean_power(noise), snr_db)


def add_background(samples: np.ndarray, rate: int, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """`noise`, as long as the samples, `snr_db` below active speech while it is heard.

    Its own active level counts as well: a dog that barks once is no louder than one that barks all the time.
    """
    return _add(samples, noise, active_power(samples, rate), active_power(noise, rate), snr_db)


def _add(samples: np.ndarray, noise: np.ndarray, speech: float, power: float, snr_db: float) -> np.ndarray:
    if speech == 0 or power == 0:
        return samples.copy()
    return samples + np.float32(math.sqrt(speech / power) * 10 ** (-snr_db / 20)) * noise


def white(n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """A random stretch of a stored minute: drawing fresh numbers for each clip takes 20 times as long. Not to be changed."""
    stored = _stored_white()
    return _looped(stored, int(rng.integers(max(1, len(stored) - n_samples))), n_samples)


@functools.cache
def _stored_white() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(1 << 20, dtype=np.float32)


class Recordings:
    """Noises or impulse responses named by manifests, at one sample rate; what is kept decoded is decoded once.

    Raises AnadilError naming every one that cannot be used.
    """

    def __init__(self, manifests: Sequence[str], sample_rate: int, cache_s: float = CACHE_S) -> None:
        self.sample_rate = sample_rate
        found = read_manifests(manifests)
        infos = probe_all(found)
        self._recordings: list[tuple[Utterance, float]] = []  # with the seconds that are there
        problems = []
        for one in found:
            try:
                self._recordings.append((one, measured(one, infos[one.audio_filepath]).duration or 0.0))
            except AnadilError as error:
                problems.append(Problem(one.source, str(error)))
        if problems:
            raise AnadilError(summarize(problems, "recordings", len(found), f"mend {', '.join(manifests)}"))
        # settled here, not as room is left: a cut of a resampled file differs from a resampled cut in its first samples
        self._keep = np.cumsum([seconds for _, seconds in self._recordings]) <= cache_s
        self._decoded: dict[int, np.ndarray] = {}
        self._lock = Lock()

    def any(self, rng: np.random.Generator) -> int:
        """One of them, all alike."""
        return int(rng.integers(len(self._recordings)))

    def name(self, index: int) -> str:
        return self._recordings[index][0].audio_filepath

    def whole(self, index: int) -> np.ndarray:
        """Decoded, float32 (samples,)."""
        with self._lock:  # a second thread waits, as it would only decode the same
            if index in self._decoded:
                return self._decoded[index]
            samples = self._read(index, 0.0, None)
            if self._keep[index]:
                self._decoded[index] = samples
        return samples

    def stretch(self, index: int, n_samples: int, rng: np.random.Generator) -> np.ndarray:
        """A random stretch of `n_samples`; a shorter recording begins anywhere and is looped."""
        seconds, wanted_s = self._recordings[index][1], n_samples / self.sample_rate
        place = float(rng.random())
        if not self._keep[index] and seconds > wanted_s + 0.1:
            samples = self._read(index, place * (seconds - wanted_s - 0.05), wanted_s + 0.05)
            return _looped(samples, 0, n_samples)
        samples = self.whole(index)
        room = max(len(samples) - n_samples, 0) or len(samples)
        return _looped(samples, int(place * room), n_samples)

    def _read(self, index: int, offset: float, duration: float | None) -> np.ndarray:
        utterance, seconds = self._recordings[index]
        try:
            samples = audio.read(
                utterance.audio_filepath, self.sample_rate, utterance.offset + offset, duration or seconds
            )
        except AnadilError as error:
            raise AnadilError(f"{utterance.source}: {error}") from error
        if len(samples) == 0:
            raise AnadilError(f"{utterance.source}: audio has no samples: {utterance.audio_filepath}")
        return samples


def _looped(samples: np.ndarray, start: int, n_samples: int) -> np.ndarray:
    if start + n_samples <= len(samples):
        return samples[start : start + n_samples]
    return np.resize(np.concatenate([samples[start:], samples[:start]]), n_samples)
