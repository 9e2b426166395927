from __future__ import annotations

import numpy as np
import pytest

from anadil.data.augment.channel import apply_codec, clip_peaks, mu_law_coded, telephone
from tests.support.signals import RATE, lag, power_db, sine, speech_with_pauses


@pytest.mark.parametrize("overload_db", [0.0, 3.0, 20.0])
def test_clipping_changes_only_the_peaks(overload_db: float) -> None:
    tone = sine(300, amplitude=0.8)
    clipped = clip_peaks(tone, overload_db)
    limit = np.abs(tone).max() * 10 ** (-overload_db / 20)
    assert np.abs(clipped).max() == pytest.approx(limit, rel=1e-5)
    quiet = np.abs(tone) < 0.999 * limit
    np.testing.assert_array_equal(clipped[quiet], tone[quiet])


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize(
    ("hz", "least", "most"),  # decibels lost
    [(60, 60, 200), (150, 40, 200), (500, -0.2, 0.2), (1000, -0.2, 0.2), (3000, -0.2, 0.2), (3700, 40, 200)],
)
def test_a_telephone_passes_300_to_3400_hz(rate: int, hz: float, least: float, most: float) -> None:
    tone = sine(hz, 1, rate=rate)
    middle = slice(rate // 4, -rate // 4)
    assert least <= power_db(tone[middle]) - power_db(telephone(tone, rate, mu_law=False)[middle]) <= most


def test_a_telephone_keeps_length_and_time() -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 16001).astype(np.float32)
    for mu_law in (False, True):
        heard = telephone(noise, RATE, mu_law)
        assert len(heard) == 16001 and lag(heard, noise) == 0


def test_mu_law_has_255_levels_and_its_38_db() -> None:
    """Noise of G.711 lies 37 to 40 dB below, over a wide range of levels; 8 even bits would lose 30 dB at -40 dB."""
    ramp = np.linspace(-1, 1, 100001, dtype=np.float32)
    assert len(np.unique(mu_law_coded(ramp))) == 255
    for level_db in (-3, -20, -30):
        tone = sine(333, 1, 10 ** (level_db / 20))
        assert 36 < power_db(tone) - power_db(mu_law_coded(tone) - tone) < 42


def noisy_speech(rate: int) -> np.ndarray:
    return (speech_with_pauses(2, rate) + np.random.default_rng(0).normal(0, 0.02, 2 * rate)).astype(np.float32)


@pytest.mark.parametrize("form", ["mp3", "opus"])
@pytest.mark.parametrize("rate", [6000, 8000, 11025, 16000, 22050, 44100, 96000])
def test_codecs_keep_length_and_time_at_any_rate(form: str, rate: int) -> None:
    speech = noisy_speech(rate)
    for kbps in (8.0, 32.0):
        heard = apply_codec(speech, rate, form, kbps)
        assert len(heard) == len(speech) and np.isfinite(heard).all()
        assert abs(lag(heard, speech)) <= max(1, rate // 8000)
        assert not np.array_equal(heard, speech)


@pytest.mark.parametrize("form", ["mp3", "opus"])
def test_a_higher_bit_rate_is_nearer_to_the_original_and_the_outcome_is_always_the_same(form: str) -> None:
    speech = noisy_speech(RATE)
    losses = [power_db(apply_codec(speech, RATE, form, kbps) - speech) for kbps in (8, 16, 32, 64)]
    assert losses[0] > losses[2] > losses[3]
    np.testing.assert_array_equal(apply_codec(speech, RATE, form, 12), apply_codec(speech, RATE, form, 12))
