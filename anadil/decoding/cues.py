"""A Transcript's words as Segments: one per word, or grouped into cues for subtitles."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from anadil.corpora.segments import Segment
from anadil.decoding.transcript import Transcript

LINE_CHARACTERS = 42
"""Of one line; a cue has at most two. Most broadcasters' guides give these, and the durations and the speed below."""
LONGEST_CHARACTERS = 2 * LINE_CHARACTERS
SHORTEST_S, LONGEST_S = 1.0, 7.0
CHARACTERS_PER_S = 17.0
"""A viewer reads so fast. Cues stay as long as that takes, where the next one leaves room."""
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
    """Group words between pauses into cues; one that takes more than two lines or LONGEST_S is cut at its longest gap."""
    words = word_segments(transcript)
    starts = [
        0,
        *(i for i in range(1, len(words)) if round(words[i].start - words[i - 1].end, 3) >= PAUSE_S),
        len(words),
    ]
    phrases = (words[first:last] for first, last in itertools.pairwise(starts))
    return [_joined(part) for phrase in phrases if phrase for part in _parts(phrase)]


def subtitles(transcript: Transcript) -> list[Segment]:
    """The cues in lines of at most LINE_CHARACTERS (longer only if a word is), shown for as long as a viewer needs.

    A short cue stays until it has been read, until the next one begins or the recording ends, and for at least SHORTEST_S; if
    there is no room after it, it begins earlier. None overlaps another.
    """
    found: list[Segment] = []
    spoken = cues(transcript)
    for index, cue in enumerate(spoken):
        latest = spoken[index + 1].start if index + 1 < len(spoken) else max(cue.end, transcript.duration)
        wanted_s = min(max(SHORTEST_S, len(cue.text) / CHARACTERS_PER_S), LONGEST_S)
        end = max(cue.end, min(cue.start + wanted_s, latest))
        earliest = found[-1].end if found else 0.0
        start = min(cue.start, max(end - SHORTEST_S, earliest))
        found.append(Segment(round(start, 3), round(end, 3), "\n".join(lines(cue.text))))
    return found


def lines(text: str) -> list[str]:
    """The text in one line if it fits in LINE_CHARACTERS, else in two that differ least in length."""
    spaces = [i for i, letter in enumerate(text) if letter == " "]
    if len(text) <= LINE_CHARACTERS or not spaces:
        return [text]
    best = min(spaces, key=lambda i: (max(i, len(text) - i - 1), i))
    return [text[:best], text[best + 1 :]]


def _parts(words: Sequence[Segment]) -> Iterator[Sequence[Segment]]:
    """Cut in two until each part fits: at the longest gap of the middle half, so that no single word is left at an end."""
    waiting = [words]
    while waiting:
        part = waiting.pop()
        whole = _joined(part)
        is_readable = max(map(len, lines(whole.text))) <= LINE_CHARACTERS and whole.end - whole.start <= LONGEST_S
        if len(part) == 1 or is_readable:
            yield part
            continue
        quarter = len(part) // 4
        inner = range(max(1, quarter), max(2, len(part) - quarter))
        cut = max(inner, key=lambda i: (part[i].start - part[i - 1].end, -abs(2 * i - len(part))))
        waiting += [part[cut:], part[:cut]]  # the first half is taken next


def _joined(words: Sequence[Segment]) -> Segment:
    return Segment(words[0].start, words[-1].end, " ".join(word.text for word in words))
