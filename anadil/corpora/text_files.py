"""Text files as people's programs write them: decoded by their byte-order mark or as UTF-8, never by a guess."""

from __future__ import annotations

import codecs
from pathlib import Path

from anadil.errors import AnadilError

LIMIT = 1 << 29
"""Bytes of one file that are read: 0.5 GB of text is some 5,000 hours of speech."""

_MARKS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def read_text(path: Path, limit: int = LIMIT) -> str:
    """Text of a file in UTF-8, or in UTF-16 or UTF-32 with a byte-order mark; line ends become "\\n".

    Raises AnadilError if the file is missing, larger than `limit` bytes, or in another encoding.
    """
    return decode(_content(path, limit), str(path))


def read_lines(path: Path, limit: int = LIMIT) -> list[tuple[int, str]]:
    """The lines of a file that are not blank, with their numbers; only a line end parts two lines."""
    lines = read_text(path, limit).split("\n")
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def decode(content: bytes, where: str) -> str:
    """As `read_text`, of bytes; `where` names them in the error."""
    mark, encoding = next(((mark, name) for mark, name in _MARKS if content.startswith(mark)), (b"", "utf-8"))
    content = content.removeprefix(mark)
    if encoding == "utf-8" and b"\0" in content:
        raise AnadilError(
            f"{where}: holds zero bytes, so it is no text in UTF-8: UTF-16 without a byte-order mark, or no text at all\n"
            "  next: save it as UTF-8"
        )
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise AnadilError(
            f"{where}: not {encoding.upper()} at line {line}, byte {error.start + len(mark)}; readable are UTF-8, and "
            "UTF-16 with a byte-order mark\n"
            "  next: save it as UTF-8 (in Excel: CSV UTF-8; in Praat: Preferences > Text writing preferences > UTF-8), or "
            "convert it: iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW, with the encoding that it has"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _content(path: Path, limit: int) -> bytes:
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "not there"
        raise AnadilError(f"file not found: {path} is {kind}\n  next: check the path")
    with open(path, "rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise AnadilError(
            f"{path}: larger than {limit:,} bytes, which no file of this kind should be\n  next: check the path"
        )
    return content
