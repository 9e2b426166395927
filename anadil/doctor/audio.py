"""What is wrong with the recordings of a split. Each is decoded once, in blocks: memory does not grow with its length."""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from anadil import audio
from anadil.doctor import findings as kinds
from anadil.doctor.findings import Finding, Severity, make_finding
from anadil.errors import AnadilError
from anadil.manifest import DURATION_TOLERANCE_S, Utterance, duration_error_s
from anadil.sound_files import DECODER_ERRORS, Recording, find_file, open_recording
from anadil.sound_headers import ends_inside_page

# Over 5,860 real recordings (Mboshi, speechocean762, Common Voice) the loudest 0.3 s of all but one lie above -36 dBFS
SILENT_DB, _NEAR_SILENT_DB = -70.0, -45.0
_CLIPPED_SHARE = 0.001
# Real wide-band recordings fall by at most 27 dB and 21 dB; resampled from 8 kHz by at least 33 and 23
DROP_DB, CLIFF_DB = 30.0, 18.0

_FRAME_S = 0.032
_LOUDEST_FRAMES = 10  # 0.3 s: a word
_SPEECH_RANGE_DB, _VOICED_RANGE_DB = 30.0, 25.0  # below the loudest 0.3 s
_NOISE_MARGIN_DB, _LEAST_RANGE_DB = 6.0, 10.0
_BLOCK_FRAMES = 1024  # 33 s: 6 MB at 48 kHz
_FULL_SCALE = 0.999
_COARSE = frozenset({"PCM_U8", "PCM_S8", "ULAW", "ALAW"})  # subtypes whose loudest steps are wide, and so look flat
_FLOOR = 1e-20


@dataclass(frozen=True, slots=True)
class AudioLimits:
    """The audio that training uses. Seconds and Hz."""

    min_duration: float
    max_duration: float
    sample_rate: int | None = None  # of the model, if there is one


@dataclass(frozen=True, slots=True)
class Measurement:
    """Measures of one segment of a recording."""

    duration: float  # seconds that could be decoded
    level_db: float  # dBFS of its loudest 0.3 s, without a constant offset
    speech_s: float  # from the first to the last frame of speech: at most _SPEECH_RANGE_DB below `level_db`
    voiced_s: float  # of the frames at most _VOICED_RANGE_DB below it: without the pauses
    clipped: float  # share of samples at the limit
    drop_db: (
        float  # from 2.5-3.4 kHz to the strongest band above 4.5 kHz; 0 if the sample rate is too low for that band
    )
    cliff_db: float  # steepest fall between neighbouring 400 Hz between 2.8 and 4.9 kHz
    digest: bytes  # of the decoded samples
    failure: str = ""  # why decoding stopped, if it did


@dataclass(frozen=True, slots=True)
class MeasuredUtterance:
    """An utterance with its true duration. `measurement` is None if it was not or could not be decoded."""

    utterance: Utterance
    measurement: Measurement | None = None

    @property
    def speech_s(self) -> tuple[float, float]:
        """Seconds from first to last speech, and without pauses; the whole duration if it was not decoded."""
        if self.measurement is None:
            return self.utterance.duration or 0.0, self.utterance.duration or 0.0
        return self.measurement.speech_s, self.measurement.voiced_s


@dataclass(frozen=True, slots=True)
class Task:
    """A recording to measure: the offset and duration (None: to its end) of each segment in s, and their channels."""

    path: str
    stretches: list[tuple[float, float | None]]
    channels: list[audio.Channel]


Measured = tuple[audio.AudioInfo | AnadilError, list[Measurement]]
"""The facts of a recording, or why it cannot be read, and the measurements of its segments."""

MeasureTasks = Callable[[Sequence[Task], Callable[[int], None]], list[Measured]]
"""Measures recordings, and tells how many are done."""


def measure_here(tasks: Sequence[Task], on_progress: Callable[[int], None] = lambda done: None) -> list[Measured]:
    """Measure recordings with a thread for each core."""
    return audio.in_threads(
        lambda task: measure(task.path, task.stretches, task.channels), tasks, on_progress, os.cpu_count()
    )


