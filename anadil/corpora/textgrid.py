"""Praat's TextGrids, long and short form: an interval tier to Utterances, and Segments to a TextGrid.

Praat itself reads a text file as a row of numbers, quoted strings and flags, and skips everything else (Praat manual,
"TextGrid file formats"); so does this reader. praatio 6.2 loses the last interval of a short file without a final line
end, turns negative times positive and fails on 1e-05; textgrid 1.6 skips empty intervals with their text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from anadil.corpora.reader import Options, Reject
from anadil.corpora.segments import (
    DECIMALS,
    AnnotationFile,
    Segment,
    Tier,
    collapse_whitespace,
    read_annotation_files,
)
from anadil.corpora.text_files import read_text
from anadil.errors import AnadilError
from anadil.manifest import Utterance

_SUFFIXES = (".textgrid",)

_TOKEN = re.compile(
    r"""
    "(?P<string>(?:[^"]|"")*)"                       # a doubled quote stands for one
  | (?<![^\s=])(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?=[%\s]|$)
  | (?<![^\s=])(?P<nothing>nan|-?inf|--undefined--)(?=\s|$)
  | (?<!\S)<(?P<flag>\w+)>
  | (?<!\S)!.*                                       # comment
  """,
    re.VERBOSE | re.IGNORECASE,
)


def utterances(source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    """Yield the utterances of a .TextGrid file, or of all in a folder; UTF-8, or UTF-16 with a byte-order mark.

    `options.tier` (names, or patterns such as "* - words") chooses the tiers; `options.tier_type` "intervals" chooses
    all interval tiers. Without these there must be only one interval tier with text. If several tiers are chosen, their
    names are the speakers. Intervals without text are skipped: they are silence.
    """
    yield from read_annotation_files(source, options, reject, _SUFFIXES, _read)


def _read(file: Path) -> AnnotationFile:
    return AnnotationFile(tiers=_parse(read_text(file), str(file)))


def _parse(text: str, where: str) -> list[Tier]:
    """Parse the tiers of a TextGrid. Raises AnadilError if it is another kind of file or is cut off."""
    tokens = _Tokens(text, where)
    if "ooBinaryFile" in text[:100] or text.startswith('"Praat chronological'):
        raise AnadilError(
            f"{where}: a binary or chronological TextGrid, which Anadil cannot read\n"
            "  next: open it in Praat and choose Save as text file"
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


def _tier(tokens: _Tokens, what: str) -> Tier:
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
    has_intervals = kind == "IntervalTier"
    tier_type = "intervals" if has_intervals else "points"
    return Tier(collapse_whitespace(name), tier_type, segments, has_intervals, is_speaker=True)


class _Tokens:
    """The numbers, strings and flags of a Praat file, in order."""

    def __init__(self, text: str, where: str) -> None:
        self.where = where
        self._text = text
        self._matches = _TOKEN.finditer(text)

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
        for match in self._matches:
            token = match.lastgroup
            if token is None:
                continue
            if token == "nothing" and kind == "number":
                return "nan"
            if token != kind:
                line = self._text.count("\n", 0, match.start()) + 1
                raise AnadilError(
                    f"{self.where}:{line}: expected a {kind} ({what}), found {match[0][:40]}\n"
                    "  next: open it in Praat, which shows where the error is"
                )
            return match[token]
        raise AnadilError(f"{self.where}: ends before {what}: the file was cut off\n  next: use an earlier copy")


def format_textgrid(tiers: Mapping[str, Sequence[Segment]], duration: float) -> str:
    """Format segments as a TextGrid in long form, with an interval tier for each name. Write it as UTF-8.

    The tiers go from 0 to `duration` seconds; times are rounded to the microsecond. Raises AnadilError if segments of
    one tier overlap or lie outside that.
    """
    duration = round(duration, DECIMALS)
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {duration!r}"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, segments) in enumerate(tiers.items(), start=1):
        intervals = list(_fill_gaps(segments, duration, name))
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f"        name = {_quoted(name)}"]
        lines += ["        xmin = 0", f"        xmax = {duration!r}", f"        intervals: size = {len(intervals)}"]
        for index, interval in enumerate(intervals, start=1):
            lines += [f"        intervals [{index}]:", f"            xmin = {interval.start!r}"]
            lines += [f"            xmax = {interval.end!r}", f"            text = {_quoted(interval.text)}"]
    return "\n".join(lines) + "\n"


def _fill_gaps(segments: Sequence[Segment], duration: float, name: str) -> Iterator[Segment]:
    """Yield the segments in order of time, with empty ones between them: the intervals of a tier leave no gap."""
    previous_end = 0.0
    rounded = [replace(one, start=round(one.start, DECIMALS), end=round(one.end, DECIMALS)) for one in segments]
    for segment in sorted(rounded, key=lambda segment: segment.start):
        if not previous_end <= segment.start < segment.end <= duration or math.isnan(segment.start):
            raise AnadilError(
                f"tier {name!r} of a TextGrid cannot hold {segment.text!r}, {segment.start:g} to {segment.end:g} s: "
                f"the interval before it ends at {previous_end:g} s, the recording at {duration:g} s"
            )
        if segment.start > previous_end:
            yield Segment(previous_end, segment.start, "")
        yield segment
        previous_end = segment.end
    if previous_end < duration:
        yield Segment(previous_end, duration, "")


def _quoted(text: str) -> str:
    return '"' + collapse_whitespace(text).replace('"', '""') + '"'
