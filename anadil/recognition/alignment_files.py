"""Alignments as files: JSON, CTM, TextGrid, ELAN and subtitles of a recording, and the report of what is not aligned."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anadil.audio import probe
from anadil.corpora import ctm, elan, subtitles, textgrid
from anadil.corpora.segments import DECIMALS, Segment
from anadil.decoding.cues import subtitles as subtitle_cues
from anadil.decoding.cues import word_segments
from anadil.decoding.transcript import Transcript, Word
from anadil.errors import AnadilError
from anadil.files import escape_surrogates
from anadil.manifest import Utterance
from anadil.recognition.align import ALIGNMENT, Aligned, AlignedWord
from anadil.recognition.segment import Segmented


def suffix_of(form: str) -> str:
    """The file suffix of a format: json, ctm, textgrid, eaf, srt or vtt."""
    return ".TextGrid" if form == "textgrid" else f".{form}"


@dataclass(frozen=True)
class Passage:
    """An aligned utterance or segment."""

    utterance: Utterance
    words: Sequence[AlignedWord]

    @property
    def end(self) -> float:
        return self.utterance.offset + (self.utterance.duration or 0.0)

    def segment(self) -> Segment:
        start, end = round(self.utterance.offset, DECIMALS), round(self.end, DECIMALS)
        return Segment(start, end, self.utterance.text, self.utterance.speaker)


def paths_of(recordings: Sequence[str], out: Path, suffix: str) -> dict[str, Path]:
    """The output file of each recording in `out`: folders as the recordings have below their common folder.

    Raises AnadilError if two recordings have the same one (a.wav and a.flac).
    """
    absolute = {recording: Path(os.path.abspath(recording)) for recording in recordings}
    common = Path(os.path.commonpath([path.parent for path in absolute.values()])) if absolute else out
    found = {recording: out / path.relative_to(common).with_suffix(suffix) for recording, path in absolute.items()}
    taken: dict[Path, str] = {}
    for recording, target in found.items():
        other = taken.setdefault(target, recording)
        if absolute[other] != absolute[recording]:
            raise AnadilError(
                f"{other} and {recording} would both be written to {target}\n  next: rename one, or align them separately"
            )
    return found


def format_recording(form: str, recording: str, passages: Sequence[Passage], more: dict[str, Any]) -> str:
    """All passages of one recording as the content of a file. `more` is added to JSON.

    Raises AnadilError if a format cannot hold them: passages of one speaker that overlap, a name with white space in CTM.
    """
    passages = sorted(passages, key=lambda one: (one.utterance.offset, one.end))
    if form == "json":
        return (
            json.dumps({"audio_filepath": recording} | more | _content(passages), ensure_ascii=False, indent=1) + "\n"
        )
    if form == "ctm":
        return format_words(passages)
    # subtitles and tiers have whole milliseconds, and a passage may end with the recording
    duration = max(probe(recording).duration, max((one.end for one in passages), default=0.0))
    if form in ("srt", "vtt"):
        shown = _cues(passages, duration)
        return subtitles.format_srt(shown) if form == "srt" else subtitles.format_vtt(shown)
    tiers = _tiers(passages, duration, recording)
    return elan.format_eaf(tiers, Path(recording)) if form == "eaf" else textgrid.format_textgrid(tiers, duration)


def format_words(passages: Sequence[Passage]) -> str:
    """The words of any recordings as CTM. White space inside a word ("5 km") becomes "_"."""
    lines = []
    for passage in passages:
        channel = "1" if passage.utterance.channel == "mix" else str(passage.utterance.channel)
        name, speaker = Path(passage.utterance.audio_filepath).stem, passage.utterance.speaker
        lines += [
            ctm.TimedWord(
                name,
                channel,
                word.start,
                word.end - word.start,
                "_".join(word.text.split()),
                word.score,
                "_".join(speaker.split()) if speaker else None,
            )
            for word in passage.words
        ]
    return ctm.format_ctm(lines)


def _content(passages: Sequence[Passage]) -> dict[str, Any]:
    found = []
    for one in passages:
        utterance = one.utterance
        about = {"start": round(utterance.offset, 3), "end": round(one.end, 3), "text": utterance.text}
        who = {"speaker": utterance.speaker, "channel": None if utterance.channel == "mix" else utterance.channel}
        found.append(about | {key: value for key, value in who.items() if value} | utterance.extra[ALIGNMENT])
    return {"segments": found}


def _cues(passages: Sequence[Passage], duration: float) -> list[Segment]:
    """Cues of all words of a recording; in a language without spaces, one for each passage."""
    if any(" ".join(word.text for word in one.words) != " ".join(one.utterance.text.split()) for one in passages):
        return [one.segment() for one in passages]
    words = [Word(word.text, word.start, word.end, word.score) for one in passages for word in one.words]
    return subtitle_cues(_transcript(words, duration))


def _transcript(words: Sequence[Word], duration: float) -> Transcript:
    return Transcript("", tuple(words), duration)


def _tiers(passages: Sequence[Passage], duration: float, recording: str) -> dict[str, list[Segment]]:
    """Utterances, words and characters; three tiers of each speaker and channel, if there are several."""
    tiers: dict[str, list[Segment]] = {}

    def voice(one: Passage) -> tuple[str, str]:
        return one.utterance.speaker or "", "" if one.utterance.channel == "mix" else str(one.utterance.channel)

    voices = list(dict.fromkeys(map(voice, passages)))
    for speaker, channel in voices:
        own = [one for one in passages if voice(one) == (speaker, channel)]
        for before, after in itertools.pairwise(own):
            if after.utterance.offset < round(before.end - 1e-3, DECIMALS):
                raise AnadilError(
                    f"{recording}: utterances of one speaker overlap, at {after.utterance.offset:.2f} s, "
                    "which a tier cannot hold\n  next: give each its speaker, or choose --format json or ctm"
                )
        name = " ".join(filter(None, (speaker, channel and f"channel {channel}"))) if len(voices) > 1 else ""
        words = [word for one in own for word in one.words]
        utterances = [one.segment() for one in own]
        for before_, after_ in itertools.pairwise(range(len(utterances))):
            last, following = utterances[before_], utterances[after_]
            if last.end > following.start:  # by rounding
                utterances[before_] = Segment(last.start, following.start, last.text, last.speaker)
        characters = [character for word in words for character in word.characters]
        tiers[f"utterances {name}".strip()] = utterances
        tiers[f"words {name}".strip()] = word_segments(
            _transcript([Word(word.text, word.start, word.end, word.score) for word in words], duration)
        )
        tiers[f"characters {name}".strip()] = word_segments(_transcript(characters, duration))
    return tiers


def manifest_report(aligned: Aligned) -> dict[str, Any]:
    """JSON-ready: what was aligned, and what was not."""
    return {
        "utterances": aligned.total,
        "aligned": len(aligned.utterances),
        "delay": {"start": round(aligned.delay.start_s, 3), "end": round(aligned.delay.end_s, 3)},
        "not_aligned": [
            {"where": escape_surrogates(one.where), "reason": escape_surrogates(one.what)} for one in aligned.problems
        ],
        "doubtful": [
            {"where": escape_surrogates(one.source or one.audio_filepath), "score": round(score, 4)}
            for one, score in aligned.doubtful
        ],
        "characters_without_label": dict(aligned.ignored.most_common()),
    }


def segment_report(found: Segmented, recording: Path, text: Path) -> dict[str, Any]:
    """JSON-ready: the segments in numbers, and all text and speech that is in none."""
    return {
        "recording": escape_surrogates(str(recording)),
        "text": escape_surrogates(str(text)),
        "duration": round(found.duration, 3),
        "segments": len(found.segments),
        "segments_duration": round(sum(one.duration or 0.0 for one in found.segments), 3),
        "words": found.n_words,
        "words_in_segments": sum(map(len, found.words)),
        "cuts_without_pause": found.n_cuts_without_pause,
        "left_out": [one.to_dict() for one in found.left_out],
        "characters_without_label": dict(found.ignored.most_common()),
    }
