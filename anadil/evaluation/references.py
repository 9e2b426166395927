"""How likely a reference is wrong, and how noisy its recording is: two figures of an utterance, from log-probs and samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from anadil.decoding.ctc import ctc_log_prob
from anadil.evaluation.evaluate import Scored
from anadil.text.rules import TextRules

MOST_DOUBT = 99.0
"""Where the reference cannot be aligned at all: it has more labels than the recording has frames."""

MAX_CELLS = 50_000_000
"""Frames times labels of the longest alignment that is computed: about 10 minutes of speech."""

_FRAME_S, _BACKGROUND, _LOUD = 0.02, 10, 95  # percentiles of the frames, as data/pauses.py takes them
_LEAST_POWER, _MOST_DB = 1e-10, 60.0


def reference_doubt(log_probs: np.ndarray, reference: str, rules: TextRules) -> float | None:
    """Nats per label by which the reference is less likely than what the model would write freely; 0 to 99.

    log_probs (frames, labels + blank), natural logarithms. The reference's log-probability is summed over its alignments
    (CTC forward), the free one is that of the best path; their difference is divided by the number of labels. Characters
    without a label are left out. This is the confidence measure of forced against free decoding (Rose et al. 1995; the
    goodness of pronunciation of Witt and Young 2000), for a whole utterance. None if the alignment is too large.
    """
    unknown = set(rules.unknown_characters(reference))
    known = " ".join("".join(one for one in reference if one not in unknown).split())
    labels = rules.encode(known) if not rules.unknown_characters(known) else []
    if len(log_probs) * (2 * len(labels) + 1) > MAX_CELLS:
        return None
    if not len(log_probs):
        return MOST_DOUBT if labels else 0.0
    free = float(log_probs.max(axis=1).astype(np.float64).sum())
    forced = ctc_log_prob(log_probs, labels, rules.blank_id)
    if forced == -math.inf:
        return MOST_DOUBT
    return min(MOST_DOUBT, max(0.0, (free - forced) / max(len(labels), 1)))


def doubtful(scored: Sequence[Scored]) -> list[int]:
    """Indices of the utterances that have a figure of doubt, the most doubtful reference first."""
    known = {i: doubt_of(one) for i, one in enumerate(scored)}
    return sorted((i for i, doubt in known.items() if doubt is not None), key=lambda i: (-(known[i] or 0.0), i))


def doubt_of(one: Scored) -> float | None:
    """The figure of `reference_doubt` that recognition or an earlier hypotheses.jsonl gave an utterance."""
    value = one.utterance.extra.get("reference_doubt")
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def snr_db(samples: np.ndarray, sample_rate: int) -> float | None:
    """Estimate of the signal-to-noise ratio in dB of float32 (samples,): level of the loud over that of the quiet frames.

    Loud is the 95th, quiet the 10th percentile of frames of 20 ms. A rough figure to group by: with few pauses it is too
    low, after noise suppression too high. At most 60; None for fewer than 10 frames or digital silence throughout.
    """
    frame = max(1, round(_FRAME_S * sample_rate))
    n = len(samples) // frame
    if n < 10:
        return None
    frames = samples[: n * frame].reshape(n, frame)
    powers = np.einsum("ij,ij->i", frames, frames, dtype=np.float64) / frame
    quiet, loud = np.percentile(powers, (_BACKGROUND, _LOUD))
    if loud <= _LEAST_POWER:
        return None
    noise = max(float(quiet), _LEAST_POWER)
    return min(_MOST_DB, 10 * math.log10(max(float(loud) - noise, noise * 1e-2) / noise))
