"""Corpora of OpenSLR that are a TSV without a header and a heap of recordings, named without their suffix.

line_index.tsv: `afr_0184_0012345678<TAB>text` (SLR32, 41 to 44, 61 to 86; some lines have a third, often empty column in
the middle). utt_spk_text.tsv: `000020a9df<TAB>speaker<TAB>text` (SLR35, 36, 52 to 54).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from anadil import audio
from anadil.corpora.archive import archives_in, unpack_if_archive
from anadil.corpora.download import Progress, RemoteFile, fetch_all, read_page
from anadil.corpora.reader import Options, Reject
from anadil.corpora.recordings import safe_path
from anadil.corpora.text_files import Line, stream_lines
from anadil.errors import AnadilError, Problem
from anadil.files import whole_file
from anadil.manifest import Utterance

LICENSE = "CC-BY-SA-4.0"  # of all sets that are fetched here
ROOT = "https://www.openslr.org/resources"
NOTE = "openslr.json"  # what was fetched, beside it

_GOOGLE = {  # multi-speaker recordings of good quality: LANGUAGE_COUNTRY_GENDER.zip
    32: "af_za st_za tn_za xh_za", 41: "jv_id", 42: "km_kh", 43: "ne_np", 44: "su_id", 61: "es_ar", 63: "ml_in",
    64: "mr_in", 65: "ta_in", 66: "te_in", 69: "ca_es", 70: "en_ng", 71: "es_cl", 72: "es_co", 73: "es_pe", 74: "es_pr",
    75: "es_ve", 76: "eu_es", 77: "gl_es", 78: "gu_in", 79: "kn_in", 80: "my_mm", 86: "yo_ng",
}  # fmt: skip
_ONE_GENDER = {42: "male", 43: "female", 64: "female", 74: "female", 80: "female"}
_CROWD = {
    35: "jv javanese",
    36: "su sundanese",
    52: "si sinhala",
    53: "bn bengali",
    54: "ne nepali",
}  # asr_NAME_0.zip to f
_CROWD_SUMS = (35, 36)  # that have asr_NAME.sha256

_SPEAKER = re.compile(r"([a-z]{2,3}_\d{4,5})_\d+")
"""Google's multi-speaker sets name a file LANGUAGE_SPEAKER_NUMBER; published recipes for them make utt2spk of it."""

_PLACE = re.compile(r"([a-z]{2,3})_[a-z]{2}(?:_(?:fe)?male)?")
_LICENSES = {
    "Attribution-ShareAlike 4.0": "CC-BY-SA-4.0",
    "Attribution 4.0": "CC-BY-4.0",
    "Attribution-NonCommercial 4.0": "CC-BY-NC-4.0",
    "CC0 1.0": "CC0-1.0",
    "Apache License": "Apache-2.0",
}


