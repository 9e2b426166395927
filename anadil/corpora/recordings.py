"""The recording that an annotation file is about: named in it, beside it, or where the user says."""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from anadil.audio import EXTENSIONS
from anadil.errors import AnadilError

VIDEO = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mpg", ".mpeg", ".mkv", ".webm", ".wmv", ".mts", ".3gp", ".flv"})
ENCODED = frozenset({".m4a", ".aac", ".wma", ".amr", ".ra", ".mka"})
"""Sound that libsndfile does not read."""

_LANGUAGE = re.compile(r"\.[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8})*$")  # talk.pt-BR.srt


@dataclass(frozen=True, slots=True)
class Media:
    """A recording that an annotation file names, by a path relative to it or one of another machine."""

    url: str
    time_origin_s: float = 0.0  # where in the recording the file's time starts


class RecordingFinder:
    """Finds recordings by name; folders are listed once. Letter case and Unicode form of names don't count."""

    def __init__(self, audio: Path | None, n_files: int = 1) -> None:
        """`audio` is the recording, or a folder searched with those in it. Raises AnadilError if it is not there."""
        if audio is not None and not audio.exists():
            raise AnadilError(
                f"--audio: {audio} is not there\n  next: give the recording, or the folder with the recordings"
            )
        if audio is not None and audio.is_file() and n_files > 1:
            raise AnadilError(
                f"--audio: {audio} is one recording, and there are {n_files:,} annotation files\n"
                "  next: give the folder with their recordings"
            )
        self._audio = audio
        self._listings: dict[tuple[Path, bool], dict[str, list[Path]]] = {}

    def find(self, file: Path, media: Sequence[Media] = ()) -> tuple[Path, float]:
        """The recording of an annotation file, and where in it the file's time starts (seconds).

        Looked for: in `audio`, if given; at the named paths; beside the file, by the name that is named and by the
        file's own. Raises AnadilError saying what was looked for.
        """
        if self._audio is not None and self._audio.is_file():
            return self._audio, _shift_of(self._audio, file, media)
        if self._audio is not None:
            for name, time_origin_s in _names(file, media):
                for path in self._pick(self._audio, name, file, deep=True):
                    return path, time_origin_s
        for one in media:
            for path in _paths(one.url):
                for found in self._pick((file.parent / path).parent, path.name, file):
                    return found, one.time_origin_s
        for name, time_origin_s in _names(file, media):
            for path in self._pick(file.parent, name, file):
                return path, time_origin_s
        raise AnadilError(self._not_found(file, media))

    def _pick(self, folder: Path, name: str, file: Path, deep: bool = False) -> Iterator[Path]:
        """The one recording of that name, with or without its ending; of several, the one in a folder called as `file`'s.

        Raises AnadilError if there are still several.
        """
        found = [
            path
            for key in [_key(name), *(_key(name) + ending for ending in sorted(EXTENSIONS))]
            for path in self._listing(folder, deep).get(key, [])
            if path.suffix.lower() in EXTENSIONS
        ]
        alike = [path for path in found if path.parent.name == file.parent.name]
        if len(found) > 1 and len(alike) != 1:
            raise AnadilError(
                f"{file}: several recordings are called {name}: {', '.join(map(str, found[:3]))}\n"
                "  next: move the others away, or give the right one with --audio"
            )
        yield from found if len(found) == 1 else alike

    def _listing(self, folder: Path, deep: bool) -> dict[str, list[Path]]:
        if (folder, deep) not in self._listings:
            listing: dict[str, list[Path]] = {}
            with contextlib.suppress(OSError, ValueError):  # a name that no folder can have
                for path in sorted(folder.rglob("*") if deep else folder.glob("*")):
                    if path.suffix.lower() in EXTENSIONS | VIDEO | ENCODED and not path.name.startswith("._"):
                        listing.setdefault(_key(path.name), []).append(path)
            self._listings[folder, deep] = listing
        return self._listings[folder, deep]

    def _not_found(self, file: Path, media: Sequence[Media]) -> str:
        folder = self._audio or file.parent
        names = [name for name, _ in _names(file, media)]
        near = self._listing(folder, deep=self._audio is not None)
        keys = {_key(name) for name in names}
        others = [path for paths in near.values() for path in paths if {_key(path.name), _key(path.stem)} & keys]
        if others:
            return (
                f"{file}: its recording {others[0]} is no audio that can be read\n"
                f"  next: take the sound out of it: ffmpeg -i {others[0].name} -ac 1 {others[0].stem}.wav"
            )
        looked = ", ".join(dict.fromkeys(names))
        return (
            f"{file}: no recording found: looked for {looked} (.wav, .flac, .mp3, .ogg, .opus ...) in {folder}\n"
            "  next: give the recording, or the folder that it is in, with --audio"
        )


def _shift_of(audio: Path, file: Path, media: Sequence[Media]) -> float:
    """Where in a recording that the user gave the file's time starts: as in the one of its name, or in all that are named."""
    alike = [one for one in media if any(_key(path.stem) == _key(audio.stem) for path in _paths(one.url))]
    shifts = {one.time_origin_s for one in alike or media}
    if len(shifts) > 1:
        raise AnadilError(
            f"{file}: its recordings start at different times ({', '.join(f'{one:g} s' for one in sorted(shifts))}), "
            f"and none is called {audio.name}\n  next: give the one that is meant by its name"
        )
    return shifts.pop() if shifts else 0.0


def _names(file: Path, media: Sequence[Media]) -> list[tuple[str, float]]:
    """Names to look for, with their shift: those in the file, then its own, without a language if it ends so.

    Of a video the name without its ending: beside talk.mp4 there may be its sound, talk.wav, with the same times.
    """
    found = []
    for one in media:
        for path in _paths(one.url):
            found.append((path.stem if path.suffix.lower() in VIDEO | ENCODED else path.name, one.time_origin_s))
    time_origin_s = media[0].time_origin_s if media else 0.0
    found.append((file.stem, time_origin_s))
    if _LANGUAGE.search(file.stem):
        found.append((_LANGUAGE.sub("", file.stem), time_origin_s))
    return found


def _paths(url: str) -> list[Path]:
    """A path or file URL as it stands, and with "%20" read as a space: programs write both. Drives of Windows are cut off."""
    path = re.sub(r"^file:(?://[^/\\]*)?", "", url, flags=re.IGNORECASE).replace("\\", "/")
    path = re.sub(r"^/*[A-Za-z]:/(?:.*/)?", "", path)
    return [Path(form) for form in dict.fromkeys([path, unquote(path)])]


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def locate(name: str, folders: Sequence[Path]) -> Path | None:
    """The file that a corpus names by a path, absolute or relative to the first of `folders` where it is there.

    Backslashes of Windows are read as slashes, if there is no such file otherwise.
    """
    for form in dict.fromkeys([name, name.replace("\\", "/")]):
        for folder in folders:
            path = folder / Path(form).expanduser()
            with contextlib.suppress(OSError, ValueError):  # too long, or holding a zero byte
                if path.is_file():
                    return path
    return None


def safe_path(folder: Path, name: str) -> Path | None:
    """`folder`/`name`, or None if `name`, which comes from a downloaded file, leads out of the folder."""
    return folder.joinpath(*name.replace("\\", "/").split("/")) if is_inside(name) else None


def is_inside(name: str) -> bool:
    """Whether the relative path `name` stays inside the folder that it is relative to."""
    parts = name.replace("\\", "/").split("/")
    return name != "" and parts[0] != "" and ".." not in parts and ":" not in parts[0] and "\0" not in name
