"""Any table: CSV or TSV (also with ; or |), or an Excel workbook. Each row is an utterance; the first row names columns."""

from __future__ import annotations

import csv
import difflib
import io
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import openpyxl
from openpyxl.utils.exceptions import InvalidFileException

from anadil.corpora.reader import Options, Reject
from anadil.corpora.recordings import locate_with_suffix
from anadil.corpora.segments import Segment, collapse_whitespace, parse_seconds, segments_to_utterances
from anadil.corpora.text_files import read_text
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance
from anadil.settings import why_unreadable

AUDIO_COLUMNS = (
    "audio_filepath",
    "audio_file",
    "audio",
    "path",
    "file_name",
    "filename",
    "file",
    "wav",
    "recording",
    "clip",
)
TEXT_COLUMNS = ("sentence", "text", "transcription", "transcript", "normalized_text", "utterance")
SPEAKER_COLUMNS = ("speaker", "speaker_id", "client_id", "spk")
_START_COLUMNS, _END_COLUMNS = ("start", "start_time", "begin"), ("end", "end_time", "stop")
"""Names of the columns if the user gives none, in any letter case. Start and end are in seconds, and used only together."""

_MAX_UNPACKED_BYTES = 1 << 30
"""Limit for an unpacked workbook, which may be a zip bomb: a million rows of 100 characters take 0.2 GB."""
_MAX_COLUMNS = 1000
_MAX_ROWS = 2**20

_DAMAGE_ERRORS = (LookupError, TypeError, AttributeError, ValueError, OSError, SyntaxError, RecursionError, zlib.error)
"""What openpyxl raises for damaged content, beside its own errors."""

_DELIMITERS = "\t,;|"
_WORKBOOK_SUFFIXES = (".xlsx", ".xlsm")
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_Row = tuple[str, list[str]]  # place and cells


@dataclass(frozen=True, slots=True)
class _Columns:
    """The index of each column that is used."""

    audio: int
    text: int
    speaker: int | None
    times: tuple[int, int] | None


def utterances(source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    """Yield an utterance for each row of a table with a column for the audio file and one for the text.

    A column for the speaker, and columns for the start and the end in the recording, are optional. All other columns
    are kept in `extra`. Paths are relative to the table, or to `options.audio`; a suffix such as .wav may be missing.
    """
    if source.suffix.lower() in (".xls", ".ods", ".numbers"):
        raise AnadilError(
            f"{source}: Anadil does not read this kind of workbook\n  next: save it as .xlsx or as CSV UTF-8"
        )
    rows = (
        _workbook_rows(source, options) if source.suffix.lower() in _WORKBOOK_SUFFIXES else _text_rows(source, options)
    )
    (_, header), *body = rows
    names = [collapse_whitespace(name) for name in header]
    columns = _columns(names, options, source)
    folders = [*([options.audio] if options.audio else []), source.parent]
    for where, cells in body:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) > len(names) and any(cells[len(names) :]):
            reject(
                Problem(
                    where,
                    f"{len(cells)} cells, but {len(names)} columns: is there a delimiter in a cell that is not quoted?",
                )
            )
            continue
        padded = [*cells, *[""] * (len(names) - len(cells))]
        try:
            yield from _utterance(padded, names, columns, folders, where, options, reject)
        except ValueError as error:
            reject(Problem(where, str(error)))


def _utterance(
    cells: list[str], names: list[str], columns: _Columns, folders: list[Path], where: str, options: Options, reject: Reject
) -> Iterator[Utterance]:  # fmt: skip
    name = cells[columns.audio].strip()
    if not name:
        raise ValueError("no audio file")
    audio = locate_with_suffix(name, folders) or folders[0] / name
    used = {columns.audio, columns.text, columns.speaker, *(columns.times or ())}
    extra = {key: cells[i] for i, key in enumerate(names) if i not in used and key and cells[i].strip()}
    speaker = None if columns.speaker is None else collapse_whitespace(cells[columns.speaker]) or None
    text = collapse_whitespace(cells[columns.text])
    if columns.times is not None:
        start, end = (parse_seconds(cells[i].replace(",", ".")) for i in columns.times)
        segment = Segment(start, end, text, speaker, extra=dict(extra))
        yield from segments_to_utterances([segment], Path(where), audio, 0.0, options, reject)
        return
    if not text:
        raise ValueError("no text")
    yield Utterance(str(audio), None, text, 0.0, speaker, options.language, dict(extra), where)


