"""The silence that a model knows is measured in training and travels with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

import anadil
from anadil.data.pauses import NOT_MEASURED, PauseLimits
from anadil.errors import AnadilError
from anadil.training.config import Config
from anadil.training.train import train
from tests.support.micro import micro_data


def test_from_training_to_the_recogniser(micro: Path, exported: Path) -> None:
    saved = yaml.safe_load((micro / "run/best/config.yaml").read_text(encoding="utf-8"))["data"]
    limits = PauseLimits(saved["longest_pause"], saved["pause_margin"])
    assert limits != NOT_MEASURED and 0 < limits.margin_s <= limits.longest_s / 2 + 0.01
    assert anadil.load(micro / "run/best").pauses == limits == anadil.load(exported).pauses


def test_what_the_config_says_counts(micro: Path, tmp_path: Path) -> None:
    data = micro_data(micro / "train.jsonl", epochs=1)
    data["data"] |= {"longest_pause": 2.5}
    train(Config.model_validate(data), tmp_path / "run")
    assert anadil.load(tmp_path / "run/last").pauses.longest_s == 2.5


def test_an_older_export_has_the_defaults(exported: Path, tmp_path: Path) -> None:
    out = tmp_path / "old"
    out.mkdir()
    for name in ("model.onnx", "config.json"):
        (out / name).write_bytes((exported / name).read_bytes())
    data = json.loads((out / "config.json").read_text(encoding="utf-8"))
    del data["longest_pause_s"], data["pause_margin_s"]
    (out / "config.json").write_text(json.dumps(data), encoding="utf-8")
    assert anadil.load(out).pauses == NOT_MEASURED


@pytest.mark.parametrize("value", [-1, "long", 1e9])
def test_limits_that_cannot_be(micro: Path, tmp_path: Path, value: object) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in (micro / "run/best").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    data = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    data["data"]["longest_pause"] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    with pytest.raises(AnadilError, match=r"data.longest_pause and data.pause_margin must be seconds from 0 to 60"):
        anadil.load(folder)
