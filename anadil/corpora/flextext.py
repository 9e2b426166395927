"""FieldWorks (FLEx) interlinear texts (.flextext) to Utterances.

FLEx writes times only for texts that came from ELAN or were linked to a recording: `begin-time-offset` and
`end-time-offset` of a phrase, in milliseconds, and the recording in `media-files` (FlexInterlinear.xsd).
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from anadil.corpora.reader import Options, Reject
from anadil.corpora.recordings import Media
from anadil.corpora.segments import (
    AnnotationFile,
    Record,
    collapse_whitespace,
    parse_seconds,
    read_annotation_files,
    record_tiers,
)
from anadil.corpora.xml_files import parse_xml
from anadil.errors import AnadilError
from anadil.manifest import Utterance

_SUFFIXES = (".flextext",)
_TEXT, _NUMBER = "txt", "segnum"  # types of <item>
_OPENING = frozenset("¿¡")  # of Unicode's category Po, and before a word
_PHRASE_TEXT = "phrase-txt-"


def utterances(source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    """Yield an utterance for each phrase with times of a .flextext file, or of all such files in a folder.

    The lines of a phrase are tiers: phrase-txt-LANG (the baseline; if the file has none, the words with their
    punctuation), phrase-gls-LANG (free translation), word-gls-LANG, morph-txt-LANG, ... Without `options.tier` the
    file must have the baseline in one writing system. The other lines are in `extra["annotations"]`; lines of words and
    of morphemes have a string for each word and morpheme, empty if it has none.
    """
    yield from read_annotation_files(source, options, reject, _SUFFIXES, _read)


def _read(file: Path) -> AnnotationFile:
    root = parse_xml(file, "document", "FLEx")
    records = [record for text in root.iter("interlinear-text") for record in _records(text)]
    if not records:
        raise AnadilError(f"{file}: it has no phrases\n  next: export the text from FLEx again, as ELAN, SayMore, FLEx")
    if all(math.isnan(record.start) for record in records):
        raise AnadilError(
            f"{file}: none of its {len(records):,} phrases has times (begin-time-offset), so they cannot be found in a "
            "recording\n  next: import the file into ELAN, set the times there, and give the .eaf file to anadil import elan"
        )
    tiers = record_tiers(
        records, lambda name: name.rsplit("-", name.count("-") - 1)[0], lambda name: name.startswith(_PHRASE_TEXT)
    )
    return AnnotationFile(tiers=tiers)


def _records(text: Element) -> Iterator[Record]:
    media = {one.get("guid", ""): one.get("location", "") for one in text.iter("media")}
    title = next((_text(item) for item in text.findall("item") if item.get("type") == "title"), "")
    for number, phrase in enumerate(text.iter("phrase"), start=1):
        label = next((_text(item) for item in phrase.findall("item") if item.get("type") == _NUMBER), str(number))
        named = media.get(phrase.get("media-file", ""))
        urls = [named] if named else list(media.values())
        yield Record(
            _seconds(phrase.get("begin-time-offset")),
            _seconds(phrase.get("end-time-offset")),
            _lines(phrase),
            phrase.get("speaker") or None,
            place=(f"text {title!r}, " if title else "") + f"phrase {label}",
            media=[Media(url) for url in urls if url],
        )


def _seconds(milliseconds: str | None) -> float:
    try:
        return math.nan if milliseconds is None else parse_seconds(milliseconds) / 1000
    except ValueError:
        return math.nan  # only this phrase will be rejected


def _lines(phrase: Element) -> dict[str, list[str]]:
    """The lines of a phrase by name ("phrase-gls-en"): the items of the phrase, of its words, of their morphemes."""
    lines: dict[str, list[str]] = {}
    for item in phrase.findall("item"):
        if item.get("type") != _NUMBER:
            lines.setdefault(_name("phrase", item), []).append(_text(item))
    words = list(phrase.iter("word"))
    for language, pieces in _baselines(words).items():
        lines.setdefault(_PHRASE_TEXT + language, [_join(pieces)])
    spoken = [word for word in words if not all(item.get("type") == "punct" for item in word.findall("item"))]
    lines |= _aligned("word", spoken) | _aligned("morph", [morph for word in spoken for morph in word.iter("morph")])
    return lines


def _aligned(level: str, elements: Sequence[Element]) -> dict[str, list[str]]:
    """The lines of words or morphemes: by the name of an item, its text in each element, "" where there is none."""
    lines: dict[str, list[str]] = {}
    for index, element in enumerate(elements):
        for item in element.findall("item"):
            if item.get("type") != "punct":
                lines.setdefault(_name(level, item), [""] * len(elements))[index] = _text(item)
    return lines


def _baselines(words: Sequence[Element]) -> dict[str, list[str]]:
    """The words and punctuation of a phrase by writing system, for each in which words have a form of their own.

    A word or punctuation mark in only one writing system (a loan word) belongs to all of them.
    """
    forms = [
        {item.get("lang", ""): _text(item) for item in word.findall("item") if item.get("type") in (_TEXT, "punct")}
        for word in words
    ]
    several = dict.fromkeys(language for form in forms if len(form) > 1 for language in form)
    counts = Counter(language for form in forms for language in form)
    languages = list(several) or [language for language, _ in counts.most_common(1)]
    return {
        language: [form.get(language) or next(iter(form.values())) for form in forms if form] for language in languages
    }


def _join(pieces: Sequence[str]) -> str:
    """Join words and punctuation marks: no space before closing marks and after opening ones."""
    text = ""
    for piece in filter(None, pieces):
        category = unicodedata.category(piece[0])
        closes = category in ("Pe", "Pf", "Po") and piece[0] not in _OPENING
        opens = bool(text) and (unicodedata.category(text[-1]) in ("Ps", "Pi") or text[-1] in _OPENING)
        text += piece if not text or closes or opens else f" {piece}"
    return text


def _name(level: str, item: Element) -> str:
    return f"{level}-{item.get('type', '')}-{item.get('lang', '')}"


def _text(item: Element) -> str:
    runs = item.findall("run")
    return collapse_whitespace("".join(run.text or "" for run in runs) if runs else "".join(item.itertext()))
