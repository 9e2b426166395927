"""Silence, noise and joined utterances, as people record them: what stands around and between the sentences in training.

A corpus has cut sentences, so a model that sees nothing else loses its normalisation, or writes letters, where a recording has
pauses, keys or applause. Here an utterance gets such sounds before and after it, or another utterance after a pause, or is
replaced by them with no text.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from anadil.data.augment.level import active_power, mean_power
from anadil.data.augment.noise import looped
from anadil.data.augment.settings import SilenceSettings

_FRAME_S = 0.02
_QUIETEST = 0.1  # share of the frames of an utterance that make its room tone
_STORED_S = 60.0  # of each sound; a random segment is taken
_LEAST_LEVEL_DB, _MOST_LEVEL_DB = -65.0, -15.0  # dBFS of sounds without speech
_EVENTS_DB = (0.0, 30.0)  # level of the sounds of events below active speech; of steady noise: settings.snr_db

ROOM_TONE, DIGITAL = "room tone", "digital silence"


@dataclass(frozen=True, slots=True)
class Scene:
    """What one utterance becomes in one epoch. Pauses are in seconds."""

    index: int
    sound: str  # what fills the pauses: ROOM_TONE, DIGITAL or one of SOUNDS
    before_s: float = 0.0
    after_s: float = 0.0
    partner: int | None = None  # an utterance that follows `index`
    between_s: float = 0.0
    has_speech: bool = True  # no: it lasts as long as the utterance, and has no labels

    @property
    def kind(self) -> str:
        """What to count it as."""
        if not self.has_speech:
            return "sounds without speech"
        return "pause before or after" if self.partner is None else "joined with another"

    def seconds(self, durations: Sequence[float]) -> float:
        """How long it lasts, given the durations of all utterances."""
        partner_s = 0.0 if self.partner is None else durations[self.partner] + self.between_s
        return durations[self.index] + self.before_s + self.after_s + partner_s


def draw_scene(
    settings: SilenceSettings, index: int, partners: Sequence[int], rng: np.random.Generator
) -> Scene | None:
    """What `index` becomes; None if it stays as it is. `partners` are the utterances that may follow it."""
    chance = float(rng.random())
    sound = _SOUND_NAMES[int(rng.choice(len(_SOUND_NAMES), p=_SHARES))]
    if chance < settings.non_speech:
        return Scene(index, sound, has_speech=False)
    chance -= settings.non_speech
    if chance < settings.joined and len(partners):
        partner = int(partners[int(rng.integers(len(partners)))])
        return Scene(index, sound, partner=partner, between_s=float(rng.uniform(*settings.seconds)))
    chance -= settings.joined
    if chance < settings.probability:
        side = int(rng.integers(3))
        before_s, after_s = rng.uniform(*settings.seconds, size=2).tolist()
        return Scene(index, sound, before_s if side != 1 else 0.0, after_s if side != 0 else 0.0)
    return None


def compose(
    scene: Scene,
    samples: np.ndarray,
    partner: np.ndarray | None,
    rate: int,
    settings: SilenceSettings,
    rng: np.random.Generator,
) -> np.ndarray:
    """The samples of a scene, float32 (samples,), from those of its utterance and of its partner."""
    if not scene.has_speech:
        level_db = float(rng.uniform(_LEAST_LEVEL_DB, _MOST_LEVEL_DB))
        return _filling(scene.sound, len(samples), samples, rate, 10 ** (level_db / 10), rng)
    snr_db = rng.uniform(*(settings.snr_db if scene.sound in _STEADY else _EVENTS_DB))
    power = active_power(samples, rate) * 10 ** (-float(snr_db) / 10)
    counts = [round(seconds * rate) for seconds in (scene.before_s, scene.between_s, scene.after_s)]
    before, between, after = (_filling(scene.sound, n, samples, rate, power, rng) for n in counts)
    parts = [before, samples, *([between, partner] if partner is not None else []), after]
    return np.concatenate([part for part in parts if len(part)] or [samples])


def _filling(
    sound: str, n_samples: int, clip: np.ndarray, rate: int, power: float, rng: np.random.Generator
) -> np.ndarray:
    """`n_samples` of a sound with this mean power; room tone has its own."""
    if n_samples == 0 or sound == DIGITAL:
        return np.zeros(n_samples, np.float32)
    if sound == ROOM_TONE:
        return room_tone(clip, n_samples, rate, rng)
    stored = _stored(sound, rate)
    return looped(stored, int(rng.integers(len(stored))), n_samples) * np.float32(math.sqrt(power))


def room_tone(clip: np.ndarray, n_samples: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """`n_samples` that sound like the pauses of `clip`: its quietest frames in random order, each faded into the next."""
    half = max(1, round(_FRAME_S * rate / 2))
    size = 2 * half
    frames = clip[: len(clip) // size * size].reshape(-1, size)
    if not len(frames):
        return np.zeros(n_samples, np.float32)
    quietest = np.argsort(np.einsum("ij,ij->i", frames, frames))[: max(3, round(_QUIETEST * len(frames)))]
    chosen = frames[quietest[rng.integers(len(quietest), size=n_samples // half + 2)]]
    # sine windows that overlap by a half keep the power of sounds that do not correlate
    windowed = chosen * np.sin(np.pi * (np.arange(size, dtype=np.float32) + 0.5) / size)
    faded = windowed[1:, :half] + windowed[:-1, half:]
    return np.asarray(faded.reshape(-1)[:n_samples], np.float32)


@functools.lru_cache(maxsize=16)
def _stored(sound: str, rate: int) -> np.ndarray:
    """_STORED_S of a sound with a mean power of 1. Do not modify it."""
    rng = np.random.default_rng(list(SOUNDS).index(sound))
    made = SOUNDS[sound](round(_STORED_S * rate), rate, rng)
    return np.asarray(made / np.sqrt(mean_power(made.astype(np.float32)) + 1e-12), np.float32)


def _white(n: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal(n)


def _pink(n: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Noise whose power falls by 3 dB per octave."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1))
    return np.asarray(np.fft.irfft(spectrum, n))


def _hum(n: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Mains and machines: harmonics of 45 to 125 Hz, another mixture every few seconds."""
    out = np.zeros(n)
    for start, end in _spans(n, rate, (3.0, 8.0), rng):
        time = np.arange(end - start) / rate
        base = rng.uniform(45, 125)
        for k in range(1, int(rng.integers(2, 12))):
            out[start:end] += rng.uniform(0.1, 1) / k * np.sin(2 * np.pi * (k * base * time + rng.random()))
    return out


