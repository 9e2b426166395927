"""Effects of microphone and line: overload, telephone, codecs. float32 (samples,) in and out; same length, no delay."""

from __future__ import annotations

import functools
import io
import math

import numpy as np
import soundfile

from anadil.data.augment.level import amplitude, peak
from anadil.data.augment.resample import fit_length, resampled
from anadil.data.augment.room import convolve

_TELEPHONE_RATE, _TELEPHONE_LOW_HZ, _TELEPHONE_HIGH_HZ = 8000, 300.0, 3400.0
_MU = 255  # of ITU-T G.711
_FILTER_TAPS = 255  # transition bands of 170 Hz at 8 kHz

_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_FED_RATES = ((16.0, 8000), (24.0, 12000))
"""(kbit/s, Hz): up to this bit rate, codecs get audio of this rate. At a higher one they cut the band themselves, for two
or three times the work."""


def clip_peaks(samples: np.ndarray, overload_db: float) -> np.ndarray:
    """Clip at `overload_db` below the highest peak."""
    limit = np.float32(peak(samples) * amplitude(-overload_db))
    clipped: np.ndarray = np.clip(samples, -limit, limit)
    return clipped


def telephone(samples: np.ndarray, rate: int, mu_law: bool) -> np.ndarray:
    """Limit to the telephone band, 300 to 3400 Hz; with `mu_law` code in 8 bits per sample as in ITU-T G.711."""
    narrow = _to_rate(samples, rate, _TELEPHONE_RATE)
    narrow = convolve(narrow, _band_pass())[_FILTER_TAPS // 2 : _FILTER_TAPS // 2 + len(narrow)]
    if mu_law:
        narrow = mu_law_coded(narrow / np.float32(max(1.0, peak(narrow))))
    return fit_length(_to_rate(narrow, _TELEPHONE_RATE, rate), len(samples))


def mu_law_coded(samples: np.ndarray) -> np.ndarray:
    """Samples in [-1, 1] quantised to 255 levels, closer at low amplitudes (the continuous law of G.711)."""
    number = np.round(np.log1p(_MU * np.abs(samples)) * np.float32(127 / math.log1p(_MU))).astype(np.intp)
    coded: np.ndarray = np.copysign(_mu_law_levels()[number], samples)
    return coded


@functools.cache
def _mu_law_levels() -> np.ndarray:
    levels: np.ndarray = np.expm1(np.arange(128) / 127 * math.log1p(_MU)) / _MU
    return levels.astype(np.float32)


def apply_codec(samples: np.ndarray, rate: int, form: str, kbps: float) -> np.ndarray:
    """Encode as "opus" or "mp3" at about `kbps` kbit/s, then decode."""
    top_rate = next((fed_rate for most_kbps, fed_rate in _FED_RATES if kbps <= most_kbps), rate)
    rates = _OPUS_RATES if form == "opus" else _MP3_RATES
    coded_rate = min((r for r in rates if r >= min(rate, top_rate)), default=rates[-1])
    fed = _to_rate(samples, rate, coded_rate)
    fed = fit_length(fed, max(len(fed), coded_rate // 10))  # LAME and libsndfile need a minimum of samples
    file = io.BytesIO()
    if form == "opus":  # libsndfile: level 0 is 256 kbit/s per channel, level 1 is 6
        soundfile.write(file, fed, coded_rate, format="OGG", subtype="OPUS", compression_level=(256 - kbps) / 250)
    else:
        # at a constant bit rate LAME's delay cannot be noted in the file, and 1105 samples of silence would stay in front;
        # level 0 is the highest bit rate at this sample rate, level 1 the lowest, which libsndfile refuses
        low, high = (8, 64) if coded_rate < 16000 else (8, 160) if coded_rate < 32000 else (32, 320)
        level = min((high - max(kbps, low)) / (high - low), 0.999)
        options = {"compression_level": max(level, 0.0), "bitrate_mode": "AVERAGE"}
        soundfile.write(file, fed, coded_rate, format="MP3", subtype="MPEG_LAYER_III", **options)
    file.seek(0)
    decoded, _ = soundfile.read(file, dtype="float32")
    return fit_length(_to_rate(decoded, coded_rate, rate), len(samples))


def _to_rate(samples: np.ndarray, rate: int, target_rate: int) -> np.ndarray:
    """Samples at `target_rate`. They may exceed 1; the chain scales them and counts it."""
    return (
        samples
        if rate == target_rate
        else resampled(samples, rate, target_rate, -(-len(samples) * target_rate // rate))
    )


@functools.cache
def _band_pass() -> np.ndarray:
    """Windowed sinc (Blackman), float32 (taps,)."""
    n = np.arange(_FILTER_TAPS) - _FILTER_TAPS // 2
    low, high = (2 * hz / _TELEPHONE_RATE for hz in (_TELEPHONE_LOW_HZ, _TELEPHONE_HIGH_HZ))
    ideal = high * np.sinc(high * n) - low * np.sinc(low * n)
    taps: np.ndarray = ideal * np.blackman(_FILTER_TAPS)
    return taps.astype(np.float32)
