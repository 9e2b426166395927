"""`pieces_of_blocks`: recordings of any length, in blocks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anadil.data import pauses
from anadil.data.pauses import PauseLimits, Piece, pieces_of_blocks, speech_pieces
from tests.support.syllables import RATE, background, clip

SHORT = PauseLimits(0.3, 0.15)


def blocks(samples: np.ndarray, size: int) -> list[np.ndarray]:
    return [samples[start : start + size] for start in range(0, len(samples), size)]


def recording(n_clips: int, gap_s: float = 1.0) -> np.ndarray:
    parts = [part for i in range(n_clips) for part in (clip(seed=i), background(gap_s, -60))]
    return np.concatenate([np.zeros(0, np.float32), *parts])


def pieces(samples: np.ndarray, size: int = 4000, longest_s: float = 20.0) -> list[Piece]:
    found = list(pieces_of_blocks(blocks(samples, size), RATE, longest_s, SHORT))
    for one in found:
        assert np.array_equal(one.samples, samples[one.start : one.end])
    return found


def cores(found: list[Piece]) -> list[tuple[int, int]]:
    """Without what belongs to the neighbours."""
    return [(one.start + one.lead, one.end - one.tail) for one in found]


@given(st.integers(1, 50_000), st.integers(0, 4))
def test_a_short_recording_has_the_pieces_of_the_whole(size: int, n_clips: int) -> None:
    samples = recording(n_clips)
    found = pieces(samples, size)
    assert cores(found) == speech_pieces(samples, RATE, limits=SHORT)
    assert all((one.lead, one.tail) == (0, 0) for one in found)


@pytest.mark.parametrize("size", [1000, 9000, 10**6])
def test_a_longer_one_has_them_too(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(pauses, "WHOLE_S", 12.0)
    samples = recording(20)
    wanted = speech_pieces(samples, RATE, limits=SHORT)
    found = cores(pieces(samples, size))
    assert len(found) == len(wanted) == 20
    assert np.abs(np.array(found) - wanted).max() <= 0.1 * RATE


def test_levels_are_those_of_the_minutes_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses, "WHOLE_S", 12.0)
    far_away = 10 ** (-42 / 20) * np.concatenate([part for i in range(6) for part in (clip(seed=i), np.zeros(RATE))])
    samples = np.concatenate([recording(6), far_away]).astype(np.float32) + background(36, -72)
    assert sum(end <= 18 * RATE for _, end in speech_pieces(samples, RATE, limits=SHORT)) == 6
    assert len(speech_pieces(samples, RATE, limits=SHORT)) == 6  # 42 dB below the rest
    assert len(pieces(samples)) >= 10


def test_minutes_without_speech_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses, "WHOLE_S", 12.0)
    samples = np.concatenate([recording(2), background(60, -60), recording(2)])
    assert len(pieces(samples)) == 4
    assert pieces(background(60, -40)) == []


def unbroken(seconds: float) -> np.ndarray:
    """Syllables 12 dB above what is between them: no place is quiet."""
    time = np.arange(round(seconds * RATE)) / RATE
    envelope = 0.1 + 0.3 * np.clip(np.sin(2 * np.pi * 4 * time), 0, 1)
    return (envelope * np.random.default_rng(0).standard_normal(len(time))).astype(np.float32)


@pytest.mark.parametrize("whole_s", [12.0, 600.0])
def test_where_nobody_pauses_pieces_overlap(monkeypatch: pytest.MonkeyPatch, whole_s: float) -> None:
    monkeypatch.setattr(pauses, "WHOLE_S", whole_s)
    samples = unbroken(40.0)
    found = pieces(samples, longest_s=4.0)
    assert len(found) >= 10 and found[0].lead == found[-1].tail == 0
    for before, after in itertools.pairwise(found):
        assert before.tail == after.lead == pauses.OVERLAP_S * RATE
        assert before.end - before.tail == after.start + after.lead
    assert cores(found)[0][0] == 0 and cores(found)[-1][1] == len(samples)


def test_memory_is_that_of_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses, "WHOLE_S", 12.0)
    sizes = []

    def spy(samples: np.ndarray, *rest: object) -> list[tuple[int, int]]:
        sizes.append(len(samples))
        return speech_pieces(samples, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(pauses, "speech_pieces", spy)
    list(pieces_of_blocks(blocks(recording(60), 4000), RATE, 20.0, SHORT))
    assert len(sizes) > 10 and max(sizes) <= 13 * RATE
