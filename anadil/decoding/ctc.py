"""CTC without a language model: best path, and probability of a label sequence. NumPy only."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anadil.errors import AnadilError

# Best-path CTC decoding: the likeliest label of every frame, repeats collapsed, blanks dropped. NumPy only.


_ALIGNED_TOGETHER = 1 << 20
"""Utterances x frames x states that are aligned at a time: 5 MB."""


@dataclass(frozen=True, slots=True)
class Token:
    """One emitted label, and its run of frames."""

    id: int  # index into the labels
    start: int  # first frame of the run
    end: int  # frame after the last
    confidence: float  # mean over the run of exp(log_prob), in [0, 1]


def best_path(log_probs: np.ndarray, blank: int) -> list[Token]:
    """Decode log_probs (frames, labels + blank), natural logarithms, to tokens in order of time.

    `blank` is the column of the blank label, at whichever end (or middle) the model has it. A tie goes to the
    lower id. No frames give no tokens. Method: best path decoding of Graves et al. 2006, "Connectionist
    Temporal Classification", section 3.2, equation 4: B(argmax path), where B collapses repeats and then
    drops blanks.
    Raises ValueError if the array is not two-dimensional, `blank` is not one of its columns, or it holds NaN.
    """
    if log_probs.ndim != 2:
        raise ValueError(f"log_probs must be (frames, labels + blank), got shape {log_probs.shape}")
    n_frames, n_labels = log_probs.shape
    if n_frames == 0:
        return []
    if not 0 <= blank < n_labels:
        raise ValueError(f"blank must be a column of log_probs, 0 to {n_labels - 1}, got {blank}")
    best = log_probs.argmax(axis=1)  # (frames,)
    probs = np.exp(log_probs[np.arange(n_frames), best].astype(np.float64))  # (frames,)
    if np.isnan(probs).any():  # argmax picks a NaN before any number, so this sees every NaN
        raise ValueError(f"log_probs hold NaN, first in frame {int(np.isnan(probs).argmax())}")
    starts = np.flatnonzero(np.concatenate(([True], best[1:] != best[:-1])))  # (runs,)
    ends = np.append(starts[1:], n_frames)
    means = np.add.reduceat(probs, starts) / (ends - starts)
    spoken = best[starts] != blank
    columns = (best[starts], starts, ends, means)
    runs = zip(*(column[spoken].tolist() for column in columns), strict=True)
    return [Token(label, start, end, confidence) for label, start, end, confidence in runs]


def align(log_probs: np.ndarray, labels: Sequence[int], blank: int) -> list[Token]:
    """`align_many` of one utterance."""
    return align_many([log_probs], [labels], blank)[0]


def align_many(log_probs: Sequence[np.ndarray], labels: Sequence[Sequence[int]], blank: int) -> list[list[Token]]:
    """The tokens of each label sequence on its likeliest CTC path through its log_probs (frames, labels + blank).

    For the labels of `best_path` these are its tokens. Viterbi's algorithm on the states of Graves et al. 2006,
    "Connectionist Temporal Classification", section 4.1, for many utterances at a time: a frame of 30 short ones costs twice as
    much as a frame of one. Time and memory grow with frames times labels.
    Raises ValueError if no path of a probability above 0 has the labels of an utterance, or for NaN.
    """
    for one in log_probs:
        if one.ndim != 2:
            raise ValueError(f"log_probs must be (frames, labels + blank), got shape {one.shape}")
        if np.isnan(one).any():
            raise ValueError("log_probs hold NaN")
    order = sorted((i for i, one in enumerate(labels) if len(one)), key=lambda i: -len(log_probs[i]))
    found: list[list[Token]] = [[] for _ in labels]
    some: list[int] = []
    for i in order:
        n_states = 2 * max(len(labels[j]) for j in [*some, i]) + 1
        if some and (len(some) + 1) * n_states * len(log_probs[some[0]]) > _ALIGNED_TOGETHER:
            _align([log_probs[j] for j in some], [labels[j] for j in some], blank, found, some)
            some = []
        some.append(i)
    if some:
        _align([log_probs[j] for j in some], [labels[j] for j in some], blank, found, some)
    return found


def _align(
    log_probs: Sequence[np.ndarray],
    labels: Sequence[Sequence[int]],
    blank: int,
    found: list[list[Token]],
    where: Sequence[int],
) -> None:
    """Align utterances, the longest first, and put the tokens of each in its place in `found`."""
    n_utterances, n_frames = len(log_probs), [len(one) for one in log_probs]
    states = np.full(
        (n_utterances, 2 * max(map(len, labels)) + 1), blank
    )  # a blank before, between and after the labels
    for row, own in zip(states, labels, strict=True):
        row[1 : 2 * len(own) : 2] = own
    leap = np.zeros((n_utterances, states.shape[1] - 2), log_probs[0].dtype)
    leap[(states[:, 2:] == blank) | (states[:, 2:] == states[:, :-2])] = -np.inf
    emitted = np.full((max(n_frames[0], 1), *states.shape), -np.inf, log_probs[0].dtype)
    for i, (one, row) in enumerate(zip(log_probs, states, strict=True)):
        if len(one):
            emitted[: len(one), i] = one[:, row]
    steps = np.zeros(emitted.shape, np.int8)  # by how many states the path came on: 0, 1, 2
    reached = np.full(states.shape, -np.inf)
    reached[:, :2] = emitted[0, :, :2]
    n = n_utterances
    for frame in range(1, n_frames[0]):
        while n_frames[n - 1] <= frame:
            n -= 1
        before, best, step = reached[:n], reached[:n].copy(), steps[frame, :n]
        is_next = before[:, :-1] > best[:, 1:]
        np.maximum(best[:, 1:], before[:, :-1], out=best[:, 1:])
        leaping = before[:, :-2] + leap[:n]
        is_leap = leaping > best[:, 2:]
        np.maximum(best[:, 2:], leaping, out=best[:, 2:])
        step[:, 1:] = is_next
        step[:, 2:][is_leap] = 2
        best += emitted[frame, :n]
        reached[:n] = best
    for i, (own, frames) in enumerate(zip(labels, n_frames, strict=True)):
        state = 2 * len(own) - int(reached[i, 2 * len(own) - 1] >= reached[i, 2 * len(own)])
        if reached[i, state] == -np.inf:
            raise ValueError(f"{len(own)} labels have no path through {frames} frames")
        found[where[i]] = _tokens(own, state, emitted[:frames, i], steps[:frames, i])


def _tokens(labels: Sequence[int], state: int, emitted: np.ndarray, steps: np.ndarray) -> list[Token]:
    """Tokens of the path that ends in `state`, traced back through the steps (frames, states)."""
    path = np.empty(len(emitted), np.int64)  # the state of each frame
    back = np.ascontiguousarray(steps).data
    for frame in range(len(emitted) - 1, -1, -1):
        path[frame] = state
        state -= back[frame, state]
    probs = np.exp(emitted[np.arange(len(path)), path].astype(np.float64))
    wanted = 2 * np.arange(len(labels)) + 1
    starts, ends = np.searchsorted(path, wanted), np.searchsorted(path, wanted, side="right")
    sums = np.add.reduceat(np.append(probs, 0.0), np.stack([starts, ends], axis=1).ravel())[::2]
    columns = (starts.tolist(), ends.tolist(), (sums / (ends - starts)).tolist())
    return [Token(label, *rest) for label, *rest in zip(labels, *columns, strict=True)]


def sequence_confidence(log_probs: np.ndarray, labels: Sequence[int], blank: int) -> float:
    """Probability of `labels` per label (geometric mean), in [0, 1]: exp(log p(labels | audio) / number of labels).

    Of a dozen measures compared on two models of Mboshi this one ordered utterances best by their errors. With half of
    the characters kept, CER fell from 36.1 to 29.1 % (mean log-prob of the best path 30.4 %, Tsallis entropy
    30.5 %, least confident word 33.4 %; docs/LOG.md). Without labels it is 0. Shapes and errors: see
    `ctc_log_prob`.
    """
    if not labels:
        return 0.0
    return math.exp(min(0.0, ctc_log_prob(log_probs, labels, blank) / len(labels)))


def ctc_log_prob(log_probs: np.ndarray, labels: Sequence[int], blank: int) -> float:
    """Log-probability of `labels` summed over all CTC paths; log_probs (frames, labels + blank), natural logarithms.

    -inf if the frames are too few for the labels. The forward variables of Graves et al. 2006, "Connectionist Temporal
    Classification", equations 5 to 8, in the log domain.
    Raises ValueError if the array is not two-dimensional, or holds NaN.
    """
    if log_probs.ndim != 2:
        raise ValueError(f"log_probs must be (frames, labels + blank), got shape {log_probs.shape}")
    if np.isnan(log_probs).any():
        raise ValueError("log_probs hold NaN")
    if not len(log_probs):
        return -math.inf if labels else 0.0
    states = np.full(2 * len(labels) + 1, blank)  # a blank before, between and after the labels
    states[1::2] = labels
    emitted = log_probs[:, states].astype(np.float64)  # (frames, states)
    # a path may skip the blank between two labels, unless they are equal
    leap = np.where((states[2:] != blank) & (states[2:] != states[:-2]), 0.0, -np.inf)
    forward = np.full(len(states), -np.inf)
    forward[:2] = emitted[0, :2]
    for row in emitted[1:]:
        reached = forward.copy()
        reached[1:] = np.logaddexp(forward[1:], forward[:-1])
        reached[2:] = np.logaddexp(reached[2:], forward[:-2] + leap)
        forward = reached + row
    return float(np.logaddexp.reduce(forward[-2:]))


def min_ctc_frames(labels: Sequence[int]) -> int:
    """Fewest frames that a CTC path for `labels` can have: a blank must separate equal neighbours (Graves et al. 2006)."""
    return len(labels) + sum(a == b for a, b in itertools.pairwise(labels))


def require_frames(labels: Sequence[int], n_frames: int, duration_s: float) -> None:
    """Raise AnadilError if the `n_frames` that a model makes of `duration_s` seconds are too few for `labels`."""
    needed, n_labels = min_ctc_frames(labels), len(labels)
    if needed > n_frames:
        raise AnadilError(
            f"text too long for its audio: {n_labels} labels and {needed - n_labels} repeats need {needed} frames, "
            f"the model makes {n_frames} of {duration_s:.2f} s"
        )
