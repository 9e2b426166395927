"""ELAN's .eaf files (EAF 2.x and 3.0): a tier, or all tiers of a linguistic type, to Utterances, and Segments back.

Read as plain XML: pympi-ling fails on files without a schema location or with ids that hold no digit, and has no
interpolated times; the tests hold both readers to the same answer where pympi-ling has one.
"""

from __future__ import annotations

import datetime
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from xml.etree import ElementTree

import defusedxml
import defusedxml.ElementTree

from anadil.corpora.reader import Options, Reject
from anadil.corpora.recordings import Media
from anadil.corpora.segments import (
    AnnotationFile,
    Segment,
    Tier,
    choose_tiers,
    collapse_whitespace,
    parse_seconds,
    read_annotation_files,
)
from anadil.corpora.text_files import MAX_BYTES
from anadil.errors import AnadilError
from anadil.manifest import Utterance

SUFFIXES = (".eaf",)
_DEEPEST = 50  # tiers below one another; a cycle would be endless
_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_MIME = {".wav": "audio/x-wav", ".mp3": "audio/mpeg", ".aif": "audio/x-aiff", ".aiff": "audio/x-aiff"}
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass
class _Annotation:
    """As the file has it; times in milliseconds once they are known."""

    key: str
    text: str
    parent: str | None = None  # key of the annotation that this one is about
    previous: str | None = None  # of the same parent
    slots: tuple[str, str] | None = None
    start: float | None = None
    end: float | None = None
    interpolated: bool = False


@dataclass
class _Tier:
    name: str
    kind: str
    participant: str
    parent: str | None
    annotations: list[_Annotation] = field(default_factory=list)


