"""What is wrong with the recordings of a split: one pass over them, each decoded once."""

from __future__ import annotations

import hashlib
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile

from anadil import audio
from anadil.doctor import findings as kinds
from anadil.doctor.findings import Finding, Severity, found
from anadil.errors import AnadilError
from anadil.manifest import DURATION_TOLERANCE_S, Utterance, duration_error_s

# Measure recordings sample by sample, each decoded once, block by block: memory does not grow with their length.

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


# Over 5,860 real recordings (Mboshi, speechocean762, Common Voice) the loudest 0.3 s of all but one lie above -36 dBFS
SILENT_DB, NEAR_SILENT_DB = -70.0, -45.0
CLIPPED_SHARE = 0.001
# Real wide-band recordings fall by at most 27 dB and 21 dB; resampled from 8 kHz by at least 33 and 23
DROP_DB, CLIFF_DB = 30.0, 18.0


@dataclass(frozen=True, slots=True)
class AudioLimits:
    """What training uses. Seconds and Hz."""

    min_duration: float
    max_duration: float
    sample_rate: int | None = None  # of the model, if there is one


@dataclass(frozen=True, slots=True)
class Heard:
    """An utterance after the pass: its true duration is filled in. `sound` is None if it could not be decoded."""

    utterance: Utterance
    sound: Sound | None = None

    @property
    def speech_s(self) -> tuple[float, float]:
        """Seconds from first to last speech, and without its pauses; the whole duration if it was not decoded."""
        if self.sound is None:
            return self.utterance.duration or 0.0, self.utterance.duration or 0.0
        return self.sound.speech_s, self.sound.voiced_s


def hear(
    utterances: Sequence[Utterance], limits: AudioLimits, on_progress: Callable[[int], None] = lambda done: None
) -> tuple[list[Heard], list[Finding]]:
    """Decode everything. `on_progress` is told how many utterances are done."""
    by_file: dict[str, list[int]] = defaultdict(list)
    for i in sorted(range(len(utterances)), key=lambda i: utterances[i].offset):
        by_file[utterances[i].audio_filepath].append(i)
    heard = [Heard(utterance) for utterance in utterances]
    findings: list[Finding] = []
    rates: dict[int, list[int]] = defaultdict(list)
    channels: dict[int, list[int]] = defaultdict(list)

    def decode(path: str) -> tuple[audio.AudioInfo | AnadilError, list[Sound]]:
        parts = [utterances[i] for i in by_file[path]]
        return measure(path, [(one.offset, one.duration if _is_part(one, len(parts)) else None) for one in parts])

    n_done = np.cumsum([len(indices) for indices in by_file.values()]).tolist()  # utterances, by number of files
    results = audio.in_threads(decode, by_file, lambda done: on_progress(n_done[done - 1]), os.cpu_count())
    for (path, indices), (info, sounds) in zip(by_file.items(), results, strict=True):
        parts = [utterances[i] for i in indices]
        if isinstance(info, AnadilError):
            findings += _unusable(path, info, parts)
            continue
        rates[info.sample_rate] += indices
        channels[info.channels] += indices
        findings += _file_findings(info, parts, sounds)
        for i, sound in zip(indices, sounds, strict=True):
            duration = min(sound.duration, utterances[i].duration or sound.duration)
            heard[i] = Heard(replace(utterances[i], duration=duration), sound)
            findings += _stretch_findings(utterances[i], info, sound, alone=len(indices) == 1)
    findings += _rate_findings(heard, rates, limits.sample_rate)
    findings += _channel_findings(heard, channels)
    return heard, findings


def length_findings(heard: Sequence[Heard], limits: AudioLimits) -> Iterator[Finding]:
    """What training sets aside by `data.min_duration` and `data.max_duration`."""
    for one in heard:
        duration = one.utterance.duration
        if duration is None or duration <= 0:
            continue
        if duration < limits.min_duration:
            what = f"{duration:.3f} s is shorter than {limits.min_duration:g} s"
            yield found(kinds.TOO_SHORT, one.utterance, what, duration)
        elif duration > limits.max_duration:
            what = f"{duration:.1f} s is longer than {limits.max_duration:g} s"
            yield found(kinds.TOO_LONG, one.utterance, what, duration)


def _is_part(utterance: Utterance, n_of_file: int) -> bool:
    return utterance.offset > 0 or n_of_file > 1


def _unusable(path: str, error: AnadilError, utterances: Sequence[Utterance]) -> list[Finding]:
    kind = kinds.UNREADABLE if Path(path).is_file() else kinds.MISSING
    return [found(kind, one, str(error), one.duration or 0.0) for one in utterances]