def measure_all(
    utterances: Sequence[Utterance],
    limits: AudioLimits,
    on_progress: Callable[[int], None] = lambda done: None,
    measure_tasks: MeasureTasks = measure_here,
) -> tuple[list[MeasuredUtterance], list[Finding]]:
    """Decode and measure all utterances. `on_progress` gets the number of utterances that are done."""
    by_file: dict[str, list[int]] = defaultdict(list)
    for i in sorted(range(len(utterances)), key=lambda i: utterances[i].offset):
        by_file[utterances[i].audio_filepath].append(i)
    tasks = [_task(path, [utterances[i] for i in indices]) for path, indices in by_file.items()]
    n_done = np.cumsum([len(indices) for indices in by_file.values()]).tolist()  # utterances, by number of files
    results = measure_tasks(tasks, lambda done: on_progress(n_done[done - 1]))
    measured = [MeasuredUtterance(utterance) for utterance in utterances]
    findings: list[Finding] = []
    rates: dict[int, list[int]] = defaultdict(list)
    mixed: dict[tuple[int, int | None], list[int]] = defaultdict(list)
    for (path, indices), (info, measurements) in zip(by_file.items(), results, strict=True):
        segments = [utterances[i] for i in indices]
        alike = Counter(one.channel for one in segments)
        if isinstance(info, AnadilError):
            findings += _unreadable_findings(path, info, segments)
            continue
        rates[info.sample_rate] += indices
        mixed[info.channels, info.loudest] += [i for i in indices if utterances[i].channel == "mix"]
        findings += _file_findings(info, segments, measurements)
        for i, measurement in zip(indices, measurements, strict=True):
            duration = min(measurement.duration, utterances[i].duration or measurement.duration)
            measured[i] = MeasuredUtterance(replace(utterances[i], duration=duration), measurement)
            findings += _segment_findings(utterances[i], info, measurement, alike[utterances[i].channel] == 1)
    findings += _sample_rate_findings(measured, rates, limits.sample_rate)
    findings += _channel_findings(measured, mixed)
    return measured, findings


def _task(path: str, segments: Sequence[Utterance]) -> Task:
    alike = Counter(one.channel for one in segments)
    durations = [one.duration if _is_segment(one, alike[one.channel]) else None for one in segments]
    stretches = [(one.offset, duration) for one, duration in zip(segments, durations, strict=True)]
    return Task(path, stretches, [one.channel for one in segments])


def length_findings(measured: Sequence[MeasuredUtterance], limits: AudioLimits) -> Iterator[Finding]:
    """Utterances that training omits because of `data.min_duration` and `data.max_duration`."""
    for one in measured:
        duration = one.utterance.duration
        if duration is None or duration <= 0:
            continue
        if duration < limits.min_duration:
            message = f"{duration:.3f} s is shorter than {limits.min_duration:g} s"
            yield make_finding(kinds.TOO_SHORT, one.utterance, message, duration)
        elif duration > limits.max_duration:
            message = f"{duration:.1f} s is longer than {limits.max_duration:g} s"
            yield make_finding(kinds.TOO_LONG, one.utterance, message, duration)


def _is_segment(utterance: Utterance, n_alike: int) -> bool:
    """Whether an utterance is a part of its recording; `n_alike` utterances are of the same file and channel."""
    return utterance.offset > 0 or n_alike > 1


def _unreadable_findings(path: str, error: AnadilError, utterances: Sequence[Utterance]) -> list[Finding]:
    kind = kinds.UNREADABLE if os.path.isfile(path) else kinds.MISSING  # noqa: PTH113 - raises for no name
    return [make_finding(kind, one, str(error), one.duration or 0.0) for one in utterances]


def _file_findings(
    info: audio.AudioInfo, segments: Sequence[Utterance], measurements: Sequence[Measurement]
) -> list[Finding]:
    """A truncated or damaged file: reported once per file, at the first utterance that it concerns."""
    path = segments[0].audio_filepath
    for one, measurement in zip(segments, measurements, strict=True):
        if measurement.failure:  # anadil train would stop in the middle
            message = f"decoding stops after {measurement.duration:.2f} s: {measurement.failure} ({path})"
            missing_s = info.duration - measurement.duration
            return [make_finding(kinds.TRUNCATED, one, message, missing_s, Severity.SPOILS)]
    first, measurement = segments[0], measurements[0]
    n_alike = sum(one.channel == first.channel for one in segments)
    whole = not _is_segment(first, n_alike) and audio.has_channel(info.channels, first.channel)
    if whole and measurement.duration < info.duration - DURATION_TOLERANCE_S:
        promised, available = info.duration, measurement.duration
    elif info.promised > info.duration:
        promised, available = info.promised, info.duration
    elif ends_inside_page(find_file(path)):
        message = f"the file ends in the middle of an Ogg page ({path})"
        return [make_finding(kinds.TRUNCATED, segments[-1], message, 0.0)]
    else:
        return []
    message = f"its header promises {promised:.2f} s, the file has {available:.2f} s ({path})"
    return [make_finding(kinds.TRUNCATED, segments[-1], message, promised - available)]