def utterances(source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    """An .eaf file, or all in a folder.

    The tier is chosen by `options.tier` (a name, or a pattern such as "tx@*") or `options.tier_type`; without these
    it must be the only one with text. The speaker is the tier's participant, or that of a tier above it; several
    tiers without participants are told apart by their names. Annotations without times of their own take their
    parent's, and those with the same one are joined in their order (a tier of words gives sentences). Boundaries
    that ELAN leaves open are spread evenly, as ELAN draws them: `extra["interpolated"]`.
    """
    yield from read_annotation_files(source, options, reject, SUFFIXES, lambda file: _read(file, options))


def _read(file: Path, options: Options) -> AnnotationFile:
    root = _parse(file)
    header = root.find("HEADER")
    media = []
    if header is not None:
        units = header.get("TIME_UNITS", "milliseconds")
        if units != "milliseconds":
            raise AnadilError(f"{file}: its times are in {units}\n  next: save it with a newer ELAN, in milliseconds")
        media = [one for descriptor in header.findall("MEDIA_DESCRIPTOR") for one in _media(descriptor, file)]
    tiers = _tiers(root, file)
    slots = _slots(root, file)
    by_key = {annotation.key: annotation for tier in tiers.values() for annotation in tier.annotations}
    for tier in tiers.values():
        _set_times(tier.annotations, slots)
    offered = [Tier(tier.name, tier.kind, sum(bool(one.text) for one in tier.annotations)) for tier in tiers.values()]
    chosen = choose_tiers(offered, options, file)
    by_name = options.tier_type is not None or len(chosen) > 1
    segments = []
    for tier in (tiers[one.name] for one in chosen):
        speaker = _participant(tier, tiers) or (tier.name if by_name else None)
        segments += [replace(segment, speaker=speaker) for segment in _segments(tier, by_key)]
    return AnnotationFile(segments, media)


def _parse(file: Path) -> ElementTree.Element:
    if file.stat().st_size > MAX_BYTES:
        raise AnadilError(
            f"{file}: larger than {MAX_BYTES:,} bytes, which no annotation should be\n  next: check the path"
        )
    try:
        root: ElementTree.Element | None = defusedxml.ElementTree.parse(file, forbid_dtd=True).getroot()
    except defusedxml.DefusedXmlException as error:
        raise AnadilError(f"{file}: declares XML entities or a DTD, which ELAN never does: {error}") from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise AnadilError(
            f"{file}: not readable as XML: {error}\n  next: open it in ELAN and save it again, or take an earlier copy"
        ) from None
    if root is None or root.tag != "ANNOTATION_DOCUMENT":
        found = "nothing" if root is None else f"<{root.tag}>"
        raise AnadilError(f"{file}: not an ELAN file: expected <ANNOTATION_DOCUMENT>, found {found}")
    return root


def _media(descriptor: ElementTree.Element, file: Path) -> Iterator[Media]:
    """The same recording by its relative path first: the absolute one is of the annotator's machine."""
    origin = descriptor.get("TIME_ORIGIN", "0")
    try:
        time_origin_s = parse_seconds(origin) / 1000
    except ValueError:
        raise AnadilError(f"{file}: TIME_ORIGIN {origin!r} is no number of milliseconds") from None
    for key in ("RELATIVE_MEDIA_URL", "MEDIA_URL"):
        url = descriptor.get(key)
        if url:
            yield Media(url, time_origin_s)


def _slots(root: ElementTree.Element, file: Path) -> dict[str, float | None]:
    """Time slots; those without a value are between two that have one."""
    slots: dict[str, float | None] = {}
    for slot in root.iterfind("TIME_ORDER/TIME_SLOT"):
        value = slot.get("TIME_VALUE")
        try:
            slots[slot.get("TIME_SLOT_ID", "")] = None if value is None else parse_seconds(value)
        except ValueError:
            slots[slot.get("TIME_SLOT_ID", "")] = math.nan  # its annotations are rejected, and the rest is not
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
        for one in element.iterfind("ANNOTATION/*"):
            slots = one.get("TIME_SLOT_REF1"), one.get("TIME_SLOT_REF2")
            tier.annotations.append(
                _Annotation(
                    key=one.get("ANNOTATION_ID", ""),
                    text=collapse_whitespace(one.findtext("ANNOTATION_VALUE") or ""),
                    parent=one.get("ANNOTATION_REF"),
                    previous=one.get("PREVIOUS_ANNOTATION"),
                    slots=(slots[0], slots[1]) if slots[0] is not None and slots[1] is not None else None,
                )
            )
        tiers[name] = tier
    return tiers


def _set_times(annotations: Sequence[_Annotation], slots: Mapping[str, float | None]) -> None:
    """Look the times up, and spread annotations that share unaligned boundaries evenly between the aligned ones."""
    chain: list[_Annotation] = []
    for one in annotations:
        if one.slots is None:
            continue
        one.start, one.end = slots.get(one.slots[0], math.nan), slots.get(one.slots[1], math.nan)
        if chain and chain[-1].slots is not None and chain[-1].slots[1] != one.slots[0]:
            chain = []
        chain.append(one)
        if one.end is None:
            continue
        first = chain[0].start
        if len(chain) > 1 and first is not None:
            step = (one.end - first) / len(chain)
            for index, member in enumerate(chain):
                member.start, member.end = first + index * step, first + (index + 1) * step
                member.interpolated = True
        chain = []


def _segments(tier: _Tier, by_key: Mapping[str, _Annotation]) -> Iterator[Segment]:
    """Of a tier with times each annotation, of one without them those of each aligned ancestor together."""
    ranks: dict[str, int] = {}
    together: dict[str, list[tuple[tuple[int, ...], _Annotation]]] = {}
    for one in tier.annotations:
        if one.slots is not None:
            yield _segment(one, one, one.text, tier)
            continue
        chain = list(itertools.islice(_ancestors(one, by_key), _DEEPEST))
        order = tuple(_rank(member, by_key, ranks) for member in reversed(chain))
        together.setdefault(chain[-1].key, []).append((order, one))
    for key, members in together.items():
        ordered = [one for _, one in sorted(members, key=lambda pair: pair[0])]
        text = " ".join(one.text for one in ordered if one.text)
        yield _segment(by_key.get(key, ordered[0]), ordered[0], text, tier)


def _segment(timed: _Annotation, first: _Annotation, text: str, tier: _Tier) -> Segment:
    start = math.nan if timed.start is None else timed.start / 1000
    end = math.nan if timed.end is None else timed.end / 1000
    extra = {"tier": tier.name} | ({"interpolated": True} if timed.interpolated else {})
    return Segment(start, end, text, place=f"tier {tier.name!r}, annotation {first.key}", extra=extra)


def _ancestors(one: _Annotation, by_key: Mapping[str, _Annotation]) -> Iterator[_Annotation]:
    """The annotation, its parent, and so on, as far as the file has them."""
    current: _Annotation | None = one
    while current is not None:
        yield current
        current = by_key.get(current.parent) if current.parent is not None else None


def _rank(one: _Annotation, by_key: Mapping[str, _Annotation], ranks: dict[str, int]) -> int:
    """How many annotations of the same parent come before this one; `ranks` keeps what was found."""
    behind: list[str] = []
    current: _Annotation | None = one
    while current is not None and current.key not in ranks:
        ranks[current.key] = 0  # ends a cycle; corrected below
        behind.append(current.key)
        current = by_key.get(current.previous) if current.previous is not None else None
    first = 0 if current is None else ranks[current.key] + 1
    ranks.update((key, rank) for rank, key in enumerate(reversed(behind), start=first))
    return ranks[one.key]


def _participant(tier: _Tier, tiers: Mapping[str, _Tier]) -> str:
    for _ in range(_DEEPEST):
        if tier.participant or tier.parent is None or tier.parent not in tiers:
            return tier.participant
        tier = tiers[tier.parent]
    return tier.participant


def format_eaf(tiers: Mapping[str, Sequence[Segment]], recording: Path | None = None) -> str:
    """An EAF 3.0 document with a tier of its own for each name, times to the millisecond, in UTF-8.

    A tier's participant is the speaker, if its segments have one and the same. `recording` is what ELAN will open.
    Raises AnadilError if a text holds a character that XML cannot, or a segment lasts less than a millisecond.
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
            _add(tier, segment, next(numbers), times)
    for milliseconds, slot in sorted(times):
        ElementTree.SubElement(slots, "TIME_SLOT", {"TIME_SLOT_ID": slot, "TIME_VALUE": str(milliseconds)})
    default = {"GRAPHIC_REFERENCES": "false", "LINGUISTIC_TYPE_ID": "default-lt", "TIME_ALIGNABLE": "true"}
    ElementTree.SubElement(root, "LINGUISTIC_TYPE", default)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _add(tier: ElementTree.Element, segment: Segment, number: int, times: list[tuple[int, str]]) -> None:
    start, end = round(1000 * segment.start), round(1000 * segment.end)
    if not 0 <= start < end:
        raise AnadilError(f"ELAN has no annotation from {segment.start:g} to {segment.end:g} s: {segment.text!r}")
    text = collapse_whitespace(segment.text)
    unfit = _NOT_XML.search(text)
    if unfit:
        raise AnadilError(f"an .eaf file cannot hold the character U+{ord(unfit[0]):04X}, in {text!r}")
    first, second = f"ts{2 * number - 1}", f"ts{2 * number}"
    times += [(start, first), (end, second)]
    annotation = ElementTree.SubElement(tier, "ANNOTATION")
    attributes = {"ANNOTATION_ID": f"a{number}", "TIME_SLOT_REF1": first, "TIME_SLOT_REF2": second}
    aligned = ElementTree.SubElement(annotation, "ALIGNABLE_ANNOTATION", attributes)
    ElementTree.SubElement(aligned, "ANNOTATION_VALUE").text = text
