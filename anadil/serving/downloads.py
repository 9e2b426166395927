"""A corrected recording as a file: text, SRT, WebVTT, TextGrid, ELAN or JSON."""

from __future__ import annotations

import json
from pathlib import Path

from anadil.corpora import elan, subtitles, textgrid
from anadil.corpora.segments import Segment as Annotation
from anadil.decoding.cues import word_segments
from anadil.decoding.transcript import Transcript, Word
from anadil.serving.archive import Recording

SUFFIXES = {"text": ".txt", "srt": ".srt", "vtt": ".vtt", "textgrid": ".TextGrid", "eaf": ".eaf", "json": ".json"}
"""File suffixes of the formats."""


def download(one: Recording, form: str) -> str:
    """The recording's present text in a format of SUFFIXES, UTF-8.

    Tier "utterances" has the segments; "words" has the model's words with their times, of segments whose text is still as
    the model wrote it. Raises AnadilError if the format cannot hold a text.
    """
    segments = [segment for segment in one.ordered if segment.text]
    if form == "json":
        kept = [segment.to_dict() for segment in one.ordered]
        about = {"name": one.name, "duration": round(one.duration, 3), "language": one.language, "model": one.model}
        return json.dumps(about | {"segments": kept}, ensure_ascii=False, indent=1) + "\n"
    utterances = [Annotation(segment.start, segment.end, segment.text) for segment in segments]
    if form == "text":
        return "".join(f"{segment.text}\n" for segment in segments)
    if form == "srt":
        return subtitles.format_srt(utterances)
    if form == "vtt":
        return subtitles.format_vtt(utterances)
    untouched = [word for segment in segments if segment.text == segment.heard for word in segment.words]
    words = tuple(sorted((Word(*word) for word in untouched), key=lambda word: word.start))
    tiers = {"utterances": utterances, "words": word_segments(Transcript("", words, one.duration))}
    if form == "eaf":
        return elan.format_eaf(tiers, Path("/") / one.name)  # beside the recording, wherever its owner keeps it
    return textgrid.format_textgrid(tiers, one.duration)
