"""VoxForge: one folder or .tgz per upload, with wav/ or flac/ beside etc/PROMPTS and etc/prompts-original.

prompts-original has the sentence as the speaker saw it ("ar-01 Bir şey söyle."). PROMPTS has it in capitals, without
punctuation and with a path ("ayse-20090325-abc/mfc/ar-01 BİR ŞEY SÖYLE"). Speakers read the same sentences, and the
corpus has no splits: make them with `anadil split`.
"""

from __future__ import annotations

import codecs
import html
import os
import re
import urllib.parse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anadil.corpora.archive import archives_in, unpack_if_archive
from anadil.corpora.download import Progress, RemoteFile, fetch_all, read_page
from anadil.corpora.reader import Options, Reject
from anadil.corpora.text_files import raw_lines
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance

_LICENSE = "GPL-3.0-or-later"
_ROOT = "http://www.repository.voxforge1.org/downloads"
_FOLDERS = {"en": "SpeechCorpus", "nl": "Dutch", "ru": "Russian"} | {
    code: code for code in ("bg", "ca", "de", "el", "es", "fa", "fr", "he", "hr", "it", "pt", "sq", "tr", "uk", "zh")
}

_UPLOAD = re.compile(r"(?P<user>.+)-(?P<date>\d{8})-\w+")
_ANONYMOUS = re.compile(r"(?i)anonym(e|ous|us)?|an[oó]nimo|anoniem")
_PROMPTS = ("prompts-original", "prompts")  # the better first; the case of the names varies
_README = {
    "gender": re.compile(r"(?im)^\s*(?:gender|geschlecht|sexe|sexo|sesso|geslacht)\s*:\s*(.+)$"),
    "age": re.compile(r"(?im)^\s*age range\s*:\s*(.+)$"),
    "dialect": re.compile(r"(?im)^\s*pronunciation dialect\s*:\s*(.+)$"),
    "language": re.compile(r"(?im)^\s*(?:language|sprache|langue|idioma|lingua|taal)\s*:\s*\W*([A-Za-z]{2,3})\b"),
}
_LEGACY_ENCODINGS = {  # of prompts from before UTF-8, for languages that had one common encoding
    **dict.fromkeys(("ca", "de", "en", "es", "fr", "it", "nl", "pt", "sq"), "cp1252"),
    **{"el": "cp1253", "fa": "cp1256", "he": "cp1255", "hr": "cp1250", "tr": "cp1254"},
}


@dataclass(frozen=True)
class _Upload:
    """One upload of one speaker."""

    folder: Path
    recordings: dict[str, Path]  # by id
    prompts: list[Path]
    about: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def speaker(self) -> str:
        """The user name. Each anonymous upload counts as a speaker of its own, as its speaker is not known."""
        match = _UPLOAD.fullmatch(self.name)
        return self.name if match is None or _ANONYMOUS.fullmatch(match["user"]) else match["user"]


