"""Transcriber's .trs files (trans-13.dtd, trans-14.dtd) to Utterances.

A turn of one or several speakers is cut at its <Sync> marks. Where several speak at once, <Who nb="2"/> says that the
text after it is of the second speaker of the turn.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree.ElementTree import Element

from anadil.corpora.reader import Options, Reject
from anadil.corpora.recordings import Media
from anadil.corpora.segments import (
    AnnotationFile,
    Segment,
    collapse_whitespace,
    parse_seconds,
    read_annotation_files,
)
from anadil.corpora.xml_files import parse_xml
from anadil.errors import AnadilError
from anadil.manifest import Utterance

_SUFFIXES = (".trs",)
_UNINTELLIGIBLE = frozenset({"pi", "pif", "inint", "unintelligible", "inintelligible"})
"""Descriptions of <Event> for speech that could not be transcribed ("pi": "parole inintelligible")."""


@dataclass
class _Stretch:
    """What is between two <Sync> marks: a text for each speaker (by number in the turn), and the codes in it."""

    start: float
    texts: dict[int, str] = field(default_factory=dict)
    codes: list[str] = field(default_factory=list)
    is_unintelligible: bool = False


def utterances(source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    """Yield an utterance for each stretch between two time marks of a .trs file, or of all .trs files in a folder.

    Where several speakers talk at once, each has an utterance of the same times, and `extra["overlaps"]` lists the
    others. Events (noise, pronunciation, language) and comments are removed from the text. A stretch with unintelligible
    speech, or in a section that is marked as not transcribed, is rejected. A stretch without text is silence or noise,
    and is skipped.
    """
    yield from read_annotation_files(source, options, reject, _SUFFIXES, _read)


def _read(file: Path) -> AnnotationFile:
    root = parse_xml(file, "Trans", "Transcriber", allow_dtd=True)
    names = {one.get("id", ""): one.get("name") or one.get("id") or "" for one in root.iterfind("Speakers/Speaker")}
    segments = [
        segment
        for section in root.iter("Section")
        for turn in section.iter("Turn")
        for segment in _segments(turn, names, section.get("type") == "nontrans")
    ]
    if not segments:
        raise AnadilError(f"{file}: no turn holds any text\n  next: check the file in Transcriber")
    recording = root.get("audio_filename", "").strip()
    return AnnotationFile(segments, [Media(recording)] if recording else [])


def _segments(turn: Element, names: Mapping[str, str], is_untranscribed: bool) -> Iterator[Segment]:
    speakers = [names.get(key, key) for key in (turn.get("speaker") or "").split()]
    stretches = _stretches(turn)
    ends = [stretch.start for stretch in stretches[1:]] + [_seconds(turn.get("endTime"))]
    latest = -math.inf
    for stretch, end in zip(stretches, ends, strict=True):
        who = [number for number, text in stretch.texts.items() if text]
        voices = {number: speakers[number - 1] if 1 <= number <= len(speakers) else None for number in who}
        for number in who:
            others = [voices[other] or "unknown" for other in who if other != number]
            problem = "holds unintelligible speech" if stretch.is_unintelligible else ""
            if stretch.start < latest:
                problem = f"its time mark goes back to {stretch.start:g} s, after one at {latest:g} s"
            yield Segment(
                stretch.start,
                end,
                stretch.texts[number],
                voices[number],
                place=f"turn at {turn.get('startTime', '?')} s",
                problem="in a section that is marked as not transcribed (nontrans)" if is_untranscribed else problem,
                removed=stretch.codes if number == who[0] else (),
                extra={"overlaps": others} if others else {},
            )
        latest = max(latest, stretch.start)


def _stretches(turn: Element) -> list[_Stretch]:
    """The stretches between the <Sync> marks of a turn; the first begins with the turn."""
    stretches = [_Stretch(_seconds(turn.get("startTime")))]
    who = 1

    def add(text: str | None) -> None:
        texts = stretches[-1].texts
        texts[who] = collapse_whitespace(f"{texts.get(who, '')} {text or ''}")

    add(turn.text)
    for element in turn:
        if element.tag == "Sync":
            stretches.append(_Stretch(_seconds(element.get("time"))))
            who = 1
        elif element.tag == "Who":
            who = _number(element.get("nb"))
        elif element.tag in ("Event", "Comment"):
            description = element.get("desc", "")
            kind = element.get("type", element.tag.lower())
            stretches[-1].codes.append(f"[{description}]" if kind == "noise" else f"[{kind}={description}]")
            stretches[-1].is_unintelligible |= description.strip().casefold() in _UNINTELLIGIBLE
        add(element.tail)
    return stretches


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() and len(text) < 4 else 0


def _seconds(text: str | None) -> float:
    try:
        return math.nan if text is None else parse_seconds(text)
    except ValueError:
        return math.nan  # only this stretch will be rejected