def utterances(source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    """All index files below `source`, a folder, an archive or one .tsv; recordings are found by name anywhere below it.

    Raises AnadilError if there is no index file.
    """
    roots = _roots(source, options)
    recordings: dict[str, list[Path]] = {}
    indexes = [source] if source.is_file() and source.suffix.lower() == ".tsv" else []
    for root in roots:
        for folder, inner, files in os.walk(root):
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            for path in (Path(folder, name) for name in sorted(files) if not name.startswith(".")):
                if path.suffix.lower() in audio.EXTENSIONS:
                    recordings.setdefault(path.stem, []).append(path)
                elif _is_index(path.name) and not (source.is_file() and indexes):
                    indexes.append(path)
    if not indexes:
        raise AnadilError(
            f"{source} holds no index as OpenSLR's: line_index*.tsv or utt_spk_text.tsv\n"
            "  next: check the path, give the .tsv itself, or for any other table: anadil import table"
        )
    shared = _told(roots, options)
    texts: dict[str, str] = {}
    for index in indexes:
        gender = re.search("female|male", index.stem)
        for line in stream_lines(index, reject):
            found = _read_line(line, index, recordings, reject)
            if found is None or _said_before(found, texts, line, reject):
                continue
            language, extra = shared
            yield Utterance(
                audio_filepath=found.audio_filepath,
                text=found.text,
                speaker=found.speaker,
                language=language,
                extra=extra | ({"gender": gender[0]} if gender else {}) | found.extra,
                source=line.where,
            )


def _roots(source: Path, options: Options) -> list[Path]:
    if source.is_file() and source.suffix.lower() == ".tsv":
        source = source.parent
    roots = [unpack_if_archive(source, options.unpack_to)]
    if not roots[0].is_dir():
        raise AnadilError(f"{source} is not a folder, archive or .tsv\n  next: check the path")
    inside = (unpack_if_archive(archive, options.unpack_to) for archive in archives_in(roots[0]))
    return roots + [folder for folder in inside if not folder.is_relative_to(roots[0])]


def _is_index(name: str) -> bool:
    return re.fullmatch(r"(?i).*(line_index|utt_spk_text).*\.tsv", name) is not None


def _read_line(line: Line, index: Path, recordings: dict[str, list[Path]], reject: Reject) -> Utterance | None:
    """Name, text and perhaps speaker; None if the line was rejected."""
    name, *cells = (cell.strip() for cell in line.text.split("\t"))
    filled = [cell for cell in cells if cell]
    with_speaker = "utt_spk_text" in index.name.lower()
    if safe_path(index.parent, name) is None or not 1 + with_speaker <= len(filled) <= 2:
        shape = "file, speaker and text" if with_speaker else "file and text"
        reject(Problem(line.where, f"expected {shape}, parted by tabs: {line.text[:80]!r}"))
        return None
    stem = Path(name).stem if Path(name).suffix.lower() in audio.EXTENSIONS else name.rpartition("/")[2]
    found = recordings.get(stem, [])
    near = [path for path in found if path.is_relative_to(index.parent)]
    found = near if len(near) == 1 else found
    if len(found) != 1:
        what = f"several recordings: {found[0]}, {found[1]}" if found else "no recording"
        reject(Problem(line.where, f"{what} named {stem} (with any suffix of audio, in any folder)"))
        return None
    middle = filled[0] if len(filled) == 2 else None
    is_speaker = middle is not None and (with_speaker or not re.search(r"\s", middle))
    prefix = _SPEAKER.fullmatch(stem)
    return Utterance(
        audio_filepath=str(found[0]),
        text=filled[-1],
        speaker=middle if is_speaker else prefix[1] if prefix else None,
        extra={"column_2": middle} if middle and not is_speaker else {},
    )


def _said_before(found: Utterance, texts: dict[str, str], line: Line, reject: Reject) -> bool:
    """An archive may hold the index that is also beside it."""
    before = texts.get(found.audio_filepath)
    if before is None:
        texts[found.audio_filepath] = found.text
        return False
    if before != found.text:
        reject(Problem(line.where, f"another line gives {Path(found.audio_filepath).name} the text {before!r}"))
    return True


def _told(roots: list[Path], options: Options) -> tuple[str | None, dict[str, str]]:
    """Language and licence: as fetched, else from the names of folders and archives, and from a file LICENSE."""
    note: dict[str, object] = {}
    for root in roots:
        try:
            content = json.loads((root / NOTE).read_text(encoding="utf-8"))
            note = content if isinstance(content, dict) else {}
            break
        except (OSError, ValueError):
            continue
    names = [name for root in roots for name in (root.name, *(path.name for path in root.iterdir() if path.is_dir()))]
    places = {match[1] for name in names if (match := _PLACE.fullmatch(name))}
    language = note.get("language") or (places.pop() if len(places) == 1 else None) or options.language
    known = note.get("license") or next((found for root in roots if (found := _license(root))), None)
    return str(language) if language else None, {"license": str(known)} if known else {}


def _license(root: Path) -> str | None:
    for path in sorted(root.rglob("LICENSE*")):
        if path.is_file():
            text = path.read_bytes()[:20_000].decode("utf-8", "replace")
            return next((spdx for words, spdx in _LICENSES.items() if words in text), None)
    return None


def download(language: str | None, parts: Sequence[str], out: Path, progress: Progress) -> list[Path]:
    """Fetch one set (`--part SLR41`), or the only one there is in a language. Raises AnadilError."""
    number = _choose(language, parts)
    files = [RemoteFile(f"{ROOT}/{number}/{name}", name) for name in _files(number, language)]
    if number in _CROWD_SUMS:
        sums = read_page(f"{ROOT}/{number}/asr_{_CROWD[number].split()[1]}.sha256").decode("utf-8", "replace")
        listed = {
            name.rpartition("/")[2]: found for found, name in re.findall(r"(?m)^([0-9a-f]{64})[ \t*]+(\S+)$", sums)
        }
        files = [
            RemoteFile(file.url, file.name, None, f"sha256:{listed[file.name]}") if file.name in listed else file
            for file in files
        ]
    fetched = fetch_all(files, out, progress)
    told = {"set": f"SLR{number}", "language": language or _languages(number)[0], "license": LICENSE}
    with whole_file(out / NOTE) as beside:
        beside.write_text(json.dumps(told), encoding="utf-8")
    return fetched


def _choose(language: str | None, parts: Sequence[str]) -> int:
    """Number of the set. Raises AnadilError with what there is."""
    numbers = sorted({*_GOOGLE, *_CROWD})
    if len(parts) > 1:
        raise AnadilError("one set of OpenSLR at a time\n  next: give --part once, each with its own --out")
    if parts:
        wanted = parts[0].upper().removeprefix("SLR")
        numbers = [number for number in numbers if str(number) == wanted]
    if language:
        numbers = [number for number in numbers if language in _languages(number)]
    if len(numbers) == 1 and (language or len(_languages(numbers[0])) == 1):
        return numbers[0]
    sets = [f"SLR{number} ({', '.join(_languages(number))})" for number in numbers or sorted({*_GOOGLE, *_CROWD})]
    asked = " ".join([*parts, *([language] if language else [])])
    what = "several sets fit" if numbers else f"nothing fits {asked!r} among the sets that Anadil can fetch"
    raise AnadilError(f"{what}: {', '.join(sets)}\n  next: choose with --part SLR41 and, of several languages, --lang")


def _languages(number: int) -> list[str]:
    if number in _CROWD:
        return [_CROWD[number].split()[0]]
    return [place.partition("_")[0] for place in _GOOGLE[number].split()]


def _files(number: int, language: str | None) -> list[str]:
    """As the set's page lists them."""
    if number in _CROWD:
        name = _CROWD[number].split()[1]
        return ["LICENSE", "utt_spk_text.tsv", *(f"asr_{name}_{part}.zip" for part in "0123456789abcdef")]
    if number == 32:
        return [f"{place}.tar.gz" for place in _GOOGLE[32].split() if place.startswith(f"{language}_")]
    genders = [_ONE_GENDER[number]] if number in _ONE_GENDER else ["female", "male"]
    archives = [f"{_GOOGLE[number]}_{gender}.zip" for gender in genders]
    if number <= 44:
        return ["LICENSE", *archives]
    indexes = ["line_index.tsv"] if number == 64 else [f"line_index_{gender}.tsv" for gender in genders]
    return ["LICENSE", *indexes, *archives]
