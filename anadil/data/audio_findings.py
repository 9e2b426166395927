"""What is wrong with the recordings of a split: one pass over them, each decoded once."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from anadil import audio
from anadil.data import findings as kinds
from anadil.data.checks import DURATION_TOLERANCE_S
from anadil.data.findings import Finding, Severity, found
from anadil.data.sound import Sound, cut_page, measure
from anadil.errors import AnadilError
from anadil.manifest import Utterance

# Over 5,860 real recordings (Mboshi, speechocean762, Common Voice) the loudest 0.3 s of all but one lie above -36 dBFS
SILENT_DB, NEAR_SILENT_DB = -70.0, -45.0
CLIPPED_SHARE = 0.001
# Real wide-band recordings fall by at most 27 dB and 21 dB; resampled from 8 kHz by at least 33 and 23
DROP_DB, CLIFF_DB = 30.0, 18.0


@dataclass(frozen=True, slots=True)
class Limits:
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
    utterances: Sequence[Utterance], limits: Limits, on_progress: Callable[[int], None] = lambda done: None
) -> tuple[list[Heard], list[Finding]]:
    """Decode everything. `on_progress` is told how many utterances are done."""
    by_file: dict[str, list[int]] = defaultdict(list)
    for i in sorted(range(len(utterances)), key=lambda i: utterances[i].offset):
        by_file[utterances[i].audio_filepath].append(i)
    heard = [Heard(utterance) for utterance in utterances]
    findings: list[Finding] = []
    rates: dict[int, list[int]] = defaultdict(list)
    channels: dict[int, list[int]] = defaultdict(list)
    done = 0
    files = {path: [utterances[i] for i in indices] for path, indices in by_file.items()}
    with contextlib.closing(_measured(files)) as results:
        for path, (info, sounds) in results:
            indices = by_file[path]
            if isinstance(info, AnadilError):
                findings += _unusable(path, info, [utterances[i] for i in indices])
            else:
                rates[info.sample_rate] += indices
                channels[info.channels] += indices
                findings += _file_findings(info, [utterances[i] for i in indices], sounds)
                for i, sound in zip(indices, sounds, strict=True):
                    duration = min(sound.duration, utterances[i].duration or sound.duration)
                    heard[i] = Heard(replace(utterances[i], duration=duration), sound)
                    findings += _stretch_findings(utterances[i], info, sound, alone=len(indices) == 1)
            done += len(indices)
            on_progress(done)
    findings += _rate_findings(heard, rates, limits.sample_rate)
    findings += _channel_findings(heard, channels)
    return heard, findings


Measured = tuple[audio.AudioInfo | AnadilError, list[Sound]]


def _measured(parts: dict[str, list[Utterance]]) -> Generator[tuple[str, Measured], None, None]:
    """In parallel: decoding and numpy leave other threads their turn."""

    def listen(path: str) -> Measured:
        some = parts[path]
        return measure(path, [(one.offset, one.duration if _is_part(one, len(some)) else None) for one in some])

    pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1)
    try:
        yield from zip(parts, pool.map(listen, parts), strict=True)
    finally:  # at an interrupt, what waits is not begun
        pool.shutdown(cancel_futures=True)


def length_findings(heard: Sequence[Heard], limits: Limits) -> Iterator[Finding]:
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
    available = info.duration - utterance.offset
    missing = (promised or 0.0) - available
    cut = info.promised - utterance.offset >= (promised or 0.0) - DURATION_TOLERANCE_S and info.promised > info.duration
    if promised is not None and missing > DURATION_TOLERANCE_S and not cut:
        what = f"the manifest says {promised:.2f} s, the audio has {available:.2f} s"
        yield found(kinds.WRONG_DURATION, utterance, what, missing)
    elif promised is not None and alone and utterance.offset == 0 and missing < -DURATION_TOLERANCE_S:
        what = f"the manifest says {promised:.2f} s, the audio has {available:.2f} s: the rest is not used"
        yield found(kinds.WRONG_DURATION, utterance, what, -missing)
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