def _segment_findings(
    utterance: Utterance, info: audio.AudioInfo, measurement: Measurement, alone: bool
) -> Iterator[Finding]:
    path, duration = utterance.audio_filepath, utterance.duration
    if info.duration <= 0:
        yield make_finding(kinds.UNREADABLE, utterance, f"audio has no samples: {path}", 0.0)
        return
    if utterance.offset >= info.duration or duration == 0:
        message = f"offset {utterance.offset:g} s and duration {duration} s in {info.duration:.2f} s of {path}"
        yield make_finding(kinds.OUTSIDE, utterance, message, utterance.offset)
        return
    if not audio.has_channel(info.channels, utterance.channel):
        message = f"channel {utterance.channel}, and {path} has {info.channels}"
        yield make_finding(kinds.OUTSIDE, utterance, message, info.channels)
        return
    if measurement.duration == 0:
        return  # _file_findings reports it
    error_s = duration_error_s(utterance, info)
    message = f"the manifest says {duration or 0.0:.2f} s, the audio has {info.duration - utterance.offset:.2f} s"
    if error_s > 0:
        yield make_finding(kinds.WRONG_DURATION, utterance, message, error_s)
    elif error_s < 0 and alone:
        yield make_finding(kinds.WRONG_DURATION, utterance, f"{message}: the rest is not used", -error_s)
    level_db = measurement.level_db
    level = "only zeros" if level_db < -150 else f"{level_db:.0f} dBFS"
    if level_db < SILENT_DB:
        yield make_finding(kinds.SILENT, utterance, f"the level of its loudest 0.3 s is {level}", level_db)
        return
    if level_db < _NEAR_SILENT_DB:
        yield make_finding(kinds.NEAR_SILENT, utterance, f"the level of its loudest 0.3 s is {level}", level_db)
    if measurement.clipped >= _CLIPPED_SHARE:
        message = f"{measurement.clipped:.2%} of the samples are cut off at the limit"
        yield make_finding(kinds.CLIPPED, utterance, message, measurement.clipped)
    if measurement.drop_db >= DROP_DB and measurement.cliff_db >= CLIFF_DB:
        message = f"falls by {measurement.drop_db:.0f} dB at 4 kHz, at a sample rate of {info.sample_rate} Hz"
        yield make_finding(kinds.NARROW_BAND, utterance, message, measurement.drop_db)


def _sample_rate_findings(
    measured: Sequence[MeasuredUtterance], rates: dict[int, list[int]], model_rate: int | None
) -> Iterator[Finding]:
    usual = max(rates, key=lambda rate: len(rates[rate]), default=0)
    for rate, indices in rates.items():
        concerned = [measured[i].utterance for i in indices]
        if rate != usual:
            message = f"{len(indices):,} utterances at {rate} Hz, most are at {usual} Hz"
            yield make_finding(kinds.MIXED_RATES, concerned, message, rate)
        if model_rate is not None and rate < model_rate:
            message = f"{len(indices):,} utterances at {rate} Hz, the model's sample rate is {model_rate} Hz"
            yield make_finding(kinds.LOW_RATE, concerned, message, rate)


def _channel_findings(
    measured: Sequence[MeasuredUtterance], mixed: dict[tuple[int, int | None], list[int]]
) -> Iterator[Finding]:
    for (count, loudest), indices in mixed.items():
        if count > 1 and indices:
            how = "averaged into one" if loudest is None else f"in opposite phase: channel {loudest} is used"
            message = f"{len(indices):,} utterances of {count} channels, {how}"
            yield make_finding(kinds.CHANNELS, [measured[i].utterance for i in indices], message, count)


def measure(
    path: str, segments: Sequence[tuple[float, float | None]], channels: Sequence[audio.Channel] | None = None
) -> Measured:
    """Probe a file, and decode and measure these segments in order: (offset, duration or None for the rest), in seconds.

    `channels` has one for each segment; without it, all are mixed down. A segment past the end, or of a channel that the
    file does not have, has a duration of 0. If the file is no audio, the error takes the place of `AudioInfo`.
    """
    try:
        info = audio.probe(path)
    except AnadilError as error:
        return error, []
    measurements: list[Measurement] = []
    chosen: Sequence[audio.Channel] = channels or ["mix"] * len(segments)
    try:
        with open_recording(path) as recording:
            for (offset, duration), channel in zip(segments, chosen, strict=True):
                if audio.has_channel(info.channels, channel):
                    measurements.append(_measure_segment(recording, offset, duration, channel))
                else:
                    measurements.append(_Meter(info.sample_rate, False, False).result(""))
    except AnadilError as error:
        return error, []
    return info, measurements


