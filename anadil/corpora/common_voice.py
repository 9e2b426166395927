"""Mozilla Common Voice, any release: clips/*.mp3 and one TSV per split.

The columns change between releases, so they are read by name. Release 5 added `locale`, `segment` and reported.tsv, 13
`variant`, 16.1 clip_durations.tsv, 17 `sentence_id`, `sentence_domain` and validated_sentences.tsv; `accent` became
`accents`. Since October 2025 the only source is Mozilla Data Collective, so `download` uses its client.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from anadil.corpora.archive import archives_in, unpack_if_archive
from anadil.corpora.download import Progress, RemoteFile, difference
from anadil.corpora.reader import Options, Reject
from anadil.corpora.recordings import is_inside
from anadil.corpora.text_files import raw_lines, stream_lines
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance
from anadil.sound_files import EXTENSIONS

_LICENSE = "CC0-1.0"
_SPLITS = ("train", "dev", "test", "validated", "other", "invalidated")
_SITE = "https://mozilladatacollective.com"

_TITLE = re.compile(r"Common Voice Scripted Speech (\d+(?:\.\d+)*) - ")
_MAPPED = ("client_id", "path", "sentence", "locale")
_COUNTS = ("up_votes", "down_votes")


def utterances(source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    """Yield the rows of all splits of one language's folder or archive, or of a single TSV.

    As in the release, a clip can be in several splits. Votes and all other columns that are not empty are kept in
    `extra`. Raises AnadilError if `source` is not a release of Common Voice, or has several languages.
    """
    folder, files = _release(unpack_if_archive(source, options.unpack_to), options)
    durations = _durations(folder / "clip_durations.tsv")
    reported = _reported(folder / "reported.tsv")
    sources = dict(_side_table(folder / "validated_sentences.tsv", "sentence_id", "source"))
    clips = str(folder / "clips")
    for file in files:
        split = file.stem
        for where, row in _read_rows(file, reject, required=("client_id", "path", "sentence")):
            clip = _clip_name(row["path"])
            if not is_inside(clip):
                reject(Problem(where, f"the clip's path is empty or leads out of the corpus: {row['path']!r}"))
                continue
            extra: dict[str, Any] = {"split": split, "license": _LICENSE}
            extra |= {key: _count(key, value) for key, value in row.items() if value and key not in _MAPPED}
            sentence_id = row.get("sentence_id", "")
            if sentence_id in sources:
                extra["sentence_source"] = sources[sentence_id]
            if reasons := reported.get(sentence_id) or reported.get(row["sentence"]):
                extra["reported"] = reasons
            yield Utterance(
                audio_filepath=f"{clips}{os.sep}{clip}",
                duration=durations.get(clip),
                text=row["sentence"],
                speaker=row["client_id"] or None,
                language=row.get("locale") or _language(clip, folder) or options.language,
                extra=extra,
                source=where,
            )


def _read_rows(path: Path, reject: Reject, required: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the place and the cells of each row of a TSV with a header; reject rows with another number of cells.

    Quotation marks are ordinary characters. The exception are files that a CSV writer wrote (releases 4 to 7, and
    others): there a field with quotation marks is quoted and its own marks are doubled. Raises AnadilError if a required
    column is missing.
    """
    quoted = _is_csv(path)
    names: list[str] = []
    for line in stream_lines(path, reject):
        cells = line.text.split("\t")
        if not names:
            names = cells
            if missing := [name for name in required if name not in names]:
                raise AnadilError(
                    f"{path}: no column {', '.join(missing)}; its columns are: {', '.join(names)[:200]}\n"
                    "  next: check that it is a file of Common Voice's scripted speech; for any other table: anadil import table"
                )
            continue
        if len(cells) != len(names):
            reject(Problem(line.where, f"{len(cells)} columns, but the header has {len(names)}"))
            continue
        if quoted:
            cells = [_unquote(cell) for cell in cells]
        yield line.where, dict(zip(names, cells, strict=True))


