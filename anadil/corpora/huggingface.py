"""Datasets of Hugging Face, through the library `datasets` (extra `hf`): saved to disk, in folders, on the Hub.

Audio is not decoded here (that would need torchcodec). No code of a dataset is run: `datasets` 4 has no scripts.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from anadil.corpora import table
from anadil.corpora.reader import Options, Reject
from anadil.corpora.recordings import locate
from anadil.corpora.segments import collapse_whitespace
from anadil.corpora.table import AUDIO_COLUMNS, SPEAKER_COLUMNS, TEXT_COLUMNS
from anadil.corpora.text_files import read_lines
from anadil.errors import AnadilError, Problem
from anadil.files import whole_file
from anadil.manifest import Utterance

_SUFFIX_BY_MAGIC = {
    b"RIFF": ".wav",
    b"fLaC": ".flac",
    b"OggS": ".ogg",
    b"ID3": ".mp3",
    b"\xff\xfb": ".mp3",
    b"\xff\xf3": ".mp3",
}
_SPLIT_NAMES = frozenset(
    {"train", "training", "validation", "valid", "val", "dev", "test", "testing", "eval", "evaluation"}
)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(?:/[\w.-]+)?")
_Row = Mapping[str, Any]


def utterances(source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    """Yield the utterances of a dataset, with its splits.

    `source` is a folder of save_to_disk, a folder with parquet files, an audio folder, a parquet file, or OWNER/NAME or
    OWNER/NAME/CONFIG on the Hub. Audio that is embedded in the dataset is written to `options.audio`, which must then be
    given, as SPLIT/NUMBER_NAME. The columns are `options.audio_column`, `text_column` and `speaker_column`, or those
    with known names; all others are kept in `extra`.
    Raises AnadilError if `datasets` is not installed, or cannot read the source.
    """
    metadata = sorted(source.rglob("metadata.csv")) + sorted(source.rglob("metadata.jsonl")) if source.is_dir() else []
    if metadata:
        yield from _audio_folder(source, metadata, options, reject)
        return
    library = _library()
    for split, rows in _load(library, source).items():
        features = rows.features or rows._resolve_features().features
        audio = _audio_column(library, features, options, source)
        text = _column(options.text_column, TEXT_COLUMNS, list(features), "--text-column", source)
        assert text is not None
        speaker = _column(
            options.speaker_column, SPEAKER_COLUMNS, list(features), "--speaker-column", source, required=False
        )
        is_audio = isinstance(features[audio], library.Audio)
        undecoded = rows.cast_column(audio, library.Audio(decode=False)) if is_audio else rows
        where = f"{source}: {split}" if split else str(source)
        yield from _utterances(_numbered(undecoded, where), (audio, text, speaker), split, source, options, reject)


def _audio_folder(source: Path, metadata: list[Path], options: Options, reject: Reject) -> Iterator[Utterance]:
    """Yield the utterances of an audio folder: recordings with metadata.csv or metadata.jsonl beside or above them.

    It is read without `datasets`, which would need torchcodec. A folder named as a split gives the split.
    """
    for file in metadata:
        if file.suffix == ".csv":
            rows = table.utterances(file, replace(options, audio=options.audio or file.parent), reject)
        else:
            rows = _json_lines(file, options, reject)
        for utterance in rows:
            audio = Path(os.path.relpath(utterance.audio_filepath, source))
            split = next((part for part in audio.parts[:-1] if part.lower() in _SPLIT_NAMES), None)
            yield replace(utterance, extra=utterance.extra | ({"split": split} if split else {}))


def _json_lines(file: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    rows: list[tuple[str, int, _Row]] = []
    for number, line in read_lines(file):
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("not an object {...}")
            rows.append((f"{file}:{number}", number, row))
        except (ValueError, RecursionError) as error:
            reject(Problem(f"{file}:{number}", f"not valid JSON: {error}"))
    names = list(dict.fromkeys(key for _, _, row in rows for key in row))
    columns = [
        _column(options.audio_column, ["file_name"], names, "--audio-column", file),
        _column(options.text_column, TEXT_COLUMNS, names, "--text-column", file),
    ]
    speaker = _column(options.speaker_column, SPEAKER_COLUMNS, names, "--speaker-column", file, required=False)
    assert columns[0] is not None and columns[1] is not None
    complete_rows = ((where, number, {**dict.fromkeys(names), **row}) for where, number, row in rows)
    yield from _utterances(complete_rows, (columns[0], columns[1], speaker), "", file, options, reject)


def _library() -> Any:
    try:
        return importlib.import_module("datasets")
    except ImportError as error:
        raise AnadilError(
            f"datasets of Hugging Face need the library `datasets`, which cannot be imported ({error})\n"
            "  next: pip install 'anadil[hf]'"
        ) from None


def _load(library: Any, source: Path) -> dict[str, Any]:
    """The splits by name; a dataset without splits has the name ""."""
    try:
        if (source / "dataset_dict.json").is_file() or (source / "state.json").is_file():
            loaded = library.load_from_disk(str(source))
        elif source.is_dir():
            loaded = library.load_dataset(str(source.resolve()), streaming=True)  # without a copy in the user's cache
        elif source.is_file():
            loaded = library.load_dataset("parquet", data_files=str(source), streaming=True, split="train")
        elif _HUB_ID.fullmatch(source.as_posix()):
            owner, name, *config = source.as_posix().split("/")
            loaded = library.load_dataset(f"{owner}/{name}", *config)
        else:
            raise AnadilError(f"{source} is not there, and is not an OWNER/NAME on the Hub\n  next: check the path")
    except AnadilError:
        raise
    except Exception as error:  # datasets raises errors of pyarrow, httpx, fsspec and a dozen of its own
        reason = str(error).strip().split("\n")[0][:300]
        raise AnadilError(
            f"{source}: `datasets` cannot read it: {type(error).__name__}: {reason}\n"
            "  next: check the path; choose a configuration with OWNER/NAME/CONFIG; log in with: hf auth login"
        ) from error
    return dict(loaded) if isinstance(loaded, dict) else {"": loaded}


def _numbered(rows: Iterable[_Row], where: str) -> Iterator[tuple[str, int, _Row]]:
    """Yield each row with its place and number. Raises AnadilError if a file is damaged."""
    number = 0
    iterator = iter(rows)
    while True:
        try:
            row = next(iterator, None)
        except Exception as error:  # of the same many kinds as above
            raise AnadilError(f"{where}: row {number} cannot be read: {type(error).__name__}: {error}") from error
        if row is None:
            return
        yield f"{where} row {number}", number, row
        number += 1


def _utterances(
    rows: Iterator[tuple[str, int, _Row]], columns: tuple[str, str, str | None], split: str, source: Path,
    options: Options, reject: Reject,
) -> Iterator[Utterance]:  # fmt: skip
    audio, text, speaker = columns
    for where, number, row in rows:
        try:
            if not isinstance(row[text], str) or not collapse_whitespace(row[text]):
                raise ValueError("no text")
            path = _recording(row[audio], split, number, source, options)
        except ValueError as error:
            reject(Problem(where, str(error)))
            continue
        extra = {key: value for key, value in row.items() if key not in columns and _fits_manifest(value)}
        yield Utterance(
            str(path),
            text=collapse_whitespace(row[text]),
            speaker=None if speaker is None or row[speaker] is None else str(row[speaker]),
            language=options.language,
            extra=extra | ({"split": split} if split else {}),
            source=where,
        )


def _recording(value: object, split: str, number: int, source: Path, options: Options) -> Path:
    """The audio file of a row; embedded audio is written to a file. Raises ValueError if there is no audio."""
    record = value if isinstance(value, dict) else {"path": value}
    name, content = record.get("path"), record.get("bytes")
    if isinstance(content, bytes) and content:
        return _write_audio(content, str(name or ""), split, number, source, options)
    if not isinstance(name, str) or not name:
        raise ValueError("no audio: neither a file nor its bytes")
    folders = [*([options.audio] if options.audio else []), source if source.is_dir() else source.parent]
    path = locate(name, folders)
    if path is None:
        raise ValueError(f"its recording was not found: {name!r}")
    return path


def _write_audio(content: bytes, name: str, split: str, number: int, source: Path, options: Options) -> Path:
    if options.audio is None or options.audio.is_file():
        raise AnadilError(
            f"{source}: its audio is inside the dataset, and must be written to files\n"
            "  next: give a folder for these files with --audio"
        )
    suffix = next((suffix for magic, suffix in _SUFFIX_BY_MAGIC.items() if content.startswith(magic)), "")
    stem = re.sub(r"[^\w-]+", "_", Path(name).stem)[:60]
    path = options.audio / split / f"{number:06d}{'_' if stem else ''}{stem}{suffix or Path(name).suffix.lower()[:6]}"
    if path.is_file() and path.read_bytes() == content:
        return path
    if path.exists():
        raise AnadilError(f"{path} exists already, with other content\n  next: give a new folder with --audio")
    with whole_file(path) as beside:
        beside.write_bytes(content)
    return path


def _audio_column(library: Any, features: Mapping[str, Any], options: Options, source: Path) -> str:
    audio_columns = [name for name, feature in features.items() if isinstance(feature, library.Audio)]
    known = audio_columns or list(AUDIO_COLUMNS)
    column = _column(options.audio_column, known, list(features), "--audio-column", source)
    assert column is not None
    return column


def _column(
    wanted: str | None, known: Sequence[str], names: Sequence[str], option: str, source: Path, required: bool = True
) -> str | None:
    listed = ", ".join(map(repr, names))
    if wanted is not None:
        if wanted not in names:
            raise AnadilError(f"{source}: no column {wanted!r}; the columns are: {listed}\n  next: correct {option}")
        return wanted
    matches = [name for name in names if name in known]
    if len(matches) == 1:
        return matches[0]
    if required:
        several = ", ".join(map(repr, matches))
        what = f"several columns match: {several}" if matches else f"none of the columns has a known name: {listed}"
        raise AnadilError(f"{source}: {what}\n  next: choose one with {option}")
    return None


def _fits_manifest(value: object) -> bool:
    """Whether a value can be written to a manifest and is not empty."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list):
        return bool(value) and all(isinstance(item, str | int) for item in value)
    return isinstance(value, str | int) and value != ""
