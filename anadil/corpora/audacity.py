"""Audacity's labels: from label files and projects to Utterances, and from Segments to label files.

A label file has one label per line: start, end and text, with tabs between. A project of Audacity 1 and 2 (.aup) is XML.
One of Audacity 3 (.aup3) is an SQLite database, with the same document in a binary form (ProjectSerializer.cpp).
"""

from __future__ import annotations

import contextlib
import math
import sqlite3
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from anadil.corpora.reader import Options, Reject
from anadil.corpora.segments import (
    AnnotationFile,
    Segment,
    Tier,
    collapse_whitespace,
    parse_seconds,
    read_annotation_files,
)
from anadil.corpora.text_files import MAX_BYTES, read_lines
from anadil.corpora.xml_files import parse_xml
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance

_SUFFIXES = (".txt", ".aup", ".aup3")
_MAX_STEPS = 10**7  # of SQLite's virtual machine, to read one row: 0.2 s
_TRACK, _LABEL = "labeltrack", "label"
_EXPORT = "open it in Audacity, choose File > Export Other > Export Labels, and import the .txt file"

_CHAR_SIZE, _START, _END, _STRING, _DOUBLE, _DATA, _RAW, _PUSH, _POP, _NAME = 0, 1, 2, 3, 10, 11, 12, 13, 14, 15
_SIZES = {4: 4, 5: 1, 6: 4, 7: 8, 8: 4, 9: 8, 10: 12}  # bytes of a value by field type: integers, booleans, numbers
_ENCODINGS = {1: "utf-8", 2: "utf-16-le", 4: "utf-32-le"}  # by the size of a character