def _measure_segment(
    recording: Recording, offset: float, duration: float | None, channel: audio.Channel
) -> Measurement:
    rate = recording.sample_rate
    chosen = audio.chosen_channel(recording, channel)
    recording.seek(round(offset * rate))
    left = math.inf if duration is None else round(duration * rate)
    meter = _Meter(rate, recording.subtype in _COARSE, recording.is_float)
    failure = ""
    while left > 0:
        n_samples = int(min(left, meter.block))
        try:
            block = recording.read(n_samples)
        except DECODER_ERRORS as error:
            failure = getattr(error, "error_string", "") or "the decoder failed"
            break
        if not np.isfinite(block).all():
            failure = "it contains values that are not numbers (NaN or infinity)"
            break
        if len(block):
            meter.add(audio.take_channel(block, chosen))
        if len(block) < n_samples:
            break
        left -= n_samples
    return meter.result(failure)


class _Meter:
    """Measures of a segment, from blocks of its samples."""

    def __init__(self, rate: int, coarse: bool, is_float: bool) -> None:
        self.rate, self.coarse, self.is_float = rate, coarse, is_float
        self.size = max(1, int(rate * _FRAME_S))
        self.block = self.size * _BLOCK_FRAMES
        self.window = np.hanning(self.size).astype(np.float32)
        self.n_samples = self.n_over = 0
        self.top, self.bottom = (-math.inf, 0), (-math.inf, 0)  # extreme, and how many samples lie flat on it
        self.powers: list[np.ndarray] = []
        self.spectrum = np.zeros(self.size // 2 + 1)
        self.digest = hashlib.blake2b(digest_size=16)

    def add(self, samples: np.ndarray) -> None:
        """Add a block: float32 (samples,)."""
        self.n_samples += len(samples)
        self.digest.update(np.ascontiguousarray(samples).data)
        high, low = float(samples.max()), float(samples.min())
        self.top = _count_flat(self.top, samples, high)
        self.bottom = _count_flat(self.bottom, -samples, -low)
        if not self.is_float and max(high, -low) >= _FULL_SCALE:  # floats go over full scale unharmed
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

    def result(self, failure: str) -> Measurement:
        powers = np.concatenate(self.powers) if self.powers else np.zeros(1)
        level_db = _decibels(np.sort(powers)[-_LOUDEST_FRAMES:].mean())
        # what hardly rises above the noise is no speech; a clip without a pause has no noise to measure
        noise_db = min(_decibels(np.percentile(powers, 10)) + _NOISE_MARGIN_DB, level_db - _LEAST_RANGE_DB)
        loud = np.flatnonzero(powers >= 10 ** (max(noise_db, level_db - _SPEECH_RANGE_DB) / 10))
        n_voiced = np.count_nonzero(powers >= 10 ** (max(noise_db, level_db - _VOICED_RANGE_DB) / 10))
        duration = self.n_samples / self.rate
        speech_s = min(duration, float(loud[-1] - loud[0] + 1) * _FRAME_S) if len(loud) else 0.0
        voiced_s = min(duration, float(n_voiced) * _FRAME_S)
        flat = sum(n for extreme, n in (self.top, self.bottom) if extreme >= (0.97 if self.coarse else 0.1))
        clipped = max(flat, self.n_over) / max(1, self.n_samples)
        drop_db, cliff_db = self._band_limit()
        digest = self.digest.digest()
        return Measurement(duration, level_db, speech_s, voiced_s, clipped, drop_db, cliff_db, digest, failure)

    def _band_limit(self) -> tuple[float, float]:
        """`drop_db` and `cliff_db` of a Measurement."""
        highest = min(7500.0, 0.95 * self.rate / 2)
        if highest < 5000 or not self.spectrum.any():
            return 0.0, 0.0
        bins_per_hz = self.size / self.rate

        def band_db(low: float, width: float) -> float:
            return _decibels(self.spectrum[round(low * bins_per_hz) : round((low + width) * bins_per_hz)].mean())

        above = max(band_db(low, 500) for low in np.arange(4500, highest - 499, 500))
        cliff = max(band_db(low, 400) - band_db(low + 400, 400) for low in range(2800, 4101, 100))
        return band_db(2500, 900) - above, cliff


def _count_flat(before: tuple[float, int], samples: np.ndarray, extreme: float) -> tuple[float, int]:
    """The extreme so far, and how many samples lie in the middle of three on it: the flat top of a clipped wave."""
    if extreme < before[0]:
        return before
    at = samples == extreme
    n = int(np.count_nonzero(at[1:-1] & at[:-2] & at[2:]))
    return (extreme, n if extreme > before[0] else n + before[1])


def _decibels(power: float) -> float:
    return 10 * math.log10(float(power) + _FLOOR)
