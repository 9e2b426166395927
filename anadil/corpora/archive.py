"""Safe unpacking of downloaded archives: only files and folders, only inside the target, no more than the disk holds.

An archive is unpacked completely or not at all. A marker file in the folder records which archive it came from: a second
run does not unpack it again, unless the archive was replaced.
"""

from __future__ import annotations

import json
import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TypeVar

from anadil.errors import AnadilError, shortened
from anadil.files import whole_folder

_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".zip")

_MAX_RATIO = 100
"""Unpacked bytes per packed byte. Speech stays below 10 (WAV in gzip: 1.2; transcripts: 4); a zip bomb has 1,000 or more."""

ALWAYS_ALLOWED_BYTES = 16 * 2**20
"""This much is unpacked at any ratio: a short recording of silence is compressed well too."""

_MAX_DEPTH, _MAX_NAME_BYTES = 50, 255
"""Folders in folders, and the length of one name. The deepest public corpora have 8; file systems hold 255 bytes."""

MEMBER_BYTES = 512  # size of an empty file in a tar, and about its size on the disk
_CHUNK_BYTES = 2**20
MARKER = ".anadil-unpacked.json"

_DATA_FILTER: Callable[[tarfile.TarInfo, str], tarfile.TarInfo] = getattr(
    tarfile, "data_filter", lambda member, folder: member
)
"""Python's own safety rules (PEP 706; not in Python 3.11.0 to 3.11.3), applied in addition to ours."""

T = TypeVar("T")
Progress = Callable[[int, int], None]  # bytes of the archive read, its size
_Member = tuple[str, IO[bytes] | None, int]  # name, content (None: a folder), size that the archive states
_DAMAGE_ERRORS = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)


def is_archive(path: Path) -> bool:
    """Whether the name is that of an archive; the content is checked when it is unpacked."""
    return path.name.lower().endswith(_SUFFIXES) and not path.name.startswith("._") and path.is_file()


def archive_stem(path: Path) -> str:
    """The name without the archive's suffix: "tr" for "tr.tar.gz"."""
    suffix = max((suffix for suffix in _SUFFIXES if path.name.lower().endswith(suffix)), key=len, default="")
    return path.name[: len(path.name) - len(suffix)] or path.name


def unpack_if_archive(source: Path, unpack_to: Path | None, on_progress: Progress = lambda done, total: None) -> Path:
    """Return `source` itself, or the folder with its content if it is an archive.

    An archive is unpacked to a folder of its name below `unpack_to`. If `unpack_to` is None, or the archive was already
    unpacked beside itself, it is the folder beside it. Raises AnadilError as `unpack`.
    """
    if not is_archive(source):
        return source
    beside = source.parent / archive_stem(source)
    if unpack_to is None or _was_unpacked_from(beside, source):
        return unpack(source, beside, on_progress)
    return unpack(source, unpack_to / archive_stem(source), on_progress)


def archives_in(folder: Path) -> list[Path]:
    """The archives in a folder, without those that the user unpacked to a folder of the same name beside it."""
    archives = [path for path in sorted(folder.iterdir()) if is_archive(path)]
    return [path for path in archives if not _unpacked_by_hand(folder / archive_stem(path))]


def unpack(archive: Path, target: Path, on_progress: Progress = lambda done, total: None) -> Path:
    """Unpack `archive` into the new folder `target`, unless that was done before. Returns `target`.

    Raises AnadilError if the archive is damaged, contains links, devices or paths outside the target, needs more room
    than the disk has or than a plausible archive of its size, or if `target` has other content.
    """
    if _was_unpacked_from(target, archive):
        return target
    if target.exists() and _unpacked_by_hand(target):
        raise AnadilError(
            f"{target} exists already and was not unpacked from {archive}\n"
            f"  next: give {target} itself as the source, or rename it"
        )
    archive_bytes = archive.stat().st_size
    with whole_folder(target) as folder:
        _unpack_members(folder, archive, archive_bytes, on_progress)
    on_progress(archive_bytes, archive_bytes)
    return target


def _unpack_members(folder: Path, archive: Path, archive_bytes: int, on_progress: Progress) -> None:
    """Write all members below `folder`, and the marker file."""
    free = shutil.disk_usage(folder).free
    limit = _SizeLimit(archive, free, max(ALWAYS_ALLOWED_BYTES, _MAX_RATIO * archive_bytes))
    try:
        with open(archive, "rb") as file:
            members = _zip_members if archive.name.lower().endswith(".zip") else _tar_members
            for name, content, size in members(file, folder, limit):
                limit.add(size + MEMBER_BYTES)
                _write(folder, name, content, size, archive)
                on_progress(min(file.tell(), archive_bytes), archive_bytes)
    except _DAMAGE_ERRORS as error:
        reason = str(error).partition("\n")[0].rstrip(":") or type(error).__name__
        raise AnadilError(f"{archive} is damaged or not an archive: {reason}\n  next: download it again") from error
    (folder / MARKER).write_text(json.dumps(_fingerprint(archive)), encoding="utf-8")


class _SizeLimit:
    """Counts the bytes that are unpacked; raises AnadilError if they exceed the free space or a plausible size."""

    def __init__(self, archive: Path, free: int, plausible: int) -> None:
        self.archive, self.free, self.plausible, self.n_bytes = archive, free, plausible, 0

    def add(self, n_bytes: int) -> None:
        self.n_bytes += n_bytes
        self.check(self.n_bytes)

    def check(self, n_bytes: int) -> None:
        if n_bytes > self.free:
            raise AnadilError(
                f"{self.archive} needs more room than the {self.free / 1e9:.1f} GB that are free\n"
                "  next: free disk space, or choose a folder on another disk"
            )
        if n_bytes > self.plausible:
            raise AnadilError(
                f"{self.archive} would grow more than {_MAX_RATIO} times when unpacked, but speech grows less than 10 times\n"
                "  next: do not use this archive; if you trust it, unpack it yourself and give the folder"
            )


