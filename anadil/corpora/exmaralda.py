"""EXMARaLDA's basic transcriptions (.exb) to Utterances.

Events lie between two points of a common timeline. Many points have no time, and many events are parts of an utterance,
or even of a word: the transcriber cuts where another speaker begins.
"""

from __future__ import annotations

import bisect
import functools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree.ElementTree import Element

from anadil.corpora.reader import Options, Reject
from anadil.corpora.recordings import Media
from anadil.corpora.segments import (
    AnnotationFile,
    Segment,
    Tier,
    collapse_whitespace,
    parse_seconds,
    read_annotation_files,
)
from anadil.corpora.xml_files import parse_xml
from anadil.errors import AnadilError
from anadil.manifest import Utterance

_SUFFIXES = (".exb",)
_NOT_SPEECH = re.compile(r"\(\(.*?\)\)|•")
"""Descriptions such as ((coughs)) and pause marks, in HIAT and GAT, the conventions that EXMARaLDA supports."""


@dataclass(frozen=True, slots=True)
class _Point:
    """A point of the timeline: its place in the order, its time in seconds, and whether a person set it."""

    index: int
    time: float
    is_measured: bool


@dataclass(frozen=True, slots=True)
class _Event:
    start: str
    end: str
    text: str  # with the white space at its ends, which tells whether a word continues in the next event


