"""Best-path CTC decoding: the likeliest label of every frame, repeats collapsed, blanks dropped. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Token:
    """One label that was emitted, and the run of frames that emits it."""

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
