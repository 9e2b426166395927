from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from anadil.errors import AnadilError
from anadil.evaluation.evaluate import Scored, compare
from anadil.evaluation.paired import compare_systems, mapsswe, segment_differences
from anadil.manifest import Utterance


def scored(hypotheses: list[str], references: list[str], n_speakers: int = 0) -> tuple[Scored, ...]:
    utterances = [
        Utterance(f"/clips/{i}.wav", 1.0, speaker=f"s{i % n_speakers}" if n_speakers else None)
        for i in range(len(references))
    ]
    return compare(utterances, references, hypotheses)


def system(rate: float, seed: int, n: int = 200, n_speakers: int = 0) -> tuple[Scored, ...]:
    rng = np.random.default_rng(seed)
    hypotheses = [" ".join("x" if rng.random() < rate else f"w{k}" for k in range(10)) for _ in range(n)]
    return scored(hypotheses, [" ".join(f"w{k}" for k in range(10))] * n, n_speakers)


REFERENCE = "a b c d e f g h"


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("a b c d e f g h", "a b c d e f g h", []),
        ("x b c d e f g h", "a b c d e f g h", [1]),
        ("x b c d e f g y", "a b c d e f g h", [1, 1]),  # six correct words between
        ("x b y d e f g h", "a b c d e f g h", [2]),  # one correct word does not end a segment
        ("x b c y e f g h", "a b c d e f g h", [1, 1]),  # two do
        ("x b c d e f g h", "a b c y e f g h", [1, -1]),
        ("x b c d e f g h", "y b c d e f g h", [0]),  # both wrong
        ("a b n c d e f g h", "a b c d e f g h", [1]),  # an insertion
        ("n a b c d e f g h m", "a b c d e f g h", [1, 1]),
        ("a b n c d m e f g h", "a b c d e f g h", [1, 1]),
        ("a b n c m d e f g h", "a b c d e f g h", [2]),
        ("a b c d e f g", "a b c d e f g h", [1]),  # a deletion
    ],
)
def test_segments_end_where_both_have_two_correct_words(a: str, b: str, expected: list[int]) -> None:
    (one,), (other,) = scored([a], [REFERENCE]), scored([b], [REFERENCE])
    assert segment_differences(one, other) == expected


def test_mapsswe_is_that_of_its_formula() -> None:
    """Segments +1, +1, -1, +1: mean 1/2, deviation 1, z = (1/2) / (1 / 2) = 1."""
    a = scored(["x b c d e f g y", "a b c d e f g h", "x b c d e f g h"], [REFERENCE] * 3)
    b = scored(["a b c d e f g h", "x b c d e f g h", "a b c d e f g h"], [REFERENCE] * 3)
    found = mapsswe(a, b)
    assert found is not None
    assert (found.n_segments, found.mean, found.z) == (4, 1 / 2, pytest.approx(1.0))
    assert found.p == pytest.approx(math.erfc(1 / math.sqrt(2)))  # 0.317


def test_a_better_system_is_found_and_the_order_of_lines_does_not_matter() -> None:
    a, b = system(0.1, 1, n_speakers=20), system(0.3, 2, n_speakers=20)
    found = compare_systems([a], [b[::-1]])
    assert found.words.interval is not None and found.words.interval[1] < 0
    assert found.words.probability_a_better is not None and found.words.probability_a_better > 0.999
    assert found.mapsswe is not None and found.mapsswe.p < 0.001 and found.mapsswe.z < 0
    assert found.verdict().startswith("A is better than B, by ")
    assert found.resamples == "speakers"
    assert compare_systems([b], [a]).verdict().startswith("B is better than A, by ")


def test_equal_systems_show_nothing_and_say_what_could_be_shown() -> None:
    found = compare_systems([system(0.2, 1)], [system(0.2, 2)])
    assert found.words.interval is not None and found.words.interval[0] < 0 < found.words.interval[1]
    assert found.words.smallest == pytest.approx(2.8 * math.sqrt(2 * 0.2 * 0.8 / 2000), rel=0.15)
    assert "no difference is shown" in found.verdict() and "in 80 % of cases" in found.verdict()
    same = compare_systems([system(0.2, 1)], [system(0.2, 1)])
    assert (same.words.interval, same.words.probability_a_better, same.words.smallest) == ((0.0, 0.0), 0.5, None)
    assert "equally many" in same.verdict()


def test_the_smallest_difference_is_found_in_four_of_five() -> None:
    """Two systems that differ by as much as the test set could show: 68 to 92 % of 100 trials show it."""
    n, rate = 100, 0.2
    least = 2.8 * math.sqrt(2 * rate * (1 - rate) / (10 * n))
    shown = 0
    for k in range(100):
        a, b = system(rate - least / 2, 2 * k, n), system(rate + least / 2, 2 * k + 1, n)
        interval = compare_systems([a], [b], resamples=100).words.interval
        shown += interval is not None and interval[1] < 0
    assert 0.68 <= shown / 100 <= 0.92


def test_several_runs_add_the_variance_of_the_seeds() -> None:
    a = [system(rate, seed) for seed, rate in enumerate((0.15, 0.20, 0.25))]
    b = [system(rate, 10 + seed) for seed, rate in enumerate((0.17, 0.22, 0.27))]
    found, single = compare_systems(a, b), compare_systems([a[1]], [b[1]])
    assert found.n_runs == (3, 3) and found.mapsswe is None
    assert found.words.interval is not None and single.words.interval is not None
    wide, narrow = (interval[1] - interval[0] for interval in (found.words.interval, single.words.interval))
    assert wide > 2 * narrow  # the seeds differ by 5 points
    assert found.words.rate_a == pytest.approx(np.mean([sum(s.words.errors for s in run) / 2000 for run in a]))


def test_other_utterances_or_references_are_an_error() -> None:
    a = system(0.1, 1, 20)
    with pytest.raises(AnadilError, match=r"only one of the files has this utterance[\s\S]*1 of 20 utterances"):
        compare_systems([a], [a[:-1]])
    with pytest.raises(AnadilError, match="only one of the files"):
        compare_systems([a[:-1]], [a])
    other = [dataclasses.replace(one, reference="other") for one in a]
    with pytest.raises(AnadilError, match=r"the references differ[\s\S]*anadil evaluate FILE MANIFEST --lang"):
        compare_systems([a], [other])


def test_few_utterances_are_too_few() -> None:
    found = compare_systems([system(0.1, 1, 9)], [system(0.3, 2, 9)])
    assert found.words.interval is None and "too few to compare" in found.verdict()
