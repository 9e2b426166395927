"""LibriSpeech and corpora with its layout: <subset>/<speaker>/<chapter>/<speaker>-<chapter>.trans.txt beside FLAC files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from anadil.corpora.archive import archives_in, unpack_if_archive
from anadil.corpora.download import Progress, RemoteFile, fetch_all
from anadil.corpora.reader import Options, Reject
from anadil.corpora.recordings import safe_path
from anadil.corpora.text_files import stream_lines
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance

_LICENSE = "CC-BY-4.0"
ROOT = "https://www.openslr.org/resources/12"
MD5 = {  # as published in ROOT/md5sum.txt
    "dev-clean": "42e2234ba48799c1f50f24a7926300a1",
    "dev-other": "c8d0bcc9cca99d4f8b62fcc847357931",
    "test-clean": "32fa31d27d2e1cad72775fee3f4849a9",
    "test-other": "fb5a50374b501bb3bac4815ee91d3135",
    "train-clean-100": "2a93770f6d5c6c964bc36631d331a522",
    "train-clean-360": "c0e676e450a7ff2f54aeade5171606fa",
    "train-other-500": "d1a0fd59409feb2c614ce4d30c387708",
}
_SUBSETS = frozenset({*MD5, "train-clean-5", "dev-clean-2"})  # the last two are of Mini LibriSpeech

_AUDIO = (".flac", ".wav", ".opus", ".ogg", ".mp3")  # the corpus has FLAC, corpora with its layout also others


def utterances(source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    """Yield all utterances; the splits are the subsets. Language and licence are set for LibriSpeech's own subsets only.

    Raises AnadilError if there is no transcript in `source`.
    """
    roots = [unpack_if_archive(source, options.unpack_to)]
    if source.is_dir():
        roots += [unpack_if_archive(archive, options.unpack_to) for archive in archives_in(source)]
    seen: set[str] = set()
    for root in roots:
        if not root.is_dir():
            continue
        speakers = _speakers(root, reject)
        for transcript in _transcripts(root):
            if os.path.realpath(transcript) not in seen:
                seen.add(os.path.realpath(transcript))
                yield from _read_chapter(transcript, speakers, options, reject)
    if not seen:
        raise AnadilError(
            f"{source} holds no transcripts in LibriSpeech's layout: SUBSET/SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt\n"
            "  next: check the path, or download it: anadil download librispeech --part dev-clean --out DIR"
        )


def download(language: str | None, parts: Sequence[str], out: Path, progress: Progress) -> list[Path]:
    """Download the subsets in `parts`, or all of them (60 GB) if there are none. Raises AnadilError."""
    if language not in (None, "en"):
        raise AnadilError(f"LibriSpeech is English, not {language!r}\n  next: omit --lang, or see anadil corpora")
    if unknown := [part for part in parts if part not in MD5]:
        raise AnadilError(
            f"LibriSpeech has no part {unknown[0]!r}; it has: {', '.join(MD5)}\n  next: choose with --part"
        )
    files = [RemoteFile(f"{ROOT}/{part}.tar.gz", f"{part}.tar.gz", None, f"md5:{MD5[part]}") for part in parts or MD5]
    return fetch_all(files, out, progress)


def _transcripts(root: Path) -> Iterator[Path]:
    for folder, inner, files in os.walk(root):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(files) if name.endswith(".trans.txt") and name[0] != ".")


def _read_chapter(
    transcript: Path, speakers: dict[str, dict[str, str]], options: Options, reject: Reject
) -> Iterator[Utterance]:
    folder = transcript.parent
    subset, speaker = Path(os.path.abspath(folder)).parts[-3:-1]
    is_librispeech = subset in _SUBSETS
    recordings = {path.stem: path for path in sorted(folder.iterdir(), reverse=True) if path.suffix.lower() in _AUDIO}
    for line in stream_lines(transcript, reject):
        name, _, text = line.text.strip().replace("\t", " ", 1).partition(" ")
        if safe_path(folder, name) is None:
            reject(Problem(line.where, f"not a valid name of a recording: {name!r}"))
            continue
        extra = {"split": subset, "chapter": folder.name} | speakers.get(speaker, {})
        yield Utterance(
            audio_filepath=str(recordings.pop(name, folder / f"{name}.flac")),
            text=text.strip(),
            speaker=speaker,
            language="en" if is_librispeech else options.language,
            extra=extra | ({"license": _LICENSE} if is_librispeech else {}),
            source=line.where,
        )
    if len(list(folder.glob("*.trans.txt"))) == 1:
        for recording in recordings.values():  # those that no line named
            reject(Problem(str(recording), f"recording without a line in {transcript.name}"))


def _speakers(root: Path, reject: Reject) -> dict[str, dict[str, str]]:
    """The gender of each speaker, from SPEAKERS.TXT (`14 | F | train-clean-360 | 25.03 | Kristin LeMoine`)."""
    folders = [Path(os.path.abspath(root)), *Path(os.path.abspath(root)).parents[:2], *sorted(root.glob("*/"))]
    path = next((folder / "SPEAKERS.TXT" for folder in folders if (folder / "SPEAKERS.TXT").is_file()), None)
    speakers = {}
    for line in stream_lines(path, reject) if path else ():
        cells = [cell.strip() for cell in line.text.split("|")]
        if not line.text.startswith(";") and len(cells) >= 5:
            speakers[cells[0]] = {"gender": {"F": "female", "M": "male"}.get(cells[1], cells[1])}
    return speakers
