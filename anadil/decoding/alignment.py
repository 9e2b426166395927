"""Forced alignment: the likeliest CTC path of a known text through log-probs, exact, in bounded memory. NumPy only.

Viterbi's algorithm on the states of Graves et al. 2006, "Connectionist Temporal Classification", section 4.1. All states of
a frame are computed at once. The scores before every K-th frame are kept. Then each block of K frames is computed again with
back-pointers, the last block first, and only for the labels just before the block's known end (checkpoints: Grice, Hughey
and Speck 1997, "Reduced space sequence alignment"). So an hour with its whole text takes 0.1 GB and not 12, and nothing is
pruned: there is no beam or window that could lose the path.

With `Gaps`, words of the text may be omitted and speech may lie between two words. Both are found together with the times,
by one search over the whole recording.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

LARGEST_TABLE = 1 << 24
"""Cells (frames times states) up to which the back-pointers of all frames are kept, a byte each."""

CHECKPOINT_BYTES = 160 * 2**20
"""About how much the kept scores may take."""

_SHORTEST_BLOCK, _CHUNK = 1024, 1024  # frames
_OMITTED = -1


@dataclass(frozen=True, slots=True)
class Gaps:
    """The places between the words of a text, one more than there are words, and what may happen there. Costs are in nats.

    At gap g the labels from `ends[g]` to `starts[g]` (a space, or nothing) may be omitted. Speech that is not in the text
    costs `foreign_entry`, and `foreign_frame` for each of its frames whose likeliest label is not blank. Omitting words
    costs `skip_entry`, and `skip_label` for each of their labels.
    """

    ends: np.ndarray  # int (gaps,): index after the last label of the word before; 0 at the first gap
    starts: np.ndarray  # int (gaps,): index of the first label of the word after; the number of labels at the last gap
    foreign_entry: float
    foreign_frame: float
    skip_entry: float
    skip_label: float


@dataclass(frozen=True)
class Alignment:
    """The frames of each label, and the speech between the words."""

    starts: np.ndarray  # int64 (labels,): first frame; -1 for a label that is omitted
    ends: np.ndarray  # int64 (labels,): frame after the last; -1 for a label that is omitted
    foreign: list[tuple[int, int, int]]  # gap, first frame, frame after the last: speech that is not in the text
    score: float  # log-probability of the path less that of the likeliest path of any text, less the costs of the gaps


def align_labels(
    log_probs: np.ndarray,
    labels: Sequence[int],
    blank: int,
    gaps: Gaps | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Alignment:
    """The likeliest path of `labels` through log_probs (frames, labels + blank), natural logarithms.

    Time grows with frames times labels: 50 s of processor time for an hour of speech. `on_progress` gets frames. Raises
    ValueError if the array is not two-dimensional or holds NaN, or if no path of a probability above 0 has these labels.
    """
    if log_probs.ndim != 2:
        raise ValueError(f"log_probs must be (frames, labels + blank), got shape {log_probs.shape}")
    if np.isnan(log_probs).any():
        raise ValueError("log_probs hold NaN")
    n_frames = len(log_probs)
    is_small = n_frames * (2 * len(labels) + 1) <= LARGEST_TABLE
    lattice, trace = (
        _Lattice(log_probs, labels, blank, gaps, np.float64 if is_small else np.float32),
        _Trace(len(labels)),
    )
    if is_small:
        everything = lattice.window(0, len(labels))
        pointers = _Pointers.of(n_frames, everything)
        last = lattice.run(lattice.initial(), range(n_frames), everything, pointers)
        place, score = lattice.final(last)
        if score > -np.inf:
            trace.follow(lattice, place, range(n_frames), everything, pointers)
    else:
        place, score = _align_in_blocks(lattice, trace, on_progress)
    if score == -np.inf:
        raise ValueError(f"{len(labels)} labels have no path through {n_frames} frames")
    return Alignment(trace.starts, trace.ends, [(gap, first, end) for gap, first, end in trace.foreign[::-1]], score)


_Place = tuple[str, int]
"""A state: "blank" and the label that it precedes, "label" and its index, or "foreign" and its gap."""


class _Scores(NamedTuple):
    """Scores of the states after a frame, of all or of a window."""

    blank: np.ndarray  # (labels + 1,): of the blank before each label, and of that after the last one
    label: np.ndarray  # (labels,)
    foreign: np.ndarray  # (gaps,): of speech that is not in the text


class _Window(NamedTuple):
    """Labels `low` to `high`, the blanks around them, and the gaps that lie within."""

    low: int
    high: int
    first_gap: int
    end_gap: int

    def of(self, scores: _Scores) -> _Scores:
        low, high, first_gap, end_gap = self
        return _Scores(scores.blank[low : high + 1], scores.label[low:high], scores.foreign[first_gap:end_gap])

    def score(self, scores: _Scores, place: _Place) -> float:
        """The score of a state in scores of this window."""
        kind, index = place
        return float(getattr(scores, kind)[index - (self.first_gap if kind == "foreign" else self.low)])


@dataclass
class _Pointers:
    """From which state each state of a block came; indices are those of its window."""

    blank: np.ndarray  # bool (frames, labels + 1): from the label before, else from itself
    label: np.ndarray  # int8 (frames, labels): from itself 0, from the blank before 1, from the label before 2
    entered: np.ndarray  # bool (frames, gaps): speech that is not in the text begins, else it goes on
    origin: (
        np.ndarray
    )  # int32 (frames, gaps): the gap from which the blank after a gap was reached in this frame, or -1
    was_foreign: np.ndarray  # bool (frames, gaps): what ends at a gap is such speech, else a word

    @staticmethod
    def of(n_frames: int, window: _Window) -> _Pointers:
        n_labels, n_gaps = window.high - window.low, window.end_gap - window.first_gap
        return _Pointers(
            np.zeros((n_frames, n_labels + 1), np.bool_),
            np.zeros((n_frames, n_labels), np.int8),
            np.zeros((n_frames, n_gaps), np.bool_),
            np.zeros((n_frames, n_gaps), np.int32),
            np.zeros((n_frames, n_gaps), np.bool_),
        )


class _Lattice:
    """The states of a text, and how their scores go from one frame to the next."""

    def __init__(
        self,
        log_probs: np.ndarray,
        labels: Sequence[int],
        blank: int,
        gaps: Gaps | None,
        precision: type[np.floating[Any]],
    ) -> None:
        self.log_probs, self.blank, self.gaps, self.precision = log_probs, blank, gaps, precision
        self.labels = np.asarray(labels, dtype=np.int64)
        # a path may go from a label to the next one without a blank between them, unless they are equal
        self.leap = np.where(self.labels[1:] != self.labels[:-1], 0.0, -np.inf).astype(precision)
        self.ends = np.asarray(gaps.ends if gaps else (), dtype=np.int64)
        self.starts = np.asarray(gaps.starts if gaps else (), dtype=np.int64)
        lengths = self.ends - np.concatenate(([0], self.starts))[: len(self.ends)]  # labels of the word before each gap
        if (lengths[1:] <= 0).any():
            raise ValueError("a word between two gaps has no labels")
        # cost of omitting all words up to here
        self.skipped = (lengths.cumsum() * (gaps.skip_label if gaps else 0.0)).astype(precision)
        self.gap_of_start = {start: gap for gap, start in enumerate(self.starts.tolist())}

    @property
    def n_states(self) -> int:
        return 2 * len(self.labels) + 1 + len(self.ends)

    def window(self, low: int, high: int) -> _Window:
        first_gap = int(np.searchsorted(self.ends, low))
        return _Window(low, high, first_gap, max(first_gap, int(np.searchsorted(self.starts, high, side="right"))))

    def initial(self) -> _Scores:
        """Before the first frame the path is before the first label, or has omitted the first words."""
        blank, label, foreign = (
            np.full(n, -np.inf, self.precision) for n in (len(self.labels) + 1, len(self.labels), len(self.ends))
        )
        if self.gaps:
            blank[self.starts[1:]] = -self.gaps.skip_entry - self.skipped[1:]
        blank[0] = 0.0
        return _Scores(blank, label, foreign)

    def final(self, scores: _Scores) -> tuple[_Place, float]:
        """The better one of the states in which a path may end, and its score."""
        n = len(self.labels)
        if n and scores.label[-1] >= scores.blank[-1]:
            return ("label", n - 1), float(scores.label[-1])
        return ("blank", n), float(scores.blank[-1])

    def run(self, scores: _Scores, frames: range, window: _Window, pointers: _Pointers | None = None) -> _Scores:
        """The scores of a window after `frames`, from those before them; fills in `pointers`."""
        labels, leap = self.labels[window.low : window.high], self.leap[window.low : max(window.low, window.high - 1)]
        gaps = slice(window.first_gap, window.end_gap)
        at_gaps = self.ends[gaps] - window.low, self.starts[gaps] - window.low, self.skipped[gaps]
        blank, label, foreign = (part.copy() for part in scores)
        stayed, leapt, emitted = np.empty_like(blank), np.empty(len(leap)), np.empty_like(label)
        for first in range(frames.start, frames.stop, _CHUNK):
            rows, foreign_costs = self._emitted(first, min(first + _CHUNK, frames.stop))
            for frame, row in enumerate(rows, start=first - frames.start):
                stayed[:] = blank
                if pointers:
                    np.greater(label, blank[1:], out=pointers.blank[frame, 1:])
                np.maximum(blank[1:], label, out=blank[1:])
                np.add(label[:-1], leap, out=leapt)
                if pointers:
                    np.greater(stayed[:-1], label, out=pointers.label[frame], casting="unsafe")
                np.maximum(label, stayed[:-1], out=label)
                if pointers:
                    pointers.label[frame, 1:][leapt > label[1:]] = 2
                np.maximum(label[1:], leapt, out=label[1:])
                blank += row[self.blank]
                label += np.take(row, labels, out=emitted, mode="clip")
                if len(foreign):
                    cost = foreign_costs[frame + frames.start - first]
                    foreign = self._pass_gaps(stayed, blank, foreign, cost, at_gaps, pointers, frame)
        return _Scores(blank, label, foreign)

    def _pass_gaps(
        self,
        before: np.ndarray,
        blank: np.ndarray,
        foreign: np.ndarray,
        cost: float,
        at_gaps: tuple[np.ndarray, np.ndarray, np.ndarray],
        pointers: _Pointers | None,
        frame: int,
    ) -> np.ndarray:
        """Omit words and spaces: write to `blank` what is reached at the gaps in this frame. Returns the new `foreign`."""
        assert self.gaps is not None
        ends, starts, skipped = at_gaps
        entered = before[starts] - self.gaps.foreign_entry
        new = np.maximum(foreign, entered) - cost
        word = blank[ends]
        here = np.maximum(word, new)
        best = np.maximum.accumulate(here + skipped)
        reached = here.copy()
        np.maximum(here[1:], best[:-1] - skipped[1:] - self.gaps.skip_entry, out=reached[1:])
        after = blank[starts]
        if pointers:
            np.greater(entered, foreign, out=pointers.entered[frame])
            np.greater(new, word, out=pointers.was_foreign[frame])
            numbers = np.arange(len(ends), dtype=np.int32)
            is_best = np.concatenate(([True], best[1:] > best[:-1]))
            source = np.maximum.accumulate(np.where(is_best, numbers, 0))
            origin = numbers.copy()
            origin[1:] = np.where(reached[1:] > here[1:], source[:-1], numbers[1:])
            pointers.origin[frame] = np.where(reached > after, origin, -1)
        blank[starts] = np.maximum(after, reached)
        found: np.ndarray = new
        return found

    def _emitted(self, first: int, end: int) -> tuple[np.ndarray, list[float]]:
        """Log-probs (frames, labels + blank) less the highest of each frame, and what foreign speech costs in each frame."""
        rows = self.log_probs[first:end].astype(self.precision)
        highest = rows.max(axis=1, keepdims=True, initial=-np.inf)
        rows -= np.where(np.isfinite(highest), highest, 0.0)
        costs = (rows.argmax(axis=1) != self.blank) * (self.gaps.foreign_frame if self.gaps else 0.0)
        return rows, costs.tolist()


@dataclass
class _Trace:
    """The path, followed from its end."""

    n_labels: int
    starts: np.ndarray = field(init=False)
    ends: np.ndarray = field(init=False)
    foreign: list[list[int]] = field(default_factory=list)  # gap, first frame, frame after the last; the last one first

    def __post_init__(self) -> None:
        self.starts, self.ends = np.full(self.n_labels, _OMITTED), np.full(self.n_labels, _OMITTED)

    def follow(self, lattice: _Lattice, place: _Place, frames: range, window: _Window, pointers: _Pointers) -> _Place:
        """Follow the path from `place`, its state in the last one of `frames`; returns its state before the first one."""
        kind, index = place
        for frame in reversed(frames):
            row = frame - frames.start
            if kind == "blank" and (gap := lattice.gap_of_start.get(index)) is not None:
                inside = gap - window.first_gap
                origin = int(pointers.origin[row, inside]) if 0 <= inside < pointers.origin.shape[1] else _OMITTED
                if origin != _OMITTED:
                    left = origin + window.first_gap
                    is_foreign = bool(pointers.was_foreign[row, origin])
                    kind, index = ("foreign", left) if is_foreign else ("blank", int(lattice.ends[left]))
            if kind == "label":
                self.starts[index] = frame
                if self.ends[index] == _OMITTED:
                    self.ends[index] = frame + 1
                step = int(pointers.label[row, index - window.low])
                kind, index = ("label", "blank", "label")[step], index - (step == 2)
            elif kind == "blank":
                if pointers.blank[row, index - window.low]:
                    kind, index = "label", index - 1
            else:
                if self.foreign and self.foreign[-1][:2] == [index, frame + 1]:
                    self.foreign[-1][1] = frame
                else:
                    self.foreign.append([index, frame, frame + 1])
                if pointers.entered[row, index - window.first_gap]:
                    kind, index = "blank", int(lattice.starts[index])
        return kind, index


def _align_in_blocks(lattice: _Lattice, trace: _Trace, on_progress: Callable[[int, int], None]) -> tuple[_Place, float]:
    """Keep the scores before each block; then follow the path block by block. Returns its last state and its score."""
    n_frames, everything = len(lattice.log_probs), lattice.window(0, len(lattice.labels))
    length = max(_SHORTEST_BLOCK, -(-n_frames * lattice.n_states * 4 // CHECKPOINT_BYTES))
    edges = [*range(0, n_frames, length), n_frames]
    before = [lattice.initial()]
    for first, end in itertools.pairwise(edges):
        before.append(lattice.run(before[-1], range(first, end), everything))
        on_progress(end, n_frames)
    last, score = lattice.final(before[-1])
    if score == -np.inf:
        return last, score
    place = last
    for number in range(len(edges) - 2, -1, -1):
        frames = range(edges[number], edges[number + 1])
        high = {"blank": place[1], "label": place[1] + 1}.get(place[0])
        high = int(lattice.starts[place[1]]) if high is None else high
        width = 1 + len(frames) // 2
        while True:
            window = lattice.window(max(0, high - width), high)
            pointers = _Pointers.of(len(frames), window)
            reached = lattice.run(window.of(before[number]), frames, window, pointers)
            # the same sums and maxima, so an equal score shows that the best path lies inside the window
            if window.low == 0 or window.score(reached, place) == everything.score(before[number + 1], place):
                break
            width *= 4
        place = trace.follow(lattice, place, frames, window, pointers)
    return last, score
