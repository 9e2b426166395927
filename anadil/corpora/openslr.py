"""Corpora of OpenSLR with recordings and an index: a TSV without a header that names recordings without their suffix.

line_index.tsv has lines `afr_0184_0012345678<TAB>text` (SLR32, 41 to 44, 61 to 86); some lines have a third, often empty
column in the middle. utt_spk_text.tsv has lines `000020a9df<TAB>speaker<TAB>text` (SLR35, 36, 52 to 54).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from anadil.corpora.archive import archives_in, unpack_if_archive
from anadil.corpora.download import Progress, RemoteFile, fetch_all, read_page
from anadil.corpora.reader import Options, Reject
from anadil.corpora.recordings import safe_path
from anadil.corpora.text_files import Line, stream_lines
from anadil.errors import AnadilError, Problem
from anadil.files import whole_file
from anadil.manifest import Utterance
from anadil.sound_files import EXTENSIONS

_LICENSE = "CC-BY-SA-4.0"  # of all sets that `download` offers
_ROOT = "https://www.openslr.org/resources"
_INFO_FILE = "openslr.json"  # beside the downloaded files: which set they are of

_GOOGLE = {  # high-quality multi-speaker sets: LANGUAGE_COUNTRY_GENDER.zip
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
}  # asr_NAME_0.zip to asr_NAME_f.zip
_CROWD_WITH_CHECKSUMS = (35, 36)  # in asr_NAME.sha256

_SPEAKER = re.compile(r"([a-z]{2,3}_\d{4,5})_\d+")
"""Files of Google's multi-speaker sets are named LANGUAGE_SPEAKER_NUMBER; published recipes take utt2spk from it."""

_LANGUAGE_FOLDER = re.compile(r"([a-z]{2,3})_[a-z]{2}(?:_(?:fe)?male)?")
_LICENSES = {
    "Attribution-ShareAlike 4.0": "CC-BY-SA-4.0",
    "Attribution 4.0": "CC-BY-4.0",
    "Attribution-NonCommercial 4.0": "CC-BY-NC-4.0",
    "CC0 1.0": "CC0-1.0",
    "Apache License": "Apache-2.0",
}