def utterances(source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    """Yield the labels of a .txt file, an .aup or .aup3 project, or of all such files in a folder; reject point labels.

    The label tracks of a project are tiers. In a .txt file, lines that begin with a backslash give the frequency range
    of the label before them, and are skipped.
    """
    yield from read_annotation_files(
        source, options, reject, _SUFFIXES, lambda file: _read(file, reject, in_folder=source.is_dir())
    )


def _read(file: Path, reject: Reject, in_folder: bool) -> AnnotationFile:
    suffix = file.suffix.lower()
    if suffix not in (".aup", ".aup3"):
        return AnnotationFile(_labels(file, reject))
    if in_folder and file.with_suffix(".txt").is_file():
        raise AnadilError(f"{file}: its labels are also in {file.with_suffix('.txt').name}, which is imported instead")
    tracks = _xml_tracks(file) if suffix == ".aup" else _binary_tracks(file)
    tiers = [_tier(name or f"label track {number}", labels) for number, (name, labels) in enumerate(tracks, start=1)]
    return AnnotationFile(tiers=tiers)


_Labels = list[tuple[float, float, str]]


def _tier(name: str, labels: _Labels) -> Tier:
    segments = []
    for number, (start, end, title) in enumerate(labels, start=1):
        problem = f"a point label, which has no length: {title!r} at {start:g} s" if start == end else ""
        place = f"label track {name!r}, label {number}"
        segments.append(Segment(start, end, collapse_whitespace(title), place=place, problem=problem))
    return Tier(name, "labels", segments, is_speaker=True)


def _xml_tracks(file: Path) -> list[tuple[str, _Labels]]:
    """The label tracks of an .aup project: name, and the labels with their times in seconds."""
    root = parse_xml(file, "project", "Audacity", allow_dtd=True)
    return [
        (
            track.get("name", ""),
            [_label(label.attrib) for label in track if label.tag.rpartition("}")[2] == _LABEL],
        )
        for track in root.iter()
        if track.tag.rpartition("}")[2] == _TRACK
    ]


def _label(attributes: Mapping[str, str | float]) -> tuple[float, float, str]:
    """Start, end and text of a label. Point labels of old versions have no `t1`. A time that is no number is NaN."""
    times = []
    for key in ("t", "t1"):
        try:
            times.append(_seconds(str(attributes.get(key, attributes.get("t", "")))))
        except ValueError:
            times.append(math.nan)
    return times[0], times[1], str(attributes.get("title", ""))


def _binary_tracks(file: Path) -> list[tuple[str, _Labels]]:
    """The label tracks of an .aup3 project. Raises AnadilError, which tells how to export them, if it cannot be read."""
    try:
        names, document = _project(file)
        tracks: list[tuple[str, _Labels]] = []
        for tag, attributes in _elements(names, document):
            if tag == _TRACK:
                tracks.append((str(attributes.get("name", "")), []))
            elif tag == _LABEL and tracks:
                tracks[-1][1].append(_label(attributes))
        return tracks
    except (sqlite3.Error, struct.error, UnicodeDecodeError, KeyError, IndexError, ValueError) as error:
        raise AnadilError(f"{file}: not readable as a project of Audacity 3: {error}\n  next: {_EXPORT}") from None


def _project(file: Path) -> tuple[bytes, bytes]:
    """The dictionary of names and the document of the project; those of the last automatic save, if it has one.

    Nothing is written beside the project: SQLite would add files (-wal, -shm), or fail in a folder that is read-only.
    """
    log = file.with_name(f"{file.name}-wal")  # what Audacity did not move into the project yet, after a crash
    has_log = log.is_file() and log.stat().st_size > 0
    uri = f"{file.resolve().as_uri()}?mode=ro{'' if has_log else '&immutable=1'}"
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as database:
        database.set_progress_handler(lambda: 1, _MAX_STEPS)  # the tables of a hostile file may be endless queries
        for table in ("autosave", "project"):
            query = f"SELECT dict, doc FROM {table} WHERE length(dict) + length(doc) < ? LIMIT 1"
            row = database.execute(query, (MAX_BYTES,)).fetchone()
            if row is not None and isinstance(row[0], bytes) and isinstance(row[1], bytes):
                return row[0], row[1]
    raise ValueError("it holds no document")


def _elements(names: bytes, document: bytes) -> Iterator[tuple[str, dict[str, str | float]]]:
    """Yield the tag and attributes of each element, at its end or before its first child. Only texts and doubles are read."""
    known: dict[int, str] = {}
    saved: list[dict[int, str]] = []
    encoding = "utf-8"
    open_element: tuple[str, dict[str, str | float]] | None = None
    for content in (names, document):
        at = 0
        while at < len(content):
            kind = content[at]
            at += 1
            if kind == _CHAR_SIZE:
                encoding, at = _ENCODINGS[content[at]], at + 1
            elif kind in (_DATA, _RAW):
                at += 4 + struct.unpack_from("<I", content, at)[0]
            elif kind == _PUSH:
                saved.append(known)
                known = {}
            elif kind == _POP:
                known = saved.pop()
            else:
                key: int = struct.unpack_from("<H", content, at)[0]
                at += 2
                if kind == _NAME:
                    size = struct.unpack_from("<H", content, at)[0]
                    known[key] = content[at + 2 : at + 2 + size].decode(encoding)
                    at += 2 + size
                elif kind in (_START, _END):
                    if open_element is not None:
                        yield open_element
                    open_element = (known[key], {}) if kind == _START else None
                else:
                    value: str | float | None = None
                    if kind == _STRING:
                        size = struct.unpack_from("<I", content, at)[0]
                        value = content[at + 4 : at + 4 + size].decode(encoding)
                        at += 4 + size
                    else:
                        value = struct.unpack_from("<d", content, at)[0] if kind == _DOUBLE else None
                        at += _SIZES[kind]
                    if open_element is not None and value is not None:
                        open_element[1][known[key]] = value


def _labels(file: Path, reject: Reject) -> list[Segment]:
    segments: list[Segment] = []
    problems: list[Problem] = []
    for number, line in read_lines(file):
        if line.startswith("\\"):
            continue
        columns = line.split("\t", 2)
        try:
            start, end = (_seconds(column) for column in columns[:2])
        except ValueError:
            problems.append(
                Problem(f"{file}:{number}", f"not a label: expected START<tab>END<tab>TEXT, found {line[:60]!r}")
            )
            continue
        text = columns[2] if len(columns) == 3 else ""
        if start == end:
            problems.append(
                Problem(
                    f"{file}:{number}",
                    f"a point label, which has no length: {collapse_whitespace(text)!r} at {start:g} s",
                )
            )
            continue
        segments.append(Segment(start, end, text, place=f"line {number}"))
    if not segments and not any("point label" in problem.what for problem in problems):
        raise AnadilError(f"{file}: not an Audacity label file: expected lines of START<tab>END<tab>TEXT")
    for problem in problems:
        reject(problem)
    return segments


def _seconds(text: str) -> float:
    """As `parse_seconds`; also with a decimal comma, which older versions of Audacity wrote in some locales."""
    return parse_seconds(text.replace(",", "."))


def format_audacity(segments: Sequence[Segment]) -> str:
    """Format segments as an Audacity label file, with times to the microsecond as Audacity exports them."""
    return "".join(
        f"{segment.start:.6f}\t{segment.end:.6f}\t{collapse_whitespace(segment.text)}\n" for segment in segments
    )
