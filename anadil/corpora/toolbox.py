r"""SIL Toolbox (Shoebox) texts in standard format to Utterances: lines that begin with a \marker.

A record begins with \ref; in files without it, with \id or with the marker that follows most blank lines. Times are in
markers that ELAN writes (\ELANBegin, \ELANEnd, \ELANParticipant), or in a reference to a stretch of a recording,
"file.wav 1.2 3.4", which Toolbox plays from any marker (\_AUDIO, \aud, \sound).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PureWindowsPath

from anadil.corpora.reader import Options, Reject
from anadil.corpora.recordings import Media
from anadil.corpora.segments import (
    AnnotationFile,
    Record,
    collapse_whitespace,
    parse_seconds,
    read_annotation_files,
    record_tiers,
)
from anadil.corpora.text_files import read_text
from anadil.errors import AnadilError
from anadil.manifest import Utterance
from anadil.sound_files import EXTENSIONS, MEDIA_EXTENSIONS

_SUFFIXES = (".txt", ".tbt", ".sfm")
_MARKER = re.compile(r"\\(\S+)[ \t]*(.*)")
_BEGIN = frozenset({"elanbegin", "eudicot0", "audbegin"})  # EUDICO: ELAN in its first years
_END = frozenset({"elanend", "eudicot1", "audend"})
_SPEAKER = frozenset({"elanparticipant", "eudicop", "sp", "spk"})
_MEDIA = re.compile("aud|snd|sound|media|wav", re.IGNORECASE)  # in a marker that names a recording without times
_RECORD_MARKERS = ("ref", "utterance_id", "rf")  # that begin a record
_TEXT_ID = "id"  # begins a text of several records
_NO_RECORD = frozenset({_TEXT_ID, "ELANExport"})  # markers that follow a blank line and begin no record
_TEXT_MARKERS = frozenset(
    {"tx", "utterance"}
)  # Toolbox's standard text type, and its variant in the Multi-CAST corpora
_ALIGNED = frozenset({"mb", "mr", "ge", "gl", "gn", "mg", "ps", "gramm_units", "rp_gloss"})  # columns below words
_NO_SPEAKER = frozenset({"", "***", "unknown"})
_MEDIA_SUFFIXES = EXTENSIONS | MEDIA_EXTENSIONS
_REFERENCE = re.compile(
    r"(?P<file>.*?\.(?:" + "|".join(suffix[1:] for suffix in sorted(_MEDIA_SUFFIXES)) + r"))\s+"
    r"(?P<start>[\d.,:]+)\s+(?P<end>[\d.,:]+)\s*",
    re.IGNORECASE,
)


@dataclass
class _Entry:
    """The fields of one record, in order (marker and text), and those of the text that it belongs to."""

    line: int
    header: list[tuple[str, str]]
    fields: list[tuple[str, str]] = field(default_factory=list)


def utterances(source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    r"""Yield an utterance for each record with times of a Toolbox file, or of all .txt, .tbt and .sfm files in a folder.

    The markers are tiers; without `options.tier` the text is \tx. A marker that comes several times in a record (Toolbox
    wraps long lines) is joined. The other markers of the record are in `extra["annotations"]`; morphemes and glosses are
    split at white space. `options.encoding` is the encoding of files that are not UTF-8.
    """
    if options.tier is not None:  # \tx and tx mean the same
        wanted = [options.tier] if isinstance(options.tier, str) else options.tier
        options = replace(options, tier=[name.replace("\\", "") for name in wanted])
    yield from read_annotation_files(source, options, reject, _SUFFIXES, lambda file: _read(file, options))


def _read(file: Path, options: Options) -> AnnotationFile:
    entries = _entries(read_text(file, encoding=options.encoding), file)
    records = [_record(entry) for entry in entries]
    records = [record for record in records if record.lines]
    if not records or all(math.isnan(record.start) for record in records):
        raise AnadilError(
            f"{file}: none of its {len(records):,} records has times: looked for \\ELANBegin and \\ELANEnd, and for "
            "FILE.wav START END in any marker\n"
            "  next: align the text in ELAN (File > Import > Toolbox File), and give the .eaf file to anadil import elan"
        )
    return AnnotationFile(tiers=record_tiers(records, lambda name: "marker", lambda name: name in _TEXT_MARKERS))


def _entries(text: str, file: Path) -> list[_Entry]:
    """The records of a file. A line without a marker continues the one before."""
    fields: list[tuple[int, str, str]] = []
    after_blank: Counter[str] = Counter()
    is_blank = True
    for number, line in enumerate(text.split("\n"), start=1):
        match = _MARKER.fullmatch(line.rstrip())
        if match:
            fields.append((number, match[1], match[2]))
            after_blank[match[1]] += is_blank
        elif line.strip() and fields:
            first, marker, content = fields[-1]
            fields[-1] = (first, marker, f"{content} {line}")
        elif line.strip():
            raise AnadilError(f"{file}:{number}: not a Toolbox file: expected a line that begins with a \\marker")
        is_blank = not line.strip()
    markers = {marker for _, marker, _ in fields}
    frequent = [
        marker for marker, n in after_blank.most_common() if n and marker[0] != "_" and marker not in _NO_RECORD
    ]
    known = [marker for marker in _RECORD_MARKERS if marker in markers]
    begins = next(iter([*known, *frequent, *({_TEXT_ID} & markers)]), None)
    entries: list[_Entry] = []
    header: list[tuple[str, str]] = []
    in_header = True
    for number, marker, content in fields:
        if marker == begins:
            entries.append(_Entry(number, header))
            in_header = False
        elif marker == _TEXT_ID:
            header, in_header = [], True
        (header if in_header else entries[-1].fields).append((marker, content))
    return entries


def _record(entry: _Entry) -> Record:
    start = end = math.nan
    speaker: str | None = None
    media: list[Media] = []
    lines: dict[str, list[str]] = {}
    n_header = len(entry.header)
    for index, (marker, content) in enumerate([*entry.header, *entry.fields]):
        name, value = marker.casefold(), collapse_whitespace(content)
        reference = _REFERENCE.fullmatch(value)
        if name in _BEGIN:
            start = _seconds(value)
        elif name in _END:
            end = _seconds(value)
        elif name in _SPEAKER:
            speaker = None if value.casefold() in _NO_SPEAKER else value
        elif reference or (_MEDIA.search(name) and PureWindowsPath(value).suffix.lower() in _MEDIA_SUFFIXES):
            media = [Media(reference["file"] if reference else value)]
            if reference:
                start, end = _seconds(reference["start"]), _seconds(reference["end"])
        elif value and index > n_header:  # the first field of a record is its number
            lines.setdefault(marker, []).extend(value.split(" ") if name in _ALIGNED else [value])
    label = " ".join(entry.fields[0]).strip()
    return Record(start, end, lines, speaker, place=f"line {entry.line}, \\{label}", media=media)


def _seconds(text: str) -> float:
    """Seconds, or hours, minutes and seconds with colons between; NaN if it is neither."""
    seconds = 0.0
    try:
        for part in text.replace(",", ".").split(":"):
            seconds = 60 * seconds + parse_seconds(part)
    except ValueError:
        return math.nan  # only this record will be rejected
    return seconds
