"""Times of aligned words: CTC's spikes, corrected for their delay and at pauses.

A CTC model emits a label late in its sound, in one frame or a few. So a word seems to start late and to end early. Here

- a word after a pause starts where the sound does, and one before a pause ends where the sound does;
- the delay of the spikes is measured on the words beside pauses; where the level shows no pause, a word starts that much before
  its first spike;
- a word that no pause follows ends where the next one starts.

docs/align.md has the errors before and after, against synthetic speech whose times are known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

STEP_S = 0.01
"""Step of `Spikes.levels`."""

LEAST_PAUSE_S = 0.2
"""The closures of stops are shorter."""

_LEAST_EDGE_S = 0.05
"""The same before the first word and after the last one."""

_NEAR_S = 0.6
"""So much of a pause, and of the speech beside it, tells the level that separates the two."""

_MOST_EARLY_S, _MOST_LATE_S = 0.2, 0.3
"""The sound of a word begins at most so much before its first spike, and ends at most so much after its last one."""

_LEAST_WORDS = 5
_ABOVE_DB, _LEAST_RANGE_DB, _BELOW_DB = 10.0, 15.0, 40.0
"""A step is quiet at most 10 dB above the background, and at least 15 dB below the speech; or 40 dB below the speech."""


@dataclass(frozen=True)
class Spikes:
    """The spikes of consecutive words in one stretch of audio, and its level. Seconds from the recording's start.

    Speech that is not in the text counts as a word: from its first recognised label to its last.
    """

    starts: np.ndarray  # float64 (words,): start of the first frame of the first label
    ends: np.ndarray  # float64 (words,): end of the last frame of the last label
    levels: np.ndarray  # float32 (steps of STEP_S,): dBFS
    offset_s: float  # time of the first step
    end_s: float  # end of the stretch


@dataclass(frozen=True, slots=True)
class Delay:
    """By how much a model's spikes are late at the start of words and early at their end, in seconds."""

    start_s: float
    end_s: float


USUAL_DELAY = Delay(0.04, 0.06)
"""Where there are too few pauses to measure it."""


@dataclass(frozen=True)
class _Edges:
    """What the pauses tell of the words: NaN where there is no pause."""

    onsets: np.ndarray  # float64 (words,): end of the pause before each word
    offsets: np.ndarray  # float64 (words,): start of the pause after each word


def delay(stretches: Iterable[Spikes]) -> Delay:
    """The medians of the times between the edge of a pause and the spike beside it.

    `USUAL_DELAY` if fewer than five words follow or precede a pause.
    """
    late, early = [np.zeros(0)], [np.zeros(0)]
    for one in stretches:
        edges = _edges(one)
        late.append((one.starts - edges.onsets)[np.isfinite(edges.onsets)])
        early.append((edges.offsets - one.ends)[np.isfinite(edges.offsets)])
    starts, ends = np.concatenate(late), np.concatenate(early)
    if min(len(starts), len(ends)) < _LEAST_WORDS:
        return USUAL_DELAY
    return Delay(max(0.0, float(np.median(starts))), max(0.0, float(np.median(ends))))


def corrected(spikes: Spikes, by: Delay) -> tuple[np.ndarray, np.ndarray]:
    """The start and end of each word in seconds, float64 (words,) each. No two words overlap, and none is empty."""
    n = len(spikes.starts)
    edges = _edges(spikes)
    earliest = np.concatenate(([spikes.offset_s], (spikes.starts[:-1] + spikes.ends[:-1]) / 2))[:n]
    starts = np.where(np.isnan(edges.onsets), np.maximum(spikes.starts - by.start_s, earliest), edges.onsets)
    starts = np.minimum(starts, spikes.starts)
    following = np.append(starts[1:], spikes.end_s)[:n]
    # without a pause a word lasts until the next one, unless that is so far that there is one, in noise
    is_near = (following - spikes.ends <= _MOST_LATE_S) & (np.arange(n) < n - 1)
    ends = np.where(is_near, following, np.minimum(following, spikes.ends + by.end_s))
    ends = np.where(np.isnan(edges.offsets), ends, edges.offsets)
    return starts, np.maximum(ends, np.minimum(starts + STEP_S, np.append(starts[1:], np.inf)[:n]))


def _edges(spikes: Spikes) -> _Edges:
    """The pauses beside each word, near its spikes.

    A pause with a noise inside is two: the word before it ends where the first begins, the one after starts where the last ends.
    """
    n = len(spikes.starts)
    onsets, offsets = np.full(n, np.nan), np.full(n, np.nan)
    for gap in range(n + 1):
        low = spikes.ends[gap - 1] - STEP_S if gap else spikes.offset_s
        high = spikes.starts[gap] + STEP_S if gap < n else spikes.end_s
        least_s = (LEAST_PAUSE_S if 0 < gap < n else _LEAST_EDGE_S) - STEP_S / 2
        if gap:
            begin, end = _quiet(spikes, low, high, low, min(high, low + _NEAR_S), low - _NEAR_S, low)
            found = begin[(end - begin >= least_s) & (begin <= low + _MOST_LATE_S)]
            offsets[gap - 1] = found[0] if len(found) else np.nan
        if gap < n:
            begin, end = _quiet(spikes, low, high, max(low, high - _NEAR_S), high, high, high + _NEAR_S)
            found = end[(end - begin >= least_s) & (end >= high - _MOST_EARLY_S)]
            onsets[gap] = found[-1] if len(found) else np.nan
    return _Edges(onsets, offsets)


def _quiet(
    spikes: Spikes, low: float, high: float, near: float, far: float, speech: float, speech_end: float
) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends in seconds of the quiet runs from `low` to `high`.

    The background is measured from `near` to `far`, the speech beside it from `speech` to `speech_end`.
    """

    def steps(start: float, end: float) -> np.ndarray:
        first, last = (max(0, round((time - spikes.offset_s) / STEP_S)) for time in (start, end))
        return spikes.levels[first:last]

    some, background, loud = steps(low, high), steps(near, far), steps(speech, speech_end)
    if not len(some) or not len(background) or not len(loud):
        return np.zeros(0), np.zeros(0)
    floor_db, loud_db = float(np.percentile(background, 10)), float(np.percentile(loud, 90))
    limit_db = max(min(floor_db + _ABOVE_DB, loud_db - _LEAST_RANGE_DB), loud_db - _BELOW_DB)
    changes = np.diff(np.concatenate(([0], (some <= limit_db).astype(np.int8), [0])))
    return low + np.flatnonzero(changes == 1) * STEP_S, low + np.flatnonzero(changes == -1) * STEP_S
