from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from anadil.evaluation.errors import ErrorCounts
from anadil.evaluation.intervals import rate_interval, student_quantile, uncovered


def counts_of(errors: Sequence[int] | np.ndarray, reference: Sequence[int] | int = 10) -> list[ErrorCounts]:
    lengths = [reference] * len(errors) if isinstance(reference, int) else reference
    return [ErrorCounts(int(one), 0, 0, int(length)) for one, length in zip(errors, lengths, strict=True)]


def width(interval: tuple[float, float] | None) -> float:
    assert interval is not None
    return interval[1] - interval[0]


def test_fewer_than_ten_utterances_have_no_interval() -> None:
    assert rate_interval(counts_of([1] * 9)) is None
    assert rate_interval(counts_of([1] * 10)) is not None
    assert rate_interval([]) is None


def test_equal_utterances_leave_no_doubt() -> None:
    assert rate_interval(counts_of([3] * 20)) == (3 / 10, 3 / 10)


def test_width_is_that_of_the_normal_approximation() -> None:
    errors = np.random.default_rng(0).binomial(10, 0.2, size=400)
    interval = rate_interval(counts_of(errors), resamples=2000)
    assert interval is not None
    assert interval[0] < errors.sum() / 4000 < interval[1]
    assert width(interval) == pytest.approx(2 * 1.96 * (errors / 10).std() / 400**0.5, rel=0.1)


SHARES = {"equal": (20,) * 7, "half": (50, 20, 15, 10, 5), "ten": (60, 40, 30, 20, 10, 10, 10, 10, 5, 5)}


@pytest.mark.parametrize("name", SHARES)
def test_coverage_over_speakers(name: str) -> None:
    """Speakers' rates of 25 % +- 8 %: a 95 % interval holds 25 % in 92 to 99 % of 200 trials; a bootstrap in 88 to 92 %."""
    rng, trials, held = np.random.default_rng(0), 200, 0
    sizes = SHARES[name]
    speakers = [str(number) for number, size in enumerate(sizes) for _ in range(size)]
    for _ in range(trials):
        rates = np.repeat(rng.beta(7.07, 21.2, len(sizes)), sizes)
        interval = rate_interval(counts_of(rng.binomial(10, rates)), speakers)
        assert interval is not None
        held += interval[0] <= 0.25 <= interval[1]
    assert 0.92 <= held / trials <= 0.99


def test_without_errors_the_interval_is_not_empty() -> None:
    low, high = rate_interval(counts_of([0] * 100)) or (1.0, 1.0)
    assert low == 0.0 and high == pytest.approx(1 - 0.025 ** (1 / 1000))  # Clopper and Pearson with 0 of 1,000


def test_few_utterances_with_errors_fall_back_to_student() -> None:
    low, high = rate_interval(counts_of([2, 1] + [0] * 18)) or (1.0, 1.0)
    assert 0 < low < 3 / 200 < high < 0.2


@pytest.mark.parametrize(("degrees", "expected"), [(1, 12.706), (2, 4.303), (4, 2.776), (9, 2.262), (100, 1.984)])
def test_quantiles_of_students_t(degrees: int, expected: float) -> None:
    assert student_quantile(0.975, degrees) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(
    ("n_utterances", "n_speakers", "words"),
    [
        (9, 3, "too few"),
        (50, None, "not every utterance"),
        (50, 1, "there is 1 speaker"),
        (50, 9, "9 speakers, which are few"),
    ],
)
def test_what_an_interval_does_not_cover_is_said(n_utterances: int, n_speakers: int | None, words: str) -> None:
    assert words in uncovered(n_utterances, n_speakers)
    assert uncovered(500, 10) == ""


def test_the_interval_holds_the_true_rate_about_as_often_as_it_says() -> None:
    rng, true_rate, trials = np.random.default_rng(0), 0.2, 200
    held = 0
    for _ in range(trials):
        interval = rate_interval(counts_of(rng.binomial(10, true_rate, size=60)), resamples=200, level=0.9)
        assert interval is not None
        held += interval[0] <= true_rate <= interval[1]
    assert 0.84 < held / trials < 0.96  # 0.9 give or take 3 standard deviations of the trials


def test_a_long_utterance_weighs_by_its_words() -> None:
    """One utterance of 1,000 words without an error, 19 of 1 word, all wrong: the rate is 19/1019, not 19/20."""
    interval = rate_interval(counts_of([0] + [1] * 19, [1000] + [1] * 19))
    assert interval is not None
    assert interval[0] < 19 / 1019 < interval[1]
    assert interval[1] < 0.5


def test_a_higher_level_is_wider() -> None:
    counts = counts_of(list(range(10)) * 5)
    assert width(rate_interval(counts, level=0.5)) < width(rate_interval(counts, level=0.99))


