"""Decode, mix down, resample and probe audio. Samples are float32 (samples,) in [-1, 1] everywhere.

Files are read as they are found: headers that understate or do not know the length, codecs that cannot seek, float
samples over full scale, channels in opposite phase. What was done about it is a note (`AudioInfo.notes`).
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar

import numpy as np
import soundfile
import soxr

from anadil.errors import AnadilError, shortened
from anadil.files import escape_surrogates

EXTENSIONS = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".au", ".caf", ".w64"})
"""Extensions of files that libsndfile reads; used to search folders. Whether a file is audio depends on its content."""

MEDIA_EXTENSIONS = frozenset(
    {
        ".m4a",
        ".mp4",
        ".aac",
        ".webm",
        ".mkv",
        ".mka",
        ".mov",
        ".3gp",
        ".3g2",
        ".amr",
        ".wma",
        ".wmv",
        ".avi",
        ".mpg",
        ".mpeg",
    }
)
"""Extensions of files that the extra `media` (PyAV) reads; without it each is an error that names the command."""

Channel = Literal["mix"] | int
"""Which channel to read: "mix" averages all, or the number of one, from 1."""

DECODER_ERRORS = (soundfile.LibsndfileError, RuntimeError, TypeError, ValueError, OverflowError, OSError, MemoryError)
"""What libsndfile, FFmpeg and their bindings raise for a damaged file; PyAV's errors are OSError or ValueError."""

T = TypeVar("T")
R = TypeVar("R")

_UNKNOWN_SIZE = 0x7FFFF000
"""Programs that write WAV into a pipe put the largest size into its header, about 2 or 4 GiB: the file is not cut off."""

_MOST_FRAMES = 2**48
"""libsndfile gives 2^63 - 1 frames for a FLAC file whose header does not know its length."""

_BLOCK_FRAMES = 2**18

_OPPOSITE_PHASE = 0.05
"""Power of the mean of the channels, relative to the loudest one: below it they cancel. Two speakers on two channels
have 0.25 or more; a pair with a correlation of -0.9 has 0.05."""

_PHASE_PROBE_S = 10.0
"""Seconds at the start, the middle and the end of a file that `probe` looks at for channels in opposite phase."""

_MAX_WAITING = 256
"""Tasks that are submitted in advance: memory must not grow with the number of recordings."""

_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,asf,amr,amrnb,amrwb,aac,adts,avi,mpeg,mpegts,ogg,wav,flac,mp3,caf,aiff,au,ape,"
    "wv,tta,flv"
)
"""Containers that FFmpeg may open: none of these is a playlist that names other files or addresses."""


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """Facts about a file. Nothing is decoded, except where the header does not tell the length or the level."""

    duration: float  # seconds that the file has
    sample_rate: int
    channels: int
    promised: float  # seconds according to the header; more than `duration` if the recording was cut off
    notes: tuple[str, ...] = ()  # what a user should know of how the file is read


class Recording:
    """An open recording, read forward in blocks of float32 (frames, channels). Made by `open_recording`."""

    def __init__(self, open_source: Callable[[], soundfile.SoundFile | _Media], is_repaired: bool = False) -> None:
        self._open_source = open_source
        self._source = source = open_source()
        self.sample_rate: int = source.samplerate
        self.channels: int = source.channels
        self.subtype: str = source.subtype
        self.is_float = source.subtype in ("FLOAT", "DOUBLE")
        self.is_repaired = is_repaired  # the header understates the length
        self._can_seek = source.seekable() and source.frames < _MOST_FRAMES
        self.n_frames: int | None = source.frames if self._can_seek else None  # None: only decoding tells
        self._position = 0

    def read(self, n_frames: int) -> np.ndarray:
        """The next at most `n_frames`: float32 (frames, channels); fewer at the end, then none."""
        block = np.asarray(self._source.read(n_frames, dtype="float32", always_2d=True))
        self._position += len(block)
        return block

    def seek(self, frame: int) -> None:
        """Go to a frame, counted from the start; in a file that cannot seek, forward by decoding."""
        if self._can_seek:
            if frame != self._position:
                self._position = self._source.seek(min(frame, self._source.frames))
            return
        if frame < self._position:
            self.close()
            self._source, self._position = self._open_source(), 0
        while self._position < frame and len(self.read(min(frame - self._position, _BLOCK_FRAMES))):
            pass

    def seekable(self) -> bool:
        """Whether the codec can seek; the length may be unknown all the same."""
        return bool(self._source.seekable())

    def close(self) -> None:
        self._source.close()

    def blocks(self, n_frames: int | None = None, size: int = _BLOCK_FRAMES) -> Iterator[np.ndarray]:
        """Blocks of at most `size` frames, to the end or of `n_frames` in all."""
        left = _MOST_FRAMES if n_frames is None else n_frames
        while left > 0:
            block = self.read(min(size, left))
            if len(block):
                yield block
            if len(block) < min(size, left):
                return
            left -= len(block)


