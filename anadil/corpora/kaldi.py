"""Kaldi's data directories: text and wav.scp; optionally segments, utt2spk, utt2dur, reco2file_and_channel and others."""

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

_MAX_LEVELS_UP = 4  # from a data directory to where the recipe ran: egs/mini/s5 for egs/mini/s5/data/train
_WORKING_COPY = re.compile(r"split\d+(utt)?|\.backup|q|log")  # what Kaldi's scripts leave in a data directory


@dataclass(frozen=True, slots=True)
class _Directory:
    """The tables of one data directory; None if there is no such file."""

    folder: Path
    texts: dict[str, str]
    recordings: dict[str, str]
    segments: dict[str, str] | None
    speakers: dict[str, str] | None
    durations: dict[str, str]
    languages: dict[str, str]
    sides: dict[str, str]  # by recording: the file's name and the channel, mostly A or B


def utterances(source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    """Yield the utterances of a data directory, or of all data directories in a folder, whose names are the splits.

    A relative path in wav.scp is looked for in `options.audio`, in the working directory, beside wav.scp, and in the
    folders above, as recipes run above data/train. The channel is that of reco2file_and_channel.
    Commands ("... |") are never run.
    """
    folders = _find_directories(source)
    for folder in folders:
        split = None if folder == source else "-".join(folder.relative_to(source).parts)
        yield from _utterances(_read_directory(folder, reject), split, options, reject)


def _find_directories(source: Path) -> list[Path]:
    if not source.is_dir():
        raise AnadilError(f"{source} is not a folder\n  next: give a data directory with wav.scp and text")
    if (source / "wav.scp").is_file() or (source / "text").is_file():
        return [source]
    folders: list[Path] = []
    for scp in sorted(source.rglob("wav.scp"), key=lambda path: (len(path.parts), path)):
        inside = scp.parent.relative_to(source).parts
        if not any(_WORKING_COPY.fullmatch(part) for part in inside) and not set(scp.parents) & set(folders):
            folders.append(scp.parent)
    if not folders:
        raise AnadilError(f"no Kaldi data directory in {source}: looked for wav.scp and text\n  next: check the path")
    return sorted(folders)


def _read_directory(folder: Path, reject: Reject) -> _Directory:
    missing = [name for name in ("wav.scp", "text") if not (folder / name).is_file()]
    if missing:
        raise AnadilError(
            f"{folder} is not a complete data directory: {' and '.join(missing)} missing\n  next: check the path"
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
        table("reco2file_and_channel") or {},
    )


def _table(path: Path, reject: Reject) -> dict[str, str]:
    """Read lines of a key, white space and a value; reject the second line of a key."""
    values: dict[str, str] = {}
    for number, line in read_lines(path):
        key, _, value = line.strip().replace("\t", " ").partition(" ")
        if key in values:
            reject(Problem(f"{path}:{number}", f"{key} appears twice; the first line is used"))
        else:
            values[key] = value.strip()
    return values


def _utterances(tables: _Directory, split: str | None, options: Options, reject: Reject) -> Iterator[Utterance]:
    find_audio = _audio_finder(tables.folder, options)
    times_file = "wav.scp" if tables.segments is None else "segments"
    known = tables.recordings if tables.segments is None else tables.segments
    for key in known.keys() - tables.texts.keys():
        reject(Problem(f"{tables.folder / times_file}: {key}", "not in text"))
    for key, text in tables.texts.items():
        where = f"{tables.folder / 'text'}: {key}"
        try:
            if key not in known:
                raise AnadilError(f"not in {times_file}")
            if tables.speakers is not None and key not in tables.speakers:
                raise AnadilError("not in utt2spk")
            recording, start, end = _span(tables, key)
            if recording not in tables.recordings:
                raise AnadilError(f"its recording {recording} is not in wav.scp")
            audio = find_audio(tables.recordings[recording])
        except (AnadilError, ValueError) as error:
            reject(Problem(where, str(error)))
            continue
        duration = None if end is None else round(end - start, DECIMALS)
        problem = "no text" if not text else None
        if start < 0 or (duration is not None and duration <= 0):
            problem = f"lasts from {start:g} to {end:g} s"
        if problem:
            reject(Problem(where, problem))
            continue
        yield Utterance(
            str(audio),
            duration,
            collapse_whitespace(text),
            start,
            speaker=(tables.speakers or {}).get(key),
            language=tables.languages.get(key, options.language),
            extra={"id": key} | ({"split": split} if split else {}) | _side(tables, recording),
            source=where,
        )


def _side(tables: _Directory, recording: str) -> dict[str, str]:
    """The channel of a recording. Mostly it has a file of its own; importing.py uses the channel only if it has several."""
    columns = tables.sides.get(recording, "").split()
    return {"channel": columns[1]} if len(columns) == 2 else {}


def _span(tables: _Directory, key: str) -> tuple[str, float, float | None]:
    """Recording, start and end in seconds; an end of None means the end of the recording."""
    if tables.segments is None:
        return key, 0.0, parse_seconds(tables.durations[key]) if key in tables.durations else None
    columns = tables.segments[key].split()
    if len(columns) not in (3, 4):
        raise AnadilError(
            f"its line in segments has {len(columns) + 1} columns, expected UTTERANCE RECORDING START END"
        )
    end = parse_seconds(columns[2])
    return columns[0], parse_seconds(columns[1]), None if end == -1 else end


def _audio_finder(folder: Path, options: Options) -> Callable[[str], Path]:
    """A function from an entry of wav.scp to the audio file; it raises AnadilError for a command or a missing file."""
    above = list(folder.resolve().parents)[:_MAX_LEVELS_UP]
    folders = [*([options.audio] if options.audio else []), Path(), folder, *above]

    def find_audio(entry: str) -> Path:
        if entry.endswith("|") or entry.startswith("|"):
            raise AnadilError(
                f"wav.scp has a command, which Anadil does not run: {entry[:80]!r}; next: write the recordings to "
                "files, for example with Kaldi's wav-copy scp:wav.scp, and name these in wav.scp"
            )
        if entry == "-" or re.search(r"\.(ark|scp):\d+$|\.ark:\d+\[|\[[\d:,]+\]$", entry):
            raise AnadilError(
                f"wav.scp points into an archive or a stream: {entry!r}; next: copy it to one file per recording with wav-copy"
            )
        path = locate(entry, folders) if entry else None
        if path is None:
            searched = ", ".join(str(folder) for folder in dict.fromkeys(folders))
            raise AnadilError(
                f"its recording was not found: {entry!r}, looked for in {searched}; next: give its folder with --audio"
            )
        return path

    return find_audio
