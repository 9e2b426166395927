"""Finding recordings: the one of an annotation file, and files that a corpus names by a path."""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from anadil.errors import AnadilError
from anadil.sound_files import EXTENSIONS, MEDIA_EXTENSIONS

_SAYMORE_ENDING = ".annotations"  # SayMore: talk.wav.annotations.eaf belongs to talk.wav
_LANGUAGE_SUFFIX = re.compile(r"\.[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8})*$")  # talk.pt-BR.srt


@dataclass(frozen=True, slots=True)
class Media:
    """A recording that an annotation file names: by a path relative to the file, or by one of another machine."""

    url: str
    time_origin_s: float = 0.0  # where in the recording the file's time starts (ELAN: TIME_ORIGIN)


class RecordingFinder:
    """Finds recordings by name; it lists each folder once. Letter case and Unicode normal form are ignored."""

    def __init__(self, audio: Path | None, n_files: int = 1) -> None:
        """`audio` is the recording, or a folder that is searched with its subfolders. Raises AnadilError if it is missing."""
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

    def find(self, file: Path, media: Sequence[Media] = (), is_one_of: int = 1) -> tuple[Path, float]:
        """Return the recording of an annotation file, and where in it the file's time starts (seconds).

        The search order is: in `audio`, if given; at the paths in `media`; beside the file, under the names in `media`
        and under the file's own name, unless the recording `is_one_of` several of this file. Raises AnadilError with
        the names that were looked for.
        """
        if is_one_of > 1 and self._audio is not None and self._audio.is_file():
            raise AnadilError(
                f"{file}: it names {is_one_of:,} recordings, and --audio is one\n  next: give the folder with its recordings"
            )
        if self._audio is not None and self._audio.is_file():
            return self._audio, _time_origin_of(self._audio, file, media)
        if self._audio is not None:
            for name, time_origin_s in _names(file, media, is_one_of == 1):
                if path := self._match(self._audio, name, file, deep=True):
                    return path, time_origin_s
        for medium in media:
            for path in _paths(medium.url):
                if recording := self._match((file.parent / path).parent, path.name, file):
                    return recording, medium.time_origin_s
        for name, time_origin_s in _names(file, media, is_one_of == 1):
            if path := self._match(file.parent, name, file):
                return path, time_origin_s
        raise AnadilError(self._not_found(file, media, is_one_of == 1))

    def _match(self, folder: Path, name: str, file: Path, deep: bool = False) -> Path | None:
        """The one recording of that name, with or without its suffix; None if there is none.

        A file that needs PyAV (m4a, video) is taken only if there is no other. Of several, it is the one whose folder has
        the same name as `file`'s folder. Raises AnadilError if that does not leave exactly one.
        """
        paths = self._named(folder, name, deep, EXTENSIONS) or self._named(folder, name, deep, MEDIA_EXTENSIONS)
        in_same_folder = [path for path in paths if path.parent.name == file.parent.name]
        if len(paths) > 1 and len(in_same_folder) != 1:
            raise AnadilError(
                f"{file}: several recordings are called {name}: {', '.join(map(str, paths[:3]))}\n"
                "  next: move the others to another folder, or give the right one with --audio"
            )
        return next(iter(paths if len(paths) == 1 else in_same_folder), None)

    def _named(self, folder: Path, name: str, deep: bool, suffixes: frozenset[str]) -> list[Path]:
        return [
            path
            for key in [_key(name), *(_key(name) + suffix for suffix in sorted(suffixes))]
            for path in self._listing(folder, deep).get(key, [])
            if path.suffix.lower() in suffixes
        ]

    def _listing(self, folder: Path, deep: bool) -> dict[str, list[Path]]:
        if (folder, deep) not in self._listings:
            listing: dict[str, list[Path]] = {}
            with contextlib.suppress(OSError, ValueError):  # a path from the annotation file that no folder can have
                for path in sorted(folder.rglob("*") if deep else folder.glob("*")):
                    if path.suffix.lower() in EXTENSIONS | MEDIA_EXTENSIONS and not path.name.startswith("._"):
                        listing.setdefault(_key(path.name), []).append(path)
            self._listings[folder, deep] = listing
        return self._listings[folder, deep]

    def _not_found(self, file: Path, media: Sequence[Media], with_own: bool) -> str:
        folder = self._audio or file.parent
        names = [name for name, _ in _names(file, media, with_own)]
        looked_for = ", ".join(dict.fromkeys(names))
        return (
            f"{file}: no recording found: looked for {looked_for} (.wav, .flac, .mp3, .ogg, .opus ...) in {folder}\n"
            "  next: give the recording, or the folder with it, with --audio"
        )


