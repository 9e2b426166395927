"""A Transcript's words as Segments: one a word, or grouped into cues that can be read as subtitles."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from anadil.corpora.segments import Segment
from anadil.decoding.transcript import Transcript

LONGEST_CHARACTERS = 84
"""Two lines of 42, which most broadcasters' guides give."""
LONGEST_S = 7.0
PAUSE_S = 0.7
"""Silence that always parts two cues."""

_SHORTEST_S = 0.001  # formats of whole milliseconds need as much


def word_segments(transcript: Transcript) -> list[Segment]:
    """The words in order, to the millisecond: each at least 1 ms long, none overlapping another or past the end.

    CTC's times are those of spikes, so neighbours may touch or even share a frame; formats of tiers allow neither.
    """
    n_words = len(transcript.words)
    segments: list[Segment] = []
    reached = 0.0
    for index, word in enumerate(transcript.words):
        latest = max(reached, round(transcript.duration - (n_words - index) * _SHORTEST_S, 3))
        start = round(min(max(word.start, reached), latest), 3)
        reached = round(max(start + _SHORTEST_S, min(word.end, latest + _SHORTEST_S)), 3)
        segments.append(Segment(start, reached, word.text))
    return segments


def cues(transcript: Transcript) -> list[Segment]:
    """Words together as long as no pause parts them, at most LONGEST_CHARACTERS and LONGEST_S; else cut at the longest gap."""
    words = word_segments(transcript)
    starts = [
        0,
        *(i for i in range(1, len(words)) if round(words[i].start - words[i - 1].end, 3) >= PAUSE_S),
        len(words),
    ]
    phrases = (words[first:last] for first, last in itertools.pairwise(starts))
    return [_joined(part) for phrase in phrases if phrase for part in _parts(phrase)]


def _parts(words: Sequence[Segment]) -> Iterator[Sequence[Segment]]:
    """Halve until each part fits: at the longest gap of the middle, so that no word is left alone at an end."""
    waiting = [words]
    while waiting:
        part = waiting.pop()
        whole = _joined(part)
        if len(part) == 1 or (len(whole.text) <= LONGEST_CHARACTERS and whole.end - whole.start <= LONGEST_S):
            yield part
            continue
        quarter = len(part) // 4
        inner = range(max(1, quarter), max(2, len(part) - quarter))
        cut = max(inner, key=lambda i: (part[i].start - part[i - 1].end, -abs(2 * i - len(part))))
        waiting += [part[cut:], part[:cut]]  # the first half is taken next


def _joined(words: Sequence[Segment]) -> Segment:
    return Segment(words[0].start, words[-1].end, " ".join(word.text for word in words))
