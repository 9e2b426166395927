"""Hypotheses from a file: read, checked, and matched with references by utterance, never by the order of the lines."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from anadil.errors import AnadilError, Problem, shortened, summarize
from anadil.evaluation.evaluate import EmptyReferences, Scored, compare
from anadil.manifest import Utterance, read_manifest

FILE = "hypotheses.jsonl"


@dataclass(frozen=True)
class FromFile:
    """Scored hypotheses of a file."""

    scored: tuple[Scored, ...]
    greedy: tuple[Scored, ...] | None  # of the key pred_text_greedy, if every line has it
    n_skipped: int  # empty references that were left out


def is_hypotheses(path: Path) -> bool:
    """Whether MODEL is a file of hypotheses: its first character that is no space opens a JSON object."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{"


def read_hypotheses(path: Path) -> list[Utterance]:
    """Read a file of hypotheses, or that of a run's folder: a manifest whose lines have the key pred_text.

    Raises AnadilError if it is missing, or naming every line without pred_text, with confidences that are none, or that
    another line doubles.
    """
    file = path / FILE if path.is_dir() else path
    if path.is_dir() and not file.is_file():
        raise AnadilError(
            f"{path} has no {FILE}\n  next: anadil evaluate MODEL MANIFEST --out {path}, or give the folder of a run"
        )
    utterances = read_manifest(file)
    problems = []
    key_of = identity(utterances)
    doubled = {key for key, n in Counter(map(key_of, utterances)).items() if n > 1}
    for one in utterances:
        what = _what_is_wrong(one)
        if what is None and key_of(one) in doubled:
            what = f"another line has the same utterance: {describe_id(one)}"
        if what is not None:
            problems.append(Problem(one.source, what))
    if problems:
        step = "write one line with pred_text for each utterance; anadil evaluate MODEL MANIFEST --out DIR does"
        raise AnadilError(summarize(problems, "lines", len(utterances), step))
    return utterances


def _what_is_wrong(one: Utterance) -> str | None:
    if not isinstance(one.extra.get("pred_text"), str):
        return 'no "pred_text" with the hypothesis (a string; "" if nothing was recognised)'
    if not isinstance(one.extra.get("pred_text_greedy", ""), str):
        return '"pred_text_greedy" must be a string'
    values = one.extra.get("word_confidences", [])
    if not isinstance(values, list) or not all(
        isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1 for value in values
    ):
        return f'"word_confidences" must be numbers from 0 to 1, found {shortened(str(values))}'
    return None


def identity(*files: Sequence[Utterance]) -> Callable[[Utterance], Hashable]:
    """The function that gives what makes an utterance the same in several files.

    It is the key `id`, if every line of every file has one and no file has one twice; else recording, offset and channel.
    """
    for utterances in files:
        ids = [_own_id(one) for one in utterances]
        if None in ids or len(set(ids)) < len(ids):
            return place_of
    return _own_id


def _own_id(one: Utterance) -> str | None:
    own = one.extra.get("id")
    return str(own) if isinstance(own, str | int) and own != "" else None


def place_of(one: Utterance) -> Hashable:
    return os.path.realpath(one.audio_filepath), round(one.offset, 3), one.channel


def describe_id(one: Utterance) -> str:
    """An utterance in a message."""
    return one.audio_filepath + (f" at {one.offset:g} s" if one.offset else "")


def score_hypotheses(
    path: Path,
    references: Sequence[Utterance] | None,
    normalize: Callable[[str], str],
    view: Callable[[str], str] = str,
    empty_references: EmptyReferences = "count",
) -> FromFile:
    """Score a file of hypotheses against the texts of `references`, or without these against its own `text`.

    Both texts go through `normalize` and `view`. Raises AnadilError if an utterance has no hypothesis or two, if a
    hypothesis belongs to no utterance, or if an empty reference is refused.
    """
    hypotheses = read_hypotheses(path)
    utterances = hypotheses if references is None else _matched(hypotheses, references, path)
    texts = [view(normalize(one.text)) for one in utterances]
    empty = [Problem(one.source, "empty text") for one, text in zip(utterances, texts, strict=True) if not text]
    if empty and empty_references == "refuse":
        step = "--empty-references count or skip, or remove these lines"
        raise AnadilError(summarize(empty, "utterances", len(utterances), step))
    if empty and empty_references == "skip":
        kept = [i for i, text in enumerate(texts) if text]
        utterances, texts = [utterances[i] for i in kept], [texts[i] for i in kept]
    if not utterances:
        raise AnadilError("every reference is empty, so nothing is left to score\n  next: --empty-references count")
    found = [view(normalize(str(one.extra["pred_text"]))) for one in utterances]
    confidences = [tuple(map(float, one.extra.get("word_confidences", []))) for one in utterances]
    scored = compare(utterances, texts, found, confidences)
    greedy = None
    if all("pred_text_greedy" in one.extra for one in utterances):
        greedy = compare(utterances, texts, [view(normalize(str(one.extra["pred_text_greedy"]))) for one in utterances])
    return FromFile(scored, greedy, len(empty) if empty_references == "skip" else 0)


def _matched(hypotheses: Sequence[Utterance], references: Sequence[Utterance], path: Path) -> list[Utterance]:
    """The references in their order, with the keys of their hypotheses."""
    key_of = identity(hypotheses, references)
    by_id = {key_of(one): one for one in hypotheses}
    own_ids = Counter(map(key_of, references))
    common = sum(key in by_id for key in own_ids)
    if not common:
        raise AnadilError(
            f"{path}: its hypotheses are of another manifest: none of its {len(hypotheses):,} utterances is among the "
            f"{len(references):,} references\n  an utterance is known by its id, or by its recording, offset and channel; "
            f"here: {describe_id(hypotheses[0])} and {describe_id(references[0])}\n"
            "  next: give the manifest that was recognised, or correct the paths"
        )
    problems = [Problem(one.source, f"no hypothesis in {path}") for one in references if key_of(one) not in by_id]
    problems += [
        Problem(one.source, f"the manifest has this utterance {own_ids[key_of(one)]} times")
        for one in references
        if own_ids[key_of(one)] > 1
    ]
    problems += [
        Problem(one.source, "a hypothesis of an utterance that is not in the manifest")
        for one in hypotheses
        if key_of(one) not in own_ids
    ]
    if problems:
        step = "recognise the whole manifest, and nothing else"
        raise AnadilError(summarize(problems, "utterances", len(own_ids), step))
    return [
        replace(
            one,
            duration=one.duration if one.duration is not None else by_id[key_of(one)].duration,
            extra=by_id[key_of(one)].extra | one.extra | _own(by_id[key_of(one)]),
        )
        for one in references
    ]


def _own(hypothesis: Utterance) -> dict[str, object]:
    """The keys of a hypothesis that win over those of the manifest's line, which may be of an earlier run."""
    keys = ("pred_text", "pred_text_greedy", "word_confidences", "snr_db", "reference_doubt")
    return {key: hypothesis.extra[key] for key in keys if key in hypothesis.extra}