def _columns(names: list[str], options: Options, source: Path) -> _Columns:
    duplicates = sorted({name for name in names if name and names.count(name) > 1})
    if duplicates:
        raise AnadilError(f"{source}: two columns are called {', '.join(duplicates)}\n  next: rename one of them")

    def find(wanted: str | None, known: Sequence[str], option: str, required: bool) -> int | None:
        if wanted is not None:
            if wanted in names:
                return names.index(wanted)
            near = difflib.get_close_matches(wanted, names, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise AnadilError(
                f"{source}: no column {wanted!r}; {hint}the columns are: {_listed(names)}\n  next: correct {option}"
            )
        lower = [name.lower().replace(" ", "_") for name in names]
        matches = [index for index, name in enumerate(lower) if name in known]
        if len(matches) > 1 and required:
            several = ", ".join(repr(names[index]) for index in matches)
            raise AnadilError(f"{source}: several columns match: {several}\n  next: choose one with {option}")
        if not matches and required:
            raise AnadilError(
                f"{source}: none of the columns has a known name: {_listed(names)}\n  next: choose one with {option}"
            )
        return matches[0] if len(matches) == 1 else None

    audio = find(options.audio_column, AUDIO_COLUMNS, "--audio-column", required=True)
    text = find(options.text_column, TEXT_COLUMNS, "--text-column", required=True)
    speaker = find(options.speaker_column, SPEAKER_COLUMNS, "--speaker-column", required=False)
    start, end = find(None, _START_COLUMNS, "", required=False), find(None, _END_COLUMNS, "", required=False)
    assert audio is not None and text is not None
    if audio == text:
        raise AnadilError(f"{source}: column {names[audio]!r} cannot be both audio and text")
    return _Columns(audio, text, speaker, None if start is None or end is None else (start, end))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:30] if name)
    return shown + (f" and {len(names) - 30} more" if len(names) > 30 else "")


def _workbook_rows(source: Path, options: Options) -> list[_Row]:
    """The rows of the one sheet whose first row names the needed columns."""
    sheets = _read_workbook(source)
    if not sheets:
        raise AnadilError(f"{source}: the workbook is empty\n  next: check the file")
    matches, failures = [], []
    for name, rows in sheets.items():
        try:
            _columns([collapse_whitespace(cell) for cell in rows[0][1]], options, Path(f"{source} sheet {name!r}"))
            matches.append(rows)
        except AnadilError as error:
            failures.append(error)
    if len(matches) > 1:
        raise AnadilError(f"{source}: several sheets match: {', '.join(sheets)}\n  next: save one of them as CSV UTF-8")
    if not matches:
        raise AnadilError("\n".join(str(failure) for failure in failures))
    return [(f"{source}: row {number}", cells) for number, cells in matches[0]]


def _read_workbook(path: Path) -> dict[str, list[tuple[int, list[str]]]]:
    """The sheets that are not empty, each as rows with their numbers. A formula is read as the value that Excel saved.

    Raises AnadilError if the file is not a workbook, or unpacks to more than 1 GB.
    """
    if not path.is_file():
        raise AnadilError(f"file not found: {path}\n  next: check the path")
    try:
        with zipfile.ZipFile(path) as archive:
            n_bytes = sum(part.file_size for part in archive.infolist())
        if n_bytes > _MAX_UNPACKED_BYTES:
            raise AnadilError(
                f"{path}: unpacks to {n_bytes:,} bytes, more than a table can have\n  next: save it as CSV UTF-8"
            )
        with warnings.catch_warnings(action="ignore"):  # openpyxl warns about styles and extensions that it ignores
            book = openpyxl.load_workbook(path, read_only=True, data_only=True)
            try:
                sheets = {sheet.title: _sheet_rows(sheet) for sheet in book.worksheets}
            finally:
                book.close()
    except (zipfile.BadZipFile, InvalidFileException, *_DAMAGE_ERRORS) as error:
        raise AnadilError(
            f"{path}: not readable as an Excel workbook: {why_unreadable(error)}\n  next: save it as CSV UTF-8"
        ) from None
    return {name: rows for name, rows in sheets.items() if rows}


