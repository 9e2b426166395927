from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from anadil.data.augment.level import active_power
from anadil.data.augment.noise import Recordings, add_background, add_white_noise
from anadil.errors import AnadilError
from tests.support.lines import write_lines
from tests.support.signals import RATE, power_db, sine, speech_with_pauses

SPEECH = speech_with_pauses()


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_level_is_that_of_speech_not_of_the_pauses() -> None:
    tone_db = 10 * np.log10(0.2**2 / 2)
    assert 10 * np.log10(active_power(SPEECH, RATE)) == pytest.approx(tone_db, abs=0.3)
    assert power_db(SPEECH) == pytest.approx(tone_db - 6, abs=0.1)  # three quarters are pauses
    hum = SPEECH + sine(50, 4, 0.2 * 10 ** (-30 / 20))
    assert 10 * np.log10(active_power(hum, RATE)) == pytest.approx(tone_db, abs=0.3)
    assert active_power(np.zeros(1000, dtype=np.float32), RATE) == 0
    assert active_power(np.ones(10, dtype=np.float32), RATE) == active_power(np.ones(9999, dtype=np.float32), RATE) == 1


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 10.0, 30.0])
def test_the_snr_is_that_of_active_speech(snr_db: float) -> None:
    speaking = SPEECH != 0
    speech_db = power_db(SPEECH[speaking])
    white = add_white_noise(SPEECH, RATE, snr_db, rng()) - SPEECH
    assert speech_db - power_db(white) == pytest.approx(snr_db, abs=0.5)
    noise = rng(1).uniform(-0.01, 0.01, len(SPEECH)).astype(np.float32)
    added = add_background(SPEECH, RATE, noise, snr_db) - SPEECH
    assert speech_db - power_db(added) == pytest.approx(snr_db, abs=0.5)
    assert np.corrcoef(added, noise)[0, 1] > 0.999


def test_one_bark_is_as_loud_as_constant_barking() -> None:
    bark = np.zeros(len(SPEECH), dtype=np.float32)
    bark[:RATE] = rng().uniform(-0.5, 0.5, RATE)
    added = add_background(SPEECH, RATE, bark, 10.0) - SPEECH
    assert power_db(SPEECH[SPEECH != 0]) - power_db(added[:RATE]) == pytest.approx(10, abs=0.5)


def test_silence_stays_silent() -> None:
    silence = np.zeros(1000, dtype=np.float32)
    assert not add_white_noise(silence, RATE, 10, rng()).any()
    np.testing.assert_array_equal(add_background(SPEECH, RATE, np.zeros(len(SPEECH), dtype=np.float32), 10), SPEECH)


@pytest.fixture
def noises(write_wav: Callable[..., Path], tmp_path: Path) -> Path:
    """A short ramp at 8 kHz and a long one at 16 kHz: the value of a sample is its position."""
    write_wav("short.wav", np.linspace(0, 0.9, 4000), 8000, subtype="FLOAT")
    write_wav("long.wav", np.linspace(0, 0.9, 160000), RATE, subtype="FLOAT")
    return write_lines(tmp_path / "noises.jsonl", [{"audio_filepath": name} for name in ("short.wav", "long.wav")])


def test_a_long_recording_is_cut_at_random_and_a_short_one_looped(noises: Path) -> None:
    recordings = Recordings([str(noises)], RATE)
    starts = set()
    for seed in range(30):
        cut = recordings.segment(1, RATE, rng(seed))
        assert len(cut) == RATE
        np.testing.assert_allclose(np.diff(cut), 0.9 / 160000, atol=1e-6)
        starts.add(round(float(cut[0]), 2))
    assert len(starts) > 15 and max(starts) > 0.6
    looped = recordings.segment(0, 40000, rng())  # 8000 samples, resampled
    assert len(looped) == 40000 and len(np.unique(looped)) > 7000
    np.testing.assert_array_equal(looped[:8000], looped[8000:16000])


def test_segments_read_from_a_file_equal_those_of_the_decoded_recording(noises: Path) -> None:
    kept, read = Recordings([str(noises)], RATE), Recordings([str(noises)], RATE, cache_s=0)
    for seed in range(5):
        np.testing.assert_allclose(kept.segment(1, RATE, rng(seed)), read.segment(1, RATE, rng(seed)), atol=0.006)
        assert len(read.segment(0, 12345, rng(seed))) == 12345
    assert len(read.segment(1, 200000, rng())) == 200000


def test_a_recording_is_decoded_once(noises: Path) -> None:
    recordings = Recordings([str(noises)], RATE)
    before = recordings.segment(1, RATE, rng())
    (noises.parent / "long.wav").unlink()
    np.testing.assert_array_equal(recordings.segment(1, RATE, rng()), before)


def test_every_recording_that_cannot_be_used_is_named(noises: Path) -> None:
    (noises.parent / "text.wav").write_text("no audio")
    lines = [
        {"audio_filepath": "gone.wav"},
        {"audio_filepath": "text.wav"},
        {"audio_filepath": "long.wav", "offset": 99},
    ]
    broken = write_lines(noises.parent / "broken.jsonl", [{"audio_filepath": "long.wav"}, *lines])
    with pytest.raises(AnadilError) as caught:
        Recordings([str(broken)], RATE)
    message = str(caught.value)
    for part in (
        "broken.jsonl:2: audio file not found",
        "broken.jsonl:3: not readable",
        "broken.jsonl:4: offset 99 s is outside of",
    ):
        assert part in message
    assert "3 of 4 recordings" in message
