"""Kaldi's data directories: text, wav.scp, and segments, utt2spk or spk2utt, utt2dur, utt2lang where they are there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from anadil.corpora.reader import Options, Reject
from anadil.corpora.recordings import locate
from anadil.corpora.segments import DECIMALS, collapse_whitespace, parse_seconds
from anadil.corpora.text_files import read_lines
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance

_DEPTH = 4  # folders above a data directory in which a recipe may have run: egs/mini/s5 for egs/mini/s5/data/train
_WORKING_COPY = re.compile(r"split\d+(utt)?|\.backup|q|log")  # what Kaldi's scripts leave in a data directory


@dataclass(frozen=True, slots=True)
class _Directory:
    """The tables of one data directory; None where there is no such file."""

    folder: Path
    texts: dict[str, str]
    recordings: dict[str, str]
    segments: dict[str, str] | None
    speakers: dict[str, str] | None
    durations: dict[str, str]
    languages: dict[str, str]


def utterances(source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    """A data directory, or a folder with some in it, whose names are the splits.

    A relative path in wav.scp is looked for in `options.audio`, in the working directory, beside wav.scp, and in the
    folders above it: recipes run where data/train is below. Commands ("... |") are not run.
    """
    folders = _find(source)
    for folder in folders:
        split = None if folder == source else "-".join(folder.relative_to(source).parts)
        yield from _utterances(_open(folder, reject), split, options, reject)


def _find(source: Path) -> list[Path]:
    if not source.is_dir():
        raise AnadilError(f"{source} is not a folder\n  next: give a data directory, with wav.scp and text in it")
    if (source / "wav.scp").is_file() or (source / "text").is_file():
        return [source]
    found: list[Path] = []
    for scp in sorted(source.rglob("wav.scp"), key=lambda path: (len(path.parts), path)):
        inside = scp.parent.relative_to(source).parts
        if not any(_WORKING_COPY.fullmatch(part) for part in inside) and not set(scp.parents) & set(found):
            found.append(scp.parent)
    if not found:
        raise AnadilError(
            f"no data directory of Kaldi in {source}: looked for wav.scp and text\n  next: check the path"
        )
    return sorted(found)


def _open(folder: Path, reject: Reject) -> _Directory:
    missing = [name for name in ("wav.scp", "text") if not (folder / name).is_file()]
    if missing:
        raise AnadilError(
            f"{folder} is no whole data directory: {' and '.join(missing)} not there\n  next: check the path"
        )

    def table(name: str) -> dict[str, str] | None:
        return _table(folder / name, reject) if (folder / name).is_file() else None

    speakers = table("utt2spk")
    if speakers is None and (folder / "spk2utt").is_file():
        speakers = {
            key: speaker for speaker, keys in _table(folder / "spk2utt", reject).items() for key in keys.split()
        }
    return _Directory(
        folder,
        _table(folder / "text", reject),
        _table(folder / "wav.scp", reject),
        table("segments"),
        speakers,
        table("utt2dur") or {},
        table("utt2lang") or {},
    )


def _table(path: Path, reject: Reject) -> dict[str, str]:
    """Lines of a key and, after white space, a value; a key that comes twice is rejected."""
    found: dict[str, str] = {}
    for number, line in read_lines(path):
        key, _, value = line.strip().replace("\t", " ").partition(" ")
        if key in found:
            reject(Problem(f"{path}:{number}", f"{key} comes twice; the first line counts"))
        else:
            found[key] = value.strip()
    return found


def _utterances(tables: _Directory, split: str | None, options: Options, reject: Reject) -> Iterator[Utterance]:
    place = _placed(tables.folder, options)
    timed = "wav.scp" if tables.segments is None else "segments"
    known = tables.recordings if tables.segments is None else tables.segments
    for key in known.keys() - tables.texts.keys():
        reject(Problem(f"{tables.folder / timed}: {key}", "not in text"))
    for key, text in tables.texts.items():
        where = f"{tables.folder / 'text'}: {key}"
        try:
            if key not in known:
                raise AnadilError(f"not in {timed}")
            if tables.speakers is not None and key not in tables.speakers:
                raise AnadilError("not in utt2spk")
            recording, start, end = _stretch(tables, key)
            if recording not in tables.recordings:
                raise AnadilError(f"its recording {recording} is not in wav.scp")
            audio = place(tables.recordings[recording])
        except (AnadilError, ValueError) as error:
            reject(Problem(where, str(error)))
            continue
        duration = None if end is None else round(end - start, DECIMALS)
        why = "no text" if not text else None
        if start < 0 or (duration is not None and duration <= 0):
            why = f"lasts from {start:g} to {end:g} s"
        if why:
            reject(Problem(where, why))
            continue
        yield Utterance(
            str(audio),
            duration,
            collapse_whitespace(text),
            start,
            speaker=(tables.speakers or {}).get(key),
            language=tables.languages.get(key, options.language),
            extra={"id": key} | ({"split": split} if split else {}),
            source=where,
        )


def _stretch(tables: _Directory, key: str) -> tuple[str, float, float | None]:
    """Recording, start and end in seconds; an end of None is that of the recording."""
    if tables.segments is None:
        return key, 0.0, parse_seconds(tables.durations[key]) if key in tables.durations else None
    columns = tables.segments[key].split()
    if len(columns) not in (3, 4):
        raise AnadilError(
            f"its line in segments has {len(columns) + 1} columns, expected UTTERANCE RECORDING START END"
        )
    end = parse_seconds(columns[2])
    return columns[0], parse_seconds(columns[1]), None if end == -1 else end


def _placed(folder: Path, options: Options) -> Callable[[str], Path]:
    """What turns an entry of wav.scp into a path. Raises AnadilError if it is a command, or not there."""
    above = list(folder.resolve().parents)[:_DEPTH]
    folders = [*([options.audio] if options.audio else []), Path(), folder, *above]

    def place(entry: str) -> Path:
        if entry.endswith("|") or entry.startswith("|"):
            raise AnadilError(
                f"wav.scp has a command, which is not run: {entry[:80]!r}; next: write the recordings to files, "
                "for instance with Kaldi's wav-copy scp:wav.scp, and name these in wav.scp"
            )
        if entry == "-" or re.search(r"\.(ark|scp):\d+$|\.ark:\d+\[|\[[\d:,]+\]$", entry):
            raise AnadilError(
                f"wav.scp points into an archive or a stream: {entry!r}; next: wav-copy it to files of its own"
            )
        found = locate(entry, folders) if entry else None
        if found is None:
            looked = ", ".join(str(one) for one in dict.fromkeys(folders))
            raise AnadilError(
                f"its recording is not there: {entry!r}, looked for in {looked}; next: give its folder with --audio"
            )
        return found

    return place
