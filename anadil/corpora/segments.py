"""Segment, a stretch of a recording with what is said in it; from annotation files to Utterances."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from anadil.corpora.reader import Options, Reject
from anadil.corpora.recordings import Media, RecordingFinder
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance

# Which tier of an annotation file holds the text: named by the user, or the only one that could.


@dataclass(frozen=True, slots=True)
class Tier:
    """What is known of a tier before its annotations are used."""

    name: str
    kind: str  # linguistic type (ELAN); "intervals" or "points" (Praat)
    n_texts: int  # annotations that hold text
    timed: bool = True  # they last some time; points do not


def choose_tiers(tiers: Sequence[Tier], options: Options, file: Path) -> list[Tier]:
    """The tiers with the name, or the pattern of names ("tx@*"), or the type that the user gave.

    If none is given: the only tier with text in it. Raises AnadilError listing the tiers if none fits, or several
    do and none was given.
    """
    chosen = list(tiers)
    if options.tier is not None:
        exact = [tier for tier in chosen if tier.name == options.tier]
        chosen = exact or [tier for tier in chosen if fnmatchcase(tier.name, options.tier)]
    if options.tier_type is not None:
        chosen = [tier for tier in chosen if tier.kind == options.tier_type]
    if options.tier is not None or options.tier_type is not None:
        if not chosen:
            asked = " and ".join(
                [f"called {options.tier!r}"] * (options.tier is not None)
                + [f"of type {options.tier_type!r}"] * (options.tier_type is not None)
            )
            raise AnadilError(f"{file}: no tier {asked}; {_listed(tiers)}")
        untimed = [tier.name for tier in chosen if not tier.timed]
        if untimed:
            raise AnadilError(f"{file}: tier {untimed[0]!r} holds points, which have no length; {_listed(tiers)}")
        return chosen
    filled = [tier for tier in chosen if tier.n_texts and tier.timed]
    if len(filled) == 1:
        return filled
    if not filled:
        raise AnadilError(f"{file}: no tier of intervals holds any text; {_listed(tiers)}")
    raise AnadilError(f"{file}: {len(filled)} tiers hold text, so it must be said which one; {_listed(tiers)}")


def _listed(tiers: Sequence[Tier]) -> str:
    lines = [f"  {tier.name!r}, type {tier.kind!r}, {tier.n_texts:,} annotations with text" for tier in tiers]
    if not lines:
        return "it has no tiers\n  next: check the file"
    return "it has:\n" + "\n".join(lines) + "\n  next: choose one with --tier, or several of one type with --tier-type"


DECIMALS = 6
"""Of seconds in a manifest: a difference of two times carries rounding noise beyond."""


@dataclass(frozen=True, slots=True)
class Segment:
    """What every annotation format has: two times in parse_seconds, a text, perhaps a speaker."""

    start: float
    end: float
    text: str
    speaker: str | None = None
    place: str = field(default="", compare=False)  # in the file, for messages: "line 12"
    extra: dict[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class AnnotationFile:
    """One annotation file: its segments in its own time, and the recordings that it names."""

    segments: list[Segment]
    media: Sequence[Media] = ()


def read_annotation_files(
    source: Path,
    options: Options,
    reject: Reject,
    suffixes: Sequence[str],
    read: Callable[[Path], AnnotationFile],
) -> Iterator[Utterance]:
    """Utterances of one annotation file, or of all in a folder and the folders in it.

    A file that cannot be read, or whose recording is not found, is an error if it is the source, and rejected if it
    is one of many. Raises AnadilError if not one of the files can be used.
    """
    files = find_files(source, suffixes)
    recordings = RecordingFinder(options.audio, n_files=len(files))
    failures = []
    for file in files:
        try:
            annotated = read(file)
            recording, time_origin_s = recordings.find(file, annotated.media)
        except AnadilError as error:
            if source.is_file():
                raise
            failures.append(error)
            reject(Problem(str(file), str(error).removeprefix(f"{file}: ")))
            continue
        yield from segments_to_utterances(annotated.segments, file, recording, time_origin_s, options, reject)
    if len(failures) == len(files):
        alike = f"none of the {len(files):,} files in {source} can be used; the first: " if len(files) > 1 else ""
        raise AnadilError(f"{alike}{failures[0]}")


def find_files(source: Path, suffixes: Sequence[str]) -> list[Path]:
    """The file, or the files with such names in a folder and below. Raises AnadilError if there is none."""
    if source.is_file():
        return [source]
    wanted = ", ".join(f"*{suffix}" for suffix in suffixes)
    if not source.is_dir():
        raise AnadilError(
            f"{source} is not there: looked for a file {wanted}, or a folder of these\n  next: check the path"
        )
    found = sorted(path for path in source.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    found = [path for path in found if not path.name.startswith("._")]  # what macOS leaves on other file systems
    if not found:
        raise AnadilError(f"no {wanted} in {source}\n  next: check the path")
    return found


def segments_to_utterances(
    segments: Iterable[Segment], file: Path, recording: Path, time_origin_s: float, options: Options, reject: Reject
) -> Iterator[Utterance]:
    """Utterances of a file's segments; those without text or without a length are rejected.

    `time_origin_s` is added to the times: where in the recording the file's time starts.
    """
    for segment in segments:
        where = f"{file}: {segment.place}" if segment.place else str(file)
        start, end, text = segment.start + time_origin_s, segment.end + time_origin_s, collapse_whitespace(segment.text)
        why = _why_not(start, end, text)
        if why:
            reject(Problem(where, why))
            continue
        yield Utterance(
            audio_filepath=str(recording),
            duration=round(end - start, DECIMALS),
            text=text,
            offset=round(start, DECIMALS),
            speaker=segment.speaker,
            language=options.language,
            extra=dict(segment.extra),
            source=where,
        )


def collapse_whitespace(text: str) -> str:
    """One line: white space of any kind and length, line ends included, becomes one space."""
    return " ".join(text.split())


def parse_seconds(text: str) -> float:
    """A number of seconds as a file has it, "NaN" and infinity not being any. Raises ValueError."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text.strip()!r} is no number of seconds")
    return number


def _why_not(start: float, end: float, text: str) -> str | None:
    if not (math.isfinite(start) and math.isfinite(end)):
        return f"no time: {start} to {end} s"
    if round(end - start, DECIMALS) <= 0:
        return f"lasts {end - start:g} s ({start:g} to {end:g} s)"
    if start < 0:
        return f"starts {-start:g} s before the recording does"
    if not text:
        return f"no text ({start:g} to {end:g} s)"
    return None
