"""Decode, mix down, resample and probe audio. Samples are float32 (samples,) in [-1, 1] everywhere."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import soundfile
import soxr

from anadil.errors import AnadilError

EXTENSIONS = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".au", ".caf", ".w64"})
"""Extensions of files that libsndfile reads; used to search folders. Whether a file is audio depends on its content."""

T = TypeVar("T")
R = TypeVar("R")

_UNKNOWN_SIZE = 0x7FFFF000
"""Programs that write WAV into a pipe put the largest size into its header, about 2 or 4 GiB: the file is not cut off."""

_MAX_WAITING = 256
"""Tasks that are submitted in advance: memory must not grow with the number of recordings."""


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """Facts about a file from its header and size; nothing is decoded."""

    duration: float  # seconds that the file has
    sample_rate: int
    channels: int
    promised: float  # seconds according to the header; more than `duration` if the recording was cut off


def probe(path: str | Path) -> AudioInfo:
    """Read the facts of a file without decoding it. Raises AnadilError if it is missing or no audio."""
    _require_file(path)
    try:
        info = soundfile.info(str(path), verbose=True)
    except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
        raise _unreadable(path, error) from error
    # libsndfile notes a data chunk whose header promises more than there is: "data : 105270 (should be 104544)"
    cut = re.search(r"^\s*data\s*:\s*(\d+) \(should be (\d+)\)", info.extra_info, re.MULTILINE)
    promised = info.duration
    if cut and int(cut[2]) > 0 and int(cut[2]) < int(cut[1]) < _UNKNOWN_SIZE:
        promised = info.duration * int(cut[1]) / int(cut[2])
    return AudioInfo(info.duration, info.samplerate, info.channels, promised)


def file_notes(info: AudioInfo) -> list[str]:
    """Notes on a file that is used although it is cut off or has several channels."""
    notes = []
    if info.promised > info.duration:
        notes.append("cut off: the header promises more samples than the file has (used as far as it goes)")
    if info.channels > 1:
        notes.append(f"{info.channels} channels, mixed down to one")
    return notes


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


def read(path: str | Path, sample_rate: int, offset: float = 0.0, duration: float | None = None) -> np.ndarray:
    """Decode a segment of a file to mono float32 (samples,) at `sample_rate`.

    `offset` and `duration` in seconds; a duration of None, or past the end, reads to the end.
    Channels are averaged. Raises AnadilError if the file is missing or no audio.
    """
    _require_file(path)
    try:
        with soundfile.SoundFile(str(path)) as file:
            start = round(offset * file.samplerate)
            if start >= file.frames and start > 0:
                return np.zeros(0, dtype=np.float32)
            if start:
                file.seek(start)
            n_frames = -1 if duration is None else round(duration * file.samplerate)
            samples = file.read(n_frames, dtype="float32", always_2d=True)
            rate = file.samplerate
    except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
        raise _unreadable(path, error) from error
    if not np.isfinite(samples).all():
        raise AnadilError(f"audio contains values that are not numbers (NaN or infinity): {path}")
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
    return resample(mono, rate, sample_rate)


def resample(samples: np.ndarray, rate: int, target_rate: int) -> np.ndarray:
    """Band-limited resampling (soxr, high quality) of float32 (samples,); clipped to [-1, 1]."""
    if rate != target_rate:
        samples = soxr.resample(samples, rate, target_rate, quality="HQ")
    clipped: np.ndarray = np.clip(samples, -1.0, 1.0, dtype=np.float32)
    return clipped


def write(path: str | Path, samples: np.ndarray, sample_rate: int) -> None:
    """Write mono 16-bit WAV."""
    soundfile.write(str(path), samples, sample_rate, subtype="PCM_16", format="WAV")


def _require_file(path: str | Path) -> None:
    written = str(path).encode("utf-8", "backslashreplace").decode("utf-8")
    if written != str(path):  # neither libsndfile nor a manifest accepts such a name
        raise AnadilError(f"not UTF-8: {written}; rename the file or folder")
    if not Path(path).is_file():
        raise AnadilError(f"audio file not found: {path}")


def _unreadable(path: str | Path, error: Exception) -> AnadilError:
    if Path(path).stat().st_size == 0:
        return AnadilError(f"audio file is empty (0 bytes): {path}")
    with open(path, "rb") as file:
        is_page = file.read(64).lstrip().startswith((b"<", b"{"))
    reason = "it is a web page" if is_page else getattr(error, "error_string", str(error)).rstrip(".")
    if "not a regular file" in reason:  # libsndfile's message for any file that is named .mp3 but is not one
        reason = "its content is not of the kind that its name says"
    formats = "WAV, FLAC, OGG, Opus or MP3"
    return AnadilError(f"not readable as audio: {path} ({reason}); readable are {formats}")
