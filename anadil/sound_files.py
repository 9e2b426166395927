"""Open sound files as they are found, and read them forward in blocks.

libsndfile reads most of them, PyAV (extra `media`) the others. Files may have names in another Unicode form, headers that
do not tell the truth about the length, codecs that cannot seek, and ends that are missing.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile

from anadil.errors import AnadilError, shortened
from anadil.files import escape_surrogates
from anadil.sound_headers import AS_STATED, Length, ends_inside_page, promised_frames, read_length

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
        ".m4v",
        ".mts",
        ".flv",
        ".ra",
    }
)
"""Extensions of files that the extra `media` (PyAV) reads; without it each is an error that names the command."""

DECODER_ERRORS = (soundfile.LibsndfileError, RuntimeError, TypeError, ValueError, OverflowError, OSError, MemoryError)
"""What libsndfile, FFmpeg and their bindings raise for a damaged file; PyAV's errors are OSError or ValueError."""

_MOST_FRAMES = 2**48
"""libsndfile gives 2^63 - 1 frames for a FLAC file whose header does not know its length."""

_BLOCK_FRAMES = 2**18

_PADDING_S = 0.05
"""Encoders of MP3 and AAC pad: a file that is shorter than its header says by no more than this is whole."""

_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,asf,amr,amrnb,amrwb,aac,adts,avi,mpeg,mpegts,ogg,wav,flac,mp3,caf,aiff,au,ape,"
    "wv,tta,flv"
)
"""Containers that FFmpeg may open: none of these is a playlist that names other files or addresses."""


class Recording:
    """An open recording, read forward in blocks of float32 (frames, channels). Made by `open_recording`."""

    def __init__(self, path: Path, open_source: Callable[[], soundfile.SoundFile | _Media], length: Length) -> None:
        self.path = path
        self._open_source, self._length = open_source, length
        self._source = source = open_source()
        self.sample_rate: int = source.samplerate
        self.channels: int = source.channels
        self.subtype: str = source.subtype
        self.is_float = source.subtype in ("FLOAT", "DOUBLE")
        self.is_repaired = length.raw is not None  # the header understates the length
        self._can_seek = source.seekable() and source.frames < _MOST_FRAMES and not length.is_short
        self.n_frames: int | None = source.frames if self._can_seek else None  # None: only decoding tells
        if length.end is not None:
            self.n_frames = length.end
        self._position = 0

    def read(self, n_frames: int) -> np.ndarray:
        """The next at most `n_frames`: float32 (frames, channels); fewer at the end, then none."""
        if self._length.end is not None:
            n_frames = min(n_frames, self._length.end - self._position)
        try:
            block = np.asarray(self._source.read(n_frames, dtype="float32", always_2d=True))
        except DECODER_ERRORS:
            last = self._damaged_frame()
            if last is None or isinstance(self._source, _Media) or self._position > last or self._source.tell() < last:
                raise
            self._end_at(last)
            return self.read(n_frames)
        self._position += len(block)
        return block

    def seek(self, frame: int) -> None:
        """Go to a frame, counted from the start; in a file that cannot seek, forward by decoding."""
        if self._can_seek and not isinstance(self._source, _Media):
            if frame != self._position:
                try:
                    self._position = self._source.seek(min(frame, self._source.frames))
                except DECODER_ERRORS:
                    last = self._damaged_frame()
                    if last is None or frame < last:
                        raise
                    self._end_at(last)
                    self.seek(frame)
            return
        if frame < self._position:
            self.close()
            self._source, self._position = self._open_source(), 0
        while self._position < frame and len(self.read(min(frame - self._position, _BLOCK_FRAMES))):
            pass

    def _damaged_frame(self) -> int | None:
        """Where the last frame of a FLAC file starts: an error from there on is of that frame only."""
        return self._length.last_frame if self._length.end is None else None

    def _end_at(self, frame: int) -> None:
        """Let a FLAC file end before its last frame, which is damaged; the position stays."""
        position = self._position
        self.close()
        self._length = Length(end=frame, last_frame=frame)
        self._open_source = lambda: _ForwardFile(str(self.path))
        self._can_seek, self.n_frames = False, frame
        self._source, self._position = self._open_source(), 0
        self.seek(position)

    def count_frames(self) -> int:
        """The number of frames, where only decoding tells it by decoding; the position is lost."""
        last = self._damaged_frame()
        if last is not None:
            self.seek(last)
            self.read(_BLOCK_FRAMES)  # if it fails, the file ends here
        if self.n_frames is None:
            self.seek(0)
            return sum(len(block) for block in self.blocks())
        return self.n_frames

    def promised_s(self, n_frames: int) -> float:
        """Seconds according to the header of a file that has `n_frames`; never less than these."""
        source, duration = self._source, n_frames / self.sample_rate
        if self.is_repaired:
            return duration
        if isinstance(source, _Media):
            promised = source.promised_s
        elif self._length.end is not None:
            return float(source.frames / self.sample_rate)
        elif self._length.is_short:
            promised = source.frames / self.sample_rate
        else:
            return promised_frames(source.extra_info, source.format, n_frames) / self.sample_rate
        return promised if promised > duration + _PADDING_S else duration

    def ends_inside_page(self) -> bool:
        """Whether this is an Ogg file that was cut off; the header of Ogg does not tell the length."""
        return getattr(self._source, "format", "") == "OGG" and ends_inside_page(self.path)

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
        reason = getattr(error, "strerror", None) or error
        raise AnadilError(f"audio file not found: {shortened(repr(path), 300)} ({reason})") from error
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


