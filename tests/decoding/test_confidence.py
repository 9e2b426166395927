from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anadil.decoding.ctc import ctc_log_prob, sequence_confidence


def probs_of(n_frames: int, n_labels: int, seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).random((n_frames, n_labels)) + 0.01
    probs: np.ndarray = drawn / drawn.sum(axis=1, keepdims=True)
    return probs


def over_all_paths(probs: np.ndarray, labels: list[int], blank: int) -> float:
    """By the definition: every path that collapses to the labels."""
    found = 0.0
    for path in itertools.product(range(probs.shape[1]), repeat=len(probs)):
        if [one for one, _ in itertools.groupby(path) if one != blank] == labels:
            found += math.prod(probs[frame, label] for frame, label in enumerate(path))
    return found


@given(st.integers(1, 5), st.lists(st.sampled_from([0, 2]), max_size=4), st.integers(0, 9))
def test_the_probability_is_that_of_all_paths(n_frames: int, labels: list[int], seed: int) -> None:
    probs = probs_of(n_frames, 3, seed)
    expected = over_all_paths(probs, labels, blank=1)
    assert math.exp(ctc_log_prob(np.log(probs), labels, blank=1)) == pytest.approx(expected, abs=1e-12)


def test_one_label_in_two_frames_by_hand() -> None:
    probs = np.array([[0.6, 0.4], [0.5, 0.5]])  # a and blank: aa + a. + .a
    assert sequence_confidence(np.log(probs), [0], blank=1) == pytest.approx(0.3 + 0.3 + 0.2)


def test_confidence_is_a_mean_a_label_so_that_length_does_not_count() -> None:
    once = np.log(np.array([[0.8, 0.2 - 1e-9, 1e-9], [1e-9, 1e-9, 1 - 2e-9]]))
    for n in (1, 2, 9):
        assert sequence_confidence(np.tile(once, (n, 1)), [0] * n, blank=2) == pytest.approx(0.8, rel=1e-6)


def test_sure_silence_around_the_labels_costs_nothing() -> None:
    said = np.log(np.array([[0.9, 0.1], [0.1, 0.9]]))
    silence = np.tile(np.log([[1e-12, 1 - 1e-12]]), (500, 1))
    long = sequence_confidence(np.concatenate([silence, said, silence]), [0], blank=1)
    assert long == pytest.approx(sequence_confidence(said, [0], blank=1), abs=1e-6)


def test_what_cannot_be_said_has_no_probability() -> None:
    log_probs = np.log(probs_of(2, 3, 0)).astype(np.float32)
    assert ctc_log_prob(log_probs, [0, 0], blank=2) == -math.inf  # a blank must part them
    assert sequence_confidence(log_probs, [0, 0], blank=2) == 0.0
    assert sequence_confidence(log_probs, [], blank=2) == 0.0
    assert ctc_log_prob(np.zeros((0, 3)), [], blank=2) == 0.0
    assert ctc_log_prob(np.zeros((0, 3)), [1], blank=2) == -math.inf


def test_sums_of_rounded_log_probs_stay_probabilities() -> None:
    assert sequence_confidence(np.full((3, 2), 1e-6, dtype=np.float32), [0], blank=1) == 1.0


def test_a_frame_that_rules_the_text_out() -> None:
    assert sequence_confidence(np.array([[-np.inf, 0.0]]), [0], blank=1) == 0.0


def test_nan_and_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        sequence_confidence(np.full((2, 2), np.nan), [0], blank=1)
    with pytest.raises(ValueError, match="shape"):
        ctc_log_prob(np.zeros(3), [0], blank=1)
