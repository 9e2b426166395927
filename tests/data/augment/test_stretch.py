from __future__ import annotations

import numpy as np
import pytest

from anadil.data.augment.stretch import change_pitch, change_speed, change_tempo, stretched_length
from tests.support.signals import RATE, loudest_hz, power_db, sine

RATES = (0.5, 0.8, 0.9, 0.99, 1.0, 1.013, 1.1, 1.5, 2.0)


def test_a_rate_of_0_9_is_slower() -> None:
    assert stretched_length(9000, 0.9) == 10000
    assert len(change_speed(sine(300, 0.9), 0.9)) == len(change_tempo(sine(300, 0.9), RATE, 0.9)) == RATE


@pytest.mark.parametrize("rate", RATES)
def test_speed_moves_the_pitch_and_keeps_the_level(rate: float) -> None:
    changed = change_speed(sine(440), rate)
    assert len(changed) == round(2 * RATE / rate)
    assert loudest_hz(changed) == pytest.approx(440 * rate, abs=0.5)
    assert power_db(changed[1000:-1000]) == pytest.approx(power_db(sine(440)), abs=0.1)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("hz", [97, 440, 3000])
def test_tempo_keeps_pitch_and_level(rate: float, hz: float) -> None:
    changed = change_tempo(sine(hz), RATE, rate)
    assert len(changed) == round(2 * RATE / rate)
    assert loudest_hz(changed) == pytest.approx(hz, abs=1)
    assert power_db(changed) == pytest.approx(power_db(sine(hz)), abs=0.3)


@pytest.mark.parametrize("rate", [r for r in RATES if r != 1])
def test_tempo_makes_no_clicks(rate: float) -> None:
    """Neither a jump between samples, nor power away from the tones."""
    chord = sine(150, amplitude=0.3) + sine(450, amplitude=0.1) + sine(1200, amplitude=0.05)
    changed = change_tempo(chord, RATE, rate)
    assert np.abs(np.diff(changed)).max() < 1.05 * np.abs(np.diff(chord)).max()
    power = np.abs(np.fft.rfft(changed * np.hanning(len(changed)))) ** 2
    hz = np.fft.rfftfreq(len(changed), 1 / RATE)
    near = np.min(np.abs(hz[:, None] - [150, 450, 1200]), axis=1) < 40
    assert 10 * np.log10(power[~near].sum() / power.sum()) < -35


@pytest.mark.parametrize("rate", [0.8, 1.25])
def test_tempo_keeps_events_in_their_place(rate: float) -> None:
    """A burst in the middle stays there, within the jump that is open at any time."""
    samples = np.zeros(4 * RATE, dtype=np.float32)
    samples[2 * RATE : 2 * RATE + 400] = 0.5
    changed = change_tempo(samples, RATE, rate)
    assert np.flatnonzero(changed > 0.25).mean() / RATE == pytest.approx(2 / rate, abs=0.06)


@pytest.mark.parametrize("semitones", [-12, -3, -0.5, 0, 1, 4, 12])
def test_pitch_moves_the_pitch_and_keeps_length_and_level(semitones: float) -> None:
    changed = change_pitch(sine(440), RATE, semitones)
    assert len(changed) == 2 * RATE
    assert loudest_hz(changed) == pytest.approx(440 * 2 ** (semitones / 12), abs=1)
    assert power_db(changed[1000:-1000]) == pytest.approx(power_db(sine(440)), abs=0.3)


@pytest.mark.parametrize("n_samples", [1, 10, 500, 2176, 2500, 4001])
def test_short_clips_have_their_length_and_stay_finite(n_samples: int) -> None:
    clip = np.random.default_rng(0).uniform(-1, 1, n_samples).astype(np.float32)
    for rate in RATES:
        for changed in (change_speed(clip, rate), change_tempo(clip, RATE, rate), change_tempo(clip, 48000, rate)):
            assert len(changed) == max(1, round(n_samples / rate)) and np.isfinite(changed).all()


def test_the_input_stays_as_it_is() -> None:
    clip = sine(200)
    for changed in (change_speed(clip, 1.0), change_tempo(clip, RATE, 1.0), change_pitch(clip, RATE, 0.0)):
        np.testing.assert_array_equal(changed, clip)
        assert not np.shares_memory(changed, clip)
    change_tempo(clip, RATE, 1.1)
    np.testing.assert_array_equal(clip, sine(200))
