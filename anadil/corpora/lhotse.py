"""Lhotse's manifests as JSON lines, gzipped or not: cut sets, or recordings with supervisions."""

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

from anadil.audio import Channel
from anadil.corpora.reader import Options, Reject
from anadil.corpora.recordings import locate
from anadil.corpora.segments import Segment, segments_to_utterances
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance

_MAX_LINE_BYTES = 1 << 24
"""Limit for one line: a cut of an hour with word alignments has about 2 MB."""
_MAX_FILE_BYTES = 1 << 33
"""Limit for an unpacked file: four million cuts."""

_NAME = re.compile(r"(?P<before>.*?)[-_.]?(?P<kind>cuts|recordings|supervisions)[-_.]?(?P<after>.*)")
_HARMLESS = {"Resample"}  # transforms of a recording that keep words and times
_Record = dict[str, Any]
_Line = tuple[str, _Record]  # place and content


def utterances(source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    """Yield the utterances of a cut set, of a folder with cut sets, or of one with recordings and supervisions.

    Each supervision is an utterance with its own times; `custom` is kept in `extra`. The names of the files give the
    splits (cuts_train.jsonl.gz). Audio must be in files: relative paths are looked for in `options.audio`, in the
    working directory, and in the four folders above the manifest. Of a recording with several channels, the one of the
    cut is read, or else that of the supervision. Mixed and feature-only cuts are rejected, and supervisions of several
    channels in multi-channel cuts.
    """
    if source.is_file():
        yield from _cuts(source, None, options, reject)
        return
    files = _files(source)
    if files["cuts"] and files["supervisions"]:
        raise AnadilError(
            f"{source} has cut sets and supervisions, which are the same utterances twice\n"
            f"  next: give one file, for example {files['cuts'][0]}"
        )
    for file in files["cuts"]:
        yield from _cuts(file, _split(file), options, reject)
    if files["supervisions"]:
        recordings = {
            str(record.get("id")): record for file in files["recordings"] for _, record in _records(file, reject)
        }
        for file in files["supervisions"]:
            yield from _supervisions(file, recordings, options, reject)


def _files(folder: Path) -> dict[str, list[Path]]:
    files: dict[str, list[Path]] = {"cuts": [], "recordings": [], "supervisions": []}
    paths = sorted(folder.rglob("*")) if folder.is_dir() else []
    for path in paths:
        name = _NAME.fullmatch(path.name)
        if name and path.name.endswith((".jsonl", ".jsonl.gz")) and path.is_file():
            files[name["kind"]].append(path)
    if not files["cuts"] and not (files["recordings"] and files["supervisions"]):
        raise AnadilError(
            f"no Lhotse manifests in {folder}: looked for *cuts*.jsonl, or *recordings*.jsonl and *supervisions*.jsonl, "
            "with or without .gz\n  next: check the path; older .json and .yaml sets: lhotse copy OLD NEW.jsonl.gz"
        )
    return files


def _split(file: Path) -> str | None:
    name = _NAME.fullmatch(re.sub(r"\.jsonl(\.gz)?$", "", file.name))
    return (name["after"] or name["before"] or None) if name else None


def _cuts(file: Path, split: str | None, options: Options, reject: Reject) -> Iterator[Utterance]:
    n_cuts = 0
    for where, cut in _records(file, reject):
        n_cuts += 1
        kind = cut.get("type", "MonoCut")
        try:
            if kind not in ("MonoCut", "MultiCut"):
                reason = "mixes several recordings" if kind == "MixedCut" else "is not speech"
                raise ValueError(f"a {kind}, which {reason}")
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
        raise AnadilError(f"{file}: it has no cuts\n  next: check the program that wrote it")


def _supervisions(file: Path, recordings: dict[str, _Record], options: Options, reject: Reject) -> Iterator[Utterance]:
    for where, supervision in _records(file, reject):
        recording = recordings.get(str(supervision.get("recording_id")))
        try:
            if recording is None:
                raise ValueError(f"its recording {supervision.get('recording_id')} is not in the recordings files")
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
    channel = _channel(supervision, recording, cut)
    for utterance in segments_to_utterances([segment], Path(where), audio, time_origin_s, options, reject):
        yield replace(utterance, speaker=speaker, language=language or options.language, extra=extra, channel=channel)


def _channel(supervision: _Record, recording: _Record, cut: _Record) -> Channel:
    """The channel of a supervision, from 1, if the recording has several; Lhotse gives each a number, mostly from 0.

    Raises ValueError for several channels in a cut of several, or for one that the recording does not have.
    """
    (source,) = _dicts(recording.get("sources"))  # _audio has made sure of one
    listed = source.get("channels")
    own = listed if isinstance(listed, list) and listed else [0]
    is_multi = cut.get("type") == "MultiCut"
    wanted = supervision.get("channel") if is_multi or "channel" not in cut else cut["channel"]
    if isinstance(wanted, list) and len(wanted) == 1:
        (wanted,) = wanted
    if is_multi and (len(own) == 1 or not isinstance(wanted, int)):
        raise ValueError("a MultiCut, which has several channels")
    if len(own) == 1 or wanted is None or isinstance(wanted, list):
        return "mix"
    if wanted not in own:
        raise ValueError(f"its channel {json.dumps(wanted)[:40]} is not one of the recording's: {own}")
    return own.index(wanted) + 1


def _audio(recording: _Record, file: Path, options: Options) -> Path:
    """The audio file of a recording. Raises ValueError if it is not one file, or if Lhotse changes the audio on reading."""
    sources = _dicts(recording.get("sources"))
    transforms = [str(transform.get("name", transform)) for transform in _dicts(recording.get("transforms"))]
    if set(transforms) - _HARMLESS:
        raise ValueError(
            f"a recording that Lhotse transforms as it is read ({', '.join(transforms)}); next: import the original recordings"
        )
    if len(sources) != 1:
        raise ValueError(f"a recording of {len(sources)} files; next: one file for each recording")
    kind, name = sources[0].get("type"), sources[0].get("source")
    if kind != "file" or not isinstance(name, str):
        raise ValueError(f"its audio is not a file but {kind!r}; next: write it to files with lhotse cut export")
    folders = [*([options.audio] if options.audio else []), Path(), *list(file.resolve().parents)[:4]]
    path = locate(name, folders)
    if path is None:
        raise ValueError(f"its recording was not found: {name!r}; next: give its folder with --audio")
    return path


def _records(file: Path, reject: Reject) -> Iterator[_Line]:
    """Yield the JSON objects of a file, line by line. Raises AnadilError if the file is cut off or too large."""
    for number, line in enumerate(_lines(file), start=1):
        if not line.strip():
            continue
        where = f"{file}:{number}"
        try:
            record = json.loads(line.decode("utf-8"), parse_constant=_reject_constant)
            if not isinstance(record, dict):
                raise ValueError(f"expected an object {{...}}, found {type(record).__name__}")
            json.dumps(record, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            reject(Problem(where, "contains half a surrogate pair"))
        except (ValueError, RecursionError) as error:
            reject(Problem(where, f"not a line of a Lhotse manifest: {error}"))
        else:
            yield where, record


def _lines(file: Path) -> Iterator[bytes]:
    with open(file, "rb") as probe:
        is_gzip = probe.read(2) == b"\x1f\x8b"
    n_bytes = 0
    with gzip.open(file) if is_gzip else open(file, "rb") as lines:
        try:
            while line := lines.readline(_MAX_LINE_BYTES + 1):
                n_bytes += len(line)
                if len(line) > _MAX_LINE_BYTES or n_bytes > _MAX_FILE_BYTES:
                    raise AnadilError(f"{file}: larger than a manifest can be when unpacked ({n_bytes:,} bytes)")
                yield line
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise AnadilError(f"{file}: the gzip file is damaged: {error}\n  next: copy it again") from None


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


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
    return [item if isinstance(item, dict) else {} for item in items]