def utterances(source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    """Yield the lines of all index files below `source`, a folder, an archive or one .tsv file.

    The recordings are found by their names anywhere below the same folder. Raises AnadilError if there is no index file.
    """
    roots = _roots(source, options)
    recordings: dict[str, list[Path]] = {}
    indexes = [source] if source.is_file() and source.suffix.lower() == ".tsv" else []
    for root in roots:
        for folder, inner, files in os.walk(root):
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            for path in (Path(folder, name) for name in sorted(files) if not name.startswith(".")):
                if path.suffix.lower() in EXTENSIONS:
                    recordings.setdefault(path.stem, []).append(path)
                elif _is_index(path.name) and not (source.is_file() and indexes):
                    indexes.append(path)
    if not indexes:
        raise AnadilError(
            f"{source} holds no index file of OpenSLR: line_index*.tsv or utt_spk_text.tsv\n"
            "  next: check the path, give the .tsv itself, or for any other table: anadil import table"
        )
    language, license_extra = _language_and_license(roots, options)
    texts: dict[str, str] = {}
    for index in indexes:
        gender = re.search("female|male", index.stem)
        for line in stream_lines(index, reject):
            utterance = _read_line(line, index, recordings, reject)
            if utterance is None or _is_duplicate(utterance, texts, line, reject):
                continue
            extra = license_extra | ({"gender": gender[0]} if gender else {}) | utterance.extra
            yield replace(utterance, language=language, extra=extra, source=line.where)


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
    """Parse a line and find its recording. Returns None if the line was rejected."""
    name, *cells = (cell.strip() for cell in line.text.split("\t"))
    filled = [cell for cell in cells if cell]
    with_speaker = "utt_spk_text" in index.name.lower()
    if safe_path(index.parent, name) is None or not 1 + with_speaker <= len(filled) <= 2:
        shape = "file, speaker and text" if with_speaker else "file and text"
        reject(Problem(line.where, f"expected {shape}, with tabs between: {line.text[:80]!r}"))
        return None
    stem = Path(name).stem if Path(name).suffix.lower() in EXTENSIONS else name.rpartition("/")[2]
    candidates = recordings.get(stem, [])
    below_index = [path for path in candidates if path.is_relative_to(index.parent)]
    candidates = below_index if len(below_index) == 1 else candidates
    if len(candidates) != 1:
        what = f"several recordings: {candidates[0]}, {candidates[1]}" if candidates else "no recording"
        reject(Problem(line.where, f"{what} named {stem} (with any audio suffix, in any folder)"))
        return None
    middle = filled[0] if len(filled) == 2 else None
    is_speaker = middle is not None and (with_speaker or not re.search(r"\s", middle))
    prefix = _SPEAKER.fullmatch(stem)
    return Utterance(
        audio_filepath=str(candidates[0]),
        text=filled[-1],
        speaker=middle if is_speaker else prefix[1] if prefix else None,
        extra={"column_2": middle} if middle and not is_speaker else {},
    )


def _is_duplicate(utterance: Utterance, texts: dict[str, str], line: Line, reject: Reject) -> bool:
    """Whether the recording already has a text: an archive may contain the index that is also beside it.

    A different text is rejected.
    """
    earlier = texts.get(utterance.audio_filepath)
    if earlier is None:
        texts[utterance.audio_filepath] = utterance.text
        return False
    if earlier != utterance.text:
        reject(Problem(line.where, f"another line gives {Path(utterance.audio_filepath).name} the text {earlier!r}"))
    return True


def _language_and_license(roots: list[Path], options: Options) -> tuple[str | None, dict[str, str]]:
    """The language and the licence: as downloaded, or else from folder names and from a file LICENSE."""
    info: dict[str, object] = {}
    for root in roots:
        try:
            content = json.loads((root / _INFO_FILE).read_text(encoding="utf-8"))
            info = content if isinstance(content, dict) else {}
            break
        except (OSError, ValueError):
            continue
    names = [name for root in roots for name in (root.name, *(path.name for path in root.iterdir() if path.is_dir()))]
    languages = {match[1] for name in names if (match := _LANGUAGE_FOLDER.fullmatch(name))}
    language = info.get("language") or (languages.pop() if len(languages) == 1 else None) or options.language
    license_id = info.get("license") or next((spdx for root in roots if (spdx := _license(root))), None)
    return str(language) if language else None, {"license": str(license_id)} if license_id else {}


def _license(root: Path) -> str | None:
    """The SPDX identifier of the licence that the first file LICENSE names."""
    for path in sorted(root.rglob("LICENSE*")):
        if path.is_file():
            text = path.read_bytes()[:20_000].decode("utf-8", "replace")
            return next((spdx for words, spdx in _LICENSES.items() if words in text), None)
    return None


def download(language: str | None, parts: Sequence[str], out: Path, progress: Progress) -> list[Path]:
    """Download one set (`--part SLR41`), or the only set of a language. Raises AnadilError."""
    number = _choose_set(language, parts)
    files = [RemoteFile(f"{_ROOT}/{number}/{name}", name) for name in _files(number, language)]
    if number in _CROWD_WITH_CHECKSUMS:
        sums = read_page(f"{_ROOT}/{number}/asr_{_CROWD[number].split()[1]}.sha256").decode("utf-8", "replace")
        checksums = {
            name.rpartition("/")[2]: checksum
            for checksum, name in re.findall(r"(?m)^([0-9a-f]{64})[ \t*]+(\S+)$", sums)
        }
        files = [
            RemoteFile(file.url, file.name, None, f"sha256:{checksums[file.name]}") if file.name in checksums else file
            for file in files
        ]
    paths = fetch_all(files, out, progress)
    info = {"set": f"SLR{number}", "language": language or _languages(number)[0], "license": _LICENSE}
    with whole_file(out / _INFO_FILE) as beside:
        beside.write_text(json.dumps(info), encoding="utf-8")
    return paths


def _choose_set(language: str | None, parts: Sequence[str]) -> int:
    """The number of the set. Raises AnadilError with a list of the sets if it is not exactly one."""
    numbers = sorted({*_GOOGLE, *_CROWD})
    if len(parts) > 1:
        raise AnadilError(
            "only one set of OpenSLR can be downloaded at a time\n"
            "  next: run the command once per --part, each time with another --out"
        )
    if parts:
        number_part = parts[0].upper().removeprefix("SLR")
        numbers = [number for number in numbers if str(number) == number_part]
    if language:
        numbers = [number for number in numbers if language in _languages(number)]
    if len(numbers) == 1 and (language or len(_languages(numbers[0])) == 1):
        return numbers[0]
    sets = [f"SLR{number} ({', '.join(_languages(number))})" for number in numbers or sorted({*_GOOGLE, *_CROWD})]
    wanted = " ".join([*parts, *([language] if language else [])])
    what = "several sets match" if numbers else f"{wanted!r} matches none of the sets that Anadil can download"
    raise AnadilError(
        f"{what}: {', '.join(sets)}\n"
        "  next: choose one, for example with --part SLR41, and with --lang if it has several languages"
    )


def _languages(number: int) -> list[str]:
    if number in _CROWD:
        return [_CROWD[number].split()[0]]
    return [place.partition("_")[0] for place in _GOOGLE[number].split()]


def _files(number: int, language: str | None) -> list[str]:
    """The files of a set, as its page lists them."""
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
