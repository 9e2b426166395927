"""lhotse's manifests as JSON lines, gzipped or not: cut sets, or recordings with supervisions."""

from __future__ import annotations

import gzip
import json
import math
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from anadil.corpora.reader import Options, Reject
from anadil.corpora.recordings import locate
from anadil.corpora.segments import Segment, segments_to_utterances
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance

_MAX_LINE_BYTES = 1 << 24
"""Bytes of one line: a cut of an hour with word alignments has some 2 MB."""
_MAX_FILE_BYTES = 1 << 33
"""Bytes of an unpacked file: four million cuts."""

_NAME = re.compile(r"(?P<before>.*?)[-_.]?(?P<kind>cuts|recordings|supervisions)[-_.]?(?P<after>.*)")
_HARMLESS = {"Resample"}  # of a recording's transforms: the words and times stay
_Record = dict[str, Any]
_Line = tuple[str, _Record]  # where it was, and what


def utterances(source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    """A cut set, or a folder with cut sets, or one with recordings and supervisions.

    Each supervision is an utterance, with its own stretch of the recording; `custom` is kept in `extra`. Splits come from
    the files' names (cuts_train.jsonl.gz). Audio must be in files: relative paths are looked for in `options.audio`, in
    the working directory, and from the manifest upwards. Mixed, multi-channel and feature-only cuts are rejected.
    """
    if source.is_file():
        yield from _cuts(source, None, options, reject)
        return
    files = _files(source)
    if files["cuts"] and files["supervisions"]:
        raise AnadilError(
            f"{source} has cut sets and supervisions, which are the same utterances twice\n"
            f"  next: give one file, for instance {files['cuts'][0]}"
        )
    for file in files["cuts"]:
        yield from _cuts(file, _split(file), options, reject)
    if files["supervisions"]:
        recordings = {str(one.get("id")): one for file in files["recordings"] for _, one in _records(file, reject)}
        for file in files["supervisions"]:
            yield from _supervisions(file, recordings, options, reject)


def _files(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {"cuts": [], "recordings": [], "supervisions": []}
    paths = sorted(folder.rglob("*")) if folder.is_dir() else []
    for path in paths:
        name = _NAME.fullmatch(path.name)
        if name and path.name.endswith((".jsonl", ".jsonl.gz")) and path.is_file():
            found[name["kind"]].append(path)
    if not found["cuts"] and not (found["recordings"] and found["supervisions"]):
        raise AnadilError(
            f"nothing of lhotse's in {folder}: looked for *cuts*.jsonl, or *recordings*.jsonl and *supervisions*.jsonl, "
            "each perhaps with .gz\n  next: check the path; older .json and .yaml sets: lhotse copy OLD NEW.jsonl.gz"
        )
    return found


def _split(file: Path) -> str | None:
    name = _NAME.fullmatch(re.sub(r"\.jsonl(\.gz)?$", "", file.name))
    return (name["after"] or name["before"] or None) if name else None


def _cuts(file: Path, split: str | None, options: Options, reject: Reject) -> Iterator[Utterance]:
    n_cuts = 0
    for where, cut in _records(file, reject):
        n_cuts += 1
        kind = cut.get("type", "MonoCut")
        try:
            if kind != "MonoCut":
                why = {"MixedCut": "mixes several recordings", "MultiCut": "has several channels"}.get(
                    kind, "is no speech"
                )
                raise ValueError(f"a {kind}, which {why}")
            if not isinstance(cut.get("recording"), dict):
                raise ValueError("a cut without a recording (features only)")
            supervisions = _dicts(cut.get("supervisions"))
            if not supervisions:
                raise ValueError("a cut without supervisions, so without text")
            start = _number(cut, "start")
            for supervision in supervisions:
                yield from _utterance(supervision, cut["recording"], start, cut, where, split, file, options, reject)
        except ValueError as error:
            reject(Problem(where, str(error)))
    if not n_cuts:
        raise AnadilError(f"{file}: no cuts in it\n  next: check what wrote it")


def _supervisions(file: Path, recordings: dict[str, _Record], options: Options, reject: Reject) -> Iterator[Utterance]:
    for where, supervision in _records(file, reject):
        recording = recordings.get(str(supervision.get("recording_id")))
        try:
            if recording is None:
                raise ValueError(f"its recording {supervision.get('recording_id')} is in no file of recordings")
            yield from _utterance(supervision, recording, 0.0, {}, where, _split(file), file, options, reject)
        except ValueError as error:
            reject(Problem(where, str(error)))


def _utterance(
    supervision: _Record, recording: _Record, time_origin_s: float, cut: _Record, where: str, split: str | None, file: Path,
    options: Options, reject: Reject,
) -> Iterator[Utterance]:  # fmt: skip
    """The utterance of a supervision whose times count from `time_origin_s` in the recording."""
    audio = _audio(recording, file, options)
    start = _number(supervision, "start")
    segment = Segment(start, start + _number(supervision, "duration"), _text(supervision, "text") or "")
    speaker, language = _text(supervision, "speaker"), _text(supervision, "language")
    extra: _Record = {}
    for record in (cut, supervision):
        if isinstance(record.get("custom"), dict):
            extra |= record["custom"]
    extra["id"] = str(supervision.get("id", cut.get("id", "")))
    extra |= {key: supervision[key] for key in ("gender",) if supervision.get(key)} | (
        {"split": split} if split else {}
    )
    for one in segments_to_utterances([segment], Path(where), audio, time_origin_s, options, reject):
        yield replace(one, speaker=speaker, language=language or options.language, extra=extra)


def _audio(recording: _Record, file: Path, options: Options) -> Path:
    """The one file of a recording. Raises ValueError if it is not in a file, or changed on the way."""
    sources = _dicts(recording.get("sources"))
    changed = [str(one.get("name", one)) for one in _dicts(recording.get("transforms"))]
    if set(changed) - _HARMLESS:
        raise ValueError(
            f"a recording that lhotse changes as it is read ({', '.join(changed)}); next: give the original"
        )
    if len(sources) != 1:
        raise ValueError(f"a recording of {len(sources)} files; next: one file for each recording")
    kind, name = sources[0].get("type"), sources[0].get("source")
    if kind != "file" or not isinstance(name, str):
        raise ValueError(f"its audio is no file but {kind!r}; next: lhotse cut export, which writes files")
    folders = [*([options.audio] if options.audio else []), Path(), *list(file.resolve().parents)[:4]]
    found = locate(name, folders)
    if found is None:
        raise ValueError(f"its recording is not there: {name!r}; next: give its folder with --audio")
    return found


def _records(file: Path, reject: Reject) -> Iterator[_Line]:
    """The JSON objects of a file, line by line. Raises AnadilError if it is cut off or too large."""
    for number, line in enumerate(_lines(file), start=1):
        if not line.strip():
            continue
        where = f"{file}:{number}"
        try:
            record = json.loads(line.decode("utf-8"), parse_constant=_refuse)
            if not isinstance(record, dict):
                raise ValueError(f"expected an object {{...}}, found {type(record).__name__}")
            json.dumps(record, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            reject(Problem(where, "holds half a surrogate pair"))
        except (ValueError, RecursionError) as error:
            reject(Problem(where, f"not a line of lhotse's: {error}"))
        else:
            yield where, record


def _lines(file: Path) -> Iterator[bytes]:
    with open(file, "rb") as probe:
        packed = probe.read(2) == b"\x1f\x8b"
    n_bytes = 0
    with gzip.open(file) if packed else open(file, "rb") as lines:
        try:
            while line := lines.readline(_MAX_LINE_BYTES + 1):
                n_bytes += len(line)
                if len(line) > _MAX_LINE_BYTES or n_bytes > _MAX_FILE_BYTES:
                    raise AnadilError(f"{file}: unpacks to more than a manifest can be ({n_bytes:,} bytes)")
                yield line
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise AnadilError(f"{file}: the archive is damaged: {error}\n  next: copy it again") from None


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _number(record: _Record, key: str) -> float:
    value = record.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f'"{key}" must be a number of seconds, found {json.dumps(value)[:40]}')
    return float(value)


def _text(record: _Record, key: str) -> str | None:
    value = record.get(key)
    if value is not None and not isinstance(value, str):
        raise ValueError(f'"{key}" must be a string, found {json.dumps(value)[:40]}')
    return value


def _dicts(value: object) -> list[_Record]:
    items: Iterable[object] = value if isinstance(value, list) else []
    return [one if isinstance(one, dict) else {} for one in items]
