from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from anadil.errors import AnadilError
from anadil.models import acoustic as module
from anadil.models.acoustic import CARD, CONFIG, SECTIONS, WEIGHTS, AcousticModel, load_model, save_model
from anadil.models.features import FeatureSettings
from anadil.models.quartznet import QuartzNetSettings
from anadil.settings import dump
from anadil.training.config import Config

CONFIG_DATA = {
    "name": "tiny",
    "language": "tr",
    "data": {"train": ["t.jsonl"]},
    "text": {"drop": "?", "map": {"â": "a"}},
    "tokenizer": {"labels": [" ", "a", "n", "y", "ı"]},
    "features": {"mels": 8, "sample_rate": 8000},
    "model": {"blocks": [{"filters": 8, "kernel": 5, "stride": 2}, {"filters": 8, "kernel": 3, "residual": True}]},
}
SETTINGS = Config.model_validate(CONFIG_DATA)
WAVEFORM, COUNT = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0)), torch.tensor([4000])


def trained(seed: int) -> AcousticModel:
    torch.manual_seed(seed)
    acoustic = AcousticModel(SETTINGS.features, SETTINGS.model, 5).train()
    acoustic(WAVEFORM, COUNT)  # moves the batch-norm statistics
    return acoustic.eval()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path / "model", trained(0), dump(SETTINGS), "# card ğ")
    return tmp_path / "model"


def same_output(folder: Path, acoustic: AcousticModel) -> bool:
    return torch.equal(load_model(folder).acoustic(WAVEFORM, COUNT)[0], acoustic(WAVEFORM, COUNT)[0])


def test_a_saved_model_is_the_same_model(folder: Path) -> None:
    loaded = load_model(folder)
    assert same_output(folder, trained(0)) and not same_output(folder, trained(1))
    assert (loaded.name, loaded.rules.language, loaded.rules.labels) == ("tiny", "tr", (" ", "a", "n", "y", "ı"))
    assert loaded.rules.normalize("Iâ?") == "ıa"
    assert (loaded.acoustic.sample_rate, loaded.acoustic.training) == (8000, False)
    assert loaded.acoustic.frame_s == pytest.approx(0.02)
    assert {path.name for path in folder.iterdir()} == {WEIGHTS, CONFIG, CARD}
    assert (folder / CARD).read_text(encoding="utf-8") == "# card ğ"


def test_augmentation_gets_the_features(folder: Path) -> None:
    acoustic = load_model(folder).acoustic
    silenced, counts = acoustic(WAVEFORM, COUNT, augment=lambda features, counts: (features * 0, counts))
    expected, _ = acoustic.network(torch.zeros(1, 8, 50), torch.tensor([50]))
    assert torch.equal(silenced, expected)
    assert counts.tolist() == [25] == [acoustic.frame_count(4000)]


def change_weights(folder: Path, change: str) -> None:
    weights = load_file(folder / WEIGHTS)
    name = "decoder.decoder_layers.0.bias"
    if change == "shape":
        weights[name] = weights[name][:-1].clone()
    elif change == "name":
        weights["other"] = weights.pop(name)
    elif change == "less":
        del weights[name]
    save_file(weights, folder / WEIGHTS)


@pytest.mark.parametrize("change", ["shape", "name", "less", "cut", "empty", "text", "missing"])
def test_weights_that_do_not_fit_are_an_error(folder: Path, change: str) -> None:
    path = folder / WEIGHTS
    content = path.read_bytes()
    if change in ("shape", "name", "less"):
        change_weights(folder, change)
    elif change == "missing":
        path.unlink()
    else:
        path.write_bytes({"cut": content[:-100], "empty": b"", "text": b"version https://git-lfs"}[change])
    with pytest.raises(AnadilError, match=r"model\.safetensors: the weights do not fit.*(.|\n)*next: "):
        load_model(folder)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"model": {"preset": "small", "dropuot": 0.1}}, "unknown key 'dropuot'; did you mean 'dropout'"),
        ({"features": {"mel": 8}}, "unknown key 'mel'; did you mean 'mels'"),
        ({"tokenizer": {"labels": "auto"}}, "tokenizer.labels must be a list"),
        ({"tokenizer": {"labels": ["a", "A"]}}, "the weights do not fit the config"),
        ({"text": [1]}, "section 'text' must hold keys"),
        ({"model": CONFIG_DATA["model"], "features": {"mels": 9, "sample_rate": 8000}}, "do not fit the config"),
    ],
)
def test_a_config_that_does_not_fit_is_an_error(folder: Path, change: dict[str, Any], what: str) -> None:
    (folder / CONFIG).write_text(yaml.safe_dump(CONFIG_DATA | change, allow_unicode=True), encoding="utf-8")
    with pytest.raises(AnadilError, match=what):
        load_model(folder)


