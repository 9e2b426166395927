"""Prefix beam search: the likeliest texts over all their CTC alignments, with an n-gram model of the labels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import Protocol

import numpy as np

BEAM = 16
"""Prefixes kept after each frame: CER 34.3 % on Mboshi with 16 and with 24, which take half as long again (docs/LOG.md)."""

_MARGIN = 6.0
"""A label this many nats less likely than the frame's likeliest is not tried. A frame of blanks alone costs nothing then."""
_MOST_LABELS = 24
"""Labels tried per frame at most, so that the time of a frame is bounded when all labels are equally likely."""
_DROPPED = 8.0
"""Prefixes whose score is so many nats below the best are dropped, even if the beam has room."""
_CHUNK_FRAMES = 2000
"""After so many frames the search settles on its best prefix and goes on from there: time grows linearly, memory does not."""


class LabelScorer(Protocol):
    """What the search asks of a language model. A state stands for the labels so far."""

    @property
    def start(self) -> int:
        """The state before the first label."""
        ...

    def after(self, state: int) -> tuple[list[float], list[int], float]:
        """Of each label after `state`: the factor of the score, and the next state. And the highest factor, or more."""
        ...

    def end(self, state: int) -> float:
        """The factor of the score if the text ends here."""
        ...


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One text of a search. `score`: log-prob over all alignments that were kept, plus what the LM adds per label."""

    labels: tuple[int, ...]
    score: float
    cuts: tuple[tuple[int, int], ...] = ()  # where the search settled: frames and labels up to there


class _Prefix:
    """A node of the tree of prefixes. `blank` and `label` are the masses of its paths that end so, LM factors included."""

    __slots__ = (
        "blank",
        "children",
        "factors",
        "highest",
        "is_kept",
        "label",
        "last",
        "next_states",
        "parent",
        "state",
    )

    def __init__(self, parent: _Prefix | None, last: int, state: int) -> None:
        self.parent, self.last, self.state = parent, last, state
        self.blank, self.label = 0.0, 0.0
        self.is_kept = False
        self.children: dict[int, _Prefix] = {}
        self.factors: list[float] = []  # filled when the prefix is first extended
        self.next_states: list[int] = []
        self.highest = 0.0

    def labels(self) -> list[int]:
        found: list[int] = []
        node: _Prefix | None = self
        while node is not None and node.parent is not None:
            found.append(node.last)
            node = node.parent
        return found[::-1]


class Unscored:
    """No language model: each label has the factor 1."""

    def __init__(self, n_labels: int) -> None:
        self._row = [1.0] * n_labels, [0] * n_labels, 1.0

    start = 0

    def after(self, state: int) -> tuple[list[float], list[int], float]:
        return self._row

    def end(self, state: int) -> float:
        return 1.0


def beam_search(
    log_probs: np.ndarray,
    blank: int,
    scorer: LabelScorer | None = None,
    beam: int = BEAM,
    margin: float = _MARGIN,
    most_labels: int = _MOST_LABELS,
    dropped: float = _DROPPED,
) -> list[Hypothesis]:
    """The best texts of log_probs (frames, labels + blank), natural logarithms, the best first; at most `beam`.

    The prefix search of Hannun et al. 2014, "First-Pass Large Vocabulary Continuous Speech Recognition using
    Bi-Directional Recurrent DNNs", algorithm 1, whose masses here are scaled probabilities, not logarithms: a step is two
    multiplications and an addition. Labels below `margin` count as impossible in their frame.
    `blank` must be the last column. No frames give the empty text.
    Raises ValueError if the array is not two-dimensional, `blank` is not its last column, or it holds NaN.
    """
    if log_probs.ndim != 2:
        raise ValueError(f"log_probs must be (frames, labels + blank), got shape {log_probs.shape}")
    if blank != log_probs.shape[1] - 1:
        raise ValueError(f"blank must be the last column of log_probs, {log_probs.shape[1] - 1}, got {blank}")
    if np.isnan(log_probs).any():
        raise ValueError(f"log_probs hold NaN, first in frame {int(np.isnan(log_probs).any(axis=1).argmax())}")
    scorer = scorer or Unscored(blank)
    done: list[int] = []
    cuts: list[tuple[int, int]] = []
    scale, state = 0.0, scorer.start
    kept: list[_Prefix] = []
    chunks = list(_chunks(log_probs[:, blank]))
    for chunk, is_last in zip(chunks, [False] * (len(chunks) - 1) + [True], strict=True):
        kept, log_scale = _search(log_probs[chunk], blank, scorer, state, beam, margin, most_labels, math.exp(-dropped))
        scale += log_scale
        if not is_last:
            best = max(kept, key=lambda prefix: prefix.blank + prefix.label)
            done += best.labels()
            scale += math.log(best.blank + best.label)
            state = best.state
            cuts.append((chunk.stop, len(done)))
    ended = [(prefix, (prefix.blank + prefix.label) * scorer.end(prefix.state)) for prefix in kept]
    found = [
        Hypothesis((*done, *prefix.labels()), math.log(mass) + scale if mass > 0 else -math.inf, tuple(cuts))
        for prefix, mass in ended
    ]
    return sorted(found, key=lambda one: -one.score)


def _chunks(blanks: np.ndarray) -> Iterator[slice]:
    """Frames of at most `_CHUNK_FRAMES`, cut where the blank, whose log-probs are given, is likeliest."""
    start, n_frames = 0, len(blanks)
    while n_frames - start > _CHUNK_FRAMES:
        half = start + _CHUNK_FRAMES // 2
        end = half + int(blanks[half : start + _CHUNK_FRAMES].argmax()) + 1
        yield slice(start, end)
        start = end
    yield slice(start, n_frames)


def _search(
    log_probs: np.ndarray,
    blank: int,
    scorer: LabelScorer,
    state: int,
    beam: int,
    margin: float,
    most_labels: int,
    dropped: float,
) -> tuple[list[_Prefix], float]:
    """The prefixes at the end of a chunk, and the logarithm by which their masses are to be multiplied."""
    root = _Prefix(None, -1, state)
    root.blank, root.is_kept = 1.0, True
    kept, best, log_scale = [root], 1.0, 0.0
    for blank_prob, labels, probs, frame_scale in _frames(log_probs, blank, margin, most_labels):
        log_scale += frame_scale
        if not labels:  # blanks alone: the masses are in proportion as before
            for prefix in kept:
                prefix.blank += prefix.label
                prefix.label = 0.0
            continue
        log_scale += math.log(best)
        kept, best = _step(kept, blank_prob / best, labels, [prob / best for prob in probs], scorer, beam, dropped)
    return kept, log_scale


def _step(
    kept: list[_Prefix],
    blank_prob: float,
    labels: list[int],
    probs: list[float],
    scorer: LabelScorer,
    beam: int,
    dropped: float,
) -> tuple[list[_Prefix], float]:
    """Advance all prefixes by a frame. Returns the kept ones and the score of the best."""
    prob_of = dict(zip(labels, probs, strict=True))
    pairs = sorted(prob_of.items(), key=_second, reverse=True)
    before = [(prefix, prefix.blank, prefix.blank + prefix.label) for prefix in kept]
    scores = []
    for prefix, _, total in before:
        prefix.blank = total * blank_prob
        prefix.label *= prob_of.get(prefix.last, 0.0)
        scores.append(prefix.blank + prefix.label)
    lowest = max(scores) * dropped
    if len(scores) >= beam:  # what is below all of these will not be kept
        lowest = max(lowest, min(scores))
    longer: list[tuple[float, _Prefix, int]] = []
    for prefix, after_blank, total in before:
        factors, children, last = prefix.factors, prefix.children, prefix.last
        if not factors:
            factors, prefix.next_states, prefix.highest = scorer.after(prefix.state)
            prefix.factors = factors
        if total * pairs[0][1] * prefix.highest <= lowest:
            continue
        least = lowest / (total * prefix.highest)
        for label, prob in pairs:
            if prob <= least:
                break
            mass = (after_blank if label == last else total) * prob * factors[label]
            if mass > lowest:
                child = children.get(label)
                if child is not None and child.is_kept:
                    child.label += mass
                else:
                    longer.append((mass, prefix, label))
    scored: list[tuple[float, _Prefix, int]] = [(prefix.blank + prefix.label, prefix, -1) for prefix in kept]
    scored += longer
    scored.sort(key=_score, reverse=True)
    best = scored[0][0]
    if best <= 0:  # the LM rules out all that the frame allows: leave the frame out
        for prefix, _, total in before:
            prefix.blank, prefix.label = total, 0.0
        return kept, max(total for _, _, total in before)
    lowest = best * dropped
    for prefix in kept:
        prefix.is_kept = False
    found: list[_Prefix] = []
    for mass, prefix, label in scored[:beam]:
        if mass < lowest:
            break
        if label >= 0:
            parent, child = prefix, prefix.children.get(label)
            if child is None:
                child = parent.children[label] = _Prefix(parent, label, parent.next_states[label])
            child.blank, child.label = 0.0, mass
            child.is_kept = True
            found.append(child)
        else:
            prefix.is_kept = True
            found.append(prefix)
    return found, best


_score, _second = itemgetter(0), itemgetter(1)


def _frames(
    log_probs: np.ndarray, blank: int, margin: float, most_labels: int
) -> Iterator[tuple[float, list[int], list[float], float]]:
    """Per frame: the blank's probability, the labels to try and their probabilities, all times exp(-scale), and the scale."""
    if not len(log_probs):
        return
    highest = log_probs.max(axis=1, keepdims=True).astype(np.float64)
    highest[~np.isfinite(highest)] = 0.0
    relative = log_probs - highest  # (frames, labels + blank), 0 for the likeliest
    wanted = relative[:, :blank] >= -margin
    if most_labels < blank:
        crowded = np.flatnonzero(wanted.sum(axis=1) > most_labels)
        if len(crowded):
            least = np.partition(relative[crowded, :blank], blank - most_labels, axis=1)[:, blank - most_labels, None]
            wanted[crowded] &= relative[crowded, :blank] >= least
    rows, columns = np.nonzero(wanted)
    bounds = np.searchsorted(rows, np.arange(len(log_probs) + 1)).tolist()
    probs, labels = np.exp(relative[rows, columns]).tolist(), columns.tolist()
    blanks, scales = np.exp(relative[:, blank]).tolist(), highest[:, 0].tolist()
    for i, (blank_prob, scale) in enumerate(zip(blanks, scales, strict=True)):
        part = slice(bounds[i], bounds[i + 1])
        yield blank_prob, labels[part], probs[part], scale
