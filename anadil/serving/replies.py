"""What is answered: transcripts in the forms of OpenAI's API, and errors."""

from __future__ import annotations

import json
import math
import zlib
from statistics import fmean
from typing import Any, Literal

from anadil.corpora.subtitles import format_srt, format_vtt
from anadil.decoding.cues import cues
from anadil.decoding.transcript import Transcript, Word

Form = Literal["json", "text", "srt", "vtt", "verbose_json"]
FORMS: tuple[Form, ...] = ("json", "text", "srt", "vtt", "verbose_json")

_KINDS = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
_LEAST_CONFIDENCE = 1e-4


def error_body(status: int, message: str, code: str | None = None) -> bytes:
    """An error as OpenAI's API has it."""
    kind = _KINDS.get(status, "server_error" if status >= 500 else "invalid_request_error")
    error = {"message": message, "type": kind, "param": None, "code": code}
    return json.dumps({"error": error}, ensure_ascii=False).encode()


def transcription(transcript: Transcript, form: Form, granularities: list[str]) -> tuple[str, str]:
    """The transcript in a form, and its media type. `granularities`: "word", "segment" or both, for verbose_json."""
    if form == "text":
        return transcript.text + "\n", "text/plain; charset=utf-8"
    if form == "srt":
        return format_srt(cues(transcript)), "application/x-subrip; charset=utf-8"
    if form == "vtt":
        return format_vtt(cues(transcript)), "text/vtt; charset=utf-8"
    usage = {"type": "duration", "seconds": math.ceil(transcript.duration)}
    answer: dict[str, Any] = {"text": transcript.text, "usage": usage}
    if form == "verbose_json":
        answer |= {
            "task": "transcribe",
            "language": transcript.language or "und",
            "duration": round(transcript.duration, 3),
        }
        if "segment" in granularities:
            answer["segments"] = segments(transcript)
        if "word" in granularities:
            answer["words"] = [
                {
                    "word": word.text,
                    "start": round(word.start, 3),
                    "end": round(word.end, 3),
                    "confidence": round(word.confidence, 4),
                }
                for word in transcript.words
            ]
    return json.dumps(answer, ensure_ascii=False), "application/json"


def segments(transcript: Transcript) -> list[dict[str, Any]]:
    """Segments as OpenAI's API has them. What only Whisper has is 0 or empty: tokens, temperature, no_speech_prob."""
    found: list[dict[str, Any]] = []
    for number, (segment, words) in enumerate(with_words(transcript)):
        data = segment.text.encode()
        confidences = [max(word.confidence, _LEAST_CONFIDENCE) for word in words]
        found.append(
            {
                "id": number,
                "seek": 0,
                "start": segment.start,
                "end": segment.end,
                "text": segment.text,
                "tokens": [],
                "temperature": 0.0,
                "avg_logprob": round(fmean(map(math.log, confidences)), 4),
                "compression_ratio": round(len(data) / len(zlib.compress(data)), 3),
                "no_speech_prob": 0.0,
            }
        )
    return found


def with_words(transcript: Transcript) -> list[tuple[Any, tuple[Word, ...]]]:
    """The cues of a transcript, each with its words."""
    found, first = [], 0
    for cue in cues(transcript):
        last = first + len(cue.text.split(" "))
        found.append((cue, transcript.words[first:last]))
        first = last
    return found


def event(data: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"
