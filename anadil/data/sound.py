"""Measure recordings sample by sample, each decoded once, block by block: memory does not grow with their length."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from anadil import audio
from anadil.errors import AnadilError

FRAME_S = 0.032
LOUDEST_FRAMES = 10  # 0.3 s: a word
SPEECH_RANGE_DB, VOICED_RANGE_DB = 30.0, 25.0  # below the loudest 0.3 s
NOISE_MARGIN_DB, LEAST_RANGE_DB = 6.0, 10.0
_BLOCK_FRAMES = 1024  # 33 s: 6 MB at 48 kHz
_FULL_SCALE = 0.999
_COARSE = frozenset({"PCM_U8", "PCM_S8", "ULAW", "ALAW"})  # whose loudest steps are wide, and so look flat
_FLOOR = 1e-20


@dataclass(frozen=True, slots=True)
class Sound:
    """Of one stretch of a recording."""

    duration: float  # seconds that could be decoded
    level_db: float  # dBFS of its loudest 0.3 s, a constant offset not counted
    speech_s: float  # from the first to the last frame of speech: at most SPEECH_RANGE_DB below `level_db`
    voiced_s: float  # of the frames at most VOICED_RANGE_DB below it: without the pauses
    clipped: float  # share of samples at the limit
    drop_db: float  # from 2.5-3.4 kHz to the strongest band above 4.5 kHz; 0 where the rate shows no such band
    cliff_db: float  # steepest fall between neighbouring 400 Hz between 2.8 and 4.9 kHz
    digest: bytes  # of the decoded samples
    failure: str = ""  # why decoding stopped, if it did


def measure(
    path: str, stretches: Sequence[tuple[float, float | None]]
) -> tuple[audio.AudioInfo | AnadilError, list[Sound]]:
    """Probe a file and decode these stretches (offset, duration or None for the rest; seconds), in this order.

    A stretch past the end has a duration of 0. If the file is no audio, the error is given in place of its facts.
    """
    try:
        info = audio.probe(path)
    except AnadilError as error:
        return error, []
    sounds: list[Sound] = []
    try:
        with soundfile.SoundFile(path) as file:
            for offset, duration in stretches:
                sounds.append(_measure(file, offset, duration, first=not sounds))
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        return AnadilError(f"not readable as audio: {path} ({error})"), []
    return info, sounds


def cut_page(path: str) -> bool:
    """Whether an Ogg file ends in the middle of a page (RFC 3533: a page's header tells how long it is)."""
    tail_size = 2 * 65307  # two of the longest pages
    with open(path, "rb") as file:
        if file.read(4) != b"OggS":
            return False
        file.seek(max(0, Path(path).stat().st_size - tail_size), os.SEEK_SET)
        tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    return len(page) < 27 or len(page) < 27 + page[26] or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])


def _measure(file: soundfile.SoundFile, offset: float, duration: float | None, first: bool) -> Sound:
    rate = file.samplerate
    start = min(round(offset * rate), file.frames)
    if start or not first:
        file.seek(start)
    left = math.inf if duration is None else round(duration * rate)
    ear = _Ear(rate, file.subtype in _COARSE)
    failure = ""
    while left > 0:
        asked = int(min(left, ear.block))
        try:
            block = file.read(asked, dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, RuntimeError) as error:
            failure = getattr(error, "error_string", "") or "the decoder gave up"
            break
        if not np.isfinite(block).all():
            failure = "it holds values that are no numbers (NaN or infinity)"
            break
        if len(block):
            ear.hear(block[:, 0] if block.shape[1] == 1 else block.mean(axis=1))
        if len(block) < asked:
            break
        left -= asked
    return ear.sound(failure)