def utterances(source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    """Yield the utterances of an .exb file, or of all .exb files in a folder.

    Without `options.tier` or `options.tier_type` (the category, such as "v"), the tiers of type "t" are taken: by the
    format, they hold what a speaker said. Events that follow each other are joined where the point between them has no
    measured time, or where a word continues. An utterance that begins or ends at such a point has a time between those
    of its neighbours, and `extra["interpolated"]` is true. Descriptions in double parentheses and pause marks are
    removed. Events of the speaker's other tiers within an utterance are in `extra["annotations"]`.
    """
    yield from read_annotation_files(source, options, reject, _SUFFIXES, _read)


def _read(file: Path) -> AnnotationFile:
    root = parse_xml(file, "basic-transcription", "EXMARaLDA", allow_dtd=True)
    timeline = _timeline(root)
    if not any(point.is_measured for point in timeline.values()):
        raise AnadilError(
            f"{file}: its timeline has no times, so its events cannot be found in a recording\n"
            "  next: align it in the Partitur-Editor and save it again"
        )
    speakers = {one.get("id", ""): one.findtext("abbreviation") or one.get("id") or "" for one in root.iter("speaker")}
    elements = list(root.iter("tier"))
    names = [_name(element, speakers) for element in elements]
    counts = Counter(names)
    names = [
        f"{name} ({element.get('id', number)})" if counts[name] > 1 else name
        for number, (name, element) in enumerate(zip(names, elements, strict=True), start=1)
    ]
    events = {name: _events(element, timeline) for name, element in zip(names, elements, strict=True)}
    tiers = []
    for name, element in zip(names, elements, strict=True):
        key = element.get("speaker") or ""
        others = [
            other for other, one in zip(names, elements, strict=True) if other != name and one.get("speaker") == key
        ]
        joined = list(_join(events[name], timeline))
        tiers.append(
            Tier(
                name,
                element.get("category", ""),
                [_segment(name, event, timeline, speakers.get(key) or None) for event in joined],
                transcribes=key if element.get("type") == "t" else None,
                n_annotations=sum(bool(event.text.strip()) for event in events[name]),
                beside=functools.partial(
                    _beside, joined, {other: events[other] for other in others} if key else {}, timeline
                ),
            )
        )
    urls = [one.get("url", "") for one in root.iter("referenced-file")]
    return AnnotationFile(media=[Media(url) for url in urls if url], tiers=tiers)


def _timeline(root: Element) -> dict[str, _Point]:
    """The points by id. Points without a time lie evenly between their neighbours; outside of these it is NaN."""
    points: dict[str, _Point] = {}
    untimed: list[str] = []
    last = math.nan
    for index, element in enumerate(root.iterfind("basic-body/common-timeline/tli")):
        key, time = element.get("id", ""), element.get("time")
        try:
            seconds = None if time is None else parse_seconds(time)
        except ValueError:
            seconds = math.nan  # only the events at this point will be rejected
        if seconds is None:
            points[key] = _Point(index, math.nan, False)
            untimed.append(key)
            continue
        points[key] = _Point(index, seconds, element.get("type") != "intp")  # intp: interpolated by the program
        for number, name in enumerate(untimed, start=1):
            between = last + (seconds - last) * number / (len(untimed) + 1)
            points[name] = replace(points[name], time=between)
        last, untimed = seconds, []
    return points


def _name(tier: Element, speakers: Mapping[str, str]) -> str:
    named = tier.get("display-name") or " ".join(
        filter(None, [speakers.get(tier.get("speaker") or ""), f"[{tier.get('category', '')}]"])
    )
    return collapse_whitespace(named) or tier.get("id", "")


def _events(tier: Element, timeline: Mapping[str, _Point]) -> list[_Event]:
    """The events of a tier in the order of the timeline."""
    events = [
        _Event(
            event.get("start", ""),
            event.get("end", ""),
            (event.text or "") + "".join(child.tail or "" for child in event),
        )
        for event in tier.iter("event")
    ]
    return sorted(events, key=lambda event: _index(event.start, timeline))


def _index(key: str, timeline: Mapping[str, _Point]) -> int:
    """The place of a point in the timeline; -1 if it is not there."""
    return timeline[key].index if key in timeline else -1


def _segment(name: str, event: _Event, timeline: Mapping[str, _Point], speaker: str | None) -> Segment:
    first, last = timeline.get(event.start), timeline.get(event.end)
    codes = _NOT_SPEECH.findall(event.text)
    text = collapse_whitespace(_NOT_SPEECH.sub(" ", event.text))
    is_measured = all(point is None or point.is_measured for point in (first, last))
    return Segment(
        math.nan if first is None else first.time,
        math.nan if last is None else last.time,
        text,
        speaker,
        place=f"tier {name!r}, event {event.start} to {event.end}",
        problem=f"no speech: {', '.join(codes)}" if codes and not text else "",
        removed=codes if text else (),
        extra={} if is_measured else {"interpolated": True},
    )


def _join(events: Sequence[_Event], timeline: Mapping[str, _Point]) -> Iterator[_Event]:
    """Join each event to the next one if the point between them has no measured time, or if a word continues there.

    Where a transcription separates words with a space at the end of an event, a missing one means that the word continues.
    """

    has_spaces = any(event.text[-1:].isspace() for event in events)
    current: _Event | None = None
    for event in events:
        if current is not None and current.end == event.start:
            is_measured = event.start not in timeline or timeline[event.start].is_measured
            continues = has_spaces and current.text[-1:].isalnum() and event.text[:1].isalnum()
            if not is_measured or continues:
                current = _Event(current.start, event.end, current.text + " " * (not has_spaces) + event.text)
                continue
        if current is not None:
            yield current
        current = event
    if current is not None:
        yield current


def _beside(
    joined: Sequence[_Event], others: Mapping[str, Sequence[_Event]], timeline: Mapping[str, _Point], index: int
) -> dict[str, list[str]]:
    """By tier, the texts of the events of `others` between the two points of joined[index]."""
    first, last = (_index(key, timeline) for key in (joined[index].start, joined[index].end))
    found = {}
    for name, events in others.items():
        start = bisect.bisect_left(events, first, key=lambda event: _index(event.start, timeline))
        stop = bisect.bisect_left(events, last, key=lambda event: _index(event.start, timeline))
        inside = [event for event in events[start:stop] if first <= _index(event.end, timeline) <= last]
        texts = [collapse_whitespace(event.text) for event in inside if event.text.strip()]
        if texts:
            found[name] = texts
    return found