def _notes(n: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Chords of up to four notes with harmonics, plucked or held."""
    out = np.zeros(n)
    for start, end in _spans(n, rate, (0.12, 1.2), rng):
        time = np.arange(end - start) / rate
        envelope = np.minimum(1, time / 0.01) * np.exp(-time * rng.uniform(0, 6))
        for _ in range(int(rng.integers(1, 5))):
            base = 110 * 2 ** (rng.integers(0, 36) / 12)
            for k in range(1, int(rng.integers(2, 8))):
                if k * base < rate / 2:
                    wave = np.sin(2 * np.pi * (k * base * time + rng.random()))
                    out[start:end] += envelope * wave / k ** rng.uniform(1, 2)
    return out


def _keys(n: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Typing: strokes of two or three clicks each, 2 to 9 per second, with pauses."""
    out = np.zeros(n)
    for start, end in _spans(n, rate, (1.0, 5.0), rng):
        gap_s = 1 / rng.uniform(2, 9)
        position = start
        while position < end and rng.random() > 0.02:
            for _ in range(int(rng.integers(2, 4))):
                _add_burst(out, position + int(rate * rng.uniform(0, 0.09)), rng.uniform(0.002, 0.02), rate, rng)
            position += int(rate * gap_s * rng.uniform(0.4, 1.8))
    return out


def _applause(n: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Claps of many people: 15 to 150 per second."""
    out = np.zeros(n)
    for start, end in _spans(n, rate, (3.0, 10.0), rng):
        for position in rng.integers(start, end, size=int((end - start) / rate * rng.uniform(15, 150))).tolist():
            _add_burst(out, position, rng.uniform(0.003, 0.012), rate, rng)
    return out


def _add_burst(out: np.ndarray, position: int, decay_s: float, rate: int, rng: np.random.Generator) -> None:
    """Add a decaying burst of noise with a resonance: a key, a hand, a switch."""
    time = np.arange(min(int(6 * decay_s * rate), max(0, len(out) - position))) / rate
    noise = rng.standard_normal(len(time)) * rng.uniform(0.2, 1)
    tone = np.sin(2 * np.pi * rng.uniform(200, min(4000, rate / 2)) * time)
    out[position : position + len(time)] += rng.uniform(0.2, 1) * np.exp(-time / decay_s) * (noise + tone)


def _spans(n: int, rate: int, seconds: tuple[float, float], rng: np.random.Generator) -> list[tuple[int, int]]:
    """Stretches (start, end) in samples that follow one another up to `n`, each of some `seconds`."""
    spans, start = [], 0
    while start < n:
        end = min(n, start + max(1, round(rng.uniform(*seconds) * rate)))
        spans.append((start, end))
        start = end
    return spans


SOUNDS: dict[str, Callable[[int, int, np.random.Generator], np.ndarray]] = {
    "white noise": _white,
    "pink noise": _pink,
    "hum": _hum,
    "notes": _notes,
    "keys": _keys,
    "applause": _applause,
}
"""Sounds that are generated: (number of samples, sample rate, random numbers) to float64 (samples,) of any level."""

_STEADY = ("white noise", "pink noise", "hum")
_WEIGHTS = {ROOM_TONE: 8, DIGITAL: 2, "white noise": 3, "pink noise": 2, "hum": 1, "notes": 1, "keys": 2, "applause": 1}
_SOUND_NAMES = tuple(_WEIGHTS)
_SHARES = np.array(list(_WEIGHTS.values())) / sum(_WEIGHTS.values())