def _open(path: Path) -> Recording:
    length = read_length(path)
    raw = length.raw
    if raw is not None:
        layout = {"samplerate": raw.sample_rate, "channels": raw.channels, "subtype": raw.subtype}
        return Recording(path, lambda: soundfile.SoundFile(_Window(path, raw.start), format="RAW", **layout), length)
    if length.patch is not None:
        kind = _ForwardFile if length.is_short else soundfile.SoundFile
        return Recording(path, lambda: kind(_Window(path, 0, length.patch)), length)
    if length.end is not None or length.is_short:  # seeking would fail at the end, or be inexact
        return Recording(path, lambda: _ForwardFile(str(path)), length)
    try:
        recording = Recording(path, lambda: soundfile.SoundFile(str(path)), length)
    except (soundfile.LibsndfileError, RuntimeError, TypeError):
        media = _open_media(path)
        if media is None:
            raise
        return media
    if recording.n_frames is not None or not recording.seekable():
        return recording
    recording.close()
    return Recording(path, lambda: _ForwardFile(str(path)), length)


def _open_media(path: Path) -> Recording | None:
    """The recording as PyAV reads it; None if it does not. Raises AnadilError if it would be needed and is not installed."""
    try:
        import av
    except ImportError:
        if path.suffix.lower() in MEDIA_EXTENSIONS:
            raise AnadilError(
                f"{path}: {path.suffix} files need PyAV\n"
                "  next: pip install 'anadil[media]', or convert the file to WAV or FLAC"
            ) from None
        return None
    try:
        return Recording(path, lambda: _Media(path), AS_STATED)
    except (av.FFmpegError, OSError, ValueError):
        return None


class _ForwardFile(soundfile.SoundFile):  # type: ignore[misc]
    """A file of unknown or wrong length: soundfile seeks after each read, which fails at the end of such a file."""

    def seekable(self) -> bool:
        return False


class _Window(io.RawIOBase):
    """A file from a byte on, for libsndfile, perhaps with other bytes at one place."""

    def __init__(self, path: Path, start: int, patch: tuple[int, bytes] | None = None) -> None:
        self._file, self._start = open(path, "rb"), start  # noqa: SIM115 - closed in close
        self._patch_at, self._patch = patch or (0, b"")
        self._file.seek(start)

    def close(self) -> None:
        self._file.close()
        super().close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        position, data = self._file.tell(), bytearray(self._file.read(len(buffer)))
        for i in range(max(position, self._patch_at), min(position + len(data), self._patch_at + len(self._patch))):
            data[i - position] = self._patch[i - self._patch_at]
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
            self.promised_s = float((stream.duration or 0) * (stream.time_base or 0))
            self._blocks = self._decoded(stream)
            self._rest = np.zeros((0, self.channels), dtype=np.float32)
        except BaseException:
            self._file.close()
            raise

    def seekable(self) -> bool:
        return False

    def read(self, n_frames: int, dtype: str, always_2d: bool) -> np.ndarray:
        blocks, n = [self._rest], len(self._rest)
        while n < n_frames and (block := next(self._blocks, None)) is not None:
            blocks.append(block)
            n += len(block)
        samples = np.concatenate(blocks)
        self._rest = samples[n_frames:]
        return samples[:n_frames]

    def _decoded(self, stream: Any) -> Iterator[np.ndarray]:
        """Decoded blocks. A last packet that cannot be decoded is the end of a file that was cut off."""
        failure: Exception | None = None
        for packet in self._container.demux(stream):
            try:
                frames = packet.decode()
            except (OSError, ValueError) as error:
                failure = failure or error
                continue
            if failure is not None and packet.size:  # damaged in the middle
                raise failure
            for frame in frames:
                for part in self._resampler.resample(frame):
                    yield part.to_ndarray().T
        for part in self._resampler.resample(None):
            yield part.to_ndarray().T

    def close(self) -> None:
        self._container.close()
        self._file.close()


def readable_formats() -> str:
    """The formats that can be read here: those of libsndfile, and those of PyAV if it is installed."""
    own = "WAV, FLAC, OGG, Opus, MP3, AIFF, AU, CAF and W64"
    media = "m4a, mp4, aac, webm, amr, wma and video"
    if importlib.util.find_spec("av") is None:
        return f"{own}; {media} with PyAV: pip install 'anadil[media]'"
    return f"{own}; also {media}"


def _unreadable(path: Path, error: Exception) -> AnadilError:
    if path.stat().st_size == 0:
        return AnadilError(f"audio file is empty (0 bytes): {path}")
    with open(path, "rb") as file:
        begin = file.read(64).lstrip()[:1]
    texts = {b"<": "it is a web page", b"{": "it is JSON, as a manifest or a server's error is"}
    reason = texts.get(begin) or getattr(error, "error_string", str(error)).rstrip(".")
    if "not a regular file" in reason:  # libsndfile's message for any file that is named .mp3 but is not one
        reason = "its content is not of the kind that its name says"
    return AnadilError(f"not readable as audio: {path} ({reason}); readable are {readable_formats()}")
