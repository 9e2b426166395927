from __future__ import annotations

import numpy as np
import pytest

from anadil.evaluation.calibration import Threshold, lowest_within, thresholds
from anadil.evaluation.errors import ErrorCounts


def counts_of(errors: list[int], reference: int = 20) -> list[ErrorCounts]:
    return [ErrorCounts(n, 0, 0, reference) for n in errors]


def test_each_threshold_keeps_the_surest_and_counts_their_errors() -> None:
    sure = [1 - i / 1000 for i in range(200)]
    errors = [1] * 100 + [5] * 100  # 5 % and 25 % of 20 characters
    shuffled = np.random.default_rng(0).permutation(200)
    found = thresholds([sure[i] for i in shuffled], [counts_of(errors)[i] for i in shuffled])
    assert [one.kept for one in found] == list(range(30, 201, 10))
    assert [one.share for one in found] == pytest.approx([n / 20 for n in range(3, 21)])
    half, whole = found[7], found[-1]
    assert (half.confidence, half.kept, half.cer) == (sure[99], 100, 0.05)
    assert (whole.confidence, whole.kept, whole.cer) == (sure[199], 200, 0.15)
    assert half.low == 0.05 and 0.055 < half.high < 0.065  # equal utterances: Wilson's end, 2,000 characters
    assert whole.low < 0.14 and whole.high > 0.16
    assert thresholds(sure, counts_of(errors)) == thresholds(sure, counts_of(errors))


def test_the_laxest_within_the_asked_rate_is_chosen_by_its_intervals_end() -> None:
    found = [
        Threshold(0.9, 30, 0.1, cer=0.03, low=0.01, high=0.12),
        Threshold(0.8, 60, 0.2, cer=0.05, low=0.03, high=0.08),
        Threshold(0.7, 90, 0.3, cer=0.09, low=0.06, high=0.11),
    ]
    assert lowest_within(found, 0.10) == found[1]  # 9 % of the third is not sure enough
    assert lowest_within(found, 0.11) == found[2]
    assert lowest_within(found, 0.05) is None
    assert lowest_within([], 0.5) is None


def test_a_lucky_few_are_not_believed() -> None:
    sure = [1 - i / 1000 for i in range(100)]
    found = thresholds(sure, counts_of([0] * 29 + [10] * 71))
    assert found[0].kept == 30 and found[0].cer == pytest.approx(10 / 600)
    assert lowest_within(found, 0.01) is None
    perfect = thresholds(sure, counts_of([0] * 100))
    assert all(one.cer == one.low == 0 for one in perfect)
    assert perfect[0].high == pytest.approx(1.96**2 / (600 + 1.96**2))  # Wilson, no errors in 600 characters
    assert lowest_within(perfect, 0.005) is not None and lowest_within(perfect, 0.001) is None


def test_equal_confidences_are_kept_or_left_together() -> None:
    found = thresholds([0.9] * 50 + [0.5] * 50, counts_of([1] * 50 + [9] * 50))
    assert [(one.confidence, one.kept) for one in found] == [(0.9, 50), (0.5, 100)]


def test_what_was_not_heard_is_never_kept_and_still_counts_in_the_share() -> None:
    found = thresholds([0.9] * 40 + [0.0] * 40, counts_of([1] * 40 + [20] * 40))
    assert [(one.confidence, one.kept, one.share, one.cer) for one in found] == [(0.9, 40, 0.5, 0.05)]
    assert thresholds([0.0] * 100, counts_of([20] * 100)) == []


def test_too_little_validation_data_gives_no_threshold() -> None:
    assert thresholds([0.9] * 29, counts_of([0] * 29)) == []
    assert thresholds([0.9] * 40, counts_of([0] * 40, reference=7)) == []
    assert thresholds([], []) == []
    with pytest.raises(ValueError, match="1 confidences for 2"):
        thresholds([0.9], counts_of([0, 0]))


def test_speakers_are_resampled_where_there_are_enough() -> None:
    speakers = [f"s{i % 6}" for i in range(120)]
    errors = [8 if i % 6 == 0 else 1 for i in range(120)]  # one speaker is misheard
    sure = [0.9] * 120
    (alone,), (grouped,) = thresholds(sure, counts_of(errors)), thresholds(sure, counts_of(errors), speakers)
    assert alone.cer == grouped.cer and grouped.high > alone.high + 0.05