def test_a_model_saved_when_small_was_the_default_is_read(folder: Path) -> None:
    for preset in ("small", "small-2d"):
        acoustic = AcousticModel(FeatureSettings(), QuartzNetSettings(preset=preset), 2)
        saved = {"model": {"kind": "quartznet", "preset": None, "blocks": None}, "tokenizer": {"labels": [" ", "a"]}}
        save_model(folder, acoustic, yaml.safe_dump(saved), "")
        again = load_model(folder).acoustic.network
        assert sorted(again.state_dict()) == sorted(acoustic.network.state_dict())
        assert isinstance(again.settings, QuartzNetSettings) and again.settings.stride == (
            4 if preset == "small" else 2
        )


def test_what_is_no_model_folder_is_an_error(folder: Path) -> None:
    (folder / CONFIG).unlink()
    for path in (folder, folder / "missing"):
        with pytest.raises(AnadilError, match="not found"):
            load_model(path)


@pytest.mark.parametrize(
    "failure", [SafetensorError("I/O error: No space left on device"), OSError("disk"), MemoryError()]
)
def test_failure_while_saving_keeps_the_previous_model(
    folder: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def fails(tensors: dict[str, torch.Tensor], path: Path) -> None:
        path.write_bytes(b"half")
        raise failure

    monkeypatch.setattr(module, "save_file", fails)
    with pytest.raises(MemoryError if isinstance(failure, MemoryError) else AnadilError):
        save_model(folder, trained(1), dump(SETTINGS), "new")
    assert same_output(folder, trained(0))
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    shutil.rmtree(folder)
    with pytest.raises((MemoryError, AnadilError)):
        save_model(folder, trained(1), dump(SETTINGS), "new")
    assert not folder.exists()


def test_an_unknown_family_is_named_with_the_known_ones(folder: Path) -> None:
    config = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
    config["model"] = {"kind": "whisper"}
    (folder / CONFIG).write_text(yaml.safe_dump(config), encoding="utf-8")
    with pytest.raises(AnadilError, match="'whisper' is not known; known are quartznet, .*fastconformer"):
        load_model(folder)


def test_the_sections_of_a_saved_config_are_those_of_the_config() -> None:
    assert set(SECTIONS) == set(Config.model_fields)


def test_a_mask_is_the_mean_of_features_that_are_not_normalised() -> None:
    acoustic = AcousticModel(FeatureSettings(mels=8, normalize="none", dither=0.0), SETTINGS.model, 5).train()
    waveforms, counts = 1e-3 * torch.randn(2, 8000), torch.tensor([8000, 4000])
    given: list[torch.Tensor] = []
    acoustic.network.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    acoustic(waveforms, counts)

    def twice_and_masked(features: torch.Tensor, frame_counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = features.repeat(2, 1, 1)
        features[:2, :, 5:9] = 0
        return features, frame_counts.repeat(2)

    acoustic(waveforms, counts, twice_and_masked)
    plain, (masked, copy) = given[0], given[1].chunk(2)
    torch.testing.assert_close(copy, plain)
    torch.testing.assert_close(masked[:, :, 9:], plain[:, :, 9:])
    for row, before, n in zip(masked, plain, (50, 25), strict=True):
        assert before[:, :n].mean() < -5  # quiet: 0 would be the loudest frame
        torch.testing.assert_close(row[:, 5], before[:, :n].mean(dim=1))
        assert not row[:, n:].any()