def _is_csv(path: Path) -> bool:
    """Whether some fields have quotation marks, and all of them as a CSV writer writes them."""
    has_quotes = False
    for _, raw in raw_lines(path):
        if b'"' not in raw:
            continue
        for cell in raw.split(b"\t"):
            if b'"' in cell:
                has_quotes = True
                if not _written_by_csv(cell.decode("utf-8", "replace")):
                    return False
    return has_quotes


def _written_by_csv(cell: str) -> bool:
    inner = cell[1:-1]
    return len(cell) > 3 and cell[0] == cell[-1] == '"' and '""' in inner and '"' not in inner.replace('""', "")


def _unquote(cell: str) -> str:
    return cell[1:-1].replace('""', '"') if _written_by_csv(cell) else cell


def _release(folder: Path, options: Options) -> tuple[Path, list[Path]]:
    """The folder of one language and its TSV files. Raises AnadilError if there is none, or several languages."""
    if folder.is_file() and folder.suffix.lower() == ".tsv":
        return folder.parent, [folder]
    if not folder.is_dir():
        raise AnadilError(f"{folder} is not a folder, archive or .tsv of Common Voice\n  next: check the path")
    languages = [inner for inner in _folders(folder, depth=3) if _tsv_files(inner)]
    if not languages:
        unpacked = [unpack_if_archive(archive, options.unpack_to) for archive in archives_in(folder)]
        languages = [inner for root in unpacked for inner in _folders(root, depth=3) if _tsv_files(inner)]
    if len(languages) > 1 and options.language:
        languages = [inner for inner in languages if inner.name == options.language]
    if len(languages) != 1:
        what = (
            f"several languages: {', '.join(sorted(inner.name for inner in languages))}\n  next: choose one with --lang"
            if languages
            else f"no {', '.join(f'{split}.tsv' for split in _SPLITS)}\n"
            "  next: give the folder with these files and clips/, or the archive as downloaded"
        )
        raise AnadilError(f"{folder} holds {what}")
    return languages[0], _tsv_files(languages[0])


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    yield folder
    if depth:
        with os.scandir(folder) as entries:
            inner = sorted(entry.name for entry in entries if entry.name != "clips" and entry.is_dir())
        for name in inner:
            yield from _folders(folder / name, depth - 1)


def _tsv_files(folder: Path) -> list[Path]:
    return [path for split in _SPLITS if (path := folder / f"{split}.tsv").is_file()]


def _clip_name(path: str) -> str:
    known = f".{path.rpartition('.')[2].lower()}" in EXTENSIONS
    return path if known or not path else f"{path}.mp3"


def _count(key: str, value: str) -> str | int:
    return int(value) if key in _COUNTS and value.isdecimal() else value


def _language(clip: str, folder: Path) -> str | None:
    """The language in the clip's name (common_voice_tr_17529550.mp3) or the folder's: cv-corpus-3_tr, cv-corpus-5-.../tr."""
    in_clip = re.match(r"common_voice_([A-Za-z]{2,3}(?:-[A-Za-z0-9]+)*)_", clip)
    if in_clip:
        return in_clip[1]
    in_folder = re.fullmatch(r"cv-corpus-[\d.-]+_([A-Za-z-]+)", folder.name)
    if in_folder:
        return in_folder[1]
    return folder.name if folder.parent.name.startswith("cv-corpus-") else None


def _durations(path: Path) -> dict[str, float]:
    """Duration in seconds by clip, from clip_durations.tsv (in milliseconds), which newer releases have."""
    rows = _side_table(path, "clip", "duration[ms]")
    return {clip: int(value) / 1000 for clip, value in rows if value.isdecimal() and int(value) > 0}


