"""NIST's CTM, words with times (`recording channel start duration word [confidence [type [speaker]]]`), and back."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from anadil.corpora.reader import Options, Reject
from anadil.corpora.recordings import RecordingFinder
from anadil.corpora.segments import Segment, collapse_whitespace, find_files, parse_seconds, segments_to_utterances
from anadil.corpora.text_files import read_lines
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance

SUFFIXES = (".ctm",)

PAUSE_S = 0.5
"""A silence between two words that parts two utterances: pauses inside a phrase are mostly shorter."""

_SILENCE = frozenset({"<eps>", "@"})  # Kaldi's and NIST's word for no word


@dataclass(frozen=True, slots=True)
class TimedWord:
    """A word as a CTM file has it; times in seconds."""

    recording: str
    channel: str
    start: float
    duration: float
    word: str
    confidence: float | None = None
    speaker: str | None = None


def utterances(source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    """A .ctm file, or all in a folder. The words of a recording's channel are cut into utterances at pauses of PAUSE_S
    and at changes of speaker; the mean of their confidences is in `extra["confidence"]`.

    A file names its recordings without an ending; they are looked for beside it and in `options.audio`.
    """
    files = find_files(source, SUFFIXES)
    recordings = RecordingFinder(options.audio)
    for file in files:
        words = sorted(_words(file, reject), key=lambda one: (one.recording, one.channel, one.start))
        for name, mine in itertools.groupby(words, key=lambda one: one.recording):
            segments = list(group_words(mine))
            try:
                recording, _ = recordings.find(file.parent / f"{name}{file.suffix}")
            except AnadilError as error:
                reject(Problem(f"{file}: recording {name}", f"{len(segments):,} utterances: {error}"))
                continue
            yield from segments_to_utterances(segments, file, recording, 0.0, options, reject)


def _words(file: Path, reject: Reject) -> list[TimedWord]:
    """The words of a file; a line that is none is rejected. Raises AnadilError if there is no word at all."""
    found, problems = [], []
    for number, line in read_lines(file):
        if line.lstrip().startswith((";;", "#")):
            continue
        try:
            found.append(_word(line.split()))
        except ValueError as error:
            problems.append(Problem(f"{file}:{number}", f"{error}: {line.strip()[:60]!r}"))
    if not found:
        raise AnadilError(f"{file}: no words of CTM: expected lines of RECORDING CHANNEL START DURATION WORD")
    for problem in problems:
        reject(problem)
    return [one for one in found if one.word not in _SILENCE]


def _word(columns: Sequence[str]) -> TimedWord:
    if not 5 <= len(columns) <= 8:
        raise ValueError(f"{len(columns)} columns, expected 5 to 8")
    start, duration = parse_seconds(columns[2]), parse_seconds(columns[3])
    if start < 0 or duration < 0:
        raise ValueError("a negative time")
    confidence = None if len(columns) < 6 or columns[5] in ("NA", "-") else parse_seconds(columns[5])
    speaker = columns[7] if len(columns) == 8 and columns[7] not in ("NA", "-", "null", "<NA>") else None
    return TimedWord(columns[0], columns[1], start, duration, columns[4], confidence, speaker)


def group_words(words: Iterable[TimedWord]) -> Iterator[Segment]:
    """Segments of words in order of channel and time: parted where PAUSE_S or more is silent, or another speaks."""
    phrase: list[TimedWord] = []
    for word in words:
        if phrase:
            last = phrase[-1]
            silence = word.start - max(one.start + one.duration for one in phrase[-2:])
            if silence >= PAUSE_S or (word.channel, word.speaker) != (last.channel, last.speaker):
                yield _segment(phrase)
                phrase = []
        phrase.append(word)
    if phrase:
        yield _segment(phrase)


def _segment(phrase: Sequence[TimedWord]) -> Segment:
    first = phrase[0]
    confidences = [one.confidence for one in phrase if one.confidence is not None]
    extra: dict[str, object] = {"channel": first.channel}
    if confidences:
        extra["confidence"] = round(fmean(confidences), 4)
    return Segment(
        first.start,
        max(one.start + one.duration for one in phrase),
        " ".join(one.word for one in phrase),
        first.speaker,
        place=f"recording {first.recording}, channel {first.channel}, {first.start:g} s",
        extra=extra,
    )


def format_ctm(words: Sequence[TimedWord]) -> str:
    """CTM lines, times and confidences to 3 decimals. Raises AnadilError if a name or word holds white space or is empty."""
    lines = []
    for one in words:
        for part in (one.recording, one.channel, one.word):
            if not part or part != collapse_whitespace(part) or " " in part:
                raise AnadilError(f"CTM has no place for white space: {part!r}\n  next: rename the recording")
        columns = [one.recording, one.channel, f"{one.start:.3f}", f"{one.duration:.3f}", one.word]
        if one.confidence is not None or one.speaker is not None:
            columns.append("NA" if one.confidence is None else f"{one.confidence:.3f}")
        if one.speaker is not None:
            columns += ["lex", one.speaker]
        lines.append(" ".join(columns) + "\n")
    return "".join(lines)