def utterances(source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    """Yield the utterances of all uploads below `source`, unpacked or archives. Raises AnadilError if there is none."""
    n_uploads = 0
    for folder in _upload_folders(source, options, reject):
        n_uploads += 1
        yield from _read_upload(_open_upload(folder), options, reject)
    if n_uploads == 0:
        raise AnadilError(
            f"{source} holds no uploads of VoxForge: looked for folders and .tgz files with wav/ or flac/ and etc/\n"
            "  next: check the path, or download some: anadil download voxforge --lang en --out DIR"
        )


def _upload_folders(source: Path, options: Options, reject: Reject) -> Iterator[Path]:
    """Yield the folder of each upload once, wherever its archive was unpacked: OUT may be below the source."""
    seen: dict[str, Path] = {}
    for root in (source, *_unpacked_roots(source, options, reject)):
        for name, inner, _ in os.walk(root):
            inner[:] = sorted(child for child in inner if not child.startswith("."))
            has_speech = any(child.lower() in ("wav", "flac") for child in inner)
            folder = Path(name)
            if has_speech or any(child.lower() == "etc" and _prompt_files(folder / child) for child in inner):
                inner.clear()
                known = folder.name if _UPLOAD.fullmatch(folder.name) else os.path.realpath(folder)
                first = seen.setdefault(known, folder)
                if first is folder:
                    yield folder
                elif os.path.realpath(first) != os.path.realpath(folder):
                    reject(Problem(str(folder), f"the same upload is in {first} too, and was read there"))


def _unpacked_roots(source: Path, options: Options, reject: Reject) -> Iterator[Path]:
    if not source.is_dir():
        yield unpack_if_archive(source, options.unpack_to)
        return
    for name, inner, _ in os.walk(source):
        inner[:] = sorted(
            child for child in inner if not child.startswith(".") and child.lower() not in ("wav", "flac", "etc")
        )
        unpack_to = options.unpack_to / os.path.relpath(name, source) if options.unpack_to else None
        for archive in archives_in(Path(name)):
            try:
                yield unpack_if_archive(archive, unpack_to)
            except AnadilError as error:  # one damaged upload of thousands must not stop the import
                reject(Problem(str(archive), str(error).partition("\n")[0]))


def _open_upload(folder: Path) -> _Upload:
    recordings: dict[str, Path] = {}
    prompts: list[Path] = []
    about: dict[str, str] = {}
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        if inner.name.lower() in ("wav", "flac"):
            files = sorted(path for path in inner.iterdir() if path.suffix.lower() in (".wav", ".flac"))
            recordings |= {path.stem: path for path in files if not path.name.startswith("._")}  # wav replaces flac
        elif inner.name.lower() == "etc":
            prompts += _prompt_files(inner)
            readme = next((path for path in inner.iterdir() if path.name.lower() in ("readme", "readme.txt")), None)
            text = readme.read_bytes().decode("utf-8", "replace") if readme else ""
            fields = {key: match[1].strip() for key, pattern in _README.items() if (match := pattern.search(text))}
            about |= {key: value for key, value in fields.items() if value and "\ufffd" not in value}
    return _Upload(folder, recordings, prompts, about)


def _prompt_files(etc: Path) -> list[Path]:
    files = {path.name.lower().removesuffix(".txt"): path for path in sorted(etc.iterdir())}
    return [files[name] for name in _PROMPTS if name in files]


def _read_upload(upload: _Upload, options: Options, reject: Reject) -> Iterator[Utterance]:
    language = options.language or upload.about.get("language", "").lower() or None
    texts: dict[str, tuple[str, str, str]] = {}  # place, text and encoding by id
    for path in upload.prompts:
        for recording, where, text, encoding in _read_prompts(path, language, reject):
            texts.setdefault(recording, (where, text, encoding))
    by_name = {recording.lower(): recording for recording in upload.recordings}
    about = {key: value for key, value in upload.about.items() if key != "language"}
    used = set()
    for recording, (where, text, encoding) in texts.items():
        name = recording if recording in upload.recordings else by_name.get(recording.lower())
        if name is None:
            reject(Problem(where, f"prompt without a recording: {recording} in {upload.name}"))
            continue
        used.add(name)
        yield Utterance(
            audio_filepath=str(upload.recordings[name]),
            text=text,
            speaker=upload.speaker,
            language=language,
            extra={"license": _LICENSE, "upload": upload.name}
            | about
            | ({} if encoding == "utf-8" else {"encoding": encoding}),
            source=where,
        )
    for name in upload.recordings.keys() - used:
        reject(Problem(str(upload.recordings[name]), "recording without a prompt"))


def _read_prompts(path: Path, language: str | None, reject: Reject) -> Iterator[tuple[str, str, str, str]]:
    """Yield the recording's id, the place, the text and the encoding of each prompt."""
    for where, raw in _prompt_lines(path):
        encoding = "utf-8"
        try:
            line = raw.decode(encoding)
        except UnicodeDecodeError:
            encoding = _LEGACY_ENCODINGS.get(language or "en", "")
            try:
                line = raw.decode(encoding or "ascii")
            except UnicodeDecodeError:
                tried = f" nor {encoding}" if encoding else f"; the older encoding of {language!r} is not known"
                reject(Problem(where, f"not UTF-8{tried}: convert it with iconv"))
                continue
        recording, _, text = line.strip().partition("\t" if re.match(r"\s*\S+\t", line) else " ")
        recording = re.sub(r"(?i)\.(wav|flac|mfc)$", "", recording.replace("\\", "/").rpartition("/")[2])
        if recording and text.strip():
            yield recording, where, text.strip(), encoding
        elif line.strip():
            reject(Problem(where, f"no text after the name of the recording: {line.strip()[:80]!r}"))


def _prompt_lines(path: Path) -> Iterator[tuple[str, bytes]]:
    with open(path, "rb") as file:
        mark = file.read(2)
    if mark not in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        yield from raw_lines(path)
        return
    for number, line in enumerate(path.read_bytes().decode("utf-16", "replace").split("\n"), start=1):
        yield f"{path}:{number}", line.strip("\r").encode()


def download(language: str | None, parts: Sequence[str], out: Path, progress: Progress) -> list[Path]:
    """Download all uploads of a language at 16 kHz, one .tgz each. Raises AnadilError."""
    if language not in _FOLDERS:
        raise AnadilError(
            f"VoxForge has no language {language!r}; it has: {', '.join(sorted(_FOLDERS))}\n  next: choose one with --lang"
        )
    folder = f"{_ROOT}/{_FOLDERS[language]}/Trunk/Audio/Main/16kHz_16bit/"
    page = read_page(folder).decode("utf-8", "replace")
    links = (html.unescape(link) for link in re.findall(r"""(?i)href\s*=\s*["']?([^"' >]+\.tgz)\b""", page))
    names = {urllib.parse.unquote(link.rpartition("/")[2]): link for link in links}
    if not names:
        raise AnadilError(
            f"{folder} lists no .tgz files\n  next: open it in a browser, to see whether VoxForge has moved"
        )
    files = [
        RemoteFile(urllib.parse.urljoin(folder, link), name)
        for name, link in sorted(names.items())
        if _is_file_name(name)
    ]
    return fetch_all(files, out, progress)


def _is_file_name(name: str) -> bool:
    return re.fullmatch(r"[^/\\\0]+", name) is not None and not name.startswith(".")
