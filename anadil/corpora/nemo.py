"""NeMo's manifests, the format that Anadil uses itself: a file, or several files in a folder, which are the splits."""

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
from anadil.manifest import Utterance, parse_line, refuse_other_layouts

_SUFFIXES = (".json", ".jsonl", ".ndjson")
_LOOKED_AT = 1000  # lines, to tell whether it is a manifest
_SHARDS = re.compile(r"_OP_.*_CL_|\{\d+\.\.\d+\}")  # audio_{0..127}.tar


def utterances(source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    """Yield the utterances of a manifest, or of all in a folder: "train_manifest.json" is the split "train".

    Unknown keys are kept in `extra`; `lang` is the language if there is no `language`. A relative path is relative to
    the manifest, or to `options.audio`. Raises AnadilError for a tarred dataset, whose audio is inside tar files.
    """
    if _SHARDS.search(str(source)):
        raise _tarred(source)
    files = find_files(source, _SUFFIXES)
    n_utterances = 0
    for file in files:
        for utterance in _utterances(file, source, options, reject):
            n_utterances += 1
            split = {} if source.is_file() else {"split": _split(file, source)}
            yield replace(utterance, extra=utterance.extra | split)
    if not n_utterances:
        raise AnadilError(f"no utterances in {source}\n  next: check the program that wrote it")


def _utterances(file: Path, source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    """Yield the utterances of one file of `source`. In a folder, a JSON file that is no manifest is rejected as a whole."""
    lines = read_lines(file)
    try:
        refuse_other_layouts("\n".join(line for _, line in lines[:_LOOKED_AT]), str(file))
    except AnadilError as error:
        if file == source:
            raise
        return reject(Problem(str(file), str(error).split("\n")[0].removeprefix(f"{file}: ")))
    for number, line in lines:
        where = f"{file}:{number}"
        try:
            utterance = parse_line(line.encode(), str(file.parent), where)
        except ValueError as error:
            reject(Problem(where, str(error)))
            continue
        written = os.path.relpath(utterance.audio_filepath, file.parent)
        audio = locate(written, [file.parent, *([options.audio] if options.audio else [])])
        if audio is None and ("shard_id" in utterance.extra or _SHARDS.search(written)):
            raise _tarred(file)
        lang = utterance.extra.get("lang")
        language = utterance.language or (lang if isinstance(lang, str) and lang else options.language)
        if not utterance.text.strip():
            reject(Problem(where, "no text"))
            continue
        yield replace(utterance, audio_filepath=str(audio or utterance.audio_filepath), language=language)


def _split(file: Path, folder: Path) -> str:
    name = "-".join(file.relative_to(folder).with_suffix("").parts)
    return re.sub(r"[-_.]?manifest[-_.]?", "", name) or name


def _tarred(source: Path) -> AnadilError:
    return AnadilError(
        f"{source}: a tarred dataset, whose audio is inside audio_0.tar, audio_1.tar ...\n"
        "  next: unpack the tar files into one folder, and give it with --audio"
    )
