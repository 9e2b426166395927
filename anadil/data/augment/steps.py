"""The transforms of audio in their order, and the random parameters that each draws."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from anadil.data.augment import channel, noise, room, stretch
from anadil.data.augment.level import amplitude, peak
from anadil.data.augment.noise import Recordings
from anadil.data.augment.settings import (
    AugmentSettings,
    BackgroundSettings,
    ClippingSettings,
    CodecSettings,
    GainSettings,
    PitchSettings,
    ReverbSettings,
    SpeedSettings,
    TelephoneSettings,
    TempoSettings,
    WhiteNoiseSettings,
)

Rng = np.random.Generator
Transform = Callable[[np.ndarray, int, Rng], np.ndarray]
"""From float32 (samples,) in [-1, 1], their rate and random numbers to samples in [-1, 1]; the input is not changed."""

Record = dict[str, Any]
"""The name and the parameters of a transform that was applied: {"transform": "speed", "rate": 0.93}."""

Change = Callable[[np.ndarray, int, Rng, Record], np.ndarray]
"""As a Transform, but it adds its parameters to the record, and the result may exceed [-1, 1]."""

STEPS = ("speed", "tempo", "pitch", "reverb", "background", "white_noise", "gain", "clipping", "telephone", "codec")
"""In this order: speaker, room, microphone, line."""

TIME_STEPS = ("speed", "tempo")
"""Steps that change the duration. The first number that they draw must be their rate."""


@dataclass(frozen=True, slots=True)
class Step:
    """A transform of the chain, and how probable it is."""

    name: str
    probability: float
    change: Change


def steps(settings: AugmentSettings, sample_rate: int) -> list[Step]:
    """The transforms that `settings` turn on. Raises AnadilError if a recording that they need cannot be used."""
    chosen = []
    for name in STEPS:
        section = getattr(settings, name)
        if section is not None and section.probability > 0:
            chosen.append(Step(name, section.probability, _MAKERS[name](section, sample_rate)))
    return chosen


def transforms(settings: AugmentSettings, sample_rate: int) -> dict[str, Transform]:
    """The transforms that `settings` turn on, in order, to be applied always. Raises AnadilError as `steps` does."""
    return {step.name: _always(step.change) for step in steps(settings, sample_rate)}


def _always(change: Change) -> Transform:
    return lambda samples, rate, rng: within_range(change(samples, rate, rng, {}), {})


def within_range(samples: np.ndarray, record: Record) -> np.ndarray:
    """Samples scaled to a peak of 1 if they exceed [-1, 1]; the record gets `scaled_db`."""
    highest = peak(samples)
    if highest <= 1:
        return samples
    record["scaled_db"] = _rounded(-20 * float(np.log10(highest)))
    inside: np.ndarray = np.clip(
        samples / np.float32(highest), -1, 1
    )  # a quotient may be rounded to slightly more than 1
    return inside


def draw(ends: tuple[float, float], rng: Rng) -> float:
    return float(rng.uniform(*ends))


def draw_rate(ends: tuple[float, float], rng: Rng) -> float:
    """A rate in whole hundredths if the range has ten of them: the difference is inaudible, and each rate needs a filter."""
    return _in_hundredths(draw(ends, rng), ends)


def _in_hundredths(value: float, ends: tuple[float, float]) -> float:
    """Nearest whole hundredth within `ends`, but never 1: a transform that is applied must change something."""
    low, high = math.ceil(100 * ends[0] - 1e-9), math.floor(100 * ends[1] + 1e-9)
    if high - low < 10:
        return value
    nearest = min(max(round(100 * value), low), high)
    if nearest == 100:
        nearest = 101 if (value >= 1 and high > 100) or low == 100 else 99
    return nearest / 100


def _skipped(samples: np.ndarray, record: Record) -> np.ndarray:
    """The samples unchanged, with a note: a silent noise or response is no reason to stop a run of hours."""
    record["skipped"] = "silent recording"
    return samples


def _rounded(value: float) -> float:
    return round(value, 4)


def _speed(settings: SpeedSettings, sample_rate: int) -> Change:
    def change(samples: np.ndarray, rate: int, rng: Rng, record: Record) -> np.ndarray:
        factor = draw_rate(settings.rate, rng)
        record["rate"] = _rounded(factor)
        return stretch.change_speed(samples, factor)

    return change


def _tempo(settings: TempoSettings, sample_rate: int) -> Change:
    def change(samples: np.ndarray, rate: int, rng: Rng, record: Record) -> np.ndarray:
        factor = draw_rate(settings.rate, rng)
        record["rate"] = _rounded(factor)
        return stretch.change_tempo(samples, rate, factor)

    return change


def _pitch(settings: PitchSettings, sample_rate: int) -> Change:
    def change(samples: np.ndarray, rate: int, rng: Rng, record: Record) -> np.ndarray:
        low, high = (2 ** (end / 12) for end in settings.semitones)
        semitones = 12 * math.log2(_in_hundredths(2 ** (draw(settings.semitones, rng) / 12), (low, high)))
        record["semitones"] = _rounded(semitones)
        return stretch.change_pitch(samples, rate, semitones)

    return change


def _reverb(settings: ReverbSettings, sample_rate: int) -> Change:
    recordings = Recordings(settings.manifest, sample_rate) if settings.manifest else None

    def change(samples: np.ndarray, rate: int, rng: Rng, record: Record) -> np.ndarray:
        if recordings is None:
            rt60, direct_db = draw(settings.rt60, rng), draw(settings.direct_db, rng)
            record |= {"rt60": _rounded(rt60), "direct_db": _rounded(direct_db)}
            response = room.generated_response(rate, rt60, direct_db, rng)
        else:
            index = recordings.draw(rng)
            record["response"], recording = recordings.name(index), recordings.whole(index)
            if peak(recording) == 0:
                return _skipped(samples, record)
            response = room.recorded_response(recording, rate)
        return room.reverberate(samples, rate, response)

    return change


def _background(settings: BackgroundSettings, sample_rate: int) -> Change:
    recordings = Recordings(settings.manifest, sample_rate)

    def change(samples: np.ndarray, rate: int, rng: Rng, record: Record) -> np.ndarray:
        snr_db, index = draw(settings.snr_db, rng), recordings.draw(rng)
        record |= {"snr_db": _rounded(snr_db), "noise": recordings.name(index)}
        background = recordings.segment(index, len(samples), rng)
        return (
            noise.add_background(samples, rate, background, snr_db)
            if peak(background) > 0
            else _skipped(samples, record)
        )

    return change


def _white_noise(settings: WhiteNoiseSettings, sample_rate: int) -> Change:
    def change(samples: np.ndarray, rate: int, rng: Rng, record: Record) -> np.ndarray:
        snr_db = draw(settings.snr_db, rng)
        record["snr_db"] = _rounded(snr_db)
        return noise.add_white_noise(samples, rate, snr_db, rng)

    return change


def _gain(settings: GainSettings, sample_rate: int) -> Change:
    def change(samples: np.ndarray, rate: int, rng: Rng, record: Record) -> np.ndarray:
        decibels = draw(settings.db, rng)
        record["db"] = _rounded(decibels)
        return samples * amplitude(decibels)

    return change


def _clipping(settings: ClippingSettings, sample_rate: int) -> Change:
    def change(samples: np.ndarray, rate: int, rng: Rng, record: Record) -> np.ndarray:
        overload_db = draw(settings.overload_db, rng)
        record["overload_db"] = _rounded(overload_db)
        return channel.clip_peaks(samples, overload_db)

    return change


def _telephone(settings: TelephoneSettings, sample_rate: int) -> Change:
    def change(samples: np.ndarray, rate: int, rng: Rng, record: Record) -> np.ndarray:
        record["mu_law"] = bool(rng.random() < settings.mu_law)
        return channel.telephone(samples, rate, record["mu_law"])

    return change


def _codec(settings: CodecSettings, sample_rate: int) -> Change:
    def change(samples: np.ndarray, rate: int, rng: Rng, record: Record) -> np.ndarray:
        form, kbps = settings.formats[int(rng.integers(len(settings.formats)))], draw(settings.kbps, rng)
        record |= {"format": form, "kbps": _rounded(kbps)}
        return channel.apply_codec(samples, rate, form, kbps)

    return change


_MAKERS: dict[str, Callable[[Any, int], Change]] = {
    "speed": _speed,
    "tempo": _tempo,
    "pitch": _pitch,
    "reverb": _reverb,
    "background": _background,
    "white_noise": _white_noise,
    "gain": _gain,
    "clipping": _clipping,
    "telephone": _telephone,
    "codec": _codec,
}
