"""Text files: encodings, byte-order marks, line ends, and which line a record came from.

`read_text` and `read_lines` read a file of a user as a whole: UTF-8, or UTF-16 or UTF-32 with a byte-order mark, or in
the encoding that the user names. It is never guessed. `stream_lines` reads the tables of public corpora, which have
millions of lines in UTF-8: it keeps one line in memory, and rejects a damaged line instead of the whole file.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from anadil.corpora.reader import Reject
from anadil.errors import AnadilError, Problem

MAX_BYTES = 1 << 29
"""Size limit of a file that is read whole: 0.5 GB of text is the transcript of some 5,000 hours of speech."""

_BYTE_ORDER_MARKS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def read_text(path: Path, max_bytes: int = MAX_BYTES, encoding: str | None = None) -> str:
    """The text of a file; line ends become "\\n". `encoding` is that of a file without byte-order mark, None: UTF-8.

    Raises AnadilError if the file is missing, larger than `max_bytes`, or in another encoding.
    """
    return _decode(_read_bytes(path, max_bytes), str(path), encoding)


def read_lines(path: Path, max_bytes: int = MAX_BYTES) -> list[tuple[int, str]]:
    """The lines of a file that are not blank, with their line numbers. Raises AnadilError as `read_text`."""
    lines = read_text(path, max_bytes).split("\n")
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def _read_bytes(path: Path, max_bytes: int) -> bytes:
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "not there"
        raise AnadilError(f"file not found: {path} is {kind}\n  next: check the path")
    with open(path, "rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise AnadilError(
            f"{path}: larger than {max_bytes:,} bytes, the limit for files of this kind\n  next: check the path"
        )
    return content


def _decode(content: bytes, where: str, wanted: str | None) -> str:
    mark, encoding = next(
        ((mark, name) for mark, name in _BYTE_ORDER_MARKS if content.startswith(mark)), (b"", wanted or "utf-8")
    )
    content = content.removeprefix(mark)
    if encoding == "utf-8" and b"\0" in content:
        raise AnadilError(
            f"{where}: contains zero bytes: it is UTF-16 without a byte-order mark, or not a text file\n"
            "  next: save it as UTF-8"
        )
    try:
        text = content.decode(encoding)
    except LookupError:
        raise AnadilError(
            f"unknown encoding {encoding!r}\n  next: give one that Python knows, such as utf-8, cp1252, mac_roman, cp1251"
        ) from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise AnadilError(
            f"{where}: not {encoding.upper()} at line {line}, byte {error.start + len(mark)}; Anadil reads UTF-8, and "
            "UTF-16 with a byte-order mark\n"
            "  next: save it as UTF-8 (in Excel: CSV UTF-8; in Praat: Preferences > Text writing preferences > UTF-8), or "
            "convert it from its real encoding, for example: iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW; for Toolbox and CHAT "
            "files, --encoding cp1252 (Windows) or mac_roman names it instead"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


@dataclass(frozen=True, slots=True)
class Line:
    """One line without its line end, and its place ("train.tsv:12")."""

    where: str
    text: str


def stream_lines(path: Path, reject: Reject) -> Iterator[Line]:
    """Yield the lines of a UTF-8 file that are not blank; reject each line that is not UTF-8.

    Only a line feed ends a line: sentences contain characters at which `str.splitlines` would break (U+2028, U+0085).
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
    """Yield the place and the bytes of each line, without byte-order mark and line end.

    Raises AnadilError if the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                content = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                yield f"{path}:{number}", content.rstrip(b"\r\n")
    except OSError as error:
        raise AnadilError(f"could not read {path}: {error.strerror or error}\n  next: check the file") from error
