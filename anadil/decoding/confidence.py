"""How sure a model is of what it heard: the probability of the text over all its alignments. NumPy only."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def confidence(log_probs: np.ndarray, labels: Sequence[int], blank: int) -> float:
    """Probability of `labels`, as a geometric mean a label, in [0, 1]: exp(log p(labels | audio) / number of labels).

    Of a dozen measures compared on two models of Mboshi this one ordered utterances best by their errors: at half of the
    characters kept, character errors fell from 36.1 to 29.1 % (mean log-prob of the best path 30.4 %, Tsallis entropy
    30.5 %, least confident word 33.4 %; docs/LOG.md). No labels: 0, for nothing was heard. Shapes and errors: see
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
    # from a label to the next one past the blank, unless they are equal
    leap = np.where((states[2:] != blank) & (states[2:] != states[:-2]), 0.0, -np.inf)
    forward = np.full(len(states), -np.inf)
    forward[:2] = emitted[0, :2]
    for row in emitted[1:]:
        reached = forward.copy()
        reached[1:] = np.logaddexp(forward[1:], forward[:-1])
        reached[2:] = np.logaddexp(reached[2:], forward[:-2] + leap)
        forward = reached + row
    return float(np.logaddexp.reduce(forward[-2:]))