def _file_findings(info: audio.AudioInfo, parts: Sequence[Utterance], sounds: Sequence[Sound]) -> list[Finding]:
    """Cut off or damaged: told once for the file, at the first utterance whose stretch it touches."""
    path = parts[0].audio_filepath
    for one, sound in zip(parts, sounds, strict=True):
        if sound.failure:  # anadil train would stop in the middle
            what = f"decoding stops after {sound.duration:.2f} s: {sound.failure} ({path})"
            return [found(kinds.TRUNCATED, one, what, info.duration - sound.duration, Severity.SPOILS)]
    whole, sound = not _is_part(parts[0], len(parts)), sounds[0]
    if whole and sound.duration < info.duration - DURATION_TOLERANCE_S:
        promised, available = info.duration, sound.duration
    elif info.promised > info.duration:
        promised, available = info.promised, info.duration
    elif cut_page(path):
        return [found(kinds.TRUNCATED, parts[-1], f"the file ends in the middle of an Ogg page ({path})", 0.0)]
    else:
        return []
    what = f"its header promises {promised:.2f} s, {available:.2f} s are there ({path})"
    return [found(kinds.TRUNCATED, parts[-1], what, promised - available)]


def _stretch_findings(utterance: Utterance, info: audio.AudioInfo, sound: Sound, alone: bool) -> Iterator[Finding]:
    path, promised = utterance.audio_filepath, utterance.duration
    if info.duration <= 0:
        yield found(kinds.UNREADABLE, utterance, f"audio has no samples: {path}", 0.0)
        return
    if utterance.offset >= info.duration or promised == 0:
        what = f"offset {utterance.offset:g} s and duration {promised} s in {info.duration:.2f} s of {path}"
        yield found(kinds.OUTSIDE, utterance, what, utterance.offset)
        return
    if sound.duration == 0:
        return  # told by _file_findings
    error_s = duration_error_s(utterance, info)
    facts = f"the manifest says {promised or 0.0:.2f} s, the audio has {info.duration - utterance.offset:.2f} s"
    if error_s > 0:
        yield found(kinds.WRONG_DURATION, utterance, facts, error_s)
    elif error_s < 0 and alone:
        yield found(kinds.WRONG_DURATION, utterance, f"{facts}: the rest is not used", -error_s)
    if sound.level_db < SILENT_DB:
        yield found(kinds.SILENT, utterance, f"its loudest 0.3 s have {_dbfs(sound.level_db)}", sound.level_db)
        return
    if sound.level_db < NEAR_SILENT_DB:
        yield found(kinds.NEAR_SILENT, utterance, f"its loudest 0.3 s have {_dbfs(sound.level_db)}", sound.level_db)
    if sound.clipped >= CLIPPED_SHARE:
        what = f"{sound.clipped:.2%} of the samples are cut off at the limit"
        yield found(kinds.CLIPPED, utterance, what, sound.clipped)
    if sound.drop_db >= DROP_DB and sound.cliff_db >= CLIFF_DB:
        what = f"falls by {sound.drop_db:.0f} dB at 4 kHz, at a sample rate of {info.sample_rate} Hz"
        yield found(kinds.NARROW_BAND, utterance, what, sound.drop_db)


def _rate_findings(heard: Sequence[Heard], rates: dict[int, list[int]], model_rate: int | None) -> Iterator[Finding]:
    usual = max(rates, key=lambda rate: len(rates[rate]), default=0)
    for rate, indices in rates.items():
        concerned = [heard[i].utterance for i in indices]
        if rate != usual:
            what = f"{len(indices):,} utterances at {rate} Hz, most are at {usual} Hz"
            yield found(kinds.MIXED_RATES, concerned, what, rate)
        if model_rate is not None and rate < model_rate:
            what = f"{len(indices):,} utterances at {rate} Hz, the model hears {model_rate} Hz"
            yield found(kinds.LOW_RATE, concerned, what, rate)


def _channel_findings(heard: Sequence[Heard], channels: dict[int, list[int]]) -> Iterator[Finding]:
    for count, indices in channels.items():
        if count > 1:
            what = f"{len(indices):,} utterances of {count} channels, averaged into one"
            yield found(kinds.CHANNELS, [heard[i].utterance for i in indices], what, count)


def _dbfs(level_db: float) -> str:
    return "nothing but zeros" if level_db < -150 else f"{level_db:.0f} dBFS"
