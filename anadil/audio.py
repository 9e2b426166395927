"""Decode, mix down, resample and probe audio. Samples are float32 (samples,) in [-1, 1] everywhere.

What was done about float samples over full scale, channels in opposite phase and wrong headers is a note
(`AudioInfo.notes`). `sound_files.py` opens the files.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import soundfile
import soxr

from anadil.errors import AnadilError
from anadil.sound_files import Recording, open_recording

Channel = Literal["mix"] | int
"""Which channel to read: "mix" averages all, or the number of one, from 1."""

MOST_CHANNELS = 1024  # that libsndfile reads
_NAMED_CHANNELS = {"left": 1, "right": 2, "A": 1, "B": 2}
"""A and B are how CTM files and Kaldi call the two sides of a telephone call."""

T = TypeVar("T")
R = TypeVar("R")

_OPPOSITE_PHASE = 0.05
"""Power of the mean of the channels, relative to the loudest one: below it they cancel. Two speakers on two channels
have 0.25 or more; a pair with a correlation of -0.9 has 0.05."""

_PHASE_STRETCHES, _PHASE_STRETCH_S = 30, 1.0
"""How many stretches of a long recording are looked at for channels in opposite phase, and their seconds. A recording
that is not longer than all of them together is looked at as a whole."""

_SILENT_POWER = 1e-7
"""-70 dBFS: stretches as quiet as this do not tell the phase, so the whole recording is looked at."""

_MAX_WAITING = 256
"""Tasks that are submitted in advance: memory must not grow with the number of recordings."""


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """Facts about a file. Nothing is decoded, except where the header does not tell the length or the level."""

    duration: float  # seconds that the file has
    sample_rate: int
    channels: int
    promised: float  # seconds according to the header; more than `duration` if the recording was cut off
    notes: tuple[str, ...] = ()  # what a user should know of how the file is read with channel "mix"
    loudest: int | None = None  # the channel, from 1, that "mix" reads, as the channels are in opposite phase

    def notes_for(self, channel: Channel) -> tuple[str, ...]:
        """The notes that hold if this channel is read: the last one tells how several channels are mixed."""
        return self.notes if channel == "mix" or self.channels == 1 else self.notes[:-1]


def probe(path: str | Path) -> AudioInfo:
    """Read the facts of a file. Raises AnadilError if it is missing or no audio."""
    with open_recording(path) as recording:
        rate, notes = recording.sample_rate, []
        n_frames = recording.count_frames()
        duration, promised = n_frames / rate, recording.promised_s(n_frames)
        if recording.is_repaired:
            notes.append("the header is wrong: it gives fewer samples than the file has (all are used)")
        if promised > duration:
            notes.append("cut off: the header promises more samples than the file has (used as far as it goes)")
        elif recording.ends_inside_page():
            notes.append("cut off: the file ends in the middle of an Ogg page (used as far as it goes)")
        if full_scale(recording) > 1:
            notes.append("float samples over full scale (scaled down to it)")
        loudest = None
        if recording.channels > 1:
            loudest = chosen_channel(recording, "mix")
            mixed = (
                "mixed down to one"
                if loudest is None
                else f"in opposite phase: channel {loudest} is used, not their mean"
            )
            notes.append(f"{recording.channels} channels, {mixed}")
    return AudioInfo(duration, rate, recording.channels, promised, tuple(notes), loudest)


def in_threads(
    function: Callable[[T], R],
    items: Iterable[T],
    on_progress: Callable[[int], None] = lambda done: None,
    n_threads: int | None = None,
) -> list[R]:
    """Return `function(item)` for each item, in order; libsndfile, soxr and NumPy release the interpreter's lock.

    The first exception is raised, and waiting tasks are cancelled. `on_progress` gets the number of finished items.
    `n_threads` is by default two per core, at most 8: for functions that wait for the disk.
    """
    results: list[R] = []
    waiting: deque[Future[R]] = deque()

    def take() -> None:
        results.append(waiting.popleft().result())
        on_progress(len(results))

    pool = ThreadPoolExecutor(n_threads or min(8, 2 * (os.cpu_count() or 1)))
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= _MAX_WAITING:
                take()
        while waiting:
            take()
    finally:
        pool.shutdown(cancel_futures=True)
    return results


def read(
    path: str | Path,
    sample_rate: int,
    offset: float = 0.0,
    duration: float | None = None,
    channel: Channel = "mix",
) -> np.ndarray:
    """Decode a segment of a file to mono float32 (samples,) at `sample_rate`.

    `offset` and `duration` in seconds; a duration of None, or past the end, reads to the end. With `channel` "mix" the
    channels are averaged. If the channels of the file are in opposite phase, and so would cancel, the loudest one is read
    instead. Float samples over full scale are scaled down by the peak of the file. Raises AnadilError if the file is
    missing or no audio, or has no such channel.
    """
    with open_recording(path) as recording:
        return _read(recording, path, sample_rate, offset, duration, channel)


def _read(
    recording: Recording, path: str | Path, sample_rate: int, offset: float, duration: float | None, channel: Channel
) -> np.ndarray:
    rate, first = recording.sample_rate, round(offset * recording.sample_rate)
    require_channel(path, recording.channels, channel)
    recording.seek(first)
    wanted = None if duration is None else round(duration * rate)
    blocks = list(recording.blocks(wanted))
    if not blocks:
        return np.zeros(0, dtype=np.float32)
    samples = np.concatenate(blocks)
    if not np.isfinite(samples).all():
        raise AnadilError(f"audio contains values that are not numbers (NaN or infinity): {path}")
    # of a whole file, both are known without decoding it once more
    is_whole = first == 0 and (wanted is None or len(samples) < wanted or len(samples) == recording.n_frames)
    is_looked_at = is_whole and len(samples) <= _PHASE_STRETCHES * round(_PHASE_STRETCH_S * rate)
    if channel == "mix" and recording.channels > 1 and is_looked_at:
        chosen = _cancelled(blocks)[0]
    else:
        chosen = chosen_channel(recording, channel)
    mono = take_channel(samples, chosen)
    if recording.is_float:
        peak = max(1.0, float(np.abs(samples).max())) if is_whole else full_scale(recording)
        mono = mono / np.float32(peak) if peak > 1 else mono
    return resample(np.ascontiguousarray(mono), rate, sample_rate)


def read_blocks(
    path: str | Path, sample_rate: int, channel: Channel = "mix", block_s: float = 10.0, whole_s: float = 0.0
) -> Iterator[np.ndarray]:
    """Decode a file to mono blocks, float32 (samples,) at `sample_rate`, of about `block_s` seconds: memory is constant.

    A file that is not longer than `whole_s` is one block, the one that `read` returns. Those of a longer one are the samples of
    `read` to rounding: channels and full scale are treated alike. Raises AnadilError as `read` does.
    """
    with open_recording(path) as recording:
        yield from blocks_of(recording, sample_rate, channel, block_s, whole_s)


def blocks_of(
    recording: Recording, sample_rate: int, channel: Channel = "mix", block_s: float = 10.0, whole_s: float = 0.0
) -> Iterator[np.ndarray]:
    """`read_blocks` of a recording that was just opened."""
    path, rate = recording.path, recording.sample_rate
    if recording.n_frames is not None and recording.n_frames <= whole_s * rate:
        yield _read(recording, path, sample_rate, 0.0, None, channel)
        return
    chosen, scale = chosen_channel(recording, channel), full_scale(recording)
    resampler = None if rate == sample_rate else soxr.ResampleStream(rate, sample_rate, 1, "float32", "HQ")
    recording.seek(0)
    for block in recording.blocks(size=max(1, round(block_s * rate))):
        if not np.isfinite(block).all():
            raise AnadilError(f"audio contains values that are not numbers (NaN or infinity): {path}")
        mono = take_channel(block, chosen)
        mono = mono / np.float32(scale) if scale > 1 else mono
        if resampler is not None:
            mono = resampler.resample_chunk(np.ascontiguousarray(mono))
        yield np.clip(mono, -1.0, 1.0, dtype=np.float32)
    if resampler is not None:
        yield np.clip(resampler.resample_chunk(np.zeros(0, np.float32), last=True), -1.0, 1.0)


def parse_channel(value: object) -> Channel:
    """Return the channel that "mix", "left", "right" or a number from 1, also written as text, means.

    Raises ValueError with the reason.
    """
    number = _NAMED_CHANNELS.get(value, value) if isinstance(value, str) else value
    if number == "mix":
        return "mix"
    if isinstance(number, str) and number.isascii() and number.isdecimal():
        number = int(number[:9])
    if isinstance(number, float) and number.is_integer():  # tables write whole numbers so
        number = int(number)
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= MOST_CHANNELS:
        raise ValueError(f"expected mix, left, right or a number from 1, found {value!r}")
    return number


def has_channel(n_channels: int, channel: Channel) -> bool:
    """Whether a file with `n_channels` has this channel."""
    return channel == "mix" or channel <= n_channels


def require_channel(path: str | Path, n_channels: int, channel: Channel) -> None:
    """Raise AnadilError if a file with `n_channels` does not have this channel."""
    if not has_channel(n_channels, channel):
        raise AnadilError(f"{path} has {n_channels} channel{'s' if n_channels > 1 else ''}, and no channel {channel}")


def chosen_channel(recording: Recording, channel: Channel) -> int | None:
    """The number, from 1, of the channel that is read; None for the mean of all.

    For "mix" that is one channel if the channels cancel each other in their mean: the loudest. This is decided once for a
    file, so that all its blocks and segments are read alike. Raises AnadilError if there is no such channel.
    """
    require_channel(recording.path, recording.channels, channel)
    if channel != "mix":
        return channel
    return 1 if recording.channels == 1 else _opposite_channel(*_identity(recording.path))


def take_channel(samples: np.ndarray, chosen: int | None) -> np.ndarray:
    """One channel, from 1, of float32 (frames, channels), or their mean if it is None: float32 (frames,)."""
    if samples.shape[1] == 1:
        return samples[:, 0]
    mono: np.ndarray = samples.mean(axis=1) if chosen is None else samples[:, chosen - 1]
    return mono


def channel_powers(blocks: Iterable[np.ndarray]) -> np.ndarray:
    """Mean power of each channel over blocks of float32 (frames, channels): float64 (channels,); empty without blocks."""
    powers, n_frames = np.zeros(0), 0
    for block in blocks:
        powers = (powers if n_frames else np.zeros(block.shape[1])) + np.einsum("ij,ij->j", block, block)
        n_frames += len(block)
    return powers / max(1, n_frames)


def full_scale(recording: Recording) -> float:
    """What the samples of a file are divided by: the peak of float samples, at least 1; 1 for all others."""
    return max(1.0, _peak(*_identity(recording.path))) if recording.is_float else 1.0


def resample(samples: np.ndarray, rate: int, target_rate: int) -> np.ndarray:
    """Band-limited resampling (soxr, high quality) of float32 (samples,); clipped to [-1, 1]."""
    if rate != target_rate:
        samples = soxr.resample(samples, rate, target_rate, quality="HQ")
    clipped: np.ndarray = np.clip(samples, -1.0, 1.0, dtype=np.float32)
    return clipped


def write(path: str | Path, samples: np.ndarray, sample_rate: int) -> None:
    """Write mono 16-bit WAV."""
    soundfile.write(str(path), samples, sample_rate, subtype="PCM_16", format="WAV")


def _identity(path: Path) -> tuple[str, int, int]:
    """What a cache knows a file by."""
    status = path.stat()
    return str(path), status.st_mtime_ns, status.st_size


@lru_cache(maxsize=4096)
def _peak(path: str, modified: int, size: int) -> float:
    """The largest finite absolute sample of a file; decoded once, as all its segments are scaled alike."""
    with open_recording(path) as recording:
        blocks = (np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0) for block in recording.blocks())
        return float(max((np.abs(block).max() for block in blocks), default=0.0))


@lru_cache(maxsize=4096)
def _opposite_channel(path: str, modified: int, size: int) -> int | None:
    """The channel, from 1, that is read instead of the mean of the file."""
    with open_recording(path) as recording:
        loudest, power = _cancelled(_phase_blocks(recording))
        if power < _SILENT_POWER:
            recording.seek(0)
            loudest, _ = _cancelled(recording.blocks())
    return loudest


def _phase_blocks(recording: Recording) -> Iterator[np.ndarray]:
    """Short stretches at equal distances; the start, if the length is not known; a short recording as a whole."""
    stretch = round(_PHASE_STRETCH_S * recording.sample_rate)
    if recording.n_frames is None or recording.n_frames <= _PHASE_STRETCHES * stretch:
        yield from recording.blocks(_PHASE_STRETCHES * stretch)
        return
    for start in np.linspace(0, recording.n_frames - stretch, _PHASE_STRETCHES).astype(int).tolist():
        recording.seek(start)
        yield from recording.blocks(stretch)


def _cancelled(blocks: Iterable[np.ndarray]) -> tuple[int | None, float]:
    """The loudest channel, from 1, if the channels cancel each other in their mean, else None; and its mean power."""
    powers, of_mean, n_frames = np.zeros(1), 0.0, 0
    for block in blocks:
        mono = block.mean(axis=1)
        powers = powers + np.einsum("ij,ij->j", block, block)
        of_mean += float(np.dot(mono, mono))
        n_frames += len(block)
    power = float(powers.max())
    loudest = None if of_mean >= _OPPOSITE_PHASE * power else int(powers.argmax()) + 1
    return loudest, power / max(1, n_frames)
