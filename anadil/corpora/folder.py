"""A folder of recordings, each with a text file of the same name: 1.wav and 1.txt or 1.lab."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path

from anadil.corpora.reader import Options, Reject
from anadil.corpora.segments import collapse_whitespace
from anadil.corpora.text_files import read_text
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance
from anadil.sound_files import EXTENSIONS, MEDIA_EXTENSIONS

_TEXT_SUFFIXES = (".txt", ".lab")
_MAX_TEXT_BYTES = 1 << 20  # the transcript of a day of speech


def utterances(source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    """Yield an utterance for each recording with a text, subfolders included; the lines of a text are joined.

    With `options.audio`, the recordings have the same paths below that folder as the texts below `source`. Recordings
    without a text and texts without a recording are rejected.
    """
    if not source.is_dir():
        raise AnadilError(f"{source} is not a folder\n  next: give the folder with the recordings and their texts")
    recordings = _by_name(options.audio or source, MEDIA_EXTENSIONS) | _by_name(options.audio or source, EXTENSIONS)
    texts = _by_name(source, frozenset(_TEXT_SUFFIXES))
    if not recordings or not texts:
        raise AnadilError(
            f"{source}: found {len(recordings):,} recordings and {len(texts):,} texts; looked for *.wav, *.flac, *.mp3 ... and "
            "for *.txt and *.lab of the same names\n  next: check the path"
        )
    for name in sorted(recordings.keys() | texts.keys()):
        same_name = recordings.get(name, []), texts.get(name, [])
        try:
            yield _utterance(*same_name, options)
        except AnadilError as error:
            where = str((same_name[0] or same_name[1])[0])
            reject(Problem(where, str(error).removeprefix(f"{where}: ")))


def _by_name(folder: Path, suffixes: frozenset[str]) -> dict[str, list[Path]]:
    """Files with these suffixes by their path below the folder, without the suffix, in Unicode form NFC."""
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in suffixes and not path.name.startswith("._") and path.is_file():
            name = unicodedata.normalize("NFC", path.relative_to(folder).with_suffix("").as_posix())
            files.setdefault(name, []).append(path)
    return files


def _utterance(recordings: list[Path], texts: list[Path], options: Options) -> Utterance:
    if not recordings:
        raise AnadilError("a text without a recording of the same name")
    if not texts:
        raise AnadilError("a recording without a text: no .txt or .lab of the same name")
    if len(recordings) > 1:
        raise AnadilError(f"several recordings have this name: {', '.join(path.name for path in recordings)}")
    if len(texts) > 1:
        raise AnadilError(f"several texts have this name: {', '.join(path.name for path in texts)}")
    text = collapse_whitespace(read_text(texts[0], _MAX_TEXT_BYTES))
    if not text:
        raise AnadilError(f"its text is empty: {texts[0]}")
    return Utterance(str(recordings[0]), text=text, language=options.language, source=str(texts[0]))
