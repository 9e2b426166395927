"""A folder that keeps decoded audio between runs: 16-bit samples, one file per utterance, of limited size.

Files are read whole instead of memory-mapped: a failing disk then raises an error that can be caught, and 100 KB take 30
microseconds either way. Every file has a checksum; a damaged or truncated one is decoded again. Several runs may share a
folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import struct
import time
import uuid
import zlib
from pathlib import Path
from threading import Lock

import numpy as np

from anadil.errors import AnadilError
from anadil.manifest import Utterance
from anadil.sound_files import find_file

FOLDER = "decoded-16-bit"
"""Subfolder of the user's folder; nothing else in it is touched."""

RESERVE_BYTES = 1 << 30
"""Space left free on the disk for models and checkpoints."""

_HEADER = struct.Struct("<8sQII")  # magic, number of samples, CRC-32 of them, zero
_MAGIC = b"anadil16"
_NAME = re.compile(r"[0-9a-f]{64}\.pcm")
_PARTIAL = re.compile(r"\.[0-9a-f]{8}\.partial")
_ABANDONED_S = 3600


class DiskCache:
    """16-bit samples by file (path, size, modification time), segment, channel and sample rate.

    When `gigabytes` are full, files that no run has used since this one began are deleted, least recently used first;
    after these nothing more is written. `trouble` is the reason if writing has stopped for another one.
    """

    def __init__(self, folder: Path, gigabytes: float) -> None:
        """Raises AnadilError if the folder cannot be made."""
        self.folder = folder / FOLDER
        self.room = int(gigabytes * 2**30)
        self.trouble: str | None = None
        self._reported = False
        self._began = time.time()
        self._lock = Lock()
        self._used: int | None = None  # bytes at the last scan, plus those written since
        self._unscanned = 0  # bytes written since the last scan: other runs write too
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AnadilError(
                f"data.cache: could not make {self.folder}: {error.strerror}\n  next: choose another folder"
            ) from error

    def new_trouble(self) -> str | None:
        """`trouble`, but only once."""
        trouble, self._reported = None if self._reported else self.trouble, self.trouble is not None
        return trouble

    def read(self, utterance: Utterance, sample_rate: int) -> np.ndarray | None:
        """int16 (samples,), or None if they are not in the cache or damaged."""
        try:
            path = self._path(utterance, sample_rate)
            content = path.read_bytes()
        except OSError:
            return None
        if len(content) >= _HEADER.size:
            magic, n_samples, checksum, _ = _HEADER.unpack_from(content)
            samples = memoryview(content)[_HEADER.size :]
            if magic == _MAGIC and len(samples) == 2 * n_samples and zlib.crc32(samples) == checksum:
                with contextlib.suppress(OSError):
                    os.utime(path)  # for least recently used
                return np.frombuffer(samples, dtype="<i2")
        with contextlib.suppress(OSError):
            path.unlink()
        return None

    def write(self, utterance: Utterance, sample_rate: int, samples: np.ndarray) -> None:
        """Write int16 (samples,) if there is room. Never raises, as a cache that cannot be written costs only time."""
        content = np.ascontiguousarray(samples, dtype="<i2").tobytes()
        if self.trouble is not None or not self._make_room(_HEADER.size + len(content)):
            return
        beside = self.folder / f".{uuid.uuid4().hex[:8]}.partial"
        try:
            path = self._path(utterance, sample_rate)
            path.parent.mkdir(exist_ok=True)
            beside.write_bytes(_HEADER.pack(_MAGIC, len(samples), zlib.crc32(content), 0) + content)
            os.replace(beside, path)
        except OSError as error:
            self.trouble = (
                f"data.cache: {self.folder} cannot be written ({error.strerror}); training continues without it"
            )
            with contextlib.suppress(OSError):
                beside.unlink()

    def _path(self, utterance: Utterance, sample_rate: int) -> Path:
        real = os.path.realpath(find_file(utterance.audio_filepath))
        about = Path(real).stat()
        key: tuple[object, ...] = (
            real,
            about.st_size,
            about.st_mtime_ns,
            utterance.offset,
            utterance.duration,
            sample_rate,
        )
        if utterance.channel != "mix":  # the keys of the others are as in earlier versions
            key = (*key, utterance.channel)
        name = hashlib.sha256(repr(key).encode("utf-8", "surrogateescape")).hexdigest()
        return self.folder / name[:2] / f"{name}.pcm"

    def _make_room(self, n_bytes: int) -> bool:
        """Reserve `n_bytes`, deleting unused files if needed; whether there is room."""
        with self._lock:
            try:
                if self._used is None or self._unscanned > self.room // 64 or self._used + n_bytes > self.room:
                    if self._used is not None and self._unscanned == 0:
                        return False  # full at the last scan, and nothing is older than this run
                    self._used, self._unscanned = self._scan(n_bytes), 0
                if self._used + n_bytes > self.room:
                    return False
                if shutil.disk_usage(self.folder).free < RESERVE_BYTES + n_bytes:
                    self.trouble = (
                        f"data.cache: the disk of {self.folder} is nearly full; nothing more is written to it"
                    )
                    return False
            except OSError as error:
                self.trouble = (
                    f"data.cache: {self.folder} cannot be read ({error.strerror}); training continues without it"
                )
                return False
            self._used += n_bytes
            self._unscanned += n_bytes
            return True

    def _scan(self, n_bytes: int) -> int:
        """Delete unused files to make room for `n_bytes`; the bytes that the cache takes then."""
        entries = []
        for folder, _, names in os.walk(self.folder):
            for name in names:
                path = Path(folder) / name
                with contextlib.suppress(FileNotFoundError):  # another run has deleted it
                    about = path.stat()
                    if _NAME.fullmatch(name):
                        entries.append((about.st_mtime, about.st_size, path))
                    elif _PARTIAL.fullmatch(name) and about.st_mtime < time.time() - _ABANDONED_S:
                        path.unlink()
        used = sum(size for _, size, _ in entries)
        wanted = self.room - max(n_bytes, self.room // 64)  # room for more than one file, as scanning takes time
        if used <= self.room - n_bytes:
            return used
        for used_at, size, path in sorted(entries):
            if used <= wanted or used_at >= self._began:
                break
            path.unlink(missing_ok=True)
            used -= size
        return used
