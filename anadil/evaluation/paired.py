"""Two systems on the same utterances: their difference with its interval, MAPSSWE, the smallest difference to be shown."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, variance
from typing import Any

import numpy as np

from anadil.errors import AnadilError, Problem, summarize
from anadil.evaluation.errors import ErrorCounts, aligned, finite_or_none, total
from anadil.evaluation.evaluate import INTERVAL_LEVEL, Scored, speakers_of
from anadil.evaluation.hypotheses import describe_id, identity
from anadil.evaluation.intervals import (
    MIN_GROUPS,
    MIN_UTTERANCES,
    interval_of_sums,
    model_of_speakers,
    n_distinct,
    ratio,
    resampled_ratios,
    student_quantile,
    units,
)
from anadil.manifest import Utterance

POWER = 0.8
"""The smallest difference is the one that such a test set would show in so many of 100 cases."""

_GOOD_WORDS = 2  # correct words that end a segment of MAPSSWE


@dataclass(frozen=True, slots=True)
class Difference:
    """Rate of A minus rate of B, for words or characters; negative: A is better. Fractions."""

    rate_a: float  # the mean over the runs
    rate_b: float
    interval: tuple[float, float] | None  # None: too few utterances
    probability_a_better: float | None
    smallest: float | None  # the smallest difference that this test set would show in 80 % of cases

    @property
    def difference(self) -> float:
        """A minus B."""
        return self.rate_a - self.rate_b

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "a": finite_or_none(self.rate_a),
            "b": finite_or_none(self.rate_b),
            "difference": finite_or_none(self.difference),
            "interval": self.interval and list(self.interval),
            "probability_a_better": self.probability_a_better,
            "smallest_difference": self.smallest,
        }


@dataclass(frozen=True, slots=True)
class Mapsswe:
    """The matched-pairs sentence-segment word-error test."""

    n_segments: int
    mean: float  # errors of A minus errors of B, per segment
    z: float
    p: float  # two-sided

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"segments": self.n_segments, "mean_difference": self.mean, "z": self.z, "p": self.p}


@dataclass(frozen=True)
class Comparison:
    """Two systems, each of one run or several."""

    n_utterances: int
    n_runs: tuple[int, int]
    n_speakers: int | None
    words: Difference
    characters: Difference
    mapsswe: Mapsswe | None  # with one run each, and if anything differs

    @property
    def resamples(self) -> str:
        """What the intervals are over: "speakers" or "utterances"."""
        return "speakers" if self.n_speakers is not None and self.n_speakers >= MIN_GROUPS else "utterances"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "n_utterances": self.n_utterances,
            "runs": list(self.n_runs),
            "n_speakers": self.n_speakers,
            "interval_level": INTERVAL_LEVEL,
            "interval_resamples": self.resamples,
            "words": self.words.to_dict(),
            "characters": self.characters.to_dict(),
            "mapsswe": self.mapsswe and self.mapsswe.to_dict(),
        }

    def verdict(self) -> str:
        """The result in one or two sentences, by words."""
        found = self.words
        if found.interval is None:
            return f"{self.n_utterances} utterances are too few to compare: {MIN_UTTERANCES} are needed, better 200"
        low, high = found.interval
        points = f"{abs(found.difference) * 100:.2f} points of WER"
        if found.difference == 0 and low == high:
            return "A and B make equally many word errors in every part of the test set"
        if high < 0 or low > 0:
            better, other = ("A", "B") if high < 0 else ("B", "A")
            return f"{better} is better than {other}, by {points} (95 %: {100 * low:+.2f} to {100 * high:+.2f})"
        text = f"no difference is shown: A minus B is {100 * found.difference:+.2f} points of WER (95 %: {100 * low:+.2f} to "
        text += f"{100 * high:+.2f})"
        if found.smallest is not None:
            text += f"; this test set would show {100 * found.smallest:.2f} points or more in 80 % of cases"
        return text


def compare_systems(a: Sequence[Sequence[Scored]], b: Sequence[Sequence[Scored]], resamples: int = 1000) -> Comparison:
    """Compare two systems, each given as the scored hypotheses of one run or several (seeds), in any order of utterances.

    With one run each: the interval of the difference as `rate_interval` has it, over speakers if at least 5 are known, else a
    paired bootstrap (Bisani and Ney 2004), and MAPSSWE (Gillick and Cox 1989). With several: the rates are means over the
    runs, and the interval is Student's with the variance of the test set plus that of the runs, by Welch's degrees of freedom.
    Raises AnadilError if the utterances or the references are not the same in all of them.
    """
    first = a[0]
    key_of = identity(*([one.utterance for one in run] for run in (*a, *b)))
    a, b = [_in_order(first, run, key_of) for run in a], [_in_order(first, run, key_of) for run in b]
    speakers = speakers_of([one.utterance for one in first])
    return Comparison(
        len(first),
        (len(a), len(b)),
        None if speakers is None else n_distinct(speakers),
        _difference(a, b, speakers, lambda one: one.words, resamples),
        _difference(a, b, speakers, lambda one: one.characters, resamples),
        mapsswe(a[0], b[0]) if len(a) == len(b) == 1 else None,
    )


def in_same_order(a: Sequence[Scored], b: Sequence[Scored]) -> tuple[list[Scored], list[Scored]]:
    """Both, in the order of A. Raises AnadilError unless their utterances and references are the same."""
    key_of = identity([one.utterance for one in a], [one.utterance for one in b])
    return list(a), _in_order(a, b, key_of)


def _in_order(
    first: Sequence[Scored], other: Sequence[Scored], key_of: Callable[[Utterance], Hashable]
) -> list[Scored]:
    """The utterances of `other` in the order of `first`. Raises AnadilError unless they are the same."""
    ids, by_id = [key_of(one.utterance) for one in first], {key_of(one.utterance): one for one in other}
    alone = [one for key, one in zip(ids, first, strict=True) if key not in by_id]
    known = set(ids)
    alone += [one for key, one in by_id.items() if key not in known]
    if alone:
        problems = [Problem(_where(one), "only one of the files has this utterance") for one in alone]
        step = "compare hypotheses of the same manifest"
        raise AnadilError(summarize(problems, "utterances", len({*ids, *by_id}), step, shown=3))
    ordered = [by_id[key] for key in ids]
    problems = [
        Problem(_where(y), f"the references differ: {x.reference!r} and {y.reference!r}")
        for x, y in zip(first, ordered, strict=True)
        if x.reference != y.reference
    ]
    if problems:
        step = "score both with the same text rules: anadil evaluate FILE MANIFEST --lang L --out DIR"
        raise AnadilError(summarize(problems, "utterances", len(first), step, shown=3))
    return ordered


def _where(one: Scored) -> str:
    return one.utterance.source or describe_id(one.utterance)


def _difference(
    a: Sequence[Sequence[Scored]],
    b: Sequence[Sequence[Scored]],
    speakers: Sequence[str] | None,
    counts_of: Callable[[Scored], ErrorCounts],
    resamples: int,
) -> Difference:
    runs_a, runs_b = ([total(map(counts_of, run)).rate for run in runs] for runs in (a, b))
    rate_a, rate_b = fmean(runs_a), fmean(runs_b)
    reference = np.array([float(counts_of(one).reference) for one in a[0]])
    if len(reference) < MIN_UTTERANCES or not reference.any():
        return Difference(rate_a, rate_b, None, None, None)
    errors_a, errors_b = (
        np.mean([[float(counts_of(one).errors) for one in run] for run in runs], axis=0) for runs in (a, b)
    )
    errors = errors_a - errors_b  # (utterances,)
    model, sums = model_of_speakers(errors, reference, speakers), units(errors, reference, speakers)
    n_units = len(sums[0])
    resampled = resampled_ratios(*sums, resamples, np.random.default_rng(0))
    if resampled is None:
        return Difference(rate_a, rate_b, None, None, None)
    differences = resampled[0]
    if model:  # the standard error with which Student's interval is that of the model
        of_test_set = model.half_width(INTERVAL_LEVEL) / student_quantile(0.5 + INTERVAL_LEVEL / 2, n_units - 1)
    else:
        of_test_set = ratio(*sums)[1]
    better = _share_below_0(differences)
    if len(runs_a) == len(runs_b) == 1:
        interval = interval_of_sums(*sums, resamples, of_rate=False) if errors.any() else (0.0, 0.0)
        if model:
            interval, better = model.interval(INTERVAL_LEVEL, of_rate=False), model.probability_below(0.0)
        standard_error = of_test_set
    else:
        parts = [(of_test_set**2, n_units - 1)]
        parts += [(variance(runs) / len(runs), len(runs) - 1) for runs in (runs_a, runs_b) if len(runs) > 1]
        standard_error = math.sqrt(sum(part for part, _ in parts))
        degrees = standard_error**4 / (sum(part**2 / n for part, n in parts) or 1.0)
        spread = student_quantile(0.5 + INTERVAL_LEVEL / 2, max(1, int(degrees))) * standard_error
        interval = rate_a - rate_b - spread, rate_a - rate_b + spread
        of_runs = _resampled_runs(runs_a, resamples, 1) - _resampled_runs(runs_b, resamples, 2)
        better = _share_below_0(differences + of_runs)
    normal = NormalDist()
    smallest = (normal.inv_cdf(0.5 + INTERVAL_LEVEL / 2) + normal.inv_cdf(POWER)) * standard_error
    return Difference(rate_a, rate_b, interval, better, smallest or None)


def _share_below_0(values: np.ndarray) -> float:
    """The share of (values,) below 0, half of those at 0 included."""
    return float((values < 0).mean() + (values == 0).mean() / 2)


def _resampled_runs(rates: Sequence[float], resamples: int, seed: int) -> np.ndarray:
    """By how much the mean over the runs changes when runs are drawn, widened as their sample variance is: (resamples,)."""
    if len(rates) == 1:
        return np.zeros(resamples)
    centred = np.array(rates) - fmean(rates)
    drawn = np.random.default_rng(seed).integers(len(rates), size=(resamples, len(rates)))
    means: np.ndarray = centred[drawn].mean(axis=1)
    return means * math.sqrt(len(rates) / (len(rates) - 1))


def mapsswe(a: Sequence[Scored], b: Sequence[Scored]) -> Mapsswe | None:
    """The test of Gillick and Cox 1989, "Some statistical issues in the comparison of speech recognition algorithms".

    An utterance is cut into segments where both systems have at least two correct words in a row; segments without any error
    are left out. Their differences in errors are taken as independent. None with fewer than two segments.
    """
    differences = np.array(
        [value for x, y in zip(a, b, strict=True) for value in segment_differences(x, y)], dtype=float
    )
    if len(differences) < 2:
        return None
    mean, deviation = float(differences.mean()), float(differences.std(ddof=1))
    without_spread = math.copysign(math.inf, mean) if mean else 0.0
    z = mean / (deviation / math.sqrt(len(differences))) if deviation else without_spread
    return Mapsswe(len(differences), mean, max(-99.0, min(99.0, z)), math.erfc(abs(z) / math.sqrt(2)))


def segment_differences(a: Scored, b: Scored) -> list[int]:
    """Errors of A minus errors of B in each segment of an utterance that has errors."""
    if a.words.errors == b.words.errors == 0:
        return []
    errors_a, errors_b = _errors_by_place(a), _errors_by_place(b)
    found: list[int] = []
    last_end = -_GOOD_WORDS  # in words
    for place in range(len(errors_a)):  # 2 * i: before word i; 2 * i + 1: word i
        if not errors_a[place] and not errors_b[place]:
            continue
        start, end = place // 2, (place + 1) // 2
        if not found or start - last_end >= _GOOD_WORDS:
            found.append(0)
        found[-1] += errors_a[place] - errors_b[place]
        last_end = end
    return found


def _errors_by_place(one: Scored) -> list[int]:
    """Errors at each word of the reference and in the gaps around the words: (2 * words + 1)."""
    reference = one.reference.split()
    errors = [0] * (2 * len(reference) + 1)
    word = 0
    for ours, theirs in aligned(reference, one.hypothesis.split()):
        if ours is None:
            errors[2 * word] += 1
        else:
            errors[2 * word + 1] += ours != theirs
            word += 1
    return errors
