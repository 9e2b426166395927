from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anadil.data.pauses import PauseLimits, cut_at_pauses, pause_limits, pauses_within, speech_pieces
from tests.support.syllables import RATE, background, clip


def speech_with_gaps(gaps: list[tuple[float, float]], duration_s: float, floor: float = 0.01) -> np.ndarray:
    """Noise of amplitude 0.3 with stretches (start, end) in seconds that are as quiet as `floor`."""
    samples = 0.3 * np.random.default_rng(0).standard_normal(round(duration_s * RATE))
    for start, end in gaps:
        samples[round(start * RATE) : round(end * RATE)] *= floor / 0.3
    return samples.astype(np.float32)


def test_cuts_fall_in_the_quiet_gaps() -> None:
    gaps = [(1.0, 1.4), (2.6, 3.0), (5.0, 5.4), (7.3, 7.7), (9.2, 9.6)]
    pieces = cut_at_pauses(speech_with_gaps(gaps, 11.0), RATE, longest_s=4.0)
    cuts = [end / RATE for _, end in pieces[:-1]]
    assert len(cuts) == 3
    expected = [(2.6, 3.0), (5.0, 5.4), (7.3, 7.7)]  # of each window's second half
    assert all(start + 0.1 <= cut <= end - 0.1 for cut, (start, end) in zip(cuts, expected, strict=True))


def test_a_long_pause_wins_over_the_closure_of_a_stop() -> None:
    samples = speech_with_gaps([(2.3, 2.36)], 5.0, floor=0.0)
    samples[round(3.0 * RATE) : round(3.4 * RATE)] *= 0.1
    (_, cut), _ = cut_at_pauses(samples, RATE, longest_s=4.0)
    assert 3.0 <= cut / RATE <= 3.4


@pytest.mark.parametrize("n_samples", [0, 1, 4 * RATE - 1, 4 * RATE])
def test_a_recording_that_is_short_enough_is_one_piece(n_samples: int) -> None:
    assert cut_at_pauses(np.zeros(n_samples, dtype=np.float32), RATE, longest_s=4.0) == [(0, n_samples)]


@given(st.integers(0, 90_000), st.floats(0.5, 3.0), st.sampled_from([8000, 11025]), st.integers(0, 9))
def test_pieces_cover_the_recording_in_order_and_none_is_too_long(
    n_samples: int, longest_s: float, rate: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    samples = (rng.standard_normal(n_samples) * np.repeat(rng.random(91), 1000)[:n_samples]).astype(np.float32)
    pieces = cut_at_pauses(samples, rate, longest_s)
    assert pieces[0][0] == 0 and pieces[-1][1] == n_samples
    assert all(before[1] == after[0] for before, after in itertools.pairwise(pieces))
    assert all(0 < end - start <= longest_s * rate for start, end in pieces) or n_samples == 0
    assert all(end - start >= longest_s * rate / 2 - 1 for start, end in pieces[:-1])


# --- speech and what is around it

SHORT = PauseLimits(0.3, 0.15)


@pytest.mark.parametrize("level_db", [-np.inf, -80, -60, -40])
@pytest.mark.parametrize("around_s", [0.5, 1.0, 2.0, 5.0])
def test_what_is_around_speech_is_cut_off_but_for_a_margin(level_db: float, around_s: float) -> None:
    speech, quiet = clip(), background(around_s, level_db)
    ((start, end),) = speech_pieces(np.concatenate([quiet, speech, quiet]), RATE, limits=SHORT)
    kept_before, kept_after = len(quiet) - start, end - len(quiet) - len(speech)
    assert -0.05 <= kept_before / RATE <= 0.25 and -0.15 <= kept_after / RATE <= 0.25  # the clip itself ends quietly


@pytest.mark.parametrize("level_db", [-np.inf, -60, -40])
def test_a_pause_parts_speech_and_a_gap_does_not(level_db: float) -> None:
    one, other = clip(seed=1), clip(1.5, seed=2)
    for seconds, n in ((0.15, 1), (0.6, 2), (5.0, 2)):
        samples = np.concatenate([one, background(seconds, level_db), other])
        pieces = speech_pieces(samples, RATE, limits=SHORT)
        assert len(pieces) == n and pieces[0][0] == 0 and pieces[-1][1] == len(samples)


def test_nothing_but_background_is_no_speech() -> None:
    for samples in (background(300, -20), background(20, -60), np.zeros(20 * RATE, np.float32), 0.3 * np.sin(
        2 * np.pi * 50 * np.arange(20 * RATE) / RATE
    ).astype(np.float32)):  # fmt: skip
        assert speech_pieces(samples, RATE) == []


def test_speech_without_a_pause_is_whole() -> None:
    assert speech_pieces(clip(3.0), RATE) == [(0, 3 * RATE)]
    assert speech_pieces(clip(0.25), RATE) == [(0, round(0.25 * RATE))]
    assert speech_pieces(np.zeros(0, np.float32), RATE) == [(0, 0)]


def test_a_pause_that_the_model_knows_stays() -> None:
    samples = np.concatenate([clip(seed=1), background(1.0, -60), clip(seed=2)])
    assert speech_pieces(samples, RATE, limits=PauseLimits(1.2, 0.4)) == [(0, len(samples))]
    (_, end), (start, _) = speech_pieces(samples, RATE, limits=PauseLimits(0.8, 0.3))
    assert (start - end) / RATE == pytest.approx(0.4, abs=0.15)


def test_a_long_end_is_cut_to_the_margin_though_such_a_pause_stays() -> None:
    limits = PauseLimits(1.5, 0.3)
    one, other = clip(seed=1), clip(seed=2)
    around, between = background(1.0, -60), background(1.2, -60)
    ((start, end),) = speech_pieces(np.concatenate([around, one, between, other, around]), RATE, limits=limits)
    kept_before, kept_after = len(around) - start, end - len(around) - len(one) - len(between) - len(other)
    assert kept_before / RATE == pytest.approx(0.3, abs=0.15) and kept_after / RATE == pytest.approx(0.3, abs=0.2)
    short = np.concatenate([background(0.6, -60), one, background(0.6, -60)])
    assert speech_pieces(short, RATE, limits=limits) == [(0, len(short))]


def test_pauses_of_half_a_second_within_a_piece_are_found() -> None:
    samples = np.concatenate([clip(seed=1), background(0.7, -60), clip(seed=2), background(0.2, -60), clip(seed=3)])
    ((start, end),) = pauses_within(samples, RATE)
    assert start == pytest.approx(2.0, abs=0.15) and end == pytest.approx(2.7, abs=0.15)
    assert pauses_within(np.zeros(RATE, np.float32), RATE) == pauses_within(np.zeros(0, np.float32), RATE) == []


def test_the_limits_are_those_of_the_clips() -> None:
    clips = [
        np.concatenate([background(0.2, -60), clip(seed=i), background(0.5, -60), clip(seed=9), background(0.4, -60)])
        for i in range(5)
    ]
    found = pause_limits(clips, RATE)
    assert found is not None
    assert found.longest_s == pytest.approx(0.5, abs=0.12)  # smoothing takes some of it
    assert found.margin_s == pytest.approx(found.longest_s / 2, abs=0.01)
    assert pause_limits([], RATE) is None and pause_limits([np.zeros(RATE, np.float32)], RATE) is None
