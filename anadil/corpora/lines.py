"""Lines of a corpus's text files: UTF-8, one record a line, nothing quoted, every line accounted for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from anadil.corpora.reader import Reject
from anadil.errors import AnadilError, Problem


@dataclass(frozen=True, slots=True)
class Line:
    """One line without its end, and where it stands ("train.tsv:12")."""

    where: str
    text: str


def read_lines(path: Path, reject: Reject) -> Iterator[Line]:
    """Lines that are not blank; one that is not UTF-8 is rejected.

    Only a line feed ends a line: sentences hold characters that `str.splitlines` would break at (U+2028, U+0085).
    Raises AnadilError if the file cannot be read.
    """
    for where, raw in raw_lines(path):
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            reject(Problem(where, f"not UTF-8 at byte {error.start} of the line"))
            continue
        if text.strip():
            yield Line(where, text)


def raw_lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """Place and bytes of each line, without a byte-order mark and line ends. Raises AnadilError."""
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                whole = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                yield f"{path}:{number}", whole.rstrip(b"\r\n")
    except OSError as error:
        raise AnadilError(f"could not read {path}: {error.strerror or error}\n  next: check the file") from error


def safe_path(folder: Path, name: str) -> Path | None:
    """`folder`/`name`, or None if `name`, which a stranger wrote, leads out of the folder."""
    return folder.joinpath(*name.replace("\\", "/").split("/")) if is_inside(name) else None


def is_inside(name: str) -> bool:
    """Whether the path `name` stays in the folder that it is relative to."""
    parts = name.replace("\\", "/").split("/")
    return name != "" and parts[0] != "" and ".." not in parts and ":" not in parts[0] and "\0" not in name