def _tar_members(file: IO[bytes], folder: Path, limit: _SizeLimit) -> Iterator[_Member]:
    archive = limit.archive
    with tarfile.open(fileobj=file, mode="r:*") as tar:
        while (member := _read_checked(archive, tar.next)) is not None:
            vars(tar)["members"] = []  # tarfile keeps every member: gigabytes for a corpus of millions of clips
            _require_plain(member, folder, archive)
            try:
                member = _DATA_FILTER(member, str(folder))
            except tarfile.TarError as error:
                raise _refusal(archive, member.name, f"is not plain data ({error})") from error
            if member.isdir():
                yield member.name, None, 0
            else:
                yield member.name, tar.extractfile(member), member.size
        _read_checked(archive, _drain, tar.fileobj)


def _require_plain(member: tarfile.TarInfo, folder: Path, archive: Path) -> None:
    """Raise AnadilError unless the member is a file or folder whose path stays inside `folder`."""
    _path_inside(folder, member.name, archive)
    if not member.isdir() and (not member.isreg() or member.issparse()):
        kind = "link" if member.islnk() or member.issym() else "device or other special file"
        raise _refusal(archive, member.name, f"is a {kind}")


def _drain(stream: object) -> None:
    """Read to the end of the stream, where gzip and xz check their checksums; a tar ends with a few zeros only."""
    read = getattr(stream, "read", None)
    n_left = ALWAYS_ALLOWED_BYTES
    while read is not None and n_left > 0 and (chunk := read(_CHUNK_BYTES)):
        n_left -= len(chunk)


def _zip_members(file: IO[bytes], folder: Path, limit: _SizeLimit) -> Iterator[_Member]:
    archive = limit.archive
    with zipfile.ZipFile(file) as packed:
        limit.check(sum(member.file_size + MEMBER_BYTES for member in packed.infolist()))
        for member in packed.infolist():
            if member.flag_bits & 1:
                raise AnadilError(f"{archive} has a password\n  next: unpack it yourself and give the folder")
            mode = member.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refusal(archive, member.filename, "is a link" if stat.S_ISLNK(mode) else "is a special file")
            if member.is_dir():
                yield member.filename, None, 0
            else:
                with packed.open(member) as content:
                    yield member.filename, content, member.file_size


def _write(folder: Path, name: str, content: IO[bytes] | None, size: int, archive: Path) -> None:
    path = _path_inside(folder, name, archive)
    if content is None:
        path.mkdir(parents=True, exist_ok=True)
        return
    if path in (folder, folder / MARKER):
        raise _refusal(archive, name, "is not a valid file name")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as out:
        n_left = size
        while n_left > 0:
            chunk = _read_checked(archive, content.read, min(_CHUNK_BYTES, n_left))
            if not chunk:
                raise AnadilError(f"{archive} is cut off in {name!r}\n  next: download it again")
            n_left -= len(chunk)
            out.write(chunk)
    if _read_checked(archive, content.read, 1):  # zipfile checks the checksum at the end of a member
        raise AnadilError(f"{archive} contains more data for {name!r} than it states\n  next: download it again")


def _read_checked(archive: Path, read: Callable[..., T], *arguments: object) -> T:
    """Call `read`. gzip and bz2 report damage as OSError, which would be taken for a full disk; it becomes AnadilError."""
    try:
        return read(*arguments)
    except OSError as error:
        raise AnadilError(f"{archive} is damaged: {error}\n  next: download it again") from error


def _path_inside(folder: Path, name: str, archive: Path) -> Path:
    parts = [part for part in re.split(r"[/\\]", name) if part not in ("", ".")]
    if name.startswith(("/", "\\")) or ".." in parts or "\0" in name or (parts and re.match("[A-Za-z]:", parts[0])):
        raise _refusal(archive, name, "leads out of the folder")
    if len(parts) > _MAX_DEPTH:
        raise _refusal(archive, name, f"is {len(parts):,} folders deep, allowed are {_MAX_DEPTH}")
    if any(len(os.fsencode(part)) > _MAX_NAME_BYTES for part in parts):
        raise _refusal(archive, name, f"has a name of more than {_MAX_NAME_BYTES} bytes, which no disk can hold")
    return folder.joinpath(*parts)


def _refusal(archive: Path, name: str, why: str) -> AnadilError:
    return AnadilError(
        f"{archive} is refused: {shortened(repr(name))} {why}\n"
        "  nothing was unpacked; no corpus needs this\n"
        "  next: do not use this archive; if you trust it, unpack it yourself and give the folder"
    )


def _fingerprint(archive: Path) -> dict[str, object]:
    status = archive.stat()
    return {"archive": archive.name, "bytes": status.st_size, "modified": int(status.st_mtime)}


def _was_unpacked_from(folder: Path, archive: Path) -> bool:
    """Whether `folder` has the marker file of this archive in its present version."""
    try:
        return bool(json.loads((folder / MARKER).read_text(encoding="utf-8")) == _fingerprint(archive))
    except (OSError, ValueError, RecursionError):
        return False


def _unpacked_by_hand(folder: Path) -> bool:
    """Whether it is a folder with content and without the marker file."""
    return folder.is_dir() and not (folder / MARKER).exists() and any(os.scandir(folder))
