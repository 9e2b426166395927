"""Noise in a test set: its level, that every model hears the same, and what cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anadil import audio
from anadil.data.augment.level import active_power
from anadil.errors import AnadilError
from anadil.manifest import Utterance
from anadil.recognition.noisy import NoiseMixer, noise_seed
from tests.support.lines import write_lines
from tests.support.micro import speak

RATE = 16000


def noises(folder: Path, *recordings: np.ndarray) -> Path:
    for i, samples in enumerate(recordings):
        audio.write(folder / f"noise{i}.wav", samples.astype(np.float32), RATE)
    return write_lines(folder / "noise.jsonl", [{"audio_filepath": f"noise{i}.wav"} for i in range(len(recordings))])


def white(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.05, round(seconds * RATE)).astype(np.float32)


@pytest.mark.parametrize("snr_db", [20.0, 5.0, 0.0, -5.0])
def test_the_level_is_that_of_the_frames_with_speech(tmp_path: Path, snr_db: float) -> None:
    mixer = NoiseMixer(noises(tmp_path, white(0.3)), RATE)  # shorter than the utterance
    speech = np.concatenate([0.2 * speak("abc"), np.zeros(RATE, np.float32)])  # a pause changes nothing
    mixed = mixer.mixed(Utterance("a/1.wav"), speech, snr_db)
    found = 10 * np.log10(active_power(speech, RATE) / active_power(mixed - speech, RATE))
    assert len(mixed) == len(speech) and found == pytest.approx(snr_db, abs=0.1)


def test_the_noise_depends_on_the_utterance_alone(tmp_path: Path) -> None:
    manifest = noises(tmp_path, *(white(3.0, seed) for seed in range(5)))
    speech = 0.2 * speak("abc")

    def noise(utterance: Utterance, snr_db: float = 10.0) -> np.ndarray:
        return NoiseMixer(manifest, RATE).mixed(utterance, speech, snr_db) - speech

    first = noise(Utterance("/here/clips/1.wav", text="a"))
    np.testing.assert_array_equal(first, noise(Utterance("/elsewhere/clips/1.wav", text="b", speaker="s")))
    np.testing.assert_allclose(noise(Utterance("clips/1.wav"), -10.0), 10 * first, atol=1e-5)  # louder, and the same
    seeds = {noise_seed(Utterance(f"clips/{i}.wav", offset=o)) for i in range(10) for o in (0.0, 1.5)}
    assert len(seeds) == 20 and not np.array_equal(first, noise(Utterance("clips/2.wav")))


def test_what_is_too_loud_is_scaled_down(tmp_path: Path) -> None:
    mixed = NoiseMixer(noises(tmp_path, white(2.0)), RATE).mixed(Utterance("1.wav"), 2 * speak("abc"), -10)
    assert np.abs(mixed).max() == pytest.approx(1.0)


def test_silence_is_counted(tmp_path: Path) -> None:
    mixer = NoiseMixer(noises(tmp_path, white(2.0), np.zeros(2 * RATE), np.zeros(RATE)), RATE)
    nothing = np.zeros(RATE, np.float32)
    for snr_db in (10, 0):
        assert mixer.mixed(Utterance("silent.wav"), nothing, snr_db) is nothing
        for i in range(20):
            assert active_power(mixer.mixed(Utterance(f"{i}.wav"), speak("abc"), snr_db) - speak("abc"), RATE) > 0
    silent_noise, silent_speech = mixer.notes()
    assert silent_noise.startswith("2 recordings of") and silent_speech.startswith("1 utterances are digital silence")
    assert NoiseMixer(tmp_path / "noise.jsonl", RATE).notes() == []


def test_noise_that_is_all_silence_is_an_error(tmp_path: Path) -> None:
    mixer = NoiseMixer(noises(tmp_path, np.zeros(RATE), np.zeros(RATE)), RATE)
    with pytest.raises(
        AnadilError, match=r"all of them are digital silence; it was found in 2 recordings: (.|\n)*next: "
    ):
        mixer.mixed(Utterance("1.wav"), speak("abc"), 10)


def test_an_empty_manifest_and_a_missing_recording_are_errors(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(AnadilError, match="the manifest is empty"):
        NoiseMixer(tmp_path / "empty.jsonl", RATE)
    with pytest.raises(AnadilError, match=r"gone\.wav"):
        NoiseMixer(write_lines(tmp_path / "n.jsonl", [{"audio_filepath": "gone.wav"}]), RATE)
