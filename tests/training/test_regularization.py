"""`auto`: dropout and masks by the number of epochs that are expected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pytest import approx
from torch import nn

from anadil.errors import AnadilError
from anadil.models.acoustic import load_model
from anadil.settings import read_yaml
from anadil.training import regularization
from anadil.training.config import Config, load_config
from anadil.training.monitoring.dry_run import dry_run
from anadil.training.monitoring.report import Silent
from anadil.training.regularization import RECIPES, Regularization, regularization_for, with_regularization
from anadil.training.train import train
from tests.support.micro import TEXTS, micro_data, write_corpus

AUTO_MASKS = {"silence": None, "spec_augment": {"freq_width": "auto", "time_masks": "auto"}}
MODEL = {"preset": "small", "dropout": "auto"}


class Heard(Silent):
    def __init__(self) -> None:
        self.text = ""

    def say(self, text: str) -> None:
        self.text += text + "\n"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"), TEXTS[:3])


def config_of(manifest: Path, model: dict[str, Any] = MODEL, **training: Any) -> Config:
    data = micro_data(manifest, manifest, **training) | {"augment": AUTO_MASKS, "model": model, "lm": None}
    return Config.model_validate(data)


# --- the rule


def test_the_rule_gives_what_was_measured_where_it_was_measured() -> None:
    assert regularization_for(29, 3.8) == Regularization(0.05, 0.15, 2)
    assert regularization_for(112, 3.8) == Regularization(0.15, 0.25, 4)


def test_more_epochs_and_fewer_hours_want_more_regularization() -> None:
    half_way = regularization_for((29 * 112) ** 0.5, 3.8)
    assert half_way == Regularization(approx(0.1), approx(0.2), 3)
    assert (
        regularization_for(60, 1.0).dropout > regularization_for(60, 3.8).dropout > regularization_for(60, 20.0).dropout
    )
    assert regularization_for(1, 3.8) == RECIPES[8] and regularization_for(10_000, 3.8) == RECIPES[112]


def test_a_number_that_is_given_stays() -> None:
    data = {"language": "en", "data": {"train": ["a"]}, "model": {"dropout": 0.3}}
    config = Config.model_validate(data | {"augment": {"spec_augment": {"freq_width": "auto", "time_masks": 7}}})
    resolved = with_regularization(config, Regularization(0.1, 0.2, 3))
    assert resolved.model.dropout == 0.3  # type: ignore[union-attr]
    spec = resolved.augment.spec_augment
    assert spec is not None and (spec.freq_width, spec.time_masks) == (0.2, 7)
    without = Config.model_validate(data | {"augment": {"spec_augment": None}, "model": {"dropout": "auto"}})
    assert with_regularization(without, Regularization(0.1, 0.2, 3)).model.dropout == 0.1  # type: ignore[union-attr]


@pytest.mark.parametrize("change", ["model.dropout=full", "augment.spec_augment.freq_width=much", "model.dropout=1.5"])
def test_what_is_neither_a_number_nor_auto_is_named(change: str) -> None:
    with pytest.raises(AnadilError, match=f"{change.split('=')[0]}: .*number|{change.split('=')[0]}: .*less than 1"):
        load_config(Path("configs/few-hours.yaml"), [change])


# --- runs


def test_a_run_saves_numbers_and_trains_with_them(manifest: Path, tmp_path: Path) -> None:
    heard = Heard()
    train(config_of(manifest, epochs=1), tmp_path / "run", heard)
    hours = 3 * 0.8 / 3600
    assert (
        "dropout 0.15, masks of at most 25.0% of the mel bands, 4 spans of time masked: for about 1 epochs"
        in heard.text
    )
    saved = read_yaml(tmp_path / "run/last/config.yaml")
    expected = regularization_for(1, hours)  # three seconds of speech count as many epochs
    assert saved["model"]["dropout"] == expected.dropout == 0.15
    assert saved["augment"]["spec_augment"]["freq_width"] == expected.freq_width == 0.25
    assert saved["augment"]["spec_augment"]["time_masks"] == expected.time_masks == 4
    network = load_model(tmp_path / "run/last").acoustic.network
    assert {layer.p for layer in network.modules() if isinstance(layer, nn.Dropout)} == {0.15}


def test_the_network_drops_as_one_that_was_built_with_the_number(manifest: Path, tmp_path: Path) -> None:
    weights = []
    for name, model in (("auto", MODEL), ("number", MODEL | {"dropout": 0.15})):
        train(config_of(manifest, model, epochs=1), tmp_path / name)
        weights.append(load_model(tmp_path / name / "last").acoustic.network.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_resumed_run_keeps_its_numbers_whatever_the_rule_says_then(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(config_of(manifest, epochs=1), tmp_path / "run")
    monkeypatch.setattr(regularization, "RECIPES", {8: Regularization(0.5, 0.9, 9), 9: Regularization(0.5, 0.9, 9)})
    heard = Heard()
    train(config_of(manifest, epochs=2), tmp_path / "run", heard, resume=True)
    saved = read_yaml(tmp_path / "run/last/config.yaml")
    assert (saved["model"]["dropout"], saved["augment"]["spec_augment"]["time_masks"]) == (0.15, 4)
    assert "(auto)" not in heard.text
    with pytest.raises(AnadilError, match="model.dropout was 0.15, is 0.2"):
        train(config_of(manifest, MODEL | {"dropout": 0.2}, epochs=3), tmp_path / "run", resume=True)


def test_a_budget_counts_by_the_measured_speed(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 10 s of audio per second, minus what else a run does, a minute holds a number of epochs of the padded audio."""
    seen: list[tuple[float, float]] = []

    def rule(epochs: float, hours: float) -> Regularization:
        seen.append((epochs, hours))
        return Regularization(0.1, 0.2, 3)

    monkeypatch.setattr(regularization, "_speed", lambda *_: 10.0)
    monkeypatch.setattr(regularization, "regularization_for", rule)
    heard = Heard()
    dry_run(config_of(manifest, epochs=None, max_minutes=1), tmp_path, heard)
    dry_run(config_of(manifest, epochs=3, max_minutes=1), tmp_path)
    (by_clock, hours), (by_epochs, _) = seen
    padded_s = 60 * 10 * regularization.SHARE / by_clock
    assert hours * 3600 <= padded_s <= hours * 3600 + 3 * 0.5 and by_epochs == 3
    assert "dropout 0.1, masks of at most 20.0% of the mel bands, 3 spans" in heard.text


def test_measuring_the_speed_changes_neither_weights_nor_random_numbers(manifest: Path, tmp_path: Path) -> None:
    weights = []
    for name, minutes in (("measured", 60.0), ("not", None)):
        config = config_of(manifest, epochs=1, max_minutes=minutes)
        train(config, tmp_path / name)
        weights.append(load_model(tmp_path / name / "last").acoustic.network.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