@contextmanager
def open_recording(path: str | Path) -> Iterator[Recording]:
    """Open a file for reading; what a decoder raises inside the block is an AnadilError that names the file.

    Raises AnadilError if the file is missing, or no audio that can be read.
    """
    found = find_file(path)
    try:
        with contextlib.closing(_open(found)) as recording:
            yield recording
    except DECODER_ERRORS as error:
        raise _unreadable(found, error) from error


def probe(path: str | Path) -> AudioInfo:
    """Read the facts of a file. Raises AnadilError if it is missing or no audio."""
    with open_recording(path) as recording:
        rate, promised, notes = recording.sample_rate, 0.0, []
        n_frames = recording.n_frames
        if n_frames is None:
            n_frames = sum(len(block) for block in recording.blocks())
        elif not recording.is_repaired:
            promised = _promised(find_file(path), n_frames / rate)
    duration = n_frames / rate
    if recording.is_repaired:
        notes.append("the header is wrong: it gives fewer samples than the file has (all are used)")
    if promised > duration:
        notes.append("cut off: the header promises more samples than the file has (used as far as it goes)")
    if recording.is_float and full_scale(path) > 1:
        notes.append("float samples over full scale (scaled down to it)")
    if recording.channels > 1:
        loudest = _opposite_channel(*_identity(find_file(path)))
        mixed = (
            "mixed down to one" if loudest is None else f"in opposite phase: channel {loudest} is used, not their mean"
        )
        notes.append(f"{recording.channels} channels, {mixed}")
    return AudioInfo(duration, rate, recording.channels, max(promised, duration), tuple(notes))


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
    channels are averaged; channels in opposite phase, which would cancel, are not: then the loudest one is read.
    Float samples over full scale are scaled down by the peak of the file. Raises AnadilError if the file is missing or
    no audio, or has no such channel.
    """
    with open_recording(path) as recording:
        rate, is_float, channels = recording.sample_rate, recording.is_float, recording.channels
        if channel != "mix" and not 1 <= channel <= channels:
            raise AnadilError(f"{path} has {channels} channel{'s' if channels > 1 else ''}, and no channel {channel}")
        recording.seek(round(offset * rate))
        blocks = list(recording.blocks(None if duration is None else round(duration * rate)))
    if not blocks:
        return np.zeros(0, dtype=np.float32)
    samples = np.concatenate(blocks)
    if not np.isfinite(samples).all():
        raise AnadilError(f"audio contains values that are not numbers (NaN or infinity): {path}")
    chosen = 1 if channels == 1 else channel
    mono = mix_down(samples) if chosen == "mix" else samples[:, chosen - 1]
    if is_float and np.abs(samples).max() > 1:
        mono = mono / np.float32(full_scale(path))
    return resample(np.ascontiguousarray(mono), rate, sample_rate)


def full_scale(path: str | Path) -> float:
    """What the float samples of a file are divided by: its peak, at least 1."""
    return max(1.0, _peak(*_identity(find_file(path))))


def mix_down(samples: np.ndarray) -> np.ndarray:
    """The mean of float32 (frames, channels) over the channels; of channels that cancel each other, the loudest."""
    if samples.shape[1] == 1:
        return samples[:, 0]
    mono: np.ndarray = samples.mean(axis=1)
    loudest = _cancelled(samples, mono)
    return mono if loudest is None else samples[:, loudest]


def _cancelled(samples: np.ndarray, mono: np.ndarray) -> int | None:
    """The loudest channel, counted from 0, if the channels cancel each other in their mean."""
    powers = np.einsum("ij,ij->j", samples, samples)
    if np.dot(mono, mono) >= _OPPOSITE_PHASE * powers.max():
        return None
    return int(powers.argmax())


def resample(samples: np.ndarray, rate: int, target_rate: int) -> np.ndarray:
    """Band-limited resampling (soxr, high quality) of float32 (samples,); clipped to [-1, 1]."""
    if rate != target_rate:
        samples = soxr.resample(samples, rate, target_rate, quality="HQ")
    clipped: np.ndarray = np.clip(samples, -1.0, 1.0, dtype=np.float32)
    return clipped


def write(path: str | Path, samples: np.ndarray, sample_rate: int) -> None:
    """Write mono 16-bit WAV."""
    soundfile.write(str(path), samples, sample_rate, subtype="PCM_16", format="WAV")


def find_file(path: str | Path) -> Path:
    """The file that a path means, also if its name is composed (NFC) on one side and decomposed (NFD) on the other.

    Archives made on macOS change the form of names. Backslashes of Windows count as separators if there is no file of
    that very name. Raises AnadilError if there is none.
    """
    written = escape_surrogates(str(path))
    if written != str(path):  # neither libsndfile nor a manifest accepts such a name
        raise AnadilError(f"not UTF-8: {written}; rename the file or folder")
    try:
        if Path(path).is_file():
            return Path(path)
        for name in dict.fromkeys((str(path), str(path).replace("\\", "/"))):
            found = _find_by_name(Path(name))
            if found is not None and found.is_file():
                return found
    except (OSError, ValueError) as error:  # a name of more than 255 bytes, a NUL, a loop of links
        raise AnadilError(
            f"audio file not found: {shortened(repr(path), 300)} ({getattr(error, 'strerror', None) or error})"
        ) from error
    raise AnadilError(f"audio file not found: {path}")


def _find_by_name(path: Path) -> Path | None:
    """The path on disk whose parts have the same canonical form (NFC) as those of `path`."""
    if path.exists():
        return path
    if path.parent == path:
        return None
    folder = _find_by_name(path.parent)
    if folder is None or not folder.is_dir():
        return None
    if (folder / path.name).exists():
        return folder / path.name
    wanted = unicodedata.normalize("NFC", path.name)
    return next((entry for entry in folder.iterdir() if unicodedata.normalize("NFC", entry.name) == wanted), None)


_RAW_SUBTYPES = {  # (format tag, bits per sample) of WAV: how libsndfile calls it without a header
    (1, 8): "PCM_U8", (1, 16): "PCM_16", (1, 24): "PCM_24", (1, 32): "PCM_32",
    (3, 32): "FLOAT", (3, 64): "DOUBLE", (6, 8): "ALAW", (7, 8): "ULAW",
}  # fmt: skip


def _open(path: Path) -> Recording:
    raw = _understated(path)
    if raw is not None:
        layout = {"samplerate": raw.sample_rate, "channels": raw.channels, "subtype": raw.subtype}
        return Recording(
            lambda: soundfile.SoundFile(_Window(path, raw.start), format="RAW", **layout), is_repaired=True
        )
    try:
        recording = Recording(lambda: soundfile.SoundFile(str(path)))
    except (soundfile.LibsndfileError, RuntimeError, TypeError):
        if not _is_media(path):
            raise
        return Recording(lambda: _Media(path))
    if recording.n_frames is not None or not recording.seekable():
        return recording
    recording.close()
    return Recording(lambda: _ForwardFile(str(path)))


class _ForwardFile(soundfile.SoundFile):  # type: ignore[misc]
    """A file of unknown length: soundfile seeks after each read, which fails at the end of such a file."""

    def seekable(self) -> bool:
        return False


@dataclass(frozen=True)
class _RawAudio:
    """Samples in a WAV file from byte `start` to its end."""

    start: int
    sample_rate: int
    channels: int
    subtype: str


def _understated(path: Path) -> _RawAudio | None:
    """How to read a WAV file whose header gives fewer bytes of samples than follow; None for all other files.

    A recorder that loses power leaves 0 there, one that writes more than 4 GB the rest of a division. What follows
    the samples is then no chain of chunks that ends with the file.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        if file.read(4) != b"RIFF" or file.seek(8) != 8 or file.read(4) != b"WAVE":
            return None
        layout: bytes = b""
        while len(header := file.read(8)) == 8:
            name, length, start = header[:4], int.from_bytes(header[4:], "little"), file.tell()
            if name == b"fmt ":
                layout = file.read(min(length, 40))
            elif name == b"data":
                break
            file.seek(start + length + length % 2)
        else:
            return None
        if start + length >= size or len(layout) < 16 or _is_chain(file, start + length + length % 2, size):
            return None
    tag, channels = int.from_bytes(layout[:2], "little"), int.from_bytes(layout[2:4], "little")
    if tag == 0xFFFE and len(layout) >= 26:  # WAVE_FORMAT_EXTENSIBLE: the tag is at the start of the subformat
        tag = int.from_bytes(layout[24:26], "little")
    subtype = _RAW_SUBTYPES.get((tag, int.from_bytes(layout[14:16], "little")))
    rate = int.from_bytes(layout[4:8], "little")
    if subtype is None or channels == 0 or rate == 0:
        return None
    return _RawAudio(start, rate, channels, subtype)