def _time_origin_of(audio: Path, file: Path, media: Sequence[Media]) -> float:
    """Where the file's time starts in a recording that the user gave, in seconds.

    It is the time origin of the media of the same name, or else the one that all named media share.
    """
    same_name = [item for item in media if any(_key(path.stem) == _key(audio.stem) for path in _paths(item.url))]
    origins = {item.time_origin_s for item in same_name or media}
    if len(origins) > 1:
        raise AnadilError(
            f"{file}: its recordings start at different times ({', '.join(f'{origin:g} s' for origin in sorted(origins))}), "
            f"and none is called {audio.name}\n  next: give a recording with one of the names in the file"
        )
    return origins.pop() if origins else 0.0


def _names(file: Path, media: Sequence[Media], with_own: bool) -> list[tuple[str, float]]:
    """Names to look for, each with its time origin: those in the file, then the file's own (`with_own`).

    A language suffix is also removed from the file's own name (talk.pt-BR.srt belongs to talk.wav). A video is looked
    for without its suffix: talk.wav beside talk.mp4 may be its audio track, with the same times.
    """
    names = []
    for item in media:
        for path in _paths(item.url):
            names.append(
                (
                    path.stem if path.suffix.lower() in MEDIA_EXTENSIONS else path.name,
                    item.time_origin_s,
                )
            )
    if not with_own:
        return names
    time_origin_s = media[0].time_origin_s if media else 0.0
    own = Path(file.stem.removesuffix(_SAYMORE_ENDING))
    names.append((own.stem if own.suffix.lower() in MEDIA_EXTENSIONS else own.name, time_origin_s))
    if _LANGUAGE_SUFFIX.search(file.stem):
        names.append((_LANGUAGE_SUFFIX.sub("", file.stem), time_origin_s))
    return names


def _paths(url: str) -> list[Path]:
    """The path in a path or file URL, as written and with "%20" decoded: programs write both.

    Of a path on a Windows drive, only the file name is left.
    """
    path = re.sub(r"^file:(?://[^/\\]*)?", "", url, flags=re.IGNORECASE).replace("\\", "/")
    path = re.sub(r"^/*[A-Za-z]:/(?:.*/)?", "", path)
    return [Path(spelling) for spelling in dict.fromkeys([path, unquote(path)])]


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def locate(name: str, folders: Sequence[Path]) -> Path | None:
    """The file that a corpus names by a path: absolute, or relative to the first of `folders` in which it exists.

    If there is no such file, backslashes are read as slashes (Windows). None if there is still none.
    """
    for spelling in dict.fromkeys([name, name.replace("\\", "/")]):
        for folder in folders:
            path = folder / Path(spelling).expanduser()
            with contextlib.suppress(OSError, ValueError):  # too long, or with a zero byte
                if path.is_file():
                    return path
    return None


def locate_with_suffix(name: str, folders: Sequence[Path]) -> Path | None:
    """As `locate`; if there is no such file, also tries the name with each audio suffix added, .wav first."""
    suffixes = ["", *sorted(EXTENSIONS, key=lambda suffix: (suffix != ".wav", suffix))]
    paths = (locate(name + suffix, folders) for suffix in suffixes)
    return next((path for path in paths if path is not None), None)


def safe_path(folder: Path, name: str) -> Path | None:
    """`folder`/`name`, or None if `name`, which comes from a downloaded file, leads out of the folder."""
    return folder.joinpath(*name.replace("\\", "/").split("/")) if is_inside(name) else None


def is_inside(name: str) -> bool:
    """Whether the relative path `name` stays inside the folder that it is relative to."""
    parts = name.replace("\\", "/").split("/")
    return name != "" and parts[0] != "" and ".." not in parts and ":" not in parts[0] and "\0" not in name
