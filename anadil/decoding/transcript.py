"""Transcript, the result of a recogniser: text, and words with times and confidences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from anadil.decoding.ctc import Token

BOUNDARY = " "
"""The label that separates two words."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word and its time, in seconds from the start of the recording (not rounded)."""

    text: str
    start: float  # seconds
    end: float  # seconds
    confidence: float  # in [0, 1]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; times in seconds to 3 decimals, confidence to 4."""
        start, end = round(self.start, 3), round(self.end, 3)
        return {"text": self.text, "start": start, "end": end, "confidence": round(self.confidence, 4)}


@dataclass(frozen=True, slots=True)
class Alternative:
    """One of the best texts of a recording. `score`: natural log-prob of the text, plus what language models add."""

    text: str
    score: float


@dataclass(frozen=True, slots=True)
class Transcript:
    """The hypothesis for one recording.

    `text` is the words' texts joined by one space: leading, trailing and repeated spaces of the labels are
    removed.
    """

    text: str
    words: tuple[Word, ...]
    duration: float  # seconds of audio
    language: str | None = None
    alternatives: tuple[Alternative, ...] = ()  # the best texts, the first is `text`; only if they were asked for

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; times in seconds to 3 decimals, confidences and scores to 4. `alternatives` only if there are any."""
        words = [word.to_dict() for word in self.words]
        found = {"text": self.text, "words": words, "duration": round(self.duration, 3), "language": self.language}
        if self.alternatives:
            found["alternatives"] = [{"text": one.text, "score": round(one.score, 4)} for one in self.alternatives]
        return found


def joiner(labels: Sequence[str]) -> str:
    """What stands between two words of a text: nothing if no label has a space (Thai, Chinese), else one space."""
    return BOUNDARY if any(label.startswith(BOUNDARY) for label in labels) else ""


def best_of_parts(parts: Sequence[Sequence[Alternative]], joined: str) -> tuple[Alternative, ...]:
    """The best texts of a recording from those of its parts, which are independent: scores add up.

    As many as the part with the most has. A part without any gives none.
    """
    if not parts or not all(parts):
        return ()
    n = max(map(len, parts))
    found = {"": 0.0}
    for part in parts:  # the best n of the first parts and this one begin with one of the best n of the first parts
        longer: dict[str, float] = {}
        for before, score in found.items():
            for after in part:
                text = joined.join(filter(None, (before, after.text)))
                longer[text] = max(longer.get(text, -math.inf), score + after.score)
        found = dict(sorted(longer.items(), key=lambda one: -one[1])[:n])
    return tuple(Alternative(text, score) for text, score in found.items())


def words_from_tokens(
    tokens: Sequence[Token],
    labels: Sequence[str],
    frame_s: float,
    offset_s: float = 0.0,
    pauses: Sequence[tuple[float, float]] = (),
) -> tuple[Word, ...]:
    """Group tokens into words at the label " ", before labels that start with a space (" ken"), and at pauses.

    `labels[token.id]` is the token's text, one character or several, never empty; `frame_s` is the step of the
    log-probs in seconds; `offset_s` is the start of their first frame. A word lasts from the start of its first
    token to the end of its last; its confidence is the mean of its tokens' confidences, each token with the
    same weight. Spaces at either end, or several in a row, give no empty words. `pauses` are stretches (start, end)
    without speech, in seconds like the words: two tokens on the two sides of the middle of one belong to two words.

    These are the times of CTC's spikes, not of the sounds: a token is often a single frame somewhere inside its
    sound. So a word tends to end early, and an error of a few frames is typical.
    Raises IndexError if a token's id is past the last label.
    """
    words: list[Word] = []
    word: list[Token] = []
    middles = [((start + end) / 2 - offset_s) / frame_s for start, end in pauses]  # in frames
    for token in tokens:
        is_boundary = labels[token.id].startswith(BOUNDARY)
        if word and (is_boundary or any(word[-1].start < middle <= token.start for middle in middles)):
            words.append(_word(word, labels, frame_s, offset_s))
            word = []
        if labels[token.id] != BOUNDARY:
            word.append(token)
    if word:
        words.append(_word(word, labels, frame_s, offset_s))
    return tuple(words)


def word_texts(ids: Iterable[int], labels: Sequence[str]) -> list[str]:
    """The texts of `words_from_tokens` for tokens with these ids, without pauses: for many hypotheses, in a sixth of the time."""
    words: list[str] = []
    word: list[str] = []
    for label in map(labels.__getitem__, ids):
        if word and label.startswith(BOUNDARY):
            words.append("".join(word).removeprefix(BOUNDARY))
            word = []
        if label != BOUNDARY:
            word.append(label)
    if word:
        words.append("".join(word).removeprefix(BOUNDARY))
    return words


def _word(word: Sequence[Token], labels: Sequence[str], frame_s: float, offset_s: float) -> Word:
    return Word(
        text="".join(labels[token.id] for token in word).removeprefix(BOUNDARY),
        start=offset_s + word[0].start * frame_s,
        end=offset_s + word[-1].end * frame_s,
        confidence=fmean(token.confidence for token in word),
    )
