"""LJ Speech's layout: metadata.csv with `id|text` or `id|text|normalised text`, with the audio in wavs/."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from anadil.corpora.reader import Options, Reject
from anadil.corpora.recordings import locate_with_suffix
from anadil.corpora.segments import collapse_whitespace
from anadil.corpora.text_files import read_lines
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance

_METADATA = ("metadata.csv", "metadata.txt")
_COQUI = "audio_file"  # first column of the header in Coqui's variant: audio_file|text|speaker_name


def utterances(source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    """Yield the utterances of metadata.csv, given as a file or by its folder. Quotes are ordinary characters.

    The text is the normalised one (numbers spelled out), if there is one; `extra["raw_text"]` is then the other. In
    Coqui's variant the first line names the columns: audio_file|text|speaker_name.
    """
    file = _metadata(source)
    lines = read_lines(file)
    header = [column.strip() for column in lines[0][1].split("|")] if lines else []
    column_names = header if header[:2] == [_COQUI, "text"] else None
    folders = [*([options.audio] if options.audio else []), file.parent / "wavs", file.parent / "wav", file.parent]
    if not any("|" in line for _, line in lines):
        raise AnadilError(f"{file}: not LJ Speech's metadata: expected lines of ID|TEXT or ID|TEXT|NORMALISED TEXT")
    seen: set[str] = set()
    for number, line in lines[1:] if column_names else lines:
        where = f"{file}:{number}"
        columns = [column.strip() for column in line.split("|")]
        if column_names is None and len(columns) not in (2, 3):
            reject(Problem(where, f"{len(columns)} columns, expected ID|TEXT or ID|TEXT|NORMALISED TEXT"))
            continue
        if column_names is not None and len(columns) != len(column_names):
            reject(Problem(where, f"{len(columns)} columns, but the first line has {len(column_names)}"))
            continue
        problem = f"{columns[0]} appears twice" if columns[0] in seen else None if columns[0] else "no id"
        seen.add(columns[0])
        yield from _utterance(columns, column_names, folders, where, problem, options, reject)


def _utterance(
    columns: list[str],
    column_names: list[str] | None,
    folders: list[Path],
    where: str,
    problem: str | None,
    options: Options,
    reject: Reject,
) -> Iterator[Utterance]:
    extra: dict[str, str] = {"id": columns[0]}
    speaker, text = None, collapse_whitespace(columns[1])
    if column_names is not None:
        other_columns = dict(zip(column_names[2:], columns[2:], strict=True))
        speaker = other_columns.pop("speaker_name", None) or None
        extra |= other_columns
    elif len(columns) == 3 and columns[2]:
        extra["raw_text"], text = columns[1], collapse_whitespace(columns[2])
    if problem is None and not text:
        problem = "no text"
    if problem is not None:
        reject(Problem(where, problem))
        return
    expected = folders[-3] / f"{columns[0]}.wav"  # in wavs/; importing.py rejects it as missing
    audio = locate_with_suffix(columns[0], folders) or expected
    yield Utterance(str(audio), text=text, speaker=speaker, language=options.language, extra=dict(extra), source=where)


def _metadata(source: Path) -> Path:
    if source.is_file():
        return source
    for name in _METADATA:
        if (source / name).is_file():
            return source / name
    raise AnadilError(f"no LJ Speech layout in {source}: looked for {' and '.join(_METADATA)}\n  next: check the path")
