from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from anadil.data.batches import plan_epoch, plan_languages

DURATIONS = [1.0] * 900 + [2.0] * 50  # 900 s of a, 100 s of b
LANGUAGES = ["a"] * 900 + ["b"] * 50


def heard(temperature: float | None, epoch: int = 1) -> dict[str, float]:
    seconds: Counter[str] = Counter()
    for batch in plan_languages(DURATIONS, LANGUAGES, temperature, 30, 0, epoch):
        for index in batch:
            seconds[LANGUAGES[index]] += DURATIONS[index]
    return dict(seconds)


@pytest.mark.parametrize(
    ("temperature", "share"),
    [(1, 0.1), (2, 0.25), (1e9, 0.5)],  # sqrt(100) / (sqrt(900) + sqrt(100)) is 1/4
)
def test_a_languages_share_of_the_epoch(temperature: float, share: float) -> None:
    seconds = heard(temperature)
    assert seconds["b"] == pytest.approx(1000 * share, abs=2)
    assert sum(seconds.values()) == pytest.approx(1000, abs=3)


def test_without_a_temperature_every_utterance_comes_once() -> None:
    assert plan_languages(DURATIONS, LANGUAGES, None, 30, 0, 3) == plan_epoch(DURATIONS, 30, 0, 3)
    assert heard(None) == {"a": 900, "b": 100}


def test_small_languages_repeat_evenly_and_large_ones_take_turns() -> None:
    plans = [plan_languages(DURATIONS, LANGUAGES, 1e9, 30, 0, epoch) for epoch in (1, 1, 2)]
    counts = [Counter(index for batch in plan for index in batch) for plan in plans]
    assert plans[0] == plans[1]
    assert {counts[0][index] for index in range(900, 950)} == {5}  # 500 s of 100 s
    assert max(counts[0][index] for index in range(900)) == 1
    first, second = ({index for index in count if index < 900} for count in (counts[0], counts[2]))
    assert len(first) == len(second) == 500 and len(first & second) < 400


def test_batches_stay_bounded() -> None:
    durations = np.random.default_rng(0).uniform(1, 10, 200).tolist()
    plan = plan_languages(durations, ["a", "b", "b", "b"] * 50, 5, 30, 0)
    assert all(max(durations[i] for i in batch) * len(batch) <= 30 for batch in plan)
    assert all(one <= 200 for batch in plan for one in batch)
