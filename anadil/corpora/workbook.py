"""Excel workbooks as rows of text, with limits: a workbook is a zip archive, and may come from anyone."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

import openpyxl
from openpyxl.utils.exceptions import InvalidFileException

from anadil.errors import AnadilError

UNPACKED = 1 << 30
"""Bytes that the parts of a workbook may have together: a million rows of 100 characters have 0.2 GB."""
COLUMNS = 1000


def read_workbook(path: Path) -> dict[str, list[tuple[int, list[str]]]]:
    """The sheets that hold anything, each its rows with their numbers; formulas by the value that Excel saved.

    Raises AnadilError if it is no workbook, or unpacks to more than UNPACKED bytes.
    """
    if not path.is_file():
        raise AnadilError(f"file not found: {path}\n  next: check the path")
    try:
        with zipfile.ZipFile(path) as archive:
            n_bytes = sum(part.file_size for part in archive.infolist())
        if n_bytes > UNPACKED:
            raise AnadilError(
                f"{path}: unpacks to {n_bytes:,} bytes, more than a table can be\n  next: save it as CSV UTF-8"
            )
        with warnings.catch_warnings(action="ignore"):  # styles and extensions that openpyxl leaves out
            book = openpyxl.load_workbook(path, read_only=True, data_only=True)
            try:
                sheets = {sheet.title: _rows(sheet) for sheet in book.worksheets}
            finally:
                book.close()
    except (zipfile.BadZipFile, InvalidFileException, KeyError, ValueError, OSError, SyntaxError) as error:
        raise AnadilError(f"{path}: not readable as an Excel workbook: {error}\n  next: save it as CSV UTF-8") from None
    return {name: rows for name, rows in sheets.items() if rows}


def _rows(sheet: openpyxl.worksheet._read_only.ReadOnlyWorksheet) -> list[tuple[int, list[str]]]:
    sheet.reset_dimensions()  # what the file says of its size is wrong in some
    found = []
    for number, row in enumerate(sheet.iter_rows(values_only=True, max_col=COLUMNS), start=1):
        cells = [_text(value) for value in row]
        while cells and not cells[-1]:
            cells.pop()
        if cells:
            found.append((number, cells))
    return found


def _text(value: object) -> str:
    """A cell as one reads it: a number that is whole has no point."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
