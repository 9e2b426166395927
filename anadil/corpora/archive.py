"""Unpacking archives of strangers: inside the target, files and folders only, and no more than the disk holds.

An archive becomes a folder as a whole or not at all. A note in the folder tells which archive it came from, so a second
run finds it done, and an archive that was replaced is unpacked again.
"""

from __future__ import annotations

import contextlib
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

from anadil.errors import AnadilError
from anadil.files import whole_folder

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".zip")

MAX_RATIO = 100
"""Unpacked bytes per packed byte. Speech stays below 10 (WAV in gzip: 1.2; transcripts: 4); a bomb has 1,000 and more."""

ALWAYS_ALLOWED_BYTES = 16 * 2**20
"""So much is unpacked whatever the ratio: a short recording of silence packs well too."""

MEMBER_BYTES = 512  # what even an empty file costs in a tar, and about what it costs on the disk
CHUNK_BYTES = 2**20
MARKER = ".anadil-unpacked.json"

T = TypeVar("T")
Progress = Callable[[int, int], None]  # bytes of the archive done, in all
_Copy = tuple[str, IO[bytes] | None, int]  # name, content (None: a folder), bytes promised
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)


def is_archive(path: Path) -> bool:
    """By its name; the content decides when it is unpacked."""
    return path.name.lower().endswith(SUFFIXES) and not path.name.startswith("._") and path.is_file()


def archive_stem(path: Path) -> str:
    """Name without the archive's suffix: "tr.tar.gz" is "tr"."""
    suffix = max((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), key=len, default="")
    return path.name[: len(path.name) - len(suffix)] or path.name


def unpack_if_archive(source: Path, unpacked: Path | None, on_progress: Progress = lambda done, total: None) -> Path:
    """A folder to read `source` from: itself, or what it holds if it is an archive.

    An archive goes to a folder of its name below `unpacked`; without that, or if it was unpacked there before, to one
    beside it. Raises AnadilError as `unpack`.
    """
    if not is_archive(source):
        return source
    beside = source.parent / archive_stem(source)
    if unpacked is None or _is_from(beside, source):
        return unpack(source, beside, on_progress)
    return unpack(source, unpacked / archive_stem(source), on_progress)


def archives_in(folder: Path) -> list[Path]:
    """Archives in a folder that no folder of the same name stands beside, which a user unpacked."""
    found = [path for path in sorted(folder.iterdir()) if is_archive(path)]
    return [path for path in found if not _unpacked_by_hand(folder / archive_stem(path))]


def unpack(archive: Path, target: Path, on_progress: Progress = lambda done, total: None) -> Path:
    """Unpack into the new folder `target`, or find that done. Returns `target`.

    Raises AnadilError if the archive is damaged, holds paths outside the target, links or devices, is larger unpacked
    than the disk has room for or than a sound archive of its size could be, or if `target` holds something else.
    """
    if _is_from(target, archive):
        return target
    if target.exists() and _unpacked_by_hand(target):
        raise AnadilError(
            f"{target} exists already and was not unpacked from {archive}\n"
            f"  next: give {target} itself as the source, or move it away"
        )
    packed = archive.stat().st_size
    new = [folder for folder in target.parents if not folder.exists()]
    try:
        with whole_folder(target) as folder:
            _fill(folder, archive, packed, on_progress)
    except BaseException:
        for parent in new:
            with contextlib.suppress(OSError):  # something else is in it by now
                parent.rmdir()
        raise
    on_progress(packed, packed)
    return target


def _fill(folder: Path, archive: Path, packed: int, on_progress: Progress) -> None:
    """Write all members below `folder`, and the note on where they come from."""
    free = shutil.disk_usage(folder).free
    budget = _Budget(archive, free, max(ALWAYS_ALLOWED_BYTES, MAX_RATIO * packed))
    try:
        with open(archive, "rb") as file:
            members = _zip_members if archive.name.lower().endswith(".zip") else _tar_members
            for name, content, size in members(file, budget):
                budget.spend(size + MEMBER_BYTES)
                _write(folder, name, content, size, archive)
                on_progress(min(file.tell(), packed), packed)
    except _BROKEN as error:
        reason = str(error).partition("\n")[0].rstrip(":") or type(error).__name__
        raise AnadilError(f"{archive} is damaged or no archive: {reason}\n  next: fetch it again") from error
    (folder / MARKER).write_text(json.dumps(_identity(archive)), encoding="utf-8")


