from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from anadil.evaluation.errors import ErrorCounts
from anadil.evaluation.intervals import bootstrap_interval


def counts_of(errors: Sequence[int] | np.ndarray, reference: Sequence[int] | int = 10) -> list[ErrorCounts]:
    lengths = [reference] * len(errors) if isinstance(reference, int) else reference
    return [ErrorCounts(int(one), 0, 0, int(length)) for one, length in zip(errors, lengths, strict=True)]


def width(interval: tuple[float, float] | None) -> float:
    assert interval is not None
    return interval[1] - interval[0]


def test_fewer_than_ten_utterances_have_no_interval() -> None:
    assert bootstrap_interval(counts_of([1] * 9)) is None
    assert bootstrap_interval(counts_of([1] * 10)) is not None
    assert bootstrap_interval([]) is None


def test_equal_utterances_leave_no_doubt() -> None:
    assert bootstrap_interval(counts_of([3] * 20)) == (3 / 10, 3 / 10)


def test_width_is_that_of_the_normal_approximation() -> None:
    errors = np.random.default_rng(0).binomial(10, 0.2, size=400)
    interval = bootstrap_interval(counts_of(errors), resamples=2000)
    assert interval is not None
    assert interval[0] < errors.sum() / 4000 < interval[1]
    assert width(interval) == pytest.approx(2 * 1.96 * (errors / 10).std() / 400**0.5, rel=0.1)


def test_the_interval_holds_the_true_rate_about_as_often_as_it_says() -> None:
    rng, true_rate, trials = np.random.default_rng(0), 0.2, 200
    held = 0
    for _ in range(trials):
        interval = bootstrap_interval(counts_of(rng.binomial(10, true_rate, size=60)), resamples=200, level=0.9)
        assert interval is not None
        held += interval[0] <= true_rate <= interval[1]
    assert 0.84 < held / trials < 0.96  # 0.9 give or take 3 standard deviations of the trials


def test_a_long_utterance_weighs_by_its_words() -> None:
    """One utterance of 1,000 words without an error, 19 of 1 word, all wrong: the rate is 19/1019 or near 1."""
    interval = bootstrap_interval(counts_of([0] + [1] * 19, [1000] + [1] * 19))
    assert interval is not None
    assert interval[0] < 19 / 1019 < interval[1]
    assert interval[1] == 1.0  # a third of the resamples lack the long one


def test_a_higher_level_is_wider() -> None:
    counts = counts_of(list(range(10)) * 5)
    assert width(bootstrap_interval(counts, level=0.5)) < width(bootstrap_interval(counts, level=0.99))


def test_the_seed_decides() -> None:
    counts = counts_of(list(range(10)) * 5)
    assert bootstrap_interval(counts, seed=7) == bootstrap_interval(counts, seed=7)
    assert bootstrap_interval(counts, seed=7) != bootstrap_interval(counts, seed=8)


@pytest.mark.slow
def test_many_utterances_are_drawn_in_parts() -> None:
    """300,000 utterances draw 3 resamples at a time; the answer is still that of the normal approximation."""
    errors = np.random.default_rng(0).binomial(10, 0.2, size=300_000)
    interval = bootstrap_interval(counts_of(errors), resamples=20, level=0.5)
    assert interval is not None
    assert errors.sum() / 3e6 == pytest.approx(interval[0], abs=1e-3)
    assert 0 < width(interval) < 1e-3


def test_speakers_that_differ_widen_the_interval() -> None:
    errors = [speaker for speaker in range(10) for _ in range(20)]  # each speaker's own rate, 0 to 90 %
    speakers = [f"speaker{one}" for one in errors]
    by_utterance = bootstrap_interval(counts_of(errors))
    by_speaker = bootstrap_interval(counts_of(errors), speakers)
    assert width(by_speaker) > 3 * width(by_utterance)  # 20 utterances a speaker: about the root of 20


def test_one_utterance_a_speaker_is_drawing_utterances() -> None:
    counts = counts_of(list(range(10)) * 2)
    assert bootstrap_interval(counts, [str(i) for i in range(20)]) == bootstrap_interval(counts)


def test_fewer_than_five_speakers_are_not_resampled() -> None:
    counts = counts_of(list(range(10)) * 2)
    assert bootstrap_interval(counts, [str(i % 4) for i in range(20)]) == bootstrap_interval(counts)
    assert bootstrap_interval(counts, [str(i % 5) for i in range(20)]) != bootstrap_interval(counts)


def test_hardly_any_reference_text_gives_no_interval() -> None:
    assert bootstrap_interval(counts_of([1] * 10, [0] * 10)) is None
    assert bootstrap_interval(counts_of([1] * 10, [5] + [0] * 9)) is None  # most of 1,000 draws lack the one


@pytest.mark.parametrize("wrong", [{"groups": ["a"] * 9}, {"resamples": 0}, {"level": 0.0}, {"level": 1.0}])
def test_arguments_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        bootstrap_interval(counts_of([1] * 10), **wrong)
