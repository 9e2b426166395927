from __future__ import annotations

from pathlib import Path

import pytest
import torch

from anadil.models.acoustic import AcousticModel
from anadil.models.summary import count_parameters
from anadil.settings import dump
from anadil.text.rules import text_rules
from anadil.training.config import load_config
from anadil.training.optimizers import build_optimizer

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


def test_there_are_configs_to_start_from() -> None:
    assert "few-hours.yaml" in {path.name for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_loads_and_its_model_can_be_built(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    labels = [" ", "a", "b"] if config.tokenizer.labels == "auto" else config.tokenizer.labels
    rules = text_rules(config.language, config.text, labels)
    assert rules.blank_id == len(labels)
    with torch.device("meta"):  # sizes without memory
        acoustic = AcousticModel(config.features, config.model, len(labels))
        build_optimizer(acoustic.network, config.training, config.init)
    assert count_parameters(acoustic) > 10_000
    assert 0.01 <= acoustic.frame_s <= 0.08
    (tmp_path / "saved.yaml").write_text(dump(config), encoding="utf-8")
    assert load_config(tmp_path / "saved.yaml") == config


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_says_what_it_is_for(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("# ")
    assert load_config(path).name == path.stem
