"""What the readers of annotation files share: Segment, the choice of a tier, and Segments to Utterances."""

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

DECIMALS = 6
"""To which times in a manifest are rounded (microseconds): the difference of two floats has rounding noise beyond."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a recording and its text: two times in seconds, a text, perhaps a speaker."""

    start: float
    end: float
    text: str
    speaker: str | None = None
    place: str = field(default="", compare=False)  # in the annotation file, for messages: "line 12"
    extra: dict[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class AnnotationFile:
    """The content of one annotation file: its segments, in the file's own time, and the recordings that it names."""

    segments: list[Segment]
    media: Sequence[Media] = ()


def read_annotation_files(
    source: Path,
    options: Options,
    reject: Reject,
    suffixes: Sequence[str],
    read: Callable[[Path], AnnotationFile],
) -> Iterator[Utterance]:
    """Yield the utterances of one annotation file, or of all such files in a folder and its subfolders.

    A file that cannot be read, or whose recording is not found, is an error if it is the source itself, and rejected
    if the source is a folder. Raises AnadilError if none of the files can be used.
    """
    files = find_files(source, suffixes)
    recordings = RecordingFinder(options.audio, n_files=len(files))
    failures = []
    for file in files:
        try:
            annotation = read(file)
            recording, time_origin_s = recordings.find(file, annotation.media)
        except AnadilError as error:
            if source.is_file():
                raise
            failures.append(error)
            reject(Problem(str(file), str(error).removeprefix(f"{file}: ")))
            continue
        yield from segments_to_utterances(annotation.segments, file, recording, time_origin_s, options, reject)
    if len(failures) == len(files):
        count = f"none of the {len(files):,} files in {source} can be used; the first: " if len(files) > 1 else ""
        raise AnadilError(f"{count}{failures[0]}")


def find_files(source: Path, suffixes: Sequence[str]) -> list[Path]:
    """Return the file itself, or all files with these suffixes in a folder and its subfolders.

    Raises AnadilError if there is none.
    """
    if source.is_file():
        return [source]
    patterns = ", ".join(f"*{suffix}" for suffix in suffixes)
    if not source.is_dir():
        raise AnadilError(
            f"{source} is not there: looked for a file {patterns}, or a folder of these\n  next: check the path"
        )
    files = sorted(path for path in source.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    files = [path for path in files if not path.name.startswith("._")]  # macOS metadata on other file systems
    if not files:
        raise AnadilError(f"no {patterns} in {source}\n  next: check the path")
    return files


def segments_to_utterances(
    segments: Iterable[Segment], file: Path, recording: Path, time_origin_s: float, options: Options, reject: Reject
) -> Iterator[Utterance]:
    """Yield an Utterance for each segment of an annotation file; reject those without text or without length.

    `time_origin_s` is where in the recording the file's time starts; it is added to all times.
    """
    for segment in segments:
        where = f"{file}: {segment.place}" if segment.place else str(file)
        start, end = segment.start + time_origin_s, segment.end + time_origin_s
        text = collapse_whitespace(segment.text)
        problem = _find_problem(start, end, text)
        if problem:
            reject(Problem(where, problem))
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


def _find_problem(start: float, end: float, text: str) -> str | None:
    if not (math.isfinite(start) and math.isfinite(end)):
        return f"no valid times: {start} to {end} s"
    if round(end - start, DECIMALS) <= 0:
        return f"lasts {end - start:g} s ({start:g} to {end:g} s)"
    if start < 0:
        return f"starts {-start:g} s before the recording does"
    if not text:
        return f"no text ({start:g} to {end:g} s)"
    return None


def collapse_whitespace(text: str) -> str:
    """Replace each run of white space, line ends included, by one space; strip both ends."""
    return " ".join(text.split())


def parse_seconds(text: str) -> float:
    """Parse a finite number of seconds. Raises ValueError, also for "NaN" and infinity."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text.strip()!r} is not a number of seconds")
    return number


@dataclass(frozen=True, slots=True)
class Tier:
    """A tier of an annotation file, as far as it matters for choosing the tier with the text."""

    name: str
    tier_type: str  # linguistic type (ELAN); "intervals" or "points" (Praat)
    n_texts: int  # annotations with text
    has_intervals: bool = True  # False for a tier of points, which have no length


def choose_tiers(tiers: Sequence[Tier], options: Options, file: Path) -> list[Tier]:
    """The tiers that `options.tier` (a name, or a pattern such as "tx@*") and `options.tier_type` select.

    Without either, it is the only tier with text. Raises AnadilError with a list of the tiers if none matches, or if
    several have text and the user named none.
    """
    chosen = list(tiers)
    if options.tier is not None:
        exact = [tier for tier in chosen if tier.name == options.tier]
        chosen = exact or [tier for tier in chosen if fnmatchcase(tier.name, options.tier)]
    if options.tier_type is not None:
        chosen = [tier for tier in chosen if tier.tier_type == options.tier_type]
    if options.tier is not None or options.tier_type is not None:
        if not chosen:
            wanted = " and ".join(
                [f"called {options.tier!r}"] * (options.tier is not None)
                + [f"of type {options.tier_type!r}"] * (options.tier_type is not None)
            )
            raise AnadilError(f"{file}: no tier {wanted}; {_describe(tiers)}")
        points = [tier.name for tier in chosen if not tier.has_intervals]
        if points:
            raise AnadilError(f"{file}: tier {points[0]!r} holds points, which have no length; {_describe(tiers)}")
        return chosen
    with_text = [tier for tier in chosen if tier.n_texts and tier.has_intervals]
    if len(with_text) == 1:
        return with_text
    if not with_text:
        raise AnadilError(f"{file}: no tier of intervals holds any text; {_describe(tiers)}")
    raise AnadilError(f"{file}: {len(with_text)} tiers hold text, and none was chosen; {_describe(tiers)}")


def _describe(tiers: Sequence[Tier]) -> str:
    lines = [f"  {tier.name!r}, type {tier.tier_type!r}, {tier.n_texts:,} annotations with text" for tier in tiers]
    if not lines:
        return "it has no tiers\n  next: check the file"
    return "it has:\n" + "\n".join(lines) + "\n  next: choose one with --tier, or several of one type with --tier-type"
