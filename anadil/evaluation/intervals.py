"""Intervals of an error rate: bootstrap over utterances or speakers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anadil.evaluation.errors import ErrorCounts

MIN_UTTERANCES = 10
"""With fewer utterances no interval is given."""

MIN_GROUPS = 5
"""With fewer speakers than this, utterances are resampled instead."""

_DRAWS_AT_ONCE = 1 << 20  # bounds the memory of a resampling to about 24 MB


def bootstrap_interval(
    counts: Sequence[ErrorCounts],
    groups: Sequence[str] | None = None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Interval (low, high) of the corpus error rate, as fractions; one ErrorCounts per utterance.

    Percentile bootstrap: draw as many utterances as there are, with replacement, sum their errors and their
    reference units, divide; the interval holds the middle `level` of `resamples` such rates (Bisani and Ney
    2004, "Bootstrap estimates for confidence intervals in ASR performance evaluation"). The errors of one speaker's
    utterances are correlated, which makes that interval too narrow: with `groups`, one name per utterance and
    at least 5 of them distinct, whole groups are drawn (Liu and Peng 2020, "Statistical testing on ASR
    performance via blockwise bootstrap"). How often a 95 % interval held the true rate, simulated with 20
    utterances per speaker and speakers' rates of 25 % +- 8 %: 57 to 63 % drawing utterances; drawing speakers:
    82 % with 5 speakers, 90 % with 10, 91 % with 20, 94 % with 40. So with few speakers the interval is too narrow.

    None if there are fewer than 10 utterances, or so little reference text that a resample can hold none.
    The same input and seed give the same interval.
    Raises ValueError if `groups` and `counts` differ in length, or `resamples` or `level` is out of range.
    """
    if groups is not None and len(groups) != len(counts):
        raise ValueError(f"{len(groups)} groups for {len(counts)} utterances; one group name per utterance is needed")
    if resamples < 1 or not 0.0 < level < 1.0:
        raise ValueError(f"need resamples >= 1 and 0 < level < 1, got {resamples} and {level}")
    if len(counts) < MIN_UTTERANCES:
        return None
    errors: np.ndarray = np.array([float(count.errors) for count in counts])  # (utterances,), exact below 2**53
    reference: np.ndarray = np.array([float(count.reference) for count in counts])  # (utterances,)
    if groups is not None and n_distinct(groups) >= MIN_GROUPS:
        ids = {name: number for number, name in enumerate(dict.fromkeys(groups))}
        block = np.array([ids[name] for name in groups])  # (utterances,)
        errors = np.bincount(block, weights=errors)  # (groups,)
        reference = np.bincount(block, weights=reference)  # (groups,)
    error_sums, reference_sums = _resampled_sums(errors, reference, resamples, np.random.default_rng(seed))
    if not reference_sums.all():
        return None
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(error_sums / reference_sums, [tail, 1.0 - tail])
    return float(low), float(high)


def n_distinct(groups: Sequence[str]) -> int:
    """How many different groups there are."""
    return len(set(groups))


def _resampled_sums(
    errors: np.ndarray, reference: np.ndarray, resamples: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Sums over each resample of (units,) errors and reference lengths: two (resamples,)."""
    n_units = len(errors)
    error_sums, reference_sums = np.empty(resamples), np.empty(resamples)
    rows = max(1, _DRAWS_AT_ONCE // n_units)
    for first in range(0, resamples, rows):
        last = min(first + rows, resamples)
        drawn = rng.integers(n_units, size=(last - first, n_units))
        error_sums[first:last] = errors[drawn].sum(axis=1)
        reference_sums[first:last] = reference[drawn].sum(axis=1)
    return error_sums, reference_sums
