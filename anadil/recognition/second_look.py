"""Music and applause are loud, so they are in the pieces; where the network finds no labels for long, they are cut out.

The rest is recognised once more, without what had moved the per-utterance normalisation of the features.
"""

from __future__ import annotations

import numpy as np

from anadil.data.pauses import PauseLimits
from anadil.decoding.transcript import BOUNDARY
from anadil.text.rules import TextRules

LEAST_GAP_S = 1.0


def gap_ids(rules: TextRules) -> list[int]:
    """The columns of log-probs for no sound: the blank, and the space that parts two words."""
    return [rules.blank_id, *(i for i, label in enumerate(rules.labels) if label == BOUNDARY)]


def labelled_parts(
    log_probs: np.ndarray, gaps: list[int], frame_s: float, limits: PauseLimits
) -> list[tuple[int, int]]:
    """Parts (start, end) in frames of log_probs (frames, labels + blank) that have labels on the best path.

    Between them are stretches without a label that are longer than the pauses that the model knows (`limits`), but for a margin.
    One part that is all means that there is nothing to cut; none, that there is no label at all.
    """
    n_frames = len(log_probs)
    labelled = np.flatnonzero(~np.isin(log_probs.argmax(axis=1), gaps)) if n_frames else np.zeros(0, dtype=int)
    if not len(labelled):
        return []
    longest, margin = round(max(limits.longest_s, LEAST_GAP_S) / frame_s), round(limits.margin_s / frame_s)
    breaks = np.flatnonzero(np.diff(labelled) - 1 > longest)
    firsts, lasts = labelled[[0, *(breaks + 1)]].tolist(), labelled[[*breaks, -1]].tolist()
    return [
        (
            0 if first <= longest else first - margin,
            n_frames if last >= n_frames - 1 - longest else last + 1 + margin,
        )
        for first, last in zip(firsts, lasts, strict=True)
    ]
