"""NeMo's manifests, which are Anadil's own: a file, or several in a folder as splits."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from anadil.corpora.reader import Options, Reject
from anadil.corpora.recordings import locate
from anadil.corpora.segments import find_files
from anadil.corpora.text_files import read_lines
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance, parse_line

SUFFIXES = (".json", ".jsonl", ".ndjson")
_SHARDS = re.compile(r"_OP_.*_CL_|\{\d+\.\.\d+\}")  # audio_{0..127}.tar


def utterances(source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    """A manifest, or all in a folder, each a split called after its file ("train_manifest.json" is "train").

    Keys that Anadil does not know stay in `extra`; `lang` is the language if there is no `language`. A relative path is
    relative to the manifest, or to `options.audio`. Tarred data sets are refused: their audio is in no file of its own.
    """
    if _SHARDS.search(str(source)):
        raise _tarred(source)
    files = find_files(source, SUFFIXES)
    n_found = 0
    for file in files:
        for utterance in _utterances(file, options, reject):
            n_found += 1
            split = {} if source.is_file() else {"split": _split(file, source)}
            yield replace(utterance, extra=utterance.extra | split)
    if not n_found:
        raise AnadilError(f"no utterance in {source}\n  next: check what wrote it")


def _utterances(file: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    for number, line in read_lines(file):
        where = f"{file}:{number}"
        try:
            found = parse_line(line.encode(), str(file.parent), where)
        except ValueError as error:
            reject(Problem(where, str(error)))
            continue
        written = os.path.relpath(found.audio_filepath, file.parent)
        audio = locate(written, [file.parent, *([options.audio] if options.audio else [])])
        if audio is None and ("shard_id" in found.extra or _SHARDS.search(written)):
            raise _tarred(file)
        lang = found.extra.get("lang")
        language = found.language or (lang if isinstance(lang, str) and lang else options.language)
        if not found.text.strip():
            reject(Problem(where, "no text"))
            continue
        yield replace(found, audio_filepath=str(audio or found.audio_filepath), language=language)


def _split(file: Path, folder: Path) -> str:
    name = "-".join(file.relative_to(folder).with_suffix("").parts)
    return re.sub(r"[-_.]?manifest[-_.]?", "", name) or name


def _tarred(source: Path) -> AnadilError:
    return AnadilError(
        f"{source}: a tarred data set, whose audio is inside audio_0.tar, audio_1.tar ...\n"
        "  next: unpack the tar files into one folder, and give it with --audio"
    )
