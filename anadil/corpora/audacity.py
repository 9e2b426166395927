"""Audacity's label files: to Utterances, and from Segments. One label per line: start, end and text, with tabs between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from anadil.corpora.reader import Options, Reject
from anadil.corpora.segments import AnnotationFile, Segment, collapse_whitespace, parse_seconds, read_annotation_files
from anadil.corpora.text_files import read_lines
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance

_SUFFIXES = (".txt",)


def utterances(source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    """Yield the labels of an exported .txt file, or of all .txt files in a folder; reject point labels.

    Lines that begin with a backslash give the frequency range of the label before them, and are skipped.
    """
    yield from read_annotation_files(
        source, options, reject, _SUFFIXES, lambda file: AnnotationFile(_labels(file, reject))
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
                Problem(f"{file}:{number}", f"not a label: expected START<tab>END<tab>TEXT, found {line[:60]!r}")
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
        raise AnadilError(f"{file}: not an Audacity label file: expected lines of START<tab>END<tab>TEXT")
    for problem in problems:
        reject(problem)
    return segments


def _seconds(text: str) -> float:
    """As `parse_seconds`; also with a decimal comma, which older versions of Audacity wrote in some locales."""
    return parse_seconds(text.replace(",", "."))


def format_audacity(segments: Sequence[Segment]) -> str:
    """Format segments as an Audacity label file, with times to the microsecond as Audacity exports them."""
    return "".join(
        f"{segment.start:.6f}\t{segment.end:.6f}\t{collapse_whitespace(segment.text)}\n" for segment in segments
    )
