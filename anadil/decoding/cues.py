"""A Transcript's words as Segments: one per word, or grouped into cues for subtitles."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from anadil.corpora.segments import Segment
from anadil.decoding.transcript import Transcript

LONGEST_CHARACTERS = 84
"""Two lines of 42, which most broadcasters' guides give."""
LONGEST_S = 7.0
PAUSE_S = 0.7
"""A pause of this length always separates two cues."""

_SHORTEST_S = 0.001  # some formats have whole milliseconds


def word_segments(transcript: Transcript) -> list[Segment]:
    """The words in order, to the millisecond: each at least 1 ms long, none overlapping another or past the end.

    CTC's times are those of spikes, so neighbours may touch or share a frame. Tiers of annotation formats allow neither.
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
    """Group words between pauses into cues; a cue above LONGEST_CHARACTERS or LONGEST_S is cut at its longest gap."""
    words = word_segments(transcript)
    starts = [
        0,
        *(i for i in range(1, len(words)) if round(words[i].start - words[i - 1].end, 3) >= PAUSE_S),
        len(words),
    ]
    phrases = (words[first:last] for first, last in itertools.pairwise(starts))
    return [_joined(part) for phrase in phrases if phrase for part in _parts(phrase)]


def _parts(words: Sequence[Segment]) -> Iterator[Sequence[Segment]]:
    """Cut in two until each part fits: at the longest gap of the middle half, so that no single word is left at an end."""
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