class _Ear:
    """What is known of a stretch so far."""

    def __init__(self, rate: int, coarse: bool) -> None:
        self.rate, self.coarse = rate, coarse
        self.size = max(1, int(rate * FRAME_S))
        self.block = self.size * _BLOCK_FRAMES
        self.window = np.hanning(self.size).astype(np.float32)
        self.n_samples = self.n_over = 0
        self.top, self.bottom = (-math.inf, 0), (-math.inf, 0)  # extreme, and how many samples lie flat on it
        self.powers: list[np.ndarray] = []
        self.spectrum = np.zeros(self.size // 2 + 1)
        self.digest = hashlib.blake2b(digest_size=16)

    def hear(self, samples: np.ndarray) -> None:
        self.n_samples += len(samples)
        self.digest.update(np.ascontiguousarray(samples).data)
        high, low = float(samples.max()), float(samples.min())
        self.top = _flat(self.top, samples, high)
        self.bottom = _flat(self.bottom, -samples, -low)
        if max(high, -low) >= _FULL_SCALE:
            self.n_over += int(np.count_nonzero(np.abs(samples) >= _FULL_SCALE))
        n_frames = max(1, len(samples) // self.size)
        if len(samples) < self.size:
            samples = np.pad(samples, (0, self.size - len(samples)))
        frames = samples[: n_frames * self.size].reshape(n_frames, self.size)
        frames = frames - frames.mean(axis=1, keepdims=True)
        self.powers.append(np.einsum("ij,ij->i", frames, frames) / self.size)
        if self.rate >= 12000:
            bins = np.fft.rfft(frames * self.window, axis=1)
            self.spectrum += (bins.real**2 + bins.imag**2).sum(axis=0)

    def sound(self, failure: str) -> Sound:
        powers = np.concatenate(self.powers) if self.powers else np.zeros(1)
        level_db = _decibels(np.sort(powers)[-LOUDEST_FRAMES:].mean())
        # what hardly rises above the noise is no speech; a clip without a pause has no noise to measure
        noise_db = min(_decibels(np.percentile(powers, 10)) + NOISE_MARGIN_DB, level_db - LEAST_RANGE_DB)
        loud = np.flatnonzero(powers >= 10 ** (max(noise_db, level_db - SPEECH_RANGE_DB) / 10))
        n_voiced = np.count_nonzero(powers >= 10 ** (max(noise_db, level_db - VOICED_RANGE_DB) / 10))
        duration = self.n_samples / self.rate
        speech_s = min(duration, float(loud[-1] - loud[0] + 1) * FRAME_S) if len(loud) else 0.0
        voiced_s = min(duration, float(n_voiced) * FRAME_S)
        flat = sum(n for extreme, n in (self.top, self.bottom) if extreme >= (0.97 if self.coarse else 0.1))
        clipped = max(flat, self.n_over) / max(1, self.n_samples)
        drop_db, cliff_db = self._band_limit()
        return Sound(duration, level_db, speech_s, voiced_s, clipped, drop_db, cliff_db, self.digest.digest(), failure)

    def _band_limit(self) -> tuple[float, float]:
        highest = min(7500.0, 0.95 * self.rate / 2)
        if highest < 5000 or not self.spectrum.any():
            return 0.0, 0.0
        bins_per_hz = self.size / self.rate

        def band_db(low: float, width: float) -> float:
            return _decibels(self.spectrum[round(low * bins_per_hz) : round((low + width) * bins_per_hz)].mean())

        above = max(band_db(low, 500) for low in np.arange(4500, highest - 499, 500))
        cliff = max(band_db(low, 400) - band_db(low + 400, 400) for low in range(2800, 4101, 100))
        return band_db(2500, 900) - above, cliff


def _flat(before: tuple[float, int], samples: np.ndarray, extreme: float) -> tuple[float, int]:
    """Samples in the middle of three that all lie on the extreme of the stretch: the flat top of a clipped wave."""
    if extreme < before[0]:
        return before
    at = samples == extreme
    n = int(np.count_nonzero(at[1:-1] & at[:-2] & at[2:]))
    return (extreme, n if extreme > before[0] else n + before[1])


def _decibels(power: float) -> float:
    return 10 * math.log10(float(power) + _FLOOR)