def _sheet_rows(sheet: openpyxl.worksheet._read_only.ReadOnlyWorksheet) -> list[tuple[int, list[str]]]:
    sheet.reset_dimensions()  # in some files the stated size is wrong
    rows = []
    for number, row in enumerate(sheet.iter_rows(values_only=True, max_col=_MAX_COLUMNS), start=1):
        if number > _MAX_ROWS:
            raise ValueError(f"a row has a number above {_MAX_ROWS:,}, Excel's last row")
        if row.count(None) == len(row):  # openpyxl fills gaps; a million such rows take a second
            continue
        cells = [_cell_text(value) for value in row]
        while cells and not cells[-1]:
            cells.pop()
        if cells:
            rows.append((number, cells))
    return rows


def _cell_text(value: object) -> str:
    """A cell as text; a whole number has no decimal point."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _text_rows(source: Path, options: Options) -> list[_Row]:
    text = read_text(source).lstrip("\n")
    if not text.strip():
        raise AnadilError(f"{source}: the table is empty\n  next: check the file")
    separator = re.match(r'"?sep=(.)"?\n', text)  # Excel's way to declare the delimiter
    text = text[separator.end() :] if separator else text
    delimiter = separator[1] if separator else _delimiter(text.partition("\n")[0], source, options)
    if delimiter == "\t":
        return _tab_separated_rows(text, source, 1 if separator else 0)
    reader = csv.reader(io.StringIO(text, newline="\n"), delimiter=delimiter, strict=True)
    rows = []
    try:
        for cells in reader:
            rows.append((f"{source}:{reader.line_num}", cells))
    except csv.Error as error:
        raise AnadilError(
            f"{source}:{reader.line_num}: error in a quoted cell: {error}\n"
            '  next: write a quote inside a quoted cell twice: "say ""yes"""'
        ) from None
    return rows


def _delimiter(header: str, source: Path, options: Options) -> str:
    """The delimiter in the first row. Of several, it is the one that separates the columns that the user named."""
    unquoted = _QUOTED.sub("", header)
    candidates = [delimiter for delimiter in _DELIMITERS if delimiter in unquoted]
    if len(candidates) > 1:
        wanted = {name for name in (options.audio_column, options.text_column, options.speaker_column) if name}
        columns = {
            delimiter: {collapse_whitespace(cell) for cell in next(csv.reader([header], delimiter=delimiter))}
            for delimiter in candidates
        }
        matches = [
            delimiter for delimiter, names in columns.items() if wanted <= names and (wanted or _has_known_names(names))
        ]
        candidates = matches or candidates
    if len(candidates) == 1:
        return candidates[0]
    contained = " and ".join(repr(delimiter) for delimiter in candidates) or "no delimiter"
    raise AnadilError(
        f"{source}: its first row contains {contained}; it must contain one of tab, comma, semicolon and |\n"
        "  next: save it as CSV UTF-8, with a first row that names the columns"
    )


def _has_known_names(names: set[str]) -> bool:
    lower = {name.lower() for name in names}
    return bool(lower & set(AUDIO_COLUMNS) and lower & set(TEXT_COLUMNS))


def _tab_separated_rows(text: str, source: Path, n_skipped: int) -> list[_Row]:
    """Rows with tabs between the cells.

    Excel quotes cells with quotation marks in them, corpora do not. They are unquoted only if all such cells are quoted.
    """
    rows = [(number, line.split("\t")) for number, line in enumerate(text.split("\n"), start=1 + n_skipped) if line]
    quoted = [cell for _, cells in rows for cell in cells if '"' in cell]
    if quoted and all(_QUOTED.fullmatch(cell) for cell in quoted):
        rows = [
            (n, [cell[1:-1].replace('""', '"') if cell[:1] == '"' else cell for cell in cells]) for n, cells in rows
        ]
    return [(f"{source}:{number}", cells) for number, cells in rows]
