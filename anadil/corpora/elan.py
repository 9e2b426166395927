"""ELAN's .eaf files (EAF 2.x and 3.0): tiers to Utterances, and Segments to an .eaf file.

They are read as XML: pympi-ling fails on files without a schema location or with ids without a digit, and does not
interpolate times. Where pympi-ling can read a file, a test checks that both readers agree.
"""

from __future__ import annotations

import bisect
import datetime
import functools
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from anadil.corpora.reader import Options, Reject
from anadil.corpora.recordings import Media
from anadil.corpora.segments import (
    DECIMALS,
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

_SUFFIXES = (".eaf",)
_SAYMORE_SUFFIX, _SAYMORE_TIER = ".annotations.eaf", "Transcription"  # SayMore's files, and its tier with the text
_SAYMORE_IGNORED = "%ignore%"  # what SayMore writes into a segment that its user marks as ignored
_MAX_DEPTH = 50  # of the tier hierarchy; a damaged file may contain a cycle
_ROUNDING_S = 1e-6
_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_MIME = {".wav": "audio/x-wav", ".mp3": "audio/mpeg", ".aif": "audio/x-aiff", ".aiff": "audio/x-aiff"}
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass
class _Annotation:
    """One annotation. `_set_times` fills in start and end (milliseconds)."""

    key: str
    text: str
    parent: str | None = None  # key of the parent annotation
    previous: str | None = None  # key of the previous annotation with the same parent
    slots: tuple[str, str] | None = None
    start: float | None = None
    end: float | None = None
    interpolated: bool = False


@dataclass
class _Tier:
    name: str
    tier_type: str
    participant: str
    parent: str | None
    annotations: list[_Annotation] = field(default_factory=list)


def utterances(source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    """Yield the utterances of an .eaf file, or of all .eaf files in a folder.

    `options.tier` (names, or patterns such as "tx@*") or `options.tier_type` chooses the tiers; without these there
    must be only one tier with text, or the file is SayMore's, whose tier Transcription has the text. The speaker is the
    participant of the tier or of its nearest ancestor; if several tiers are chosen, a tier without participant has its
    name as speaker. Annotations without times of their own have the times of their parent, and all annotations of one
    parent are joined in order (a tier of words gives sentences). Time slots without a value are interpolated evenly, as
    ELAN does; `extra["interpolated"]` is then true. `extra["annotations"]` has, by tier, the annotations of the same
    hierarchy of tiers that lie within the utterance: words, glosses, translations.
    """
    yield from read_annotation_files(source, options, reject, _SUFFIXES, _read)


def _read(file: Path) -> AnnotationFile:
    root = parse_xml(file, "ANNOTATION_DOCUMENT", "ELAN")
    header = root.find("HEADER")
    media = []
    if header is not None:
        units = header.get("TIME_UNITS", "milliseconds")
        if units != "milliseconds":
            raise AnadilError(
                f"{file}: its times are in {units}, not in milliseconds\n  next: save it with a newer version of ELAN"
            )
        media = [item for descriptor in header.findall("MEDIA_DESCRIPTOR") for item in _media(descriptor, file)]
    tiers = _tiers(root, file)
    slots = _slots(root, file)
    by_key = {annotation.key: annotation for tier in tiers.values() for annotation in tier.annotations}
    for tier in tiers.values():
        _set_times(tier.annotations, slots)
    is_saymore = file.name.lower().endswith(_SAYMORE_SUFFIX)
    placed = functools.cache(lambda name: _placed(tiers[name], by_key))
    segments = {name: list(_segments(tier, by_key, _participant(tier, tiers) or None)) for name, tier in tiers.items()}
    return AnnotationFile(
        media=media,
        tiers=[
            Tier(
                tier.name,
                tier.tier_type,
                segments[tier.name],
                transcribes="" if is_saymore and tier.name == _SAYMORE_TIER else None,
                is_speaker=True,
                n_annotations=sum(bool(annotation.text) for annotation in tier.annotations),
                beside=functools.partial(_beside, segments[tier.name], _relatives(tier, tiers), placed),
            )
            for tier in tiers.values()
        ],
    )


def _media(descriptor: ElementTree.Element, file: Path) -> Iterator[Media]:
    """The recording of a media descriptor: by its relative path first, as the absolute one is of the annotator's machine."""
    origin = descriptor.get("TIME_ORIGIN", "0")
    try:
        time_origin_s = parse_seconds(origin) / 1000
    except ValueError:
        raise AnadilError(f"{file}: TIME_ORIGIN {origin!r} is not a number of milliseconds") from None
    for key in ("RELATIVE_MEDIA_URL", "MEDIA_URL"):
        url = descriptor.get(key)
        if url:
            yield Media(url, time_origin_s)


def _slots(root: ElementTree.Element, file: Path) -> dict[str, float | None]:
    """The value of each time slot in milliseconds; None for a slot without a value, which lies between two with one."""
    slots: dict[str, float | None] = {}
    for slot in root.iterfind("TIME_ORDER/TIME_SLOT"):
        value = slot.get("TIME_VALUE")
        try:
            slots[slot.get("TIME_SLOT_ID", "")] = None if value is None else parse_seconds(value)
        except ValueError:
            slots[slot.get("TIME_SLOT_ID", "")] = math.nan  # only the annotations with this slot will be rejected
    return slots


def _tiers(root: ElementTree.Element, file: Path) -> dict[str, _Tier]:
    tiers: dict[str, _Tier] = {}
    for element in root.iterfind("TIER"):
        name = element.get("TIER_ID", "")
        if name in tiers:
            raise AnadilError(f"{file}: two tiers are called {name!r}\n  next: rename one in ELAN")
        tier = _Tier(
            name,
            element.get("LINGUISTIC_TYPE_REF", ""),
            element.get("PARTICIPANT", "").strip(),
            element.get("PARENT_REF"),
        )
        for child in element.iterfind("ANNOTATION/*"):
            slots = child.get("TIME_SLOT_REF1"), child.get("TIME_SLOT_REF2")
            tier.annotations.append(
                _Annotation(
                    key=child.get("ANNOTATION_ID", ""),
                    text=collapse_whitespace(child.findtext("ANNOTATION_VALUE") or ""),
                    parent=child.get("ANNOTATION_REF"),
                    previous=child.get("PREVIOUS_ANNOTATION"),
                    slots=(slots[0], slots[1]) if slots[0] is not None and slots[1] is not None else None,
                )
            )
        tiers[name] = tier
    return tiers


def _set_times(annotations: Sequence[_Annotation], slots: Mapping[str, float | None]) -> None:
    """Set the times from the slots; spread annotations between slots without a value evenly."""
    chain: list[_Annotation] = []
    for annotation in annotations:
        if annotation.slots is None:
            continue
        first_slot, last_slot = annotation.slots
        annotation.start, annotation.end = slots.get(first_slot, math.nan), slots.get(last_slot, math.nan)
        if chain and chain[-1].slots is not None and chain[-1].slots[1] != first_slot:
            chain = []
        chain.append(annotation)
        if annotation.end is None:
            continue
        first = chain[0].start
        if len(chain) > 1 and first is not None:
            step = (annotation.end - first) / len(chain)
            for index, member in enumerate(chain):
                member.start, member.end = first + index * step, first + (index + 1) * step
                member.interpolated = True
        chain = []


def _segments(tier: _Tier, by_key: Mapping[str, _Annotation], speaker: str | None) -> Iterator[Segment]:
    """Yield a segment per annotation with times; annotations without times are joined per ancestor with times."""
    ranks: dict[str, int] = {}
    groups: dict[str, list[tuple[tuple[int, ...], _Annotation]]] = {}
    for annotation in tier.annotations:
        if annotation.slots is not None:
            yield _segment(annotation, annotation, annotation.text, tier, speaker)
            continue
        chain = list(itertools.islice(_ancestors(annotation, by_key), _MAX_DEPTH))
        order = tuple(_rank(member, by_key, ranks) for member in reversed(chain))
        groups.setdefault(chain[-1].key, []).append((order, annotation))
    for key, members in groups.items():
        ordered = [annotation for _, annotation in sorted(members, key=lambda pair: pair[0])]
        text = " ".join(annotation.text for annotation in ordered if annotation.text)
        yield _segment(by_key.get(key, ordered[0]), ordered[0], text, tier, speaker)


def _segment(timed: _Annotation, first: _Annotation, text: str, tier: _Tier, speaker: str | None) -> Segment:
    start = math.nan if timed.start is None else timed.start / 1000
    end = math.nan if timed.end is None else timed.end / 1000
    return Segment(
        start,
        end,
        text,
        speaker,
        place=f"tier {tier.name!r}, annotation {first.key}",
        problem="marked as ignored in SayMore" if text == _SAYMORE_IGNORED else "",
        extra={"interpolated": True} if timed.interpolated else {},
    )


def _relatives(tier: _Tier, tiers: Mapping[str, _Tier]) -> list[str]:
    """The names of the other tiers of the same hierarchy."""
    roots = {name: _root(other, tiers) for name, other in tiers.items()}
    return [name for name, root in roots.items() if name != tier.name and root == roots[tier.name]]


def _root(tier: _Tier, tiers: Mapping[str, _Tier]) -> str:
    for _ in range(_MAX_DEPTH):
        if tier.parent is None or tier.parent not in tiers:
            break
        tier = tiers[tier.parent]
    return tier.name


def _placed(tier: _Tier, by_key: Mapping[str, _Annotation]) -> list[tuple[float, float, str]]:
    """Start, end (s) and text of each annotation, in order. One without times has those of its nearest timed ancestor."""
    ranks: dict[str, int] = {}
    placed = []
    for annotation in tier.annotations:
        chain = list(itertools.islice(_ancestors(annotation, by_key), _MAX_DEPTH))
        timed = next((member for member in chain if member.start is not None and member.end is not None), None)
        if timed is not None and timed.start is not None and timed.end is not None:
            order = tuple(_rank(member, by_key, ranks) for member in reversed(chain))
            placed.append((timed.start / 1000, order, timed.end / 1000, annotation.text))
    return [(start, end, text) for start, _, end, text in sorted(placed)]


def _beside(
    segments: Sequence[Segment],
    relatives: Sequence[str],
    placed: Callable[[str], list[tuple[float, float, str]]],
    index: int,
) -> dict[str, list[str]]:
    """By tier, the texts of all annotations of `relatives` within segments[index]. `placed` is `_placed` by name."""
    segment = segments[index]
    found = {}
    for name in relatives:
        annotations = placed(name)
        first = bisect.bisect_left(annotations, segment.start - _ROUNDING_S, key=lambda one: one[0])
        last = bisect.bisect_right(annotations, segment.end, key=lambda one: one[0])
        texts = [text for _, end, text in annotations[first:last] if end <= segment.end + _ROUNDING_S]
        if any(texts):
            found[name] = texts
    return found


def _ancestors(annotation: _Annotation, by_key: Mapping[str, _Annotation]) -> Iterator[_Annotation]:
    """Yield the annotation, its parent, and so on, as far as the file has them."""
    current: _Annotation | None = annotation
    while current is not None:
        yield current
        current = by_key.get(current.parent) if current.parent is not None else None


def _rank(annotation: _Annotation, by_key: Mapping[str, _Annotation], ranks: dict[str, int]) -> int:
    """How many annotations of the same parent come before this one. `ranks` caches the results."""
    unranked: list[str] = []
    current: _Annotation | None = annotation
    while current is not None and current.key not in ranks:
        ranks[current.key] = 0  # stops at a cycle; corrected below
        unranked.append(current.key)
        current = by_key.get(current.previous) if current.previous is not None else None
    first = 0 if current is None else ranks[current.key] + 1
    ranks.update((key, rank) for rank, key in enumerate(reversed(unranked), start=first))
    return ranks[annotation.key]


def _participant(tier: _Tier, tiers: Mapping[str, _Tier]) -> str:
    """The participant of the tier or of its nearest ancestor that has one; "" if none has."""
    for _ in range(_MAX_DEPTH):
        if tier.participant or tier.parent is None or tier.parent not in tiers:
            return tier.participant
        tier = tiers[tier.parent]
    return tier.participant


def format_eaf(tiers: Mapping[str, Sequence[Segment]], recording: Path | None = None) -> str:
    """Format segments as an EAF 3.0 document with a tier for each name, times to the millisecond. Write it as UTF-8.

    A tier's participant is the speaker, if all its segments have the same one. `recording` is the media file that ELAN
    opens. Raises AnadilError if a text has a character that XML does not allow, or a segment is shorter than 1 ms.
    """
    root = ElementTree.Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": "",
            "DATE": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "FORMAT": "3.0",
            "VERSION": "3.0",
            "xmlns:xsi": _XSI,
            "xsi:noNamespaceSchemaLocation": _SCHEMA,
        },
    )
    header = ElementTree.SubElement(root, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    if recording is not None:
        kind = _MIME.get(recording.suffix.lower(), "audio/" + recording.suffix.lower().removeprefix("."))
        url = recording.resolve().as_uri()
        media = {"MEDIA_URL": url, "MIME_TYPE": kind, "RELATIVE_MEDIA_URL": f"./{recording.name}"}
        ElementTree.SubElement(header, "MEDIA_DESCRIPTOR", media)
    slots = ElementTree.SubElement(root, "TIME_ORDER")
    times: list[tuple[int, str]] = []
    numbers = itertools.count(1)
    for name, segments in tiers.items():
        speakers = {segment.speaker for segment in segments}
        speaker = speakers.pop() if len(speakers) == 1 else None
        attributes = {"LINGUISTIC_TYPE_REF": "default-lt", "TIER_ID": name}
        tier = ElementTree.SubElement(root, "TIER", attributes | ({"PARTICIPANT": speaker} if speaker else {}))
        for segment in segments:
            _add_annotation(tier, segment, next(numbers), times)
    for milliseconds, slot in sorted(times):
        ElementTree.SubElement(slots, "TIME_SLOT", {"TIME_SLOT_ID": slot, "TIME_VALUE": str(milliseconds)})
    default = {"GRAPHIC_REFERENCES": "false", "LINGUISTIC_TYPE_ID": "default-lt", "TIME_ALIGNABLE": "true"}
    ElementTree.SubElement(root, "LINGUISTIC_TYPE", default)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _add_annotation(tier: ElementTree.Element, segment: Segment, number: int, times: list[tuple[int, str]]) -> None:
    # offset + duration of a manifest has rounding noise: without the inner round, 0.3005 s becomes 300 or 301 ms
    start, end = (round(1000 * round(time, DECIMALS)) for time in (segment.start, segment.end))
    if not 0 <= start < end:
        raise AnadilError(
            f"ELAN does not allow an annotation from {segment.start:g} to {segment.end:g} s: {segment.text!r}"
        )
    text = collapse_whitespace(segment.text)
    invalid = _NOT_XML.search(text)
    if invalid:
        raise AnadilError(f"an .eaf file cannot hold the character U+{ord(invalid[0]):04X}, in {text!r}")
    first, second = f"ts{2 * number - 1}", f"ts{2 * number}"
    times += [(start, first), (end, second)]
    annotation = ElementTree.SubElement(tier, "ANNOTATION")
    attributes = {"ANNOTATION_ID": f"a{number}", "TIME_SLOT_REF1": first, "TIME_SLOT_REF2": second}
    aligned = ElementTree.SubElement(annotation, "ALIGNABLE_ANNOTATION", attributes)
    ElementTree.SubElement(aligned, "ANNOTATION_VALUE").text = text
