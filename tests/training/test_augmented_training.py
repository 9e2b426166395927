"""Training with every transform on."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anadil.data.augment.settings import AugmentSettings
from anadil.data.augment.steps import STEPS
from anadil.data.batches import Loader
from anadil.data.examples import Example
from anadil.errors import AnadilError
from anadil.manifest import Utterance
from anadil.models.acoustic import AcousticModel, load_model
from anadil.training import train as module
from anadil.training.config import Config
from anadil.training.monitoring.report import Silent
from anadil.training.prepare import make_augmenter
from anadil.training.train import train
from tests.support.lines import write_lines
from tests.support.micro import micro_data


class Told(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def config(micro: Path, tmp_path: Path, write_wav: Callable[..., Path]) -> Config:
    write_wav("noise.wav", 2.0, 44100)
    noises = write_lines(tmp_path / "noises.jsonl", [{"audio_filepath": "noise.wav"}])
    every: dict[str, Any] = {name: {"probability": 0.5} for name in AugmentSettings.model_fields}
    every["background"]["manifest"] = str(noises)
    every["silence"] = {"probability": 0.4, "joined": 0.2, "non_speech": 0.2}
    data = micro_data(micro / "train.jsonl", micro / "train.jsonl", epochs=3) | {"augment": every}
    return Config.model_validate(data)


def test_a_run_with_everything_on_works_and_repeats_itself(config: Config, tmp_path: Path) -> None:
    weights = []
    for name in ("a", "b"):
        told = Told()
        run = train(config, tmp_path / name, told)
        assert run.last is not None and math.isfinite(run.last.loss)
        (first, last) = [text for text in told.said if text.startswith("augmented")]
        assert first.startswith("augmented 8 utterances: ") and last.startswith("augmented 24 utterances: ")
        assert all(f" {step} " in last for step in STEPS)
        acoustic = load_model(tmp_path / name / "last").acoustic
        weights.append({key: value.clone() for key, value in acoustic.state_dict().items()})
    assert all(bool((weights[0][key] == weights[1][key]).all()) for key in weights[0])


@pytest.mark.slow
def test_what_is_heard_still_belongs_to_its_text(micro: Path, tmp_path: Path) -> None:
    """Letters are tones here, so pitch and telephone stay off; with audio or order spoiled, nothing would be learned."""
    sections: dict[str, Any] = {"silence": {"joined": 0.2}, "tempo": {"probability": 0.5}} | {
        name: {"probability": 0.3} for name in ("reverb", "white_noise", "gain", "clipping", "time_warp", "spec_cutout")
    }
    data = micro_data(micro / "train.jsonl", micro / "train.jsonl", epochs=40) | {"augment": sections}
    run = train(Config.model_validate(data), tmp_path / "run")
    assert run.best is not None and run.best.cer < 0.15


@pytest.mark.parametrize(("flat_start_steps", "with_silence"), [(0, True), (10**6, False)])
def test_silence_begins_after_the_flat_start(
    micro: Path, tmp_path: Path, flat_start_steps: int, with_silence: bool
) -> None:
    """A flat start without end must not plan epochs without end either."""
    data = micro_data(micro / "train.jsonl", micro / "train.jsonl", epochs=1, flat_start_steps=flat_start_steps) | {
        "augment": {"silence": {"probability": 1, "joined": 0, "non_speech": 0}}
    }
    told = Told()
    train(Config.model_validate(data), tmp_path / "run", told)
    assert any("pause before or after" in one for one in told.said) == with_silence


def test_validation_audio_is_left_alone(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Loader] = []

    def recorded(*arguments: Any, **options: Any) -> Loader:
        made.append(Loader(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(module, "Loader", recorded)
    train(config, tmp_path / "run")
    assert [loader.augment is not None for loader in made] == [True, False]


def test_a_noise_that_is_not_there_is_told_before_an_earlier_run_is_cleared(config: Config, tmp_path: Path) -> None:
    train(config.model_copy(update={"augment": AugmentSettings()}), tmp_path / "run")
    (tmp_path / "noise.wav").unlink()
    with pytest.raises(AnadilError, match=r"noises\.jsonl:1: audio file not found"):
        train(config, tmp_path / "run", force=True)
    assert (tmp_path / "run/best/model.safetensors").is_file()


def test_a_speed_keeps_a_frame_for_each_label_and_the_limits_of_training(config: Config) -> None:
    """A second has 25 frames of 40 ms; at rate 1.5 there are 17: room for 16 labels and a repeat, not for 17."""
    utterance = Utterance("a.wav", duration=1.0)
    examples = [Example(utterance, labels) for labels in ((0, 1, 2) * 5, (0, *range(15)), (*range(16), 15))]
    acoustic = AcousticModel(config.features, config.model, 20)
    assert acoustic.frame_count(16000) == 25 and acoustic.frame_count(10667) == 17

    def seconds(rate: float, data: dict[str, float], batch_s: float = 9.0) -> list[float]:
        settings = AugmentSettings.model_validate({"silence": None, "speed": {"probability": 1, "rate": rate}})
        limits = {
            "augment": settings,
            "data": config.data.model_copy(update=data),
            "training": config.training.model_copy(update={"batch_seconds": batch_s}),
        }
        augmenter = make_augmenter(config.model_copy(update=limits), examples, acoustic)
        return [round(duration, 3) for duration in augmenter.durations(1)]

    assert seconds(1.5, {}) == [0.667, 0.667, 1.0]
    assert seconds(0.8, {"max_duration": 1.3}) == [1.25] * 3
    assert seconds(0.8, {"max_duration": 1.2}) == [1.0] * 3
    assert seconds(0.8, {}, batch_s=1.1) == [1.0] * 3
    assert seconds(1.1, {"min_duration": 0.95}) == [1.0] * 3
