"""Intervals of an error rate: a model of speakers who differ, or a studentised bootstrap over utterances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from anadil.evaluation.errors import ErrorCounts
from anadil.evaluation.speaker_model import SpeakerModel, noise_within, speaker_model

MIN_UTTERANCES = 10
"""With fewer utterances no interval is given."""

MIN_GROUPS = 5
"""With fewer speakers than this, the interval is over utterances instead."""

ENOUGH_GROUPS = 10
"""With fewer speakers than this, the text beside an interval says what it does not cover."""

_DRAWS_AT_ONCE = 1 << 18  # bounds the memory of a resampling to a few megabytes
_MOST_UNDEFINED = 0.01


def rate_interval(
    counts: Sequence[ErrorCounts],
    speakers: Sequence[str] | None = None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    of_rate: bool = True,
) -> tuple[float, float] | None:
    """Interval (low, high) of the corpus error rate, as fractions; one ErrorCounts per utterance.

    The errors of one speaker's utterances are correlated. With `speakers`, one name per utterance and at least 5 of them
    distinct, the interval is that of `SpeakerModel`; else that of `interval_of_sums`, which draws utterances. How often a
    95 % interval holds the true rate with 5 to 40 speakers of equal and unequal shares (docs/evaluation.md): 93 to 97 % in 38
    of 40 simulations of speakers who differ, up to 99.7 % where they hardly do. A bootstrap: 86 to 97 % (docs/LOG.md).

    A difference of rates is given as counts whose `substitutions` may be negative, with `of_rate` false.
    None if there are fewer than 10 utterances, or so little reference text that a resample can hold none.
    The same input and seed give the same interval.
    Raises ValueError if `speakers` and `counts` differ in length, or `resamples` or `level` is out of range.
    """
    if speakers is not None and len(speakers) != len(counts):
        raise ValueError(f"{len(speakers)} speakers for {len(counts)} utterances; one name per utterance is needed")
    if resamples < 1 or not 0.0 < level < 1.0:
        raise ValueError(f"need resamples >= 1 and 0 < level < 1, got {resamples} and {level}")
    if len(counts) < MIN_UTTERANCES:
        return None
    errors: np.ndarray = np.array([float(count.errors) for count in counts])  # (utterances,), exact below 2**53
    reference: np.ndarray = np.array([float(count.reference) for count in counts])  # (utterances,)
    model = model_of_speakers(errors, reference, speakers)
    if model is not None:
        return model.interval(level, of_rate)
    return interval_of_sums(*units(errors, reference, speakers), resamples, level, seed, of_rate)


def model_of_speakers(errors: np.ndarray, reference: np.ndarray, speakers: Sequence[str] | None) -> SpeakerModel | None:
    """The model of the rate, or of a difference of rates, over speakers; both (utterances,).

    None with fewer than 5 speakers, without any error, if a speaker has no reference text, and if none has two utterances.
    """
    if speakers is None or n_distinct(speakers) < MIN_GROUPS or not errors.any():
        return None
    numbers = _numbers(speakers)
    of_speakers = np.bincount(numbers, weights=reference)
    noise = noise_within(errors, reference, numbers)
    if noise is None or not of_speakers.all():
        return None
    return speaker_model(np.bincount(numbers, weights=errors), of_speakers, noise)


def units(errors: np.ndarray, reference: np.ndarray, speakers: Sequence[str] | None) -> tuple[np.ndarray, np.ndarray]:
    """What a bootstrap draws: sums over speakers, both (speakers,), if there are at least 5; else (utterances,) as they are."""
    if speakers is None or n_distinct(speakers) < MIN_GROUPS:
        return errors, reference
    numbers = _numbers(speakers)
    return np.bincount(numbers, weights=errors), np.bincount(numbers, weights=reference)


def interval_of_sums(
    errors: np.ndarray,
    reference: np.ndarray,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    of_rate: bool = True,
) -> tuple[float, float] | None:
    """Interval of sum(errors) / sum(reference), drawing the units (utterances, or speakers); both (units,).

    Bootstrap: draw as many units as there are, with replacement, sum their errors and their reference units, divide
    (Bisani and Ney 2004, "Bootstrap estimates for confidence intervals in ASR performance evaluation"). The interval is the
    studentised one (bootstrap-t; Efron and Tibshirani 1993, chapter 12): each resampled rate is divided by its own standard
    error, that of a ratio of sums.

    If too many resamples have no standard error (few utterances have errors), the interval is Student's on the
    logarithm of the rate; without any error its upper end is that of Clopper and Pearson, units taken as independent.
    `of_rate` false: of a difference, which may be below 0.
    None if a resample holds no reference text.
    """
    resampled = resampled_ratios(errors, reference, resamples, np.random.default_rng(seed))
    if resampled is None:
        return None
    rates, standard_errors = resampled
    rate, standard_error = ratio(errors, reference)
    if not errors.any():
        return 0.0, 1.0 - ((1.0 - level) / 2.0) ** (1.0 / reference.sum()) if of_rate else 0.0
    smallest = 1e-9 * max(abs(rate), 1e-9)
    if standard_error <= smallest:
        return rate, rate  # every unit has the same rate
    defined = standard_errors > smallest
    tail = (1.0 - level) / 2.0
    if (~defined).mean() > _MOST_UNDEFINED:
        spread = student_quantile(1.0 - tail, len(errors) - 1) * standard_error
        if not of_rate or rate <= 0:
            return rate - spread, rate + spread
        factor = math.exp(min(spread / rate, 50.0))
        return rate / factor, rate * factor
    ratios = (rates[defined] - rate) / standard_errors[defined]
    below, above = np.quantile(ratios, [1.0 - tail, tail])
    low, high = rate - float(below) * standard_error, rate - float(above) * standard_error
    if of_rate:
        low = max(0.0, low)
    return min(low, rate), max(high, rate)


def ratio(errors: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """The ratio of the sums of two (units,), and its standard error by linearisation (Cochran 1977, section 2.11)."""
    n, total = len(errors), float(reference.sum())
    rate = float(errors.sum()) / total
    residuals = errors - rate * reference
    return rate, math.sqrt(n / max(n - 1, 1) * float(residuals @ residuals)) / total


def resampled_ratios(
    errors: np.ndarray, reference: np.ndarray, resamples: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray] | None:
    """Ratio of the sums and its standard error for each resample of (units,): two (resamples,).

    None if a resample holds no reference text.
    """
    n_units = len(errors)
    columns = np.stack([errors, reference, errors**2, errors * reference, reference**2], axis=1)  # (units, 5)
    sums = np.empty((resamples, 5))
    rows = max(1, _DRAWS_AT_ONCE // n_units)
    for first in range(0, resamples, rows):
        some = sums[first : first + rows]
        drawn = rng.integers(n_units, size=(len(some), n_units))
        drawn += np.arange(len(some))[:, None] * n_units
        times = np.bincount(drawn.ravel(), minlength=some.shape[0] * n_units).reshape(len(some), n_units)
        some[:] = times @ columns  # how often each unit is drawn, times its figures
    e, r, ee, er, rr = sums.T
    if not r.all():
        return None
    rates = e / r
    squares = np.maximum(ee - 2 * rates * er + rates**2 * rr, 0.0)
    squares[squares < 1e-12 * np.maximum(ee, 1.0)] = 0.0  # rounding
    return rates, np.sqrt(n_units / max(n_units - 1, 1) * squares) / r


def _numbers(names: Sequence[str]) -> np.ndarray:
    """Numbers from 0 for names, in the order of their first appearance: (names,)."""
    ids = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([ids[name] for name in names])


def n_distinct(groups: Sequence[str]) -> int:
    """How many different groups there are."""
    return len(set(groups))


def student_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t: exact for 1 and 2 degrees of freedom, else within 2 % (Abramowitz and Stegun 1964, 26.7.5)."""
    if degrees == 1:
        return math.tan(math.pi * (probability - 0.5))
    if degrees == 2:
        return (2 * probability - 1) / math.sqrt(2 * probability * (1 - probability))
    z = NormalDist().inv_cdf(probability)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return math.fsum(term / float(degrees) ** power for power, term in enumerate(terms))


def uncovered(n_utterances: int, n_speakers: int | None) -> str:
    """What the interval of such a test set does not cover, in words; empty if there are 10 speakers or more.

    `n_speakers`: None if not every utterance names its speaker.
    """
    if n_utterances < MIN_UTTERANCES:
        return f"{n_utterances:,} utterances are too few for an interval: {MIN_UTTERANCES} are needed, better 200"
    if n_speakers is None:
        return (
            "the interval is over utterances, as not every utterance names its speaker: it covers other sentences of "
            "the same speakers, not other speakers, and is too narrow for these"
        )
    if n_speakers < MIN_GROUPS:
        return (
            f"the interval is over utterances, as there {'is 1 speaker' if n_speakers == 1 else f'are {n_speakers} speakers'}"
            ": it covers other sentences of these speakers; another speaker may lie far outside"
        )
    if n_speakers < ENOUGH_GROUPS:
        return (
            f"the interval is over {n_speakers} speakers, which are few: it cannot cover kinds of speaker (age, region, "
            "microphone) that are not among them"
        )
    return ""
