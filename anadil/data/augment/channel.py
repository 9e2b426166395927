"""Microphone and line: overload, telephone and codecs. float32 (samples,) in and out, as long, not delayed."""

from __future__ import annotations

import functools
import io
import math

import numpy as np
import soundfile

from anadil.data.augment.level import amplitude, peak
from anadil.data.augment.resample import exactly, resampled
from anadil.data.augment.room import convolve

TELEPHONE_RATE, TELEPHONE_LOW_HZ, TELEPHONE_HIGH_HZ = 8000, 300.0, 3400.0
MU = 255  # of ITU-T G.711
FILTER_TAPS = 255  # flanks of 170 Hz at 8 kHz

OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
FED_RATES = ((16.0, 8000), (24.0, 12000))
"""Up to so many kbit/s, codecs are fed at so many Hz: they would cut the band themselves, at two or three times the work."""


def clip_peaks(samples: np.ndarray, overload_db: float) -> np.ndarray:
    """Cut off all that is less than `overload_db` below the highest peak."""
    limit = np.float32(peak(samples) * amplitude(-overload_db))
    clipped: np.ndarray = np.clip(samples, -limit, limit)
    return clipped


def telephone(samples: np.ndarray, rate: int, mu_law: bool) -> np.ndarray:
    """What a telephone line leaves: 300 to 3400 Hz, and with `mu_law` 8 bits a sample as by ITU-T G.711."""
    narrow = _to_rate(samples, rate, TELEPHONE_RATE)
    narrow = convolve(narrow, _band_pass())[FILTER_TAPS // 2 : FILTER_TAPS // 2 + len(narrow)]
    if mu_law:
        narrow = mu_law_coded(narrow / np.float32(max(1.0, peak(narrow))))
    return exactly(_to_rate(narrow, TELEPHONE_RATE, rate), len(samples))


def mu_law_coded(samples: np.ndarray) -> np.ndarray:
    """Samples in [-1, 1] through 255 levels that lie closer where it is quiet (the continuous law of G.711)."""
    number = np.round(np.log1p(MU * np.abs(samples)) * np.float32(127 / math.log1p(MU))).astype(np.intp)
    coded: np.ndarray = np.copysign(_mu_law_levels()[number], samples)
    return coded


@functools.cache
def _mu_law_levels() -> np.ndarray:
    levels: np.ndarray = np.expm1(np.arange(128) / 127 * math.log1p(MU)) / MU
    return levels.astype(np.float32)


def code(samples: np.ndarray, rate: int, form: str, kbps: float) -> np.ndarray:
    """Encode as "opus" or "mp3" at about `kbps` kbit/s, and decode."""
    top_rate = next((fed_rate for most_kbps, fed_rate in FED_RATES if kbps <= most_kbps), rate)
    rates = OPUS_RATES if form == "opus" else MP3_RATES
    coded_rate = min((r for r in rates if r >= min(rate, top_rate)), default=rates[-1])
    fed = _to_rate(samples, rate, coded_rate)
    fed = exactly(fed, max(len(fed), coded_rate // 10))  # LAME and libsndfile need some samples to work on
    file = io.BytesIO()
    if form == "opus":  # libsndfile: level 0 is 256 kbit/s a channel, 1 is 6
        soundfile.write(file, fed, coded_rate, format="OGG", subtype="OPUS", compression_level=(256 - kbps) / 250)
    else:
        # a constant rate leaves no room for the note of LAME's delay, so 1105 samples of silence would stay in front;
        # level 0 is the highest rate that the sample rate has, 1 the lowest, which libsndfile refuses
        low, high = (8, 64) if coded_rate < 16000 else (8, 160) if coded_rate < 32000 else (32, 320)
        level = min((high - max(kbps, low)) / (high - low), 0.999)
        options = {"compression_level": max(level, 0.0), "bitrate_mode": "AVERAGE"}
        soundfile.write(file, fed, coded_rate, format="MP3", subtype="MPEG_LAYER_III", **options)
    file.seek(0)
    heard, _ = soundfile.read(file, dtype="float32")
    return exactly(_to_rate(heard, coded_rate, rate), len(samples))


def _to_rate(samples: np.ndarray, rate: int, target_rate: int) -> np.ndarray:
    """What overshoots 1 is left to the chain, which counts it."""
    return (
        samples
        if rate == target_rate
        else resampled(samples, rate, target_rate, -(-len(samples) * target_rate // rate))
    )


@functools.cache
def _band_pass() -> np.ndarray:
    """Windowed sinc (Blackman), float32 (taps,)."""
    n = np.arange(FILTER_TAPS) - FILTER_TAPS // 2
    low, high = (2 * hz / TELEPHONE_RATE for hz in (TELEPHONE_LOW_HZ, TELEPHONE_HIGH_HZ))
    ideal = high * np.sinc(high * n) - low * np.sinc(low * n)
    taps: np.ndarray = ideal * np.blackman(FILTER_TAPS)
    return taps.astype(np.float32)
