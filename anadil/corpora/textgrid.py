"""Praat's TextGrids, long and short form: an interval tier to Utterances, and Segments back.

Praat itself reads a text file as a row of numbers, quoted strings and flags, and skips everything else (Praat manual,
"TextGrid file formats"); so does this reader. praatio 6.2 loses the last interval of a short file without a final line
end, turns negative times positive and fails on 1e-05; textgrid 1.6 skips empty intervals with their text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from anadil.corpora.reader import Options, Reject
from anadil.corpora.segments import (
    AnnotationFile,
    Segment,
    Tier,
    choose_tiers,
    collapse_whitespace,
    read_annotation_files,
)
from anadil.corpora.text_files import read_text
from anadil.errors import AnadilError
from anadil.manifest import Utterance

SUFFIXES = (".textgrid",)
INTERVALS, POINTS = "intervals", "points"

_TOKEN = re.compile(
    r"""
    "(?P<string>(?:[^"]|"")*)"                       # free-standing text; a doubled quote is one
  | (?<![^\s=])(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?=[%\s]|$)
  | (?<![^\s=])(?P<nothing>nan|-?inf|--undefined--)(?=\s|$)
  | (?<!\S)<(?P<flag>\w+)>
  | (?<!\S)!.*                                       # comment
  """,
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Tier:
    name: str
    kind: str
    segments: list[Segment]  # those with text; of points both times are the same


def utterances(source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    """A .TextGrid, or all in a folder; UTF-8, or UTF-16 with a byte-order mark.

    The tier is chosen by `options.tier` (a name, or a pattern such as "* - words"), or all interval tiers by
    `options.tier_type` "intervals"; without these it must be the only interval tier with text. The names of several
    tiers are their speakers. Intervals without text are silence.
    """
    yield from read_annotation_files(source, options, reject, SUFFIXES, lambda file: _read(file, options))


def _read(file: Path, options: Options) -> AnnotationFile:
    tiers = parse(read_text(file), str(file))
    offered = [Tier(tier.name, tier.kind, len(tier.segments), timed=tier.kind == INTERVALS) for tier in tiers]
    if options.tier_type == INTERVALS:
        offered = [tier for tier in offered if tier.timed and tier.n_texts] or offered
    names = [tier.name for tier in choose_tiers(offered, options, file)]
    several = options.tier_type is not None or len(names) > 1
    return AnnotationFile(
        [
            replace(segment, speaker=tier.name if several else None, extra={"tier": tier.name})
            for tier in tiers
            if tier.name in names and tier.kind == INTERVALS
            for segment in tier.segments
        ]
    )


def parse(text: str, where: str) -> list[_Tier]:
    """The tiers of a TextGrid. Raises AnadilError if it is another kind of file or ends too early."""
    tokens = _Tokens(text, where)
    if "ooBinaryFile" in text[:100] or text.startswith('"Praat chronological'):
        raise AnadilError(
            f"{where}: a binary or chronological TextGrid\n  next: open it in Praat and choose Save as text file"
        )
    kind = tokens.string("the file type"), tokens.string("the object class")
    if not kind[0].startswith("ooTextFile") or kind[1] != "TextGrid":
        raise AnadilError(
            f"{where}: not a TextGrid: expected ooTextFile and TextGrid, found {kind[0]!r} and {kind[1]!r}"
        )
    tokens.number("xmin")
    tokens.number("xmax")
    if tokens.flag("whether there are tiers") != "exists":
        return []
    return [_tier(tokens, f"tier {index + 1}") for index in range(tokens.count("the number of tiers"))]


def _tier(tokens: _Tokens, what: str) -> _Tier:
    kind, name = tokens.string(f"the class of {what}"), tokens.string(f"the name of {what}")
    if kind not in ("IntervalTier", "TextTier"):
        raise AnadilError(f"{tokens.where}: {what} is of class {kind!r}, expected IntervalTier or TextTier")
    tokens.number("xmin")
    tokens.number("xmax")
    segments = []
    for index in range(tokens.count(f"the size of tier {name!r}")):
        place = f"tier {name!r}, {'interval' if kind == 'IntervalTier' else 'point'} {index + 1}"
        start = tokens.number(place)
        end = tokens.number(place) if kind == "IntervalTier" else start
        label = collapse_whitespace(tokens.string(place))
        if label:
            segments.append(Segment(start, end, label, place=place))
    return _Tier(collapse_whitespace(name), INTERVALS if kind == "IntervalTier" else POINTS, segments)


class _Tokens:
    """The numbers, strings and flags of a Praat file, in order."""

    def __init__(self, text: str, where: str) -> None:
        self.where = where
        self._text = text
        self._found = _TOKEN.finditer(text)

    def string(self, what: str) -> str:
        return self._next("string", what).replace('""', '"')

    def number(self, what: str) -> float:
        return float(self._next("number", what))

    def count(self, what: str) -> int:
        number = self.number(what)
        if not number.is_integer() or number < 0:
            raise AnadilError(f"{self.where}: {what} is {number:g}")
        return int(number)

    def flag(self, what: str) -> str:
        return self._next("flag", what)

    def _next(self, kind: str, what: str) -> str:
        for match in self._found:
            found = match.lastgroup
            if found is None:
                continue
            if found == "nothing" and kind == "number":
                return "nan"
            if found != kind:
                line = self._text.count("\n", 0, match.start()) + 1
                raise AnadilError(
                    f"{self.where}:{line}: expected a {kind} ({what}), found {match[0][:40]}\n"
                    "  next: open it in Praat, which shows where it is broken"
                )
            return match[found]
        raise AnadilError(f"{self.where}: ends before {what}: the file was cut off\n  next: take an earlier copy")


def format_textgrid(tiers: Mapping[str, Sequence[Segment]], duration: float) -> str:
    """A TextGrid in long form, with an interval tier for each name, from 0 to `duration` seconds; write it in UTF-8.

    Raises AnadilError if segments of one tier overlap, as intervals cannot, or lie outside the recording.
    """
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {duration!r}"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, segments) in enumerate(tiers.items(), start=1):
        intervals = list(_filled(segments, duration, name))
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f"        name = {_quoted(name)}"]
        lines += ["        xmin = 0", f"        xmax = {duration!r}", f"        intervals: size = {len(intervals)}"]
        for index, interval in enumerate(intervals, start=1):
            lines += [f"        intervals [{index}]:", f"            xmin = {interval.start!r}"]
            lines += [f"            xmax = {interval.end!r}", f"            text = {_quoted(interval.text)}"]
    return "\n".join(lines) + "\n"


def _filled(segments: Sequence[Segment], duration: float, name: str) -> Iterator[Segment]:
    """The segments in order of time, and empty ones between them: the intervals of a tier leave no gap."""
    reached = 0.0
    for segment in sorted(segments, key=lambda one: one.start):
        if not reached <= segment.start < segment.end <= duration or math.isnan(segment.start):
            raise AnadilError(
                f"a TextGrid's tier {name!r} cannot hold {segment.start:g} to {segment.end:g} s "
                f"({segment.text!r}) after {reached:g} s, in {duration:g} s"
            )
        if segment.start > reached:
            yield Segment(reached, segment.start, "")
        yield segment
        reached = segment.end
    if reached < duration:
        yield Segment(reached, duration, "")


def _quoted(text: str) -> str:
    return '"' + collapse_whitespace(text).replace('"', '""') + '"'
