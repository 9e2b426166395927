"""Subtitles, SubRip (.srt) and WebVTT (.vtt): cues to Utterances, and Segments to cues.

WebVTT is read with webvtt-py. SubRip is parsed here, as its only syntax is a line with two times and the libraries make
mistakes: pysubs2 takes a last line that is a number ("1990") for the number of a cue; srt needs minutes for 50 kB of
digits and reads 02,5 as 2.005 s; webvtt-py skips cues without a number.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import webvtt
import webvtt.errors

from anadil.corpora.reader import Options, Reject
from anadil.corpora.segments import AnnotationFile, Segment, collapse_whitespace, read_annotation_files
from anadil.corpora.text_files import read_text
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance

_SUFFIXES = (".srt", ".vtt")

_TIME = r"(-?)(?:(\d{1,6}):)?(\d{1,2}):(\d{1,2})(?:[.,:](\d{1,9}))?"
_TIMES = re.compile(rf"\s*{_TIME}\s*--?>\s*{_TIME}(?:\s.*)?")
_STYLE = re.compile(r"</?\s*(?:b|i|u|s|font)\b[^<>]*>|\{\\[^{}]*\}", re.IGNORECASE)
_VOICE = re.compile(r"<v(?:\.[^\s<>]*)*\s+([^<>]+)>")


def utterances(source: Path, options: Options, reject: Reject) -> Iterator[Utterance]:
    """Yield an utterance for each cue of a file, or of all .srt and .vtt files in a folder; a cue's lines are joined.

    Style tags are removed. WebVTT's `<v Name>` gives the speaker. If a cue has several voices, the utterance has no
    speaker, and `extra["voices"]` lists them. Cues may overlap. talk.en.srt belongs to talk.wav.
    """
    yield from read_annotation_files(
        source, options, reject, _SUFFIXES, lambda file: AnnotationFile(list(_cues(file, reject)))
    )


def _cues(file: Path, reject: Reject) -> Iterator[Segment]:
    text = read_text(file)
    if text.lstrip().startswith("WEBVTT"):  # the content decides which format it is, not the name
        return _webvtt(text.lstrip(), file, reject)
    return _subrip(text, file, reject)


def _subrip(text: str, file: Path, reject: Reject) -> Iterator[Segment]:
    """Yield the cues. A cue ends at the next line with two times; the line before that one is the next cue's number."""
    lines = text.split("\n")
    starts = [index for index, line in enumerate(lines) if _has_times(line)]
    if not any(_TIMES.fullmatch(lines[index]) for index in starts):
        raise AnadilError(f"{file}: not a subtitle file: expected lines such as 00:00:01,000 --> 00:00:02,500")
    before = collapse_whitespace(" ".join(_without_number(lines[: starts[0]])))
    if before:
        reject(Problem(f"{file}:1", f"text before the first cue: {before[:60]!r}"))
    for index, end in zip(starts, [*starts[1:], None], strict=True):
        times = _TIMES.fullmatch(lines[index])
        if not times:
            reject(Problem(f"{file}:{index + 1}", f"times cannot be read: {lines[index].strip()[:60]!r}"))
            continue
        inside = lines[index + 1 : end]
        content = _STYLE.sub("", "\n".join(_without_number(inside) if end is not None else inside))
        groups = times.groups()
        yield Segment(
            _seconds(*groups[:5]), _seconds(*groups[5:]), collapse_whitespace(content), place=f"line {index + 1}"
        )


def _has_times(line: str) -> bool:
    """Whether a line has two times, perhaps mistyped ("00:0x:02,500 --> 00:00:03,250"); "from 5 -> 6" has none."""
    before, _, after = line.partition("->")
    return ":" in before and ":" in after and before.lstrip()[:1] in "-0123456789" and any(map(str.isdigit, after))


def _without_number(lines: Sequence[str]) -> Sequence[str]:
    """The lines before a line with times, without the number of the next cue."""
    return lines[:-1] if lines and lines[-1].strip().lstrip("-").isdigit() else lines


def _seconds(sign: str, hours: str | None, minutes: str, seconds: str, fraction: str | None) -> float:
    number = float(f"{3600 * int(hours or 0) + 60 * int(minutes) + int(seconds)}.{fraction or 0}")
    return -number if sign else number


def _webvtt(text: str, file: Path, reject: Reject) -> Iterator[Segment]:
    for number, line in enumerate(text.split("\n"), start=1):
        if _has_times(line) and not webvtt.vtt.WebVTTCueBlock.CUE_TIMINGS_PATTERN.match(line):
            reject(Problem(f"{file}:{number}", f"times cannot be read: {line.strip()[:60]!r}"))
    try:
        captions = webvtt.from_string(text).captions
    except (webvtt.errors.MalformedFileError, webvtt.errors.MalformedCaptionError) as error:
        raise AnadilError(f"{file}: not readable as WebVTT: {error}") from None
    for number, caption in enumerate(captions, start=1):
        voices = [collapse_whitespace(html.unescape(name)) for name in _VOICE.findall(caption.raw_text)]
        several = len(set(voices)) > 1
        yield Segment(
            caption.start_time.in_milliseconds() / 1000,
            caption.end_time.in_milliseconds() / 1000,
            collapse_whitespace(html.unescape(caption.text)),
            voices[0] if voices and not several else None,
            place=f"cue {number} ({caption.start})",
            extra={"voices": voices} if several else {},
        )


def format_srt(segments: Sequence[Segment]) -> str:
    """Format segments as SubRip, each a cue with the lines of its text. SubRip has no speakers. Write it as UTF-8."""
    cues = [
        f"{number}\n{_timestamp(segment.start, ',')} --> {_timestamp(segment.end, ',')}\n{_lines(segment.text)}\n"
        for number, segment in enumerate(segments, start=1)
    ]
    return "\n".join(cues)


def format_vtt(segments: Sequence[Segment]) -> str:
    """Format segments as WebVTT, each a cue with the lines of its text and its speaker as voice. Write it as UTF-8."""
    cues = ["WEBVTT\n"]
    for segment in segments:
        voice = f"<v {html.escape(collapse_whitespace(segment.speaker), quote=False)}>" if segment.speaker else ""
        text = html.escape(_lines(segment.text), quote=False)
        cues.append(f"{_timestamp(segment.start, '.')} --> {_timestamp(segment.end, '.')}\n{voice}{text}\n")
    return "\n".join(cues)


def _lines(text: str) -> str:
    """The lines that are not empty: an empty one would end the cue."""
    return "\n".join(filter(None, map(collapse_whitespace, text.splitlines())))


def _timestamp(seconds: float, point: str) -> str:
    minutes, milliseconds = divmod(round(1000 * seconds), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{milliseconds // 1000:02d}{point}{milliseconds % 1000:03d}"
