from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anadil.data.live_pauses import HISTORY_S, LivePieces
from anadil.data.pauses import FRAME_S, PauseLimits, speech_pieces
from tests.support.syllables import RATE, background, clip

SHORT = PauseLimits(0.3, 0.15)


def live(
    samples: np.ndarray, chunk: int = 800, longest_s: float = 20.0, limits: PauseLimits = SHORT
) -> list[tuple[int, int]]:
    """The pieces that are found in chunks; each holds the samples of its place."""
    pieces = LivePieces(RATE, longest_s, limits)
    found = [one for start in range(0, len(samples), chunk) for one in pieces.push(samples[start : start + chunk])]
    found += pieces.finish()
    for one in found:
        assert np.array_equal(one.samples, samples[one.start : one.end])
    return [(one.start, one.end) for one in found]


def noisy(*parts: np.ndarray) -> np.ndarray:
    samples = np.concatenate(parts)
    return samples + background(len(samples) / RATE, -60)[: len(samples)]


def conversation(gaps_s: list[float]) -> np.ndarray:
    parts = [
        part for i, gap in enumerate(gaps_s) for part in (clip(2.0, seed=i), np.zeros(round(gap * RATE), np.float32))
    ]
    return noisy(*parts)


def test_pieces_are_those_of_the_whole_recording() -> None:
    samples = conversation([0.6, 1.0, 5.0, 0.1, 2.0])
    wanted = speech_pieces(samples, RATE, limits=SHORT)
    assert len(wanted) == 4
    found = live(samples)
    assert len(found) == len(wanted)
    assert np.abs(np.array(found) - wanted).max() <= 0.1 * RATE


@pytest.mark.parametrize("around_s", [0.6, 1.0])
def test_ends_are_cut_as_those_of_the_whole_recording(around_s: float) -> None:
    limits = PauseLimits(1.5, 0.3)
    around = np.zeros(round(around_s * RATE), np.float32)
    samples = noisy(around, clip(seed=1), np.zeros(round(1.2 * RATE), np.float32), clip(seed=2), around)
    wanted = speech_pieces(samples, RATE, limits=limits)
    assert len(wanted) == 1 and (wanted == [(0, len(samples))]) == (around_s == 0.6)
    assert np.abs(np.array(live(samples, limits=limits)) - wanted).max() <= 0.1 * RATE


@given(st.integers(1, 9000), st.lists(st.sampled_from([0.1, 0.5, 1.0, 3.0]), min_size=1, max_size=4))
def test_pieces_are_in_order_whatever_the_chunks(chunk: int, gaps_s: list[float]) -> None:
    samples = conversation(gaps_s)
    found = live(samples, chunk, longest_s=3.0)
    assert all(0 <= start < end <= len(samples) and end - start <= 3 * RATE for start, end in found)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(found))
    assert sum(end - start for start, end in found) > 1.2 * RATE * len(gaps_s)


def test_a_piece_is_found_as_soon_as_the_pause_after_it() -> None:
    samples = conversation([3.0, 3.0])
    pieces, found = LivePieces(RATE, limits=SHORT), []
    for n in range(0, len(samples), 160):
        found += [(one.end, n + 160) for one in pieces.push(samples[n : n + 160])]
    assert len(found) == 2
    for end, at in found:
        assert (at - end) / RATE < SHORT.longest_s - SHORT.margin_s + 0.2


def test_digital_silence_ends_a_piece() -> None:
    samples = np.concatenate([clip(), np.zeros(round(0.5 * RATE), np.float32), clip(seed=1)])
    (_, end), (start, last) = live(samples, limits=PauseLimits(1.5, 0.5))
    assert 2.0 <= end / RATE <= 2.15 and 2.3 <= start / RATE <= 2.5 and last == len(samples)


def test_nothing_but_background_is_no_speech() -> None:
    for samples in (background(100, -20), background(20, -60), np.zeros(20 * RATE, np.float32)):
        pieces = LivePieces(RATE, limits=SHORT)
        for start in range(0, len(samples), RATE):
            assert pieces.push(samples[start : start + RATE]) == [] and pieces.speech is None
        assert pieces.finish() == []


def test_the_start_of_an_open_piece_stays() -> None:
    samples = conversation([0.1] * 5)
    pieces, starts = LivePieces(RATE, limits=SHORT), set()
    pieces.push(background(2.0, -60))
    for n in range(0, len(samples), 800):
        assert pieces.push(samples[n : n + 800]) == []
        if pieces.speech is not None:
            starts.add(pieces.speech.start)
            assert pieces.speech.end == 2 * RATE + min(n + 800, len(samples))
    assert len(starts) == 1


@pytest.mark.parametrize("n_samples", [0, 1, 159, 1600])
def test_hardly_any_audio_is_one_piece(n_samples: int) -> None:
    assert live(clip()[:n_samples]) == [(0, n_samples)]


def test_memory_is_bounded() -> None:
    pieces = LivePieces(RATE, longest_s=4.0, limits=SHORT)
    samples = conversation([0.1] * 10)
    for _ in range(20):  # without a pause
        pieces.push(samples)
        assert len(pieces._samples) <= 5 * RATE
    assert len(pieces._history) == round(HISTORY_S / FRAME_S)