def _is_chain(file: BinaryIO, start: int, end: int) -> bool:
    """Whether chunks with printable names follow one another from `start` to the end of the file."""
    while start + 8 <= end:
        file.seek(start)
        header = file.read(8)
        if not all(32 <= byte < 127 for byte in header[:4]):
            return False
        start += 8 + int.from_bytes(header[4:], "little")
        start += start % 2
    return start <= end + 1


class _Window(io.RawIOBase):
    """A file from a byte on, for libsndfile."""

    def __init__(self, path: Path, start: int) -> None:
        self._file, self._start = open(path, "rb"), start  # noqa: SIM115 - closed in close
        self._file.seek(start)

    def close(self) -> None:
        self._file.close()
        super().close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset + self._start if whence == os.SEEK_SET else offset, whence) - self._start

    def tell(self) -> int:
        return self._file.tell() - self._start


class _Seekable:
    """A file for PyAV, which prints a traceback for a seek before the start; -1 tells FFmpeg that it failed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.read, self.tell = file.read, file.tell

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -1


class _Media:
    """A file that FFmpeg decodes (PyAV), read forward as libsndfile's are."""

    subtype = "FFMPEG"
    frames = _MOST_FRAMES

    def __init__(self, path: Path) -> None:
        import av

        self._file = open(path, "rb")  # noqa: SIM115 - closed in close
        try:
            # an open file, and no protocol: a hostile container cannot make FFmpeg open another file or address
            options = {"protocol_whitelist": "", "format_whitelist": _FORMATS}
            self._container = av.open(_Seekable(self._file), mode="r", options=options)
            if not self._container.streams.audio:
                raise AnadilError(f"{path} has no audio, only {', '.join(s.type for s in self._container.streams)}")
            stream = self._container.streams.audio[0]
            self.samplerate, self.channels = int(stream.sample_rate), int(stream.channels)
            self._resampler = av.AudioResampler(format="fltp", layout=stream.layout, rate=self.samplerate)
            self._blocks = self._decoded(stream)
            self._rest = np.zeros((0, self.channels), dtype=np.float32)
        except BaseException:
            self._file.close()
            raise

    def seekable(self) -> bool:
        return False

    def seek(self, frame: int) -> int:
        raise NotImplementedError

    def read(self, n_frames: int, dtype: str, always_2d: bool) -> np.ndarray:
        blocks, n = [self._rest], len(self._rest)
        while n < n_frames and (block := next(self._blocks, None)) is not None:
            blocks.append(block)
            n += len(block)
        samples = np.concatenate(blocks)
        self._rest = samples[n_frames:]
        return samples[:n_frames]

    def _decoded(self, stream: Any) -> Iterator[np.ndarray]:
        for frame in self._container.decode(stream):
            for part in self._resampler.resample(frame):
                yield part.to_ndarray().T
        for part in self._resampler.resample(None):
            yield part.to_ndarray().T

    def close(self) -> None:
        self._container.close()
        self._file.close()


