"""Any table: CSV or TSV (also ; and |), or an Excel workbook; one row an utterance, the columns named by the first row."""

from __future__ import annotations

import csv
import difflib
import io
import re
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import openpyxl
from openpyxl.utils.exceptions import InvalidFileException

from anadil.audio import EXTENSIONS
from anadil.corpora.reader import Options, Reject
from anadil.corpora.recordings import locate
from anadil.corpora.segments import Segment, collapse_whitespace, parse_seconds, segments_to_utterances
from anadil.corpora.text_files import read_text
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance

# Excel workbooks as rows of text, with limits: a workbook is a zip archive, and may come from anyone.

_MAX_UNPACKED_BYTES = 1 << 30
"""Bytes that the parts of a workbook may have together: a million rows of 100 characters have 0.2 GB."""
_MAX_COLUMNS = 1000


def _read_workbook(path: Path) -> dict[str, list[tuple[int, list[str]]]]:
    """The sheets that hold anything, each its rows with their numbers; formulas by the value that Excel saved.

    Raises AnadilError if it is no workbook, or unpacks to more than _MAX_UNPACKED_BYTES bytes.
    """
    if not path.is_file():
        raise AnadilError(f"file not found: {path}\n  next: check the path")
    try:
        with zipfile.ZipFile(path) as archive:
            n_bytes = sum(part.file_size for part in archive.infolist())
        if n_bytes > _MAX_UNPACKED_BYTES:
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
    for number, row in enumerate(sheet.iter_rows(values_only=True, max_col=_MAX_COLUMNS), start=1):
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
"""Columns that are taken if the user names none, in any letter case; start and end only together, in seconds."""

_DELIMITERS = "\t,;|"
_WORKBOOKS = (".xlsx", ".xlsm")
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_Row = tuple[str, list[str]]  # where it was, and its cells


@dataclass(frozen=True, slots=True)
class _Columns:
    """Which column is what, by number."""

    audio: int
    text: int
    speaker: int | None
    times: tuple[int, int] | None


def utterances(source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    """A table with a column for the audio file and one for the text; the others stay in `extra`, but for the speaker.

    Paths are relative to the table, or to `options.audio`; an ending such as .wav may be missing. A row may be part of a
    recording, if there are columns for its start and end.
    """
    if source.suffix.lower() in (".xls", ".ods", ".numbers"):
        raise AnadilError(f"{source}: not a kind of workbook that is read\n  next: save it as .xlsx or as CSV UTF-8")
    rows = _workbook_rows(source, options) if source.suffix.lower() in _WORKBOOKS else _text_rows(source, options)
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
                    f"{len(cells)} cells, and there are {len(names)} columns: is a cell with a delimiter unquoted?",
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
        raise ValueError("no audio file is named")
    endings = ["", *sorted(EXTENSIONS, key=lambda one: (one != ".wav", one))]
    found = (locate(name + ending, folders) for ending in endings)
    audio = next((path for path in found if path is not None), folders[0] / name)
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
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise AnadilError(f"{source}: two columns are called {', '.join(twice)}\n  next: rename one of them")

    def find(asked: str | None, known: Sequence[str], option: str, required: bool) -> int | None:
        if asked is not None:
            if asked in names:
                return names.index(asked)
            near = difflib.get_close_matches(asked, names, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise AnadilError(
                f"{source}: no column {asked!r}; {hint}there are: {_listed(names)}\n  next: mend {option}"
            )
        lower = [name.lower().replace(" ", "_") for name in names]
        found = [index for index, name in enumerate(lower) if name in known]
        if len(found) > 1 and required:
            several = ", ".join(repr(names[index]) for index in found)
            raise AnadilError(f"{source}: {several} could each be meant\n  next: say which with {option}")
        if not found and required:
            raise AnadilError(
                f"{source}: none of the columns {_listed(names)} is known\n  next: say which with {option}"
            )
        return found[0] if len(found) == 1 else None

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
    """The rows of the one sheet whose first row fits."""
    sheets = _read_workbook(source)
    if not sheets:
        raise AnadilError(f"{source}: the workbook is empty\n  next: check the file")
    fitting, failures = [], []
    for name, rows in sheets.items():
        try:
            _columns([collapse_whitespace(cell) for cell in rows[0][1]], options, Path(f"{source} sheet {name!r}"))
            fitting.append(rows)
        except AnadilError as error:
            failures.append(error)
    if len(fitting) > 1:
        raise AnadilError(
            f"{source}: several sheets could be meant: {', '.join(sheets)}\n  next: save one of them as CSV UTF-8"
        )
    if not fitting:
        raise AnadilError("\n".join(str(failure) for failure in failures))
    return [(f"{source}: row {number}", cells) for number, cells in fitting[0]]


def _text_rows(source: Path, options: Options) -> list[_Row]:
    text = read_text(source).lstrip("\n")
    if not text.strip():
        raise AnadilError(f"{source}: the table is empty\n  next: check the file")
    marked = re.match(r'"?sep=(.)"?\n', text)  # what Excel takes as a word on the delimiter
    text = text[marked.end() :] if marked else text
    delimiter = marked[1] if marked else _delimiter(text.partition("\n")[0], source, options)
    if delimiter == "\t":
        return _tabbed(text, source, 1 if marked else 0)
    rows = csv.reader(io.StringIO(text, newline="\n"), delimiter=delimiter, strict=True)
    found = []
    try:
        for cells in rows:
            found.append((f"{source}:{rows.line_num}", cells))
    except csv.Error as error:
        raise AnadilError(
            f"{source}:{rows.line_num}: a quoted cell is broken: {error}\n"
            '  next: a quote inside a quoted cell is written twice: "say ""yes"""'
        ) from None
    return found


def _delimiter(header: str, source: Path, options: Options) -> str:
    """The one that the first row has; of several, the one that parts the columns asked for."""
    bare = _QUOTED.sub("", header)
    present = [one for one in _DELIMITERS if one in bare]
    if len(present) > 1:
        asked = {one for one in (options.audio_column, options.text_column, options.speaker_column) if one}
        parted = {
            one: {collapse_whitespace(cell) for cell in next(csv.reader([header], delimiter=one))} for one in present
        }
        present = [one for one in present if asked <= parted[one] and (asked or _known(parted[one]))] or present
    if len(present) == 1:
        return present[0]
    found = " and ".join(repr(one) for one in present) or "no delimiter"
    raise AnadilError(
        f"{source}: its first row holds {found}; columns are parted by one of tab, comma, semicolon and |\n"
        "  next: save it as CSV UTF-8, with a first row that names the columns"
    )


def _known(names: set[str]) -> bool:
    lower = {name.lower() for name in names}
    return bool(lower & set(AUDIO_COLUMNS) and lower & set(TEXT_COLUMNS))


def _tabbed(text: str, source: Path, skipped: int) -> list[_Row]:
    """Rows of cells parted by tabs. Excel quotes cells with quotes in them, corpora don't: the whole file tells which."""
    rows = [(number, line.split("\t")) for number, line in enumerate(text.split("\n"), start=1 + skipped) if line]
    quoted = [cell for _, cells in rows for cell in cells if '"' in cell]
    if quoted and all(_QUOTED.fullmatch(cell) for cell in quoted):
        rows = [
            (n, [cell[1:-1].replace('""', '"') if cell[:1] == '"' else cell for cell in cells]) for n, cells in rows
        ]
    return [(f"{source}:{number}", cells) for number, cells in rows]
