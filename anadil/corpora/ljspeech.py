"""LJ Speech's layout: metadata.csv with `id|text` or `id|text|normalised text`, and the audio in wavs/."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from anadil.audio import EXTENSIONS
from anadil.corpora.reader import Options, Reject
from anadil.corpora.recordings import locate
from anadil.corpora.segments import collapse_whitespace
from anadil.corpora.text_files import read_lines
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance

METADATA = ("metadata.csv", "metadata.txt")
_COQUI = "audio_file"  # first column of the header in Coqui's variant: audio_file|text|speaker_name


def utterances(source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    """A folder with metadata.csv, or that file. Columns are parted by "|"; quotes are characters like any other.

    The text is the normalised one, where there is one (numbers are words there); the other is `extra["raw_text"]`.
    Coqui's variant, whose first line is audio_file|text|speaker_name, is read by that line.
    """
    file = _metadata(source)
    lines = read_lines(file)
    header = [column.strip() for column in lines[0][1].split("|")] if lines else []
    named = header if header[:2] == [_COQUI, "text"] else None
    folders = [*([options.audio] if options.audio else []), file.parent / "wavs", file.parent / "wav", file.parent]
    if not any("|" in line for _, line in lines):
        raise AnadilError(f"{file}: not LJ Speech's metadata: expected lines of ID|TEXT or ID|TEXT|NORMALISED TEXT")
    seen: set[str] = set()
    for number, line in lines[1:] if named else lines:
        where = f"{file}:{number}"
        columns = [column.strip() for column in line.split("|")]
        if named is None and len(columns) not in (2, 3):
            reject(Problem(where, f"{len(columns)} columns, expected ID|TEXT or ID|TEXT|NORMALISED TEXT"))
            continue
        if named is not None and len(columns) != len(named):
            reject(Problem(where, f"{len(columns)} columns, and the first line has {len(named)}"))
            continue
        why = f"{columns[0]} comes twice" if columns[0] in seen else None if columns[0] else "no id"
        seen.add(columns[0])
        yield from _utterance(columns, named, folders, where, why, options, reject)


def _utterance(
    columns: list[str],
    named: list[str] | None,
    folders: list[Path],
    where: str,
    why: str | None,
    options: Options,
    reject: Reject,
) -> Iterator[Utterance]:
    extra: dict[str, str] = {"id": columns[0]}
    speaker, text = None, collapse_whitespace(columns[1])
    if named is not None:
        more = dict(zip(named[2:], columns[2:], strict=True))
        speaker = more.pop("speaker_name", None) or None
        extra |= more
    elif len(columns) == 3 and columns[2]:
        extra["raw_text"], text = columns[1], collapse_whitespace(columns[2])
    if why is None and not text:
        why = "no text"
    if why is not None:
        reject(Problem(where, why))
        return
    names = [columns[0], *(columns[0] + ending for ending in sorted(EXTENSIONS, key=lambda one: (one != ".wav", one)))]
    paths = (locate(name, folders) for name in names)
    audio = next((path for path in paths if path is not None), folders[-3] / f"{columns[0]}.wav")
    yield Utterance(str(audio), text=text, speaker=speaker, language=options.language, extra=dict(extra), source=where)


def _metadata(source: Path) -> Path:
    if source.is_file():
        return source
    for name in METADATA:
        if (source / name).is_file():
            return source / name
    raise AnadilError(f"no LJ Speech layout in {source}: looked for {' and '.join(METADATA)}\n  next: check the path")
