"""Prefix beam search: the likeliest texts over all their CTC alignments, with language models; many utterances at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

BEAM = 16
"""Prefixes kept after each frame: CER 34.3 % on Mboshi with 16 and with 24, which take half as long again (docs/LOG.md)."""

_MARGIN = 6.0
"""A label this many nats less likely than the frame's likeliest is not tried. A frame of blanks alone costs nothing then."""
_MOST_LABELS = 12
"""Labels tried per frame at most. CER and WER of Mboshi are those of 24 (docs/LOG.md)."""
_DROPPED = 8.0
"""Prefixes whose score is so many nats below the best are dropped, even if the beam has room."""
_CHUNK_FRAMES = 2000
"""After so many frames the search settles on its best prefix and goes on from there, so that alignments stay short."""
_TOGETHER = 64
"""Utterances searched at a time: a step of NumPy on 64 costs ten times as much as on one."""
_MOST_PAIRS = 1 << 21
"""Utterances x prefixes x prefixes at a time, so that a wide beam does not fill the memory."""

_LAST, _STATE, _HASH, _PARENT, _NODE = range(5)  # columns of a prefix
_FACTOR = 0x1E3779B97F4A7C15  # of a hash, odd, so that a product keeps all 64 bits; it wraps around
_ROOT, _NOBODY, _NO_PARENT = 12345, 0, 1  # hashes: of the empty prefix, of a dropped one, of the parent of neither

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class LabelScorer(Protocol):
    """What the search asks of a language model. A state stands for the labels so far."""

    def begin(self) -> int:
        """The state before the first label, when a search begins; states of earlier searches may be void then."""
        ...

    def factors(self, states: Ints, labels: Ints) -> Floats:
        """Factors above 0 of the score, (utterances, prefixes, m): labels (utterances, m) after states (utterances, prefixes)."""
        ...

    def next_states(self, states: Ints, labels: Ints) -> Ints:
        """The states (n,) after labels (n,) that follow states (n,)."""
        ...

    def ends(self, states: Ints) -> Floats:
        """The factors above 0 (n,) of the score if the text ends in each of states (n,)."""
        ...


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One text of a search. `score`: log-prob over all alignments that were kept, plus what the LM adds per label."""

    labels: tuple[int, ...]
    score: float
    cuts: tuple[tuple[int, int], ...] = ()  # where the search settled: frames and labels up to there


class Unscored:
    """No language model: each label has the factor 1."""

    def begin(self) -> int:
        return 0

    def factors(self, states: Ints, labels: Ints) -> Floats:
        return np.ones((1, 1, 1))

    def next_states(self, states: Ints, labels: Ints) -> Ints:
        return states

    def ends(self, states: Ints) -> Floats:
        return np.ones(len(states))


@dataclass(frozen=True, slots=True)
class _Frames:
    """The frames of an utterance in which a label is tried; between them are blanks alone. Probabilities times exp(-scale)."""

    blank: Floats  # (steps,)
    labels: Ints  # (steps, m)
    probs: Floats  # (steps, m); 0 for those that are not tried
    after_blanks: NDArray[np.bool_]  # (steps,) whether frames of blanks alone are before it
    scale: float  # of all frames
    cuts: tuple[tuple[int, int], ...]  # where the search settles: before which step, at which frame


def beam_search(
    log_probs: np.ndarray, blank: int, scorer: LabelScorer | None = None, beam: int = BEAM, **limits: Any
) -> list[Hypothesis]:
    """`search_many` of one utterance: the best texts of log_probs (frames, labels + blank), the best first."""
    return search_many([log_probs], blank, scorer, beam, **limits)[0]


def search_many(
    log_probs: Sequence[np.ndarray],
    blank: int,
    scorer: LabelScorer | None = None,
    beam: int = BEAM,
    margin: float = _MARGIN,
    most_labels: int = _MOST_LABELS,
    dropped: float = _DROPPED,
) -> list[list[Hypothesis]]:
    """Of each of log_probs (frames, labels + blank), natural logarithms, the best texts, the best first; at most `beam`.

    The prefix search of Hannun et al. 2014, "First-Pass Large Vocabulary Continuous Speech Recognition using
    Bi-Directional Recurrent DNNs", algorithm 1, with scaled probabilities as masses, and a frame of up to 64 utterances in
    one step of NumPy. What is found for an utterance does not depend on the others. Labels below `margin` count as
    impossible in their frame. `blank` must be the last column. No frames give the empty text.
    Raises ValueError if an array is not two-dimensional, `blank` is not its last column, or it holds NaN.
    """
    for one in log_probs:
        check_log_probs(one, blank)
    scorer = scorer or Unscored()
    prepared = [_frames(one, margin, most_labels) for one in log_probs]
    order = sorted(range(len(prepared)), key=lambda i: -len(prepared[i].blank))
    found: list[list[Hypothesis]] = [[] for _ in prepared]
    together = max(1, min(_TOGETHER, _MOST_PAIRS // beam**2))
    for first in range(0, len(order), together):
        some = order[first : first + together]
        searched = _Search([prepared[i] for i in some], scorer, beam, math.exp(-dropped))
        for i, hypotheses in zip(some, searched.run(), strict=True):
            found[i] = hypotheses
    return found


def check_log_probs(log_probs: np.ndarray, blank: int) -> None:
    """Raise ValueError unless log_probs are (frames, labels + blank) without NaN, the blank last."""
    if log_probs.ndim != 2:
        raise ValueError(f"log_probs must be (frames, labels + blank), got shape {log_probs.shape}")
    if blank != log_probs.shape[1] - 1:
        raise ValueError(f"blank must be the last column of log_probs, {log_probs.shape[1] - 1}, got {blank}")
    if np.isnan(log_probs).any():
        raise ValueError(f"log_probs hold NaN, first in frame {int(np.isnan(log_probs).any(axis=1).argmax())}")


def _frames(log_probs: np.ndarray, margin: float, most_labels: int) -> _Frames:
    n_labels = log_probs.shape[1] - 1
    m = min(most_labels, n_labels)
    highest = log_probs.max(axis=1, initial=-np.inf).astype(np.float64)
    highest[~np.isfinite(highest)] = 0.0
    wanted = (log_probs[:, :n_labels] >= (highest - margin)[:, None]) & (log_probs[:, :n_labels] > -np.inf)
    steps = np.flatnonzero(wanted.any(axis=1))
    relative = np.where(wanted[steps], log_probs[steps, :n_labels] - highest[steps, None], -np.inf)
    if m < n_labels:
        labels = np.argpartition(relative, n_labels - m, axis=1)[:, n_labels - m :]
        relative = np.take_along_axis(relative, labels, axis=1)
    else:
        labels = np.broadcast_to(np.arange(n_labels), relative.shape)
    ends = [chunk.stop for chunk in _chunks(log_probs[:, -1])][:-1]
    return _Frames(
        np.exp(log_probs[steps, -1] - highest[steps]),
        labels.astype(np.int64),
        np.exp(relative),
        np.diff(steps, prepend=-1) > 1,
        float(highest.sum()),
        tuple((int(np.searchsorted(steps, end)), end) for end in ends),
    )


def _chunks(blanks: np.ndarray) -> Iterator[slice]:
    """Frames of at most `_CHUNK_FRAMES`, cut where the blank, whose log-probs are given, is likeliest."""
    start, n_frames = 0, len(blanks)
    while n_frames - start > _CHUNK_FRAMES:
        half = start + _CHUNK_FRAMES // 2
        end = half + int(blanks[half : start + _CHUNK_FRAMES].argmax()) + 1
        yield slice(start, end)
        start = end
    yield slice(start, n_frames)


class _Search:
    """The search of some utterances, those with most steps first. Arrays of prefixes are (utterances, prefixes)."""

    def __init__(self, frames: Sequence[_Frames], scorer: LabelScorer, beam: int, dropped: float) -> None:
        self.scorer, self.beam, self.dropped, self.frames = scorer, beam, dropped, frames
        n = len(frames)
        self.lengths = np.array([len(one.blank) for one in frames])
        longest, m = int(self.lengths.max()), frames[0].labels.shape[1]
        self.blank_probs, self.after_blanks = np.zeros((longest, n)), np.zeros((longest, n), bool)
        self.labels, self.probs = np.zeros((longest, n, m), np.int64), np.zeros((longest, n, m))
        for i, one in enumerate(frames):
            steps = slice(len(one.blank))
            self.blank_probs[steps, i], self.after_blanks[steps, i] = one.blank, one.after_blanks
            self.labels[steps, i], self.probs[steps, i] = one.labels, one.probs
        self.scales = np.array([one.scale for one in frames])
        # (2, utterances, prefixes): masses of the paths that end in a blank and in the last label, LM factors included
        self.masses = np.stack([np.ones((n, 1)), np.zeros((n, 1))])
        # (5, utterances, prefixes): last label; state; hash of all labels, by which equal prefixes are found; hash of all but
        # the last; node in the tree of all prefixes
        self.columns = np.empty((5, n, 1), np.int64)
        self.columns[:, :, 0] = np.array([[-1], [scorer.begin()], [_ROOT], [_NO_PARENT], [0]])
        self.tree_parents, self.tree_labels, self.tree_size = [np.zeros(1, np.int64)], [np.full(1, -1)], 1

    def run(self) -> list[list[Hypothesis]]:
        """The hypotheses of each utterance."""
        settles: dict[int, list[tuple[int, int]]] = {}
        for i, one in enumerate(self.frames):
            for step, frame in one.cuts:
                settles.setdefault(step, []).append((i, frame))
        cuts: list[list[tuple[int, int]]] = [[] for _ in self.frames]  # frame and node
        ended: list[tuple[Floats, Ints, Ints]] = []
        for step in range(len(self.blank_probs) + 1):
            for i, frame in settles.get(step, ()):
                cuts[i].append((frame, self._settle(i)))
            n = int(np.count_nonzero(self.lengths > step))
            for i in range(self.masses.shape[1] - 1, n - 1, -1):
                ended.append((self.masses[:, i].sum(axis=0), self.columns[_STATE, i], self.columns[_NODE, i]))
            self.masses, self.columns = self.masses[:, :n], self.columns[:, :n]
            if n:
                self._step(step)
        return [
            self._hypotheses(*end, float(scale), cut)
            for end, scale, cut in zip(reversed(ended), self.scales, cuts, strict=True)
        ]

    def _settle(self, i: int) -> int:
        """Keep only the best prefix of an utterance. Returns its node."""
        totals = self.masses[:, i].sum(axis=0)
        best = int(totals.argmax())
        self.masses[:, i] = 0.0
        self.masses[0, i, best] = totals[best]
        others = np.arange(len(totals)) != best
        self.columns[_HASH, i, others], self.columns[_PARENT, i, others] = _NOBODY, _NO_PARENT
        return int(self.columns[_NODE, i, best])

    def _step(self, step: int) -> None:
        """Advance all prefixes by a frame, and keep the best."""
        blank, label = self.masses
        n, width = blank.shape
        total = blank + label
        after = self.after_blanks[step, :n, None]
        blank, label = np.where(after, total, blank), np.where(after, 0.0, label)
        labels, probs = self.labels[step, :n], self.probs[step, :n]
        m = labels.shape[1]
        is_last = labels[:, None, :] == self.columns[_LAST][:, :, None]
        longer = np.where(is_last, blank[:, :, None], total[:, :, None]) * probs[:, None, :]
        longer *= self.scorer.factors(self.columns[_STATE], labels)
        rows, prefixes, columns = np.nonzero(is_last)
        last_probs = np.zeros((n, width))
        last_probs[rows, prefixes] = probs[rows, columns]
        stayed = np.stack([total * self.blank_probs[step, :n, None], label * last_probs])
        # a prefix that is also another one with one more label: its mass is added, and it is not kept twice
        column_of = np.full((n, width), -1)
        column_of[rows, prefixes] = columns
        rows, children, parents = np.nonzero(self.columns[_PARENT][:, :, None] == self.columns[_HASH][:, None, :])
        columns = column_of[rows, children]
        tried = columns >= 0
        rows, children, parents, columns = rows[tried], children[tried], parents[tried], columns[tried]
        stayed[1, rows, children] += longer[rows, parents, columns]
        longer[rows, parents, columns] = 0.0
        self._select(stayed, longer.reshape(n, width * m), labels)

    def _select(self, stayed: Floats, longer: Floats, labels: Ints) -> None:
        """Keep the best of the prefixes, whose masses (2, utterances, prefixes) are `stayed`, and of those longer by a label."""
        _, n, width = stayed.shape
        rows = np.arange(n)[:, None]
        masses = np.concatenate([stayed[0] + stayed[1], longer], axis=1)
        kept = min(self.beam, masses.shape[1])
        if kept < masses.shape[1]:
            chosen = np.argpartition(masses, masses.shape[1] - kept, axis=1)[:, masses.shape[1] - kept :]
            masses = masses[rows, chosen]
        else:
            chosen = np.broadcast_to(np.arange(kept), (n, kept))
        best = masses.max(axis=1)
        self.scales[:n] += np.log(best)
        is_kept = masses > (best * self.dropped)[:, None]  # also with `dropped` 0
        is_new = chosen >= width
        before, columns = np.divmod(chosen - width, labels.shape[1])
        before = np.where(is_new, before, chosen)
        self.masses = stayed[:, rows, before]
        self.masses[0][is_new], self.masses[1][is_new] = 0.0, masses[is_new]
        self.masses *= np.where(is_kept, 1.0 / best[:, None], 0.0)
        self.columns = self.columns[:, rows, before]
        dropped = ~is_kept
        self.columns[_HASH][dropped], self.columns[_PARENT][dropped] = _NOBODY, _NO_PARENT
        added = np.nonzero(is_new & is_kept)
        new_labels = labels[added[0], columns[added]]
        _, states, hashes, _, nodes = self.columns[:, added[0], added[1]]
        self.tree_parents.append(nodes)
        self.tree_labels.append(new_labels)
        new_nodes = np.arange(self.tree_size, self.tree_size + len(new_labels))
        self.tree_size += len(new_labels)
        states = self.scorer.next_states(states, new_labels)
        of_new = np.stack([new_labels, states, hashes * _FACTOR + new_labels + 2, hashes, new_nodes])
        self.columns[:, added[0], added[1]] = of_new

    def _hypotheses(
        self, masses: Floats, states: Ints, nodes: Ints, scale: float, cuts: Sequence[tuple[int, int]]
    ) -> list[Hypothesis]:
        if len(self.tree_parents) > 1:
            self.tree_parents, self.tree_labels = (
                [np.concatenate(self.tree_parents)],
                [np.concatenate(self.tree_labels)],
            )
        alive = masses > 0
        masses, states, nodes = masses[alive], states[alive], nodes[alive]
        scores = np.log(masses) + np.log(self.scorer.ends(states)) + scale
        lengths = tuple((frame, len(self._path(node))) for frame, node in cuts)
        return [
            Hypothesis(tuple(self._path(int(nodes[i]))), float(scores[i]), lengths)
            for i in np.argsort(-scores, kind="stable")
        ]

    def _path(self, node: int) -> list[int]:
        """The labels from the root to a node."""
        found: list[int] = []
        parents, labels = self.tree_parents[0], self.tree_labels[0]
        while node:
            found.append(int(labels[node]))
            node = int(parents[node])
        return found[::-1]