def test_the_seed_decides() -> None:
    counts = counts_of(list(range(10)) * 5)
    assert rate_interval(counts, seed=7) == rate_interval(counts, seed=7)
    assert rate_interval(counts, seed=7) != rate_interval(counts, seed=8)


@pytest.mark.slow
def test_many_utterances_are_drawn_in_parts() -> None:
    """300,000 utterances draw 3 resamples at a time; the answer is still that of the normal approximation."""
    errors = np.random.default_rng(0).binomial(10, 0.2, size=300_000)
    interval = rate_interval(counts_of(errors), resamples=20, level=0.5)
    assert interval is not None
    assert errors.sum() / 3e6 == pytest.approx(interval[0], abs=1e-3)
    assert 0 < width(interval) < 1e-3


def test_speakers_that_differ_widen_the_interval() -> None:
    errors = [speaker for speaker in range(10) for _ in range(20)]  # each speaker's own rate, 0 to 90 %
    speakers = [f"speaker{one}" for one in errors]
    by_utterance = rate_interval(counts_of(errors))
    by_speaker = rate_interval(counts_of(errors), speakers)
    assert width(by_speaker) > 3 * width(by_utterance)  # 20 utterances a speaker: about the root of 20


def test_many_equal_speakers_have_the_interval_of_student() -> None:
    rng = np.random.default_rng(0)
    own = rng.normal(0.3, 0.1, 12).clip(0.05, 0.9)
    errors, speakers = np.repeat(np.round(1000 * own), 20), [str(i) for i in range(12) for _ in range(20)]
    counts = counts_of(errors, 1000)  # no noise within a speaker
    rates = np.round(1000 * own) / 1000
    half = student_quantile(0.975, 11) * rates.std(ddof=1) / 12**0.5
    interval = rate_interval(counts, speakers, of_rate=False)
    assert interval == pytest.approx((rates.mean() - half, rates.mean() + half), rel=0.01)
    skewed = rate_interval(counts, speakers)
    assert skewed is not None and skewed[1] - rates.mean() > rates.mean() - skewed[0] > 0


def test_a_speaker_with_half_of_the_words_widens_the_interval() -> None:
    rates = np.array([0.1, 0.2, 0.3, 0.4, 0.5])

    def own_width(sizes: tuple[int, ...]) -> float:
        speakers = [str(i) for i, size in enumerate(sizes) for _ in range(size)]
        return width(rate_interval(counts_of(np.repeat(1000 * rates, sizes), 1000), speakers))

    assert own_width((5, 10, 50, 20, 15)) > 1.2 * own_width((20,) * 5)


def test_a_difference_may_be_below_0_though_no_utterance_is() -> None:
    counts, speakers = counts_of([1, 0, 0, 0, 0, 0] * 5), [str(i % 6) for i in range(30)]
    for names in (speakers, None):
        low, high = rate_interval(counts, names, of_rate=False) or (1.0, 1.0)
        assert low < 0 < 1 / 60 < high if names else low < 1 / 60 < high
    low, _ = rate_interval(counts, speakers) or (0.0, 0.0)
    assert low > 0


def test_speakers_without_reference_text_are_drawn() -> None:
    counts = counts_of([1, 2] * 12, [10, 10] * 11 + [0, 0])
    speakers = [str(i // 2) for i in range(24)]
    interval = rate_interval(counts, speakers)
    assert interval is not None and interval[0] < 36 / 220 < interval[1]
    assert rate_interval(counts_of([0] * 24), speakers) == (0.0, pytest.approx(1 - 0.025 ** (1 / 240)))


def test_one_utterance_a_speaker_is_drawing_utterances() -> None:
    counts = counts_of(list(range(10)) * 2)
    assert rate_interval(counts, [str(i) for i in range(20)]) == rate_interval(counts)


def test_fewer_than_five_speakers_are_too_few_for_their_model() -> None:
    counts = counts_of(list(range(10)) * 2)
    assert rate_interval(counts, [str(i % 4) for i in range(20)]) == rate_interval(counts)
    assert rate_interval(counts, [str(i % 5) for i in range(20)]) != rate_interval(counts)


def test_hardly_any_reference_text_gives_no_interval() -> None:
    assert rate_interval(counts_of([1] * 10, [0] * 10)) is None
    assert rate_interval(counts_of([1] * 10, [5] + [0] * 9)) is None  # most of 1,000 draws lack the one


@pytest.mark.parametrize("wrong", [{"speakers": ["a"] * 9}, {"resamples": 0}, {"level": 0.0}, {"level": 1.0}])
def test_arguments_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        rate_interval(counts_of([1] * 10), **wrong)
