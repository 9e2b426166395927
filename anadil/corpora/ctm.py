"""NIST's CTM files, words with times: to Utterances, and from words.

One word per line: `recording channel start duration word [confidence [type [speaker]]]`.
"""

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

_SUFFIXES = (".ctm",)

_PAUSE_S = 0.5
"""A silence of this length between two words starts a new utterance: pauses inside a phrase are mostly shorter."""

_SILENCE = frozenset({"<eps>", "@"})  # what Kaldi and NIST write for a silence


@dataclass(frozen=True, slots=True)
class TimedWord:
    """One line of a CTM file; times in seconds."""

    recording: str
    channel: str
    start: float
    duration: float
    word: str
    confidence: float | None = None
    speaker: str | None = None


def utterances(source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    """Yield the utterances of a .ctm file, or of all .ctm files in a folder.

    The words of each recording and channel are cut into utterances at pauses of 0.5 s or more and at changes of
    speaker. `extra["confidence"]` is the mean confidence of the words. A CTM file names its recordings without a
    suffix; they are looked for beside the file and in `options.audio`.
    """
    files = find_files(source, _SUFFIXES)
    recordings = RecordingFinder(options.audio)
    for file in files:
        words = sorted(_words(file, reject), key=lambda word: (word.recording, word.channel, word.start))
        for name, its_words in itertools.groupby(words, key=lambda word: word.recording):
            segments = list(_group_words(its_words))
            try:
                recording, _ = recordings.find(file.parent / f"{name}{file.suffix}")
            except AnadilError as error:
                reject(Problem(f"{file}: recording {name}", f"{len(segments):,} utterances: {error}"))
                continue
            yield from segments_to_utterances(segments, file, recording, 0.0, options, reject)


def _words(file: Path, reject: Reject) -> list[TimedWord]:
    """Read the words of a file; reject lines that cannot be parsed. Raises AnadilError if no line can."""
    words, problems = [], []
    for number, line in read_lines(file):
        if line.lstrip().startswith((";;", "#")):
            continue
        try:
            words.append(_word(line.split()))
        except ValueError as error:
            problems.append(Problem(f"{file}:{number}", f"{error}: {line.strip()[:60]!r}"))
    if not words:
        raise AnadilError(f"{file}: not a CTM file: expected lines of RECORDING CHANNEL START DURATION WORD")
    for problem in problems:
        reject(problem)
    return [word for word in words if word.word not in _SILENCE]


def _word(columns: Sequence[str]) -> TimedWord:
    if not 5 <= len(columns) <= 8:
        raise ValueError(f"{len(columns)} columns, expected 5 to 8")
    start, duration = parse_seconds(columns[2]), parse_seconds(columns[3])
    if start < 0 or duration < 0:
        raise ValueError("a negative time")
    confidence = None if len(columns) < 6 or columns[5] in ("NA", "-") else parse_seconds(columns[5])
    speaker = columns[7] if len(columns) == 8 and columns[7] not in ("NA", "-", "null", "<NA>") else None
    return TimedWord(columns[0], columns[1], start, duration, columns[4], confidence, speaker)


def _group_words(words: Iterable[TimedWord]) -> Iterator[Segment]:
    """Join words, which are in order of channel and time, to segments; cut at pauses and at changes of speaker."""
    phrase: list[TimedWord] = []
    for word in words:
        if phrase:
            last = phrase[-1]
            silence = word.start - max(earlier.start + earlier.duration for earlier in phrase[-2:])
            if silence >= _PAUSE_S or (word.channel, word.speaker) != (last.channel, last.speaker):
                yield _segment(phrase)
                phrase = []
        phrase.append(word)
    if phrase:
        yield _segment(phrase)


def _segment(phrase: Sequence[TimedWord]) -> Segment:
    first = phrase[0]
    confidences = [word.confidence for word in phrase if word.confidence is not None]
    extra: dict[str, object] = {"channel": first.channel}
    if confidences:
        extra["confidence"] = round(fmean(confidences), 4)
    return Segment(
        first.start,
        max(word.start + word.duration for word in phrase),
        " ".join(word.word for word in phrase),
        first.speaker,
        place=f"recording {first.recording}, channel {first.channel}, {first.start:g} s",
        extra=extra,
    )


def format_ctm(words: Sequence[TimedWord]) -> str:
    """Format words as CTM lines, with times and confidences to 3 decimals.

    Raises AnadilError if a name or word contains white space or is empty.
    """
    lines = []
    for word in words:
        for part in (word.recording, word.channel, word.word):
            if not part or part != collapse_whitespace(part) or " " in part:
                raise AnadilError(
                    f"CTM names and words cannot be empty or contain white space: {part!r}\n  next: rename the recording"
                )
        columns = [word.recording, word.channel, f"{word.start:.3f}", f"{word.duration:.3f}", word.word]
        if word.confidence is not None or word.speaker is not None:
            columns.append("NA" if word.confidence is None else f"{word.confidence:.3f}")
        if word.speaker is not None:
            columns += ["lex", word.speaker]
        lines.append(" ".join(columns) + "\n")
    return "".join(lines)
