from __future__ import annotations

import numpy as np
import pytest

from anadil.data.augment.level import active_power
from anadil.data.augment.room import convolve, generated_response, recorded_response, reverberate
from tests.support.signals import EXTREMES, RATE, lag, speech_with_pauses


def measured_rt60(response: np.ndarray, rate: int) -> float:
    """Schroeder's backward integration: seconds for 60 dB, from the slope between -5 and -25 dB."""
    energy = np.cumsum(np.square(response[::-1], dtype=np.float64))[::-1]
    decay = 10 * np.log10(energy / energy[0])
    first, last = int(np.argmax(decay < -5)), int(np.argmax(decay < -25))
    return 60 * (last - first) / rate / (decay[first] - decay[last])


@pytest.mark.parametrize("rate", [8000, 48000])
@pytest.mark.parametrize("rt60", [0.2, 0.5, 1.5])
def test_a_generated_response_has_the_given_rt60(rate: int, rt60: float) -> None:
    tails = [generated_response(rate, rt60, 0.0, np.random.default_rng(seed))[1:] for seed in range(5)]
    assert np.mean([measured_rt60(tail, rate) for tail in tails]) == pytest.approx(rt60, rel=0.06)


@pytest.mark.parametrize("direct_db", [-6.0, 0.0, 12.0])
def test_a_generated_response_has_the_given_direct_sound(direct_db: float) -> None:
    response = generated_response(RATE, 0.4, direct_db, np.random.default_rng(0))
    assert response[0] == 1
    assert -10 * np.log10(np.sum(response[1:] ** 2)) == pytest.approx(direct_db, abs=0.01)
    assert not response[1 : round(0.002 * RATE)].any()


@pytest.mark.parametrize(("n_samples", "n_kernel"), [(1, 1), (10, 3), (3, 10), (5000, 1), (9000, 700), (700, 9000)])
def test_convolve_equals_numpy_convolve(n_samples: int, n_kernel: int) -> None:
    rng = np.random.default_rng(0)
    samples, kernel = (rng.standard_normal(n).astype(np.float32) for n in (n_samples, n_kernel))
    result = convolve(samples, kernel)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, np.convolve(samples, kernel), atol=1e-4 * np.sqrt(min(n_samples, n_kernel)))


def test_reverberation_keeps_length_level_and_time() -> None:
    speech = speech_with_pauses() * np.random.default_rng(0).uniform(-2, 2, 4 * RATE).astype(np.float32)
    recording = np.concatenate([np.zeros(777), -0.3 * generated_response(RATE, 0.5, 3, np.random.default_rng(0))])
    for response in (generated_response(RATE, 0.5, 3, np.random.default_rng(1)), -recorded_response(recording, RATE)):
        heard = reverberate(speech, RATE, response.astype(np.float32))
        assert len(heard) == len(speech)
        assert active_power(heard, RATE) == pytest.approx(active_power(speech, RATE), rel=0.01)
        assert lag(heard, speech) == 0
        assert np.abs(heard[RATE // 2 : RATE * 5 // 8]).max() > 1e-4  # the pause is no longer silent


@pytest.mark.parametrize("samples", EXTREMES.values(), ids=EXTREMES)
def test_extremes(samples: np.ndarray) -> None:
    heard = reverberate(samples, RATE, generated_response(RATE, 0.3, 0, np.random.default_rng(0)))
    assert len(heard) == len(samples) and np.isfinite(heard).all()
