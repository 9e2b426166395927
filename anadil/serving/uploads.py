"""Uploads: multipart bodies, written to files as they arrive, and the folder for these files."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from anadil.sound_files import EXTENSIONS, MEDIA_EXTENSIONS

_MOST_FIELDS, _FIELD_BYTES = 50, 2**16
_BLOCK_BYTES = 2**20
"""Larger writes go to a thread, so that a slow disk does not stop the server."""


class BadUploadError(Exception):
    """What is wrong with a request, and the HTTP status that says so."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Spool:
    """The folder in which uploads and their samples wait; emptied when a server starts and ends."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder, self._max_bytes, self.n_bytes = folder, max_bytes, 0
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    @contextlib.contextmanager
    def place(self) -> Iterator[Path]:
        """A new folder for one request, deleted when the block ends."""
        folder = self.folder / uuid.uuid4().hex
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def reserved(self) -> Iterator[Reservation]:
        """Counts bytes against the limit of all uploads together, until the block ends."""
        one = Reservation(self)
        try:
            yield one
        finally:
            self.n_bytes -= one.n_bytes

    def take(self, n_bytes: int) -> None:
        if self.n_bytes + n_bytes > self._max_bytes:
            raise BadUploadError(503, "too many uploads at a time; try again in a minute")
        self.n_bytes += n_bytes

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass
class Reservation:
    spool: Spool
    n_bytes: int = 0

    def add(self, n_bytes: int) -> None:
        """Raises BadUploadError if all uploads together would be too large."""
        self.spool.take(n_bytes)
        self.n_bytes += n_bytes


@dataclass(frozen=True)
class Upload:
    """A received form: the values of each field, and its file."""

    fields: dict[str, list[str]]
    path: Path
    name: str  # as the client calls the file, without folders
    n_bytes: int


async def receive_upload(
    chunks: AsyncIterator[bytes], content_type: str, folder: Path, reservation: Reservation
) -> Upload:
    """Parse a multipart body with one file, `file`, which is written into `folder` as it arrives.

    Raises BadUploadError for another kind of body, OSError if the disk is full.
    """
    form = _Form(folder)
    try:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise BadUploadError(415, "expected a form with a file: Content-Type multipart/form-data")
        parser = MultipartParser(options[b"boundary"], form.callbacks())
        async for chunk in chunks:
            if chunk:
                reservation.add(len(chunk))
                parser.write(chunk)
                await form.write(at_least=_BLOCK_BYTES)
        parser.finalize()
        await form.write(at_least=0)
    except FormParserError as error:
        raise BadUploadError(400, f"the form is malformed: {error}") from error
    finally:
        form.close()
    if not form.is_complete:
        raise BadUploadError(400, "the form ends before its last boundary: part of the upload is missing")
    if form.path is None:
        raise BadUploadError(400, "the form has no file: its field must be called 'file' and have a file name")
    return Upload(form.fields, form.path, form.name, form.n_bytes)


def plain_name(name: str) -> str:
    """A file name of a client without folders and control characters, at most 200 characters."""
    last = PurePosixPath(name.replace("\\", "/")).name
    return "".join(c for c in last if c.isprintable())[-200:] or "recording"


@dataclass
class _Form:
    """What the parser's callbacks collect."""

    folder: Path
    fields: dict[str, list[str]] = field(default_factory=dict)
    path: Path | None = None
    name: str = ""
    n_bytes: int = 0
    is_complete: bool = False
    _headers: dict[str, bytes] = field(default_factory=dict)
    _header: tuple[bytearray, bytearray] = field(default_factory=lambda: (bytearray(), bytearray()))
    _field: str | None = None
    _value: bytearray = field(default_factory=bytearray)
    _waiting: list[bytes] = field(default_factory=list)  # of the file
    _n_waiting: int = 0
    _n_fields: int = 0
    _file: int | None = None

    def callbacks(self) -> Any:
        """For MultipartParser."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._begin_data,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._complete,
        }

    async def write(self, at_least: int) -> None:
        """Write what has been received of the file, if it is so much."""
        if self._file is None or self._n_waiting < at_least or not self._waiting:
            return
        data, self._waiting, self._n_waiting = b"".join(self._waiting), [], 0
        if len(data) < _BLOCK_BYTES:
            _write_all(self._file, data)
        else:
            await asyncio.to_thread(_write_all, self._file, data)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _begin(self) -> None:
        self._headers, self._field = {}, None
        self._n_fields += 1
        if self._n_fields > _MOST_FIELDS:
            raise BadUploadError(400, f"the form has more than {_MOST_FIELDS} fields")

    def _end_header(self) -> None:
        name, value = self._header
        self._headers[bytes(name).decode("latin-1").lower()] = bytes(value)
        name.clear()
        value.clear()

    def _begin_data(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition", b""))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if b"filename" not in options:
            self._field, self._value = name, bytearray()
            return
        if name != "file" or self.path is not None:
            raise BadUploadError(400, f"one file is expected, in the field 'file'; found another in {name[:50]!r}")
        self.name = plain_name(options[b"filename"].decode("utf-8", "replace"))
        suffix = PurePosixPath(self.name).suffix.lower()
        self.path = self.folder / ("upload" + (suffix if suffix in EXTENSIONS | MEDIA_EXTENSIONS else ""))
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            self._waiting.append(data[start:end])
            self._n_waiting += end - start
            self.n_bytes += end - start
            return
        self._value += data[start:end]
        if len(self._value) > _FIELD_BYTES:
            raise BadUploadError(413, f"the field {self._field[:50]!r} has more than {_FIELD_BYTES:,} bytes")

    def _end(self) -> None:
        if self._field is not None:
            name = self._field.removesuffix("[]")
            self.fields.setdefault(name, []).append(self._value.decode("utf-8", "replace"))
            self._field = None

    def _complete(self) -> None:
        self.is_complete = True


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
