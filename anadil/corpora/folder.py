"""A folder of recordings, each with its text beside it in a file of the same name: 1.wav and 1.txt or 1.lab."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path

from anadil.audio import EXTENSIONS
from anadil.corpora.reader import Options, Reject
from anadil.corpora.recordings import ENCODED, VIDEO
from anadil.corpora.segments import collapse_whitespace
from anadil.corpora.text_files import read_text
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance

TEXTS = (".txt", ".lab")
_LONGEST = 1 << 20  # bytes of one text: a day of speech


def utterances(source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    """Folders below are searched too; with `options.audio`, its recordings have the texts' paths, from there on.

    The lines of a text are joined. RecordingFinder without a text and texts without a recording are rejected.
    """
    if not source.is_dir():
        raise AnadilError(f"{source} is no folder\n  next: give the folder with the recordings and their texts")
    sounds = _by_name(options.audio or source, EXTENSIONS)
    texts = _by_name(source, frozenset(TEXTS))
    if not sounds or not texts:
        raise AnadilError(
            f"{source}: found {len(sounds):,} recordings and {len(texts):,} texts; looked for *.wav, *.flac, *.mp3 ... and "
            "for *.txt and *.lab of the same names\n  next: check the path"
        )
    for name in sorted(sounds.keys() | texts.keys()):
        sound, text = sounds.get(name, []), texts.get(name, [])
        try:
            yield _utterance(sound, text, options)
        except AnadilError as error:
            where = str((sound or text)[0])
            reject(Problem(where, str(error).removeprefix(f"{where}: ")))
    for name, others in sorted(_by_name(options.audio or source, ENCODED | VIDEO).items()):
        if name not in sounds and name in texts:
            reject(
                Problem(
                    str(others[0]), f"no audio that can be read; next: ffmpeg -i {others[0].name} {others[0].stem}.wav"
                )
            )


def _by_name(folder: Path, endings: frozenset[str]) -> dict[str, list[Path]]:
    """Files by their path from the folder, less the ending; Unicode forms and letter case of it don't count."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in endings and not path.name.startswith("._") and path.is_file():
            name = unicodedata.normalize("NFC", path.relative_to(folder).with_suffix("").as_posix())
            found.setdefault(name, []).append(path)
    return found


def _utterance(sounds: list[Path], texts: list[Path], options: Options) -> Utterance:
    if not sounds:
        raise AnadilError("a text without a recording of the same name")
    if not texts:
        raise AnadilError("a recording without a text: no .txt or .lab of the same name")
    if len(sounds) > 1:
        raise AnadilError(f"several recordings have this name: {', '.join(path.name for path in sounds)}")
    if len(texts) > 1:
        raise AnadilError(f"several texts have this name: {', '.join(path.name for path in texts)}")
    text = collapse_whitespace(read_text(texts[0], _LONGEST))
    if not text:
        raise AnadilError(f"its text is empty: {texts[0]}")
    return Utterance(str(sounds[0]), text=text, language=options.language, source=str(texts[0]))