def _is_media(path: Path) -> bool:
    """Whether PyAV reads the file. Raises AnadilError if it would be needed and is not installed."""
    try:
        import av
    except ImportError:
        if path.suffix.lower() in MEDIA_EXTENSIONS:
            raise AnadilError(
                f"{path}: {path.suffix} files need PyAV\n"
                "  next: pip install 'anadil[media]', or convert the file to WAV or FLAC"
            ) from None
        return False
    try:
        _Media(path).close()
    except (av.FFmpegError, OSError, ValueError):
        return False
    return True


def _identity(path: Path) -> tuple[str, int, int]:
    """What a cache knows a file by."""
    status = path.stat()
    return str(path), status.st_mtime_ns, status.st_size


@lru_cache(maxsize=4096)
def _peak(path: str, modified: int, size: int) -> float:
    """The largest absolute sample of a file; decoded once, as all its segments are scaled alike."""
    with open_recording(path) as recording:
        return float(max((np.abs(block).max() for block in recording.blocks()), default=0.0))


@lru_cache(maxsize=4096)
def _opposite_channel(path: str, modified: int, size: int) -> int | None:
    """The channel, from 1, that is read instead of the mean, judged by three stretches of the file."""
    with open_recording(path) as recording:
        length = round(_PHASE_PROBE_S * recording.sample_rate)
        starts = [0]
        if recording.n_frames is not None and recording.n_frames > 3 * length:
            starts += [recording.n_frames // 2, recording.n_frames - length]
        found: list[np.ndarray] = []
        for start in starts:
            recording.seek(start)
            found += recording.blocks(length if len(starts) > 1 else 3 * length)
    if not found:
        return None
    samples = np.concatenate(found)
    loudest = _cancelled(samples, samples.mean(axis=1))
    return None if loudest is None else loudest + 1


def _promised(path: Path, duration: float) -> float:
    """Seconds according to the header; more than `duration` if the recording was cut off."""
    report = soundfile.info(str(path), verbose=True).extra_info
    # libsndfile notes a data chunk whose header promises more than there is: "data : 105270 (should be 104544)"
    cut = re.search(r"^\s*data\s*:\s*(\d+) \(should be (\d+)\)", report, re.MULTILINE)
    if cut and int(cut[2]) > 0 and int(cut[2]) < int(cut[1]) < _UNKNOWN_SIZE:
        return duration * int(cut[1]) / int(cut[2])
    return duration


def _unreadable(path: Path, error: Exception) -> AnadilError:
    if path.stat().st_size == 0:
        return AnadilError(f"audio file is empty (0 bytes): {path}")
    with open(path, "rb") as file:
        is_page = file.read(64).lstrip().startswith((b"<", b"{"))
    reason = "it is a web page" if is_page else getattr(error, "error_string", str(error)).rstrip(".")
    if "not a regular file" in reason:  # libsndfile's message for any file that is named .mp3 but is not one
        reason = "its content is not of the kind that its name says"
    formats = "WAV, FLAC, OGG, Opus or MP3"
    return AnadilError(f"not readable as audio: {path} ({reason}); readable are {formats}")
