"""Audacity's labels, one a line: start, end and text, parted by tabs; and Segments back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from anadil.corpora.reader import Options, Reject
from anadil.corpora.segments import AnnotationFile, Segment, collapse_whitespace, parse_seconds, read_annotation_files
from anadil.corpora.text_files import read_lines
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance

SUFFIXES = (".txt",)


def utterances(source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    """A file of exported labels, or all .txt in a folder. Point labels, which have no length, are rejected.

    Lines that begin with a backslash hold the frequencies of the label before, and are no labels.
    """
    yield from read_annotation_files(
        source, options, reject, SUFFIXES, lambda file: AnnotationFile(_labels(file, reject))
    )


def _labels(file: Path, reject: Reject) -> list[Segment]:
    segments: list[Segment] = []
    problems: list[Problem] = []
    for number, line in read_lines(file):
        if line.startswith("\\"):
            continue
        columns = line.split("\t", 2)
        try:
            start, end = (_seconds(column) for column in columns[:2])
        except ValueError:
            problems.append(
                Problem(f"{file}:{number}", f"no label: expected START<tab>END<tab>TEXT, found {line[:60]!r}")
            )
            continue
        text = columns[2] if len(columns) == 3 else ""
        if start == end:
            problems.append(
                Problem(
                    f"{file}:{number}",
                    f"a point label, which has no length: {collapse_whitespace(text)!r} at {start:g} s",
                )
            )
            continue
        segments.append(Segment(start, end, text, place=f"line {number}"))
    if not segments and not any("point label" in problem.what for problem in problems):
        raise AnadilError(f"{file}: no labels of Audacity: expected lines of START<tab>END<tab>TEXT")
    for problem in problems:
        reject(problem)
    return segments


def _seconds(text: str) -> float:
    """Audacity once wrote a decimal comma, where the system had one."""
    return parse_seconds(text.replace(",", "."))


def format_audacity(segments: Sequence[Segment]) -> str:
    """Labels with times to the microsecond, as Audacity exports them."""
    return "".join(f"{one.start:.6f}\t{one.end:.6f}\t{collapse_whitespace(one.text)}\n" for one in segments)
