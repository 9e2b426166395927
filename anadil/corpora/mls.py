"""Multilingual LibriSpeech: <split>/transcripts.txt and <split>/audio/<speaker>/<book>/<speaker>_<book>_<n>.flac or .opus.

It has eight languages; train/limited_supervision lists the utterances of the ten-hour and one-hour training sets.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from anadil.corpora.archive import unpack_if_archive
from anadil.corpora.download import Progress, RemoteFile, fetch_all, read_page
from anadil.corpora.reader import Options, Reject
from anadil.corpora.recordings import safe_path
from anadil.corpora.text_files import stream_lines
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance

_LICENSE = "CC-BY-4.0"
ROOT = "https://dl.fbaipublicfiles.com/mls"
_SPLITS = ("train", "dev", "test")
_NAMES = {
    "de": "german", "en": "english", "es": "spanish", "fr": "french",
    "it": "italian", "nl": "dutch", "pl": "polish", "pt": "portuguese",
}  # fmt: skip


def utterances(source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    """Yield the utterances of all languages in a folder or archive.

    `extra["limited_supervision"]` lists the small training sets of an utterance. Raises AnadilError if there are no
    transcripts in `source`.
    """
    root = unpack_if_archive(source, options.unpack_to)
    files = [(folder, split) for folder in _language_folders(root) for split in _SPLITS if _has_split(folder, split)]
    if not files:
        raise AnadilError(
            f"{source} holds no {_SPLITS[0]}/transcripts.txt of Multilingual LibriSpeech\n"
            "  next: check the path, or download it: anadil download mls --lang pl --out DIR"
        )
    for folder, split in files:
        small = _small_sets(folder / split / "limited_supervision", reject)
        gender = _genders(folder / "metainfo.txt", reject)
        for line in stream_lines(folder / split / "transcripts.txt", reject):
            handle, _, text = (part.strip() for part in line.text.partition("\t"))
            speaker, *book = handle.split("_")
            if not text or len(book) != 2 or safe_path(folder, handle) is None:
                reject(Problem(line.where, f"expected SPEAKER_BOOK_NUMBER, a tab and the text: {line.text[:80]!r}"))
                continue
            place = folder / split / "audio" / speaker / book[0]
            extra: dict[str, Any] = {"split": split, "license": _LICENSE, "book": book[0]}
            if handle in small:
                extra["limited_supervision"] = small[handle]
            if speaker in gender:
                extra["gender"] = gender[speaker]
            yield Utterance(
                audio_filepath=str(_recording(place, handle)),
                text=text,
                speaker=speaker,
                language=_language(folder.name) or options.language,
                extra=extra,
                source=line.where,
            )


def download(language: str | None, parts: Sequence[str], out: Path, progress: Progress) -> list[Path]:
    """Download the Opus edition of one language, a tenth of the FLAC edition; verify the MD5 sum. Raises AnadilError."""
    if language not in _NAMES:
        known = ", ".join(_NAMES)
        raise AnadilError(
            f"Multilingual LibriSpeech has no language {language!r}; it has: {known}\n  next: choose one with --lang"
        )
    name = f"mls_{_NAMES[language]}_opus.tar.gz"
    sums = {}
    for line in read_page(f"{ROOT}/md5sum.txt").decode("utf-8", "replace").splitlines():
        checksum, _, file = line.partition(" ")
        sums[file.strip().lstrip("*").rpartition("/")[2]] = checksum
    published = f"md5:{sums[name]}" if name in sums else None
    return fetch_all([RemoteFile(f"{ROOT}/{name}", name, None, published)], out, progress)


def _language_folders(root: Path) -> list[Path]:
    """The folders of the languages: the root itself, or folders in it. Each folder's name gives its language."""
    for pattern in (".", "*/", "*/*/"):
        folders = [root] if pattern == "." else sorted(root.glob(pattern))
        if matches := [folder for folder in folders if any(_has_split(folder, split) for split in _SPLITS)]:
            return matches
    return []


def _has_split(folder: Path, split: str) -> bool:
    return (folder / split / "transcripts.txt").is_file()


def _language(name: str) -> str | None:
    return next((code for code, known in _NAMES.items() if name.removesuffix("_opus") == f"mls_{known}"), None)


def _recording(place: Path, handle: str) -> Path:
    flac = place / f"{handle}.flac"
    opus = place / f"{handle}.opus"
    return opus if opus.exists() and not flac.exists() else flac


def _small_sets(folder: Path, reject: Reject) -> dict[str, list[str]]:
    """The small training sets of each utterance ("9hr", "1hr/3"); 9hr and all of 1hr together are the ten hours."""
    sets: dict[str, list[str]] = defaultdict(list)
    for path in sorted(folder.rglob("handles.txt")) if folder.is_dir() else ():
        for line in stream_lines(path, reject):
            sets[line.text.strip()].append(path.parent.relative_to(folder).as_posix())
    return dict(sets)


def _genders(path: Path, reject: Reject) -> dict[str, str]:
    """The gender of each speaker, from `SPEAKER | GENDER | PARTITION | MINUTES | BOOK ID | TITLE | CHAPTER`."""
    names = {"F": "female", "M": "male"}
    rows = [line.text.split("|") for line in stream_lines(path, reject)] if path.is_file() else []
    return {row[0].strip(): names[row[1].strip()] for row in rows if len(row) > 1 and row[1].strip() in names}