def _reported(path: Path) -> dict[str, list[str]]:
    """The reasons for which users reported a sentence, by the sentence's id and by its text."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for key in ("sentence_id", "sentence"):
        for reported, reason in _side_table(path, key, "reason"):
            if reported and reason not in reasons[reported]:
                reasons[reported].append(reason)
    return dict(reasons)


def _side_table(path: Path, key: str, value: str) -> Iterator[tuple[str, str]]:
    """Yield two columns of a table with additional facts about utterances.

    Not every release has the table or the columns, and users' free text breaks some of its rows. No utterance is lost by
    that, so rows that cannot be read are skipped without a report.
    """
    if path.is_file():
        with contextlib.suppress(AnadilError):
            for _, row in _read_rows(path, lambda problem: None, required=(key, value)):
                if row[value]:
                    yield row[key], row[value]


def download(language: str | None, parts: Sequence[str], out: Path, progress: Progress) -> list[Path]:
    """Download the newest release of a language with Mozilla's client, which resumes and shows its own progress.

    Raises AnadilError if the client is not installed, the key is missing or refused, the terms are not accepted, the
    language is unknown, or the archive does not have the published size and checksum.
    """
    client = _client()
    if not language:
        raise AnadilError("Common Voice has a corpus for each language\n  next: add --lang, for example --lang tr")
    title, page = "Common Voice", f"{_SITE}/datasets"
    try:
        chosen = _newest(client.list_datasets("Common Voice Scripted Speech", locale=language, results_per_page=100))
        if chosen is None:
            raise AnadilError(
                f"Mozilla Data Collective lists no Common Voice scripted speech for {language!r}\n"
                f"  next: find the language's code at {_SITE}/datasets (such as tr, fy-NL, zh-TW)"
            )
        title, page = chosen.name, chosen.get("datasetUrl") or f"{page}/{chosen.id}"
        out.mkdir(parents=True, exist_ok=True)
        with contextlib.redirect_stdout(sys.stderr):  # its progress bar does not belong on stdout, which is for results
            archive = Path(client.download_dataset(chosen.id, str(out), show_progress=sys.stderr.isatty()))
    except AnadilError:
        raise
    except PermissionError as error:
        raise AnadilError(
            f"the terms of {title} are not accepted yet, or {out} cannot be written: {error}\n"
            f"  next: sign in at {page}, agree to its terms there, and run the same command again"
        ) from error
    except Exception as error:  # the client changes often, and its library raises errors of its own
        raise _client_error(error) from error
    if problem := difference(RemoteFile(page, archive.name, chosen.get("sizeBytes"), _checksum(chosen)), archive):
        raise AnadilError(f"{archive} is not as published: {problem}\n  next: delete it and run the same command again")
    return [archive]


def _client() -> Any:
    try:
        client = importlib.import_module(
            "datacollective"
        )  # importing it reads a .env file, so the key is checked afterwards
    except ImportError:
        raise AnadilError(
            "Common Voice is downloaded with Mozilla's client, which is not installed\n"
            "  next: pip install 'anadil[common-voice]', or download the archive in a browser from\n"
            f"  {_SITE}/datasets and import it: anadil import common-voice ARCHIVE.tar.gz --out DIR"
        ) from None
    if not os.environ.get("MDC_API_KEY", "").strip():
        raise AnadilError(
            "downloading Common Voice needs a key of your own, and the environment has no MDC_API_KEY\n"
            f"  next: sign up at {_SITE}, agree to the terms on the page of the dataset, create a key\n"
            f"  ({_SITE}/api-reference), set it (export MDC_API_KEY=...), and run the same command again"
        )
    return client


def _newest(datasets: Any) -> Any:
    """The dataset with the highest release number. Datasets derived from Common Voice have other titles."""
    releases = [(match, item) for item in datasets if (match := _TITLE.match(item.name or ""))]
    return max(releases, key=lambda pair: [int(part) for part in pair[0][1].split(".")], default=(None, None))[1]


def _checksum(dataset: Any) -> str | None:
    checksum = str(dataset.get("checksum") or "")
    method = {64: "sha256", 32: "md5"}.get(len(checksum)) if re.fullmatch("[0-9a-fA-F]+", checksum) else None
    return f"{method}:{checksum}" if method else None


def _client_error(error: Exception) -> AnadilError:
    if type(error).__name__ == "AuthenticationError":
        return AnadilError(
            f"Mozilla Data Collective does not accept the key in MDC_API_KEY: {error}\n"
            f"  next: create a new one, see {_SITE}/api-reference"
        )
    return AnadilError(
        f"Mozilla's client failed: {error or type(error).__name__}\n"
        "  next: run the same command again (it resumes where it stopped), or download the archive in a browser from\n"
        f"  {_SITE}/datasets and import it: anadil import common-voice ARCHIVE.tar.gz --out DIR"
    )
