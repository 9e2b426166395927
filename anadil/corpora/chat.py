"""CHAT transcripts of CLAN and TalkBank (.cha) to Utterances.

A line "*CHI:" holds what a speaker said, with time marks in milliseconds and with codes; lines that begin with "%" describe
the one before. The codes are those of "Tools for Analyzing Talk, Part 1: The CHAT Transcription Format" (MacWhinney).
What stands for speech is kept: repetitions, filled pauses, fragments. A code is removed and counted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anadil.corpora.reader import ANNOTATIONS, Options, Reject
from anadil.corpora.recordings import Media
from anadil.corpora.segments import AnnotationFile, Segment, Tier, collapse_whitespace, read_annotation_files
from anadil.corpora.text_files import read_text
from anadil.errors import AnadilError
from anadil.manifest import Utterance

_SUFFIXES = (".cha",)
_LINE = re.compile(r"([@*%])([^:\t]*)(?::[ \t]*(.*))?", re.DOTALL)
_TIME_MARK = re.compile(r"\x15(?:%\w+:\s*\"?(?P<media>[^\"\x15]*?)\"?_)?(?P<start>\d{1,12})_(?P<end>\d{1,12})-?\x15")
_STRAY_MARK = re.compile(r"\x15[^\x15]*\x15")
_UNINTELLIGIBLE = frozenset({"xxx", "xx", "yyy", "yy", "www"})

_MAX_CHARACTERS = 20_000  # of a main line, [x 3] included; the longest of TalkBank have some 2,000
_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_REPEATED = re.compile(r"x\s*(\d{1,2})")  # in brackets: the word or group before it was said so many times
_GROUP = re.compile(r"<([^<>]*)>\s*$")
_LAST_WORD = re.compile(r"(\S+)\s*$")
_CODES = (  # pattern, name to count it under ("": as it is written), replacement
    (re.compile(r"\((?:\.{1,3}|\d*(?::\d+)?\.?\d*)\)"), "", " "),  # pauses: (.) (..) (1.5)
    (re.compile(r"\(\(.*?\)\)"), "((...))", " "),  # what happens, in transcripts of conversation analysis
    (re.compile(r"&\*\w+:\S*"), "&*", " "),  # what another speaker said meanwhile
    (re.compile(r"&[={}]\S*"), "&=", " "),  # events: &=laughs
    (re.compile(r"(?<!\S)\+[^\w\s]*(?!\w)"), "", " "),  # linkers and ends of sentences: +... +/. +^
    (re.compile(r"(?<!\S)#+\S*"), "#", " "),  # pauses of old transcripts
    (
        re.compile(
            "[\u2191\u2193\u21d7\u2197\u2192\u2198\u21d8\u221e\u224b\u2261\u2308\u2309\u230a\u230b\u2206\u2207\u00b0\u2581\u2594"
            "\u263a\u264b\u2047\u222c\u03ab\u222e\u2021\u201e\u2039\u203a\u3014\u3015]\\d?"
        ),
        "",
        "",
    ),  # intonation, overlap and voice quality of conversation analysis; satellites
)
_CODES_IN_WORDS = (
    (re.compile(r"(?<!\S)0\S*"), "0", " "),  # a word that was left out: 0is
    (re.compile(r"&[-+~]?(?=\w)"), "", ""),  # a filled pause, fragment or nonword: the letters after it were said
    (re.compile(r"\([^()\s]*\)"), "(...)", ""),  # letters of a word that were not said: (be)cause
    (re.compile(r"(?<=\w)[@$][\w:&+*-]*"), "@", ""),  # what kind of word it is: hola@s:spa, b@l
    (
        re.compile(r"(?<=[^\W\d]):+|(?<=\w)\^|\^(?=\w)|[\u02c8\u02cc\u2260](?=\w)"),
        "",
        "",
    ),  # lengthening, blocking, stress
    (re.compile(r"(?<=\w)\+(?=\w)"), "+", ""),
    (re.compile("_"), "_", " "),
)


@dataclass
class _Line:
    """A main line with its dependent lines."""

    number: int
    speaker: str
    content: str
    dependents: list[tuple[str, str]] = field(default_factory=list)


def utterances(source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    """Yield an utterance for each line with time marks of a .cha file, or of all .cha files in a folder.

    The speakers are tiers; without `options.tier` all are taken. Dependent lines (%mor, %gra, %eng) are in
    `extra["annotations"]`. `clean` removes codes. A line with unintelligible speech (xxx, yyy, www) or without speech is
    rejected. `options.encoding` is the encoding of files that are not UTF-8.
    """
    yield from read_annotation_files(source, options, reject, _SUFFIXES, lambda file: _read(file, options))


def _read(file: Path, options: Options) -> AnnotationFile:
    headers, lines = _lines(read_text(file, encoding=options.encoding))
    if "Begin" not in headers and not lines:
        raise AnadilError(f"{file}: not a CHAT file: expected @Begin, and lines such as *CHI:")
    if not lines:
        raise AnadilError(f"{file}: it has no line of a speaker, such as *CHI:\n  next: check the file")
    if not any(_TIME_MARK.search(line.content) for line in lines):
        raise AnadilError(
            f"{file}: none of its {len(lines):,} lines of speakers has a time mark, so they cannot be found in a recording\n"
            "  next: link the transcript to its recording in CLAN (Mode > Sonic Mode), or choose another transcript"
        )
    name = headers.get("Media", "").split(",")[0].strip().strip('"')
    speakers = list(dict.fromkeys(line.speaker for line in lines))
    people = _people(headers.get("Participants", ""))
    segments = [_segment(line, people.get(line.speaker, "")) for line in lines]
    return AnnotationFile(
        media=[Media(name)] if name else [],
        tiers=[
            Tier(speaker, "speaker", [one for one in segments if one.speaker == speaker], transcribes=speaker)
            for speaker in speakers
        ],
    )


def _lines(text: str) -> tuple[dict[str, str], list[_Line]]:
    """The headers by name, and the lines of speakers. A line that begins with white space continues the one before."""
    joined: list[tuple[int, str]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line[:1] in ("\t", " ") and joined:
            joined[-1] = (joined[-1][0], f"{joined[-1][1]} {line.strip()}")
        elif line.strip():
            joined.append((number, line))
    headers: dict[str, str] = {}
    lines: list[_Line] = []
    for number, line in joined:
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        kind, name, content = match[1], match[2].strip(), (match[3] or "").strip()
        if kind == "@":
            headers.setdefault(name, content)
        elif kind == "*":
            lines.append(_Line(number, name, content))
        elif lines:
            lines[-1].dependents.append((f"%{name}", collapse_whitespace(_STRAY_MARK.sub(" ", content))))
    return headers, lines


def _people(participants: str) -> dict[str, str]:
    """What @Participants says of each speaker: "CHI Eve Target_Child, MOT Mother" gives "Eve Target_Child" for CHI."""
    entries = (entry.split(maxsplit=1) for entry in participants.split(","))
    return {entry[0]: collapse_whitespace(entry[1]) for entry in entries if len(entry) == 2}


def _segment(line: _Line, person: str) -> Segment:
    marks = list(_TIME_MARK.finditer(line.content))
    text, codes, problem = clean(_STRAY_MARK.sub(" ", line.content))
    extra: dict[str, object] = {"participant": person} if person else {}
    annotations: dict[str, list[str]] = {}
    for name, content in line.dependents:
        annotations.setdefault(name, []).append(content)
    if annotations:
        extra[ANNOTATIONS] = annotations
    named = next((mark["media"] for mark in marks if mark["media"]), "")
    return Segment(
        int(marks[0]["start"]) / 1000 if marks else math.nan,
        int(marks[-1]["end"]) / 1000 if marks else math.nan,
        text,
        line.speaker,
        place=f"line {line.number}",
        problem=problem or ("" if marks else "no time mark"),
        removed=() if problem else codes,
        media=[Media(named)] if named else (),
        extra=extra,
    )


def clean(content: str) -> tuple[str, list[str], str]:
    """What was said in a main line, the codes that were removed, and why the line cannot be used ("" if it can).

    Letters in parentheses (be)cause were not said, and are removed; [x 3] repeats the words before it; "_" and "+" join
    the parts of a compound (ice_cream, black+board), and become a space and nothing.
    """
    codes: list[str] = []
    if len(content) > _MAX_CHARACTERS:
        return "", codes, f"longer than {_MAX_CHARACTERS:,} characters"

    text = _remove(_without_brackets(content, codes), _CODES, codes)
    words = [word.strip('.?!,;<>\u201c\u201d"').partition("@")[0] for word in text.split()]
    unintelligible = sorted(_UNINTELLIGIBLE & {word.casefold() for word in words})
    text = _remove(text, _CODES_IN_WORDS, codes)
    text = collapse_whitespace(re.sub(r"[<>]", " ", text))
    text = re.sub(r"\s+([.?!,;:])", r"\1", text)
    if "[" in text or "]" in text:
        return text, codes, "a bracket without its pair"
    if unintelligible:
        return text, codes, f"unintelligible speech ({', '.join(unintelligible)})"
    if not any(character.isalnum() for character in text):
        return text, codes, "no speech, only codes" if codes else ""
    return text, codes, ""


def _remove(text: str, table: Sequence[tuple[re.Pattern[str], str, str]], codes: list[str]) -> str:
    """Replace what matches the patterns of the table. Adds to `codes` the name of each code, or else what matched."""
    for pattern, name, replacement in table:
        codes.extend(name or match for match in pattern.findall(text))
        text = pattern.sub(replacement, text)
    return text


def _without_brackets(text: str, codes: list[str]) -> str:
    """Remove [...], and the < > of the words that it is about; repeat the words before [x 3]. Adds to `codes`."""
    while (match := _BRACKETS.search(text)) is not None:
        before, after, inside = text[: match.start()], text[match.end() :], match[1].strip()
        symbol = re.match(r"[^\w\s]*", inside)
        code = symbol[0] if symbol and symbol[0] else inside.split(" ")[0]
        codes.append(f"[{code}]" if code == inside else f"[{code} ...]")
        repeated = _REPEATED.fullmatch(inside)
        if repeated:
            group = _GROUP.search(before) or _LAST_WORD.search(before)
            if group and len(text) + len(group[1]) * int(repeated[1]) <= _MAX_CHARACTERS:
                before = before[: group.start()] + " ".join([group[1]] * max(1, int(repeated[1]))) + " "
        text = f"{before} {after}"
    return text