class _Budget:
    """Bytes that may still be written."""

    def __init__(self, archive: Path, free: int, plausible: int) -> None:
        self.archive, self.free, self.plausible, self.spent = archive, free, plausible, 0

    def spend(self, n_bytes: int) -> None:
        self.spent += n_bytes
        self.require(self.spent)

    def require(self, n_bytes: int) -> None:
        if n_bytes > self.free:
            raise AnadilError(
                f"{self.archive} needs more room than the {self.free / 1e9:.1f} GB that are free\n"
                "  next: free disk space, or choose a folder on another disk"
            )
        if n_bytes > self.plausible:
            raise AnadilError(
                f"{self.archive} would grow more than {MAX_RATIO} times when unpacked, as speech never does\n"
                "  next: do not use this archive; if you trust it, unpack it yourself and give the folder"
            )


def _tar_members(file: IO[bytes], budget: _Budget) -> Iterator[_Copy]:
    archive = budget.archive
    with tarfile.open(fileobj=file, mode="r:*") as tar:
        while (member := _reading(archive, tar.next)) is not None:
            vars(tar)["members"] = []  # it keeps all, which is gigabytes for a corpus of millions of clips
            if member.isdir():
                yield member.name, None, 0
            elif member.isreg() and not member.issparse():
                yield member.name, tar.extractfile(member), member.size
            else:
                kind = "link" if member.islnk() or member.issym() else "device or other special file"
                raise _refused(archive, member.name, f"is a {kind}")
        _reading(archive, _drain, tar.fileobj)


def _drain(unpacked: object) -> None:
    """Read to the end of the stream, where gzip and xz check their sums; a tar pads with some zeros only."""
    read = getattr(unpacked, "read", None)
    n_left = ALWAYS_ALLOWED_BYTES
    while read is not None and n_left > 0 and (chunk := read(CHUNK_BYTES)):
        n_left -= len(chunk)


def _zip_members(file: IO[bytes], budget: _Budget) -> Iterator[_Copy]:
    archive = budget.archive
    with zipfile.ZipFile(file) as packed:
        budget.require(sum(member.file_size + MEMBER_BYTES for member in packed.infolist()))
        for member in packed.infolist():
            if member.flag_bits & 1:
                raise AnadilError(f"{archive} has a password\n  next: unpack it yourself and give the folder")
            mode = member.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refused(archive, member.filename, "is a link" if stat.S_ISLNK(mode) else "is a special file")
            if member.is_dir():
                yield member.filename, None, 0
            else:
                with packed.open(member) as content:
                    yield member.filename, content, member.file_size


def _write(folder: Path, name: str, content: IO[bytes] | None, size: int, archive: Path) -> None:
    path = _inside(folder, name, archive)
    if content is None:
        path.mkdir(parents=True, exist_ok=True)
        return
    if path in (folder, folder / MARKER):
        raise _refused(archive, name, "is no name for a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as out:
        n_left = size
        while n_left > 0:
            chunk = _reading(archive, content.read, min(CHUNK_BYTES, n_left))
            if not chunk:
                raise AnadilError(f"{archive} is cut off in {name!r}\n  next: fetch it again")
            n_left -= len(chunk)
            out.write(chunk)
    if _reading(archive, content.read, 1):  # at its end a zip checks its sums
        raise AnadilError(f"{archive} holds more of {name!r} than it promises\n  next: fetch it again")


def _reading(archive: Path, read: Callable[..., T], *arguments: object) -> T:
    """gzip and bz2 report damage as OSError, which would pass for a full disk."""
    try:
        return read(*arguments)
    except OSError as error:
        raise AnadilError(f"{archive} is damaged: {error}\n  next: fetch it again") from error


def _inside(folder: Path, name: str, archive: Path) -> Path:
    parts = [part for part in re.split(r"[/\\]", name) if part not in ("", ".")]
    if name.startswith(("/", "\\")) or ".." in parts or "\0" in name or (parts and re.match("[A-Za-z]:", parts[0])):
        raise _refused(archive, name, "leads out of the folder to unpack in")
    return folder.joinpath(*parts)


def _refused(archive: Path, name: str, why: str) -> AnadilError:
    return AnadilError(
        f"{archive} is refused: {name!r} {why}\n"
        "  nothing was unpacked; a corpus has no need of that\n"
        "  next: do not use this archive; if you trust it, unpack it yourself and give the folder"
    )


def _identity(archive: Path) -> dict[str, object]:
    status = archive.stat()
    return {"archive": archive.name, "bytes": status.st_size, "modified": int(status.st_mtime)}


def _is_from(folder: Path, archive: Path) -> bool:
    """Whether `folder` was unpacked by us from this very archive."""
    try:
        return bool(json.loads((folder / MARKER).read_text(encoding="utf-8")) == _identity(archive))
    except (OSError, ValueError):
        return False


def _unpacked_by_hand(folder: Path) -> bool:
    """A folder with content and without our note."""
    return folder.is_dir() and not (folder / MARKER).exists() and any(os.scandir(folder))
