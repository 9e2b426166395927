from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from anadil.decoding.word_times import STEP_S, USUAL_DELAY, Delay, Spikes, corrected, delay

LOUD, QUIET = -20.0, -70.0
NONE = Delay(0.0, 0.0)


def stretch(
    words: Sequence[tuple[float, float]], loud: Sequence[tuple[float, float]], end_s: float = 3.0, offset_s: float = 0.0
) -> Spikes:
    """Spikes of words, and where there is sound; seconds."""
    levels = np.full(round((end_s - offset_s) / STEP_S), QUIET, dtype=np.float32)
    for start, end in loud:
        levels[round((start - offset_s) / STEP_S) : round((end - offset_s) / STEP_S)] = LOUD
    starts, ends = (np.array(times) for times in zip(*words, strict=True))
    return Spikes(starts, ends, levels, offset_s, end_s)


def times(spikes: Spikes, by: Delay = NONE) -> list[tuple[float, float]]:
    starts, ends = corrected(spikes, by)
    return [(round(start, 3), round(end, 3)) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]


def test_words_beside_pauses_start_and_end_with_the_sound() -> None:
    spikes = stretch([(0.56, 0.9), (1.66, 2.0)], [(0.5, 1.0), (1.6, 2.1)])
    assert times(spikes) == [(0.5, 1.0), (1.6, 2.1)]
    later = stretch([(10.56, 10.9), (11.66, 12.0)], [(10.5, 11.0), (11.6, 12.1)], 13.0, 10.0)
    assert times(later) == [(10.5, 11.0), (11.6, 12.1)]


def test_a_word_without_a_pause_starts_by_the_delay_before_its_spike_and_ends_with_the_next_one() -> None:
    spikes = stretch([(0.56, 0.9), (1.06, 1.4)], [(0.5, 1.5)])
    assert times(spikes, Delay(0.05, 0.1)) == [(0.5, 1.01), (1.01, 1.5)]


def test_the_closure_of_a_stop_is_no_pause() -> None:
    spikes = stretch([(0.56, 0.9), (1.16, 1.4)], [(0.5, 0.95), (1.1, 1.5)])
    assert times(spikes, Delay(0.05, 0.1)) == [(0.5, 1.11), (1.11, 1.5)]


def test_a_pause_that_is_not_quiet_ends_no_word_late() -> None:
    spikes = stretch([(0.56, 0.9), (2.06, 2.4)], [(0.0, 3.0)])
    assert times(spikes, Delay(0.05, 0.1)) == [(0.51, 1.0), (2.01, 2.5)]


def test_sound_that_is_far_from_the_spikes_belongs_to_no_word() -> None:
    spikes = stretch([(1.06, 1.4)], [(0.1, 0.4), (1.0, 1.5), (2.0, 2.5)])
    assert times(spikes) == [(1.0, 1.5)]


def test_the_delay_is_measured_beside_pauses() -> None:
    words = [(0.57, 0.9), (1.57, 1.9), (2.57, 2.9)]
    some = stretch(words, [(start - 0.07, end + 0.12) for start, end in words], 4.0)
    found = delay([some, some])
    assert (found.start_s, found.end_s) == (pytest.approx(0.07, abs=1e-3), pytest.approx(0.12, abs=1e-3))
    assert delay([some]) == USUAL_DELAY == delay([])


def test_words_never_overlap_and_are_never_empty() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        edges = np.sort(rng.uniform(0.1, 2.9, 12)).reshape(6, 2)
        levels = rng.choice([LOUD, QUIET], 300).astype(np.float32)
        spikes = Spikes(edges[:, 0], edges[:, 1], levels, 0.0, 3.0)
        starts, ends = corrected(spikes, Delay(0.06, 0.1))
        assert (starts[1:] >= ends[:-1] - 1e-9).all() and (starts < ends).all()
        assert starts[0] >= 0
