"""A start from hama's recogniser: converted, exported, and trained with a frozen encoder first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import anadil
from anadil.errors import AnadilError
from anadil.export.onnx import export_folder
from anadil.models.acoustic import load_model
from anadil.models.conformer import ConformerSettings
from anadil.models.hama import FEATURES, read_hama
from anadil.training.config import Config, load_config
from anadil.training.monitoring.report import Silent
from anadil.training.prepare import prepare
from anadil.training.train import train
from anadil.training.transfer.convert import convert
from tests.support.hama import write_hama
from tests.support.transfer import data_of, log_probs, prepared, spoken


def test_a_file_is_converted_exported_and_recognises_the_same(tmp_path: Path, micro: Path) -> None:
    source = write_hama(tmp_path / "hama")
    assert convert(source, tmp_path / "m", Silent()) == "model folder"
    assert torch.equal(log_probs(load_model(tmp_path / "m").acoustic), log_probs(read_hama(source).acoustic))
    card = (tmp_path / "m/README.md").read_text(encoding="utf-8")
    assert "converted from | tiny.hama" in card and "Apache-2.0" in card and "Seongmin Park" in card
    exported = export_folder(source, tmp_path / "exported")
    assert exported.difference < 1e-3 and exported.batch_difference < 1e-3
    models = (source, tmp_path / "m", tmp_path / "exported")
    texts = {anadil.load(model).transcribe(micro / "clips/1.wav").text for model in models}
    assert len(texts) == 1 and texts != {""}
    with pytest.raises(AnadilError, match="window: hann_periodic has no counterpart in NeMo"):
        convert(tmp_path / "m", tmp_path / "m.nemo", Silent())


def test_the_letters_start_from_their_phonemes_and_the_encoder_learns_later(tmp_path: Path, micro: Path) -> None:
    source = write_hama(tmp_path / "hama")
    init = {"from": str(source), "freeze": "encoder", "unfreeze_after": 1}
    data = data_of(spoken(tmp_path, micro, "aωb"), micro, "mdw", init=init) | {"augment": {}}
    before = read_hama(source).acoustic.network.state_dict()
    start = prepared(data, tmp_path / "run")
    assert start.config.model.kind == "conformer" and start.config.init and start.config.init.head == "map"
    data["training"] |= {"batch_seconds": 2.5, "warmup_steps": 1, "lr": 0.001}
    first = data | {"training": data["training"] | {"epochs": 1}}
    for name, config, learns in (("frozen", first, False), ("run", data, True)):
        train(Config.model_validate(config), tmp_path / name)
        now = load_model(tmp_path / name / "last").acoustic.network.state_dict()
        encoder = [key for key in before if key.startswith("encoder.")]
        assert any(not torch.equal(now[key], before[key]) for key in encoder) == learns
        assert now["decoder.decoder_layers.0.weight"].shape == (5, 8, 1)
    labels = json.loads((tmp_path / "run/init.json").read_text(encoding="utf-8"))["labels"]
    assert {label["label"]: (label["kind"], label["sources"]) for label in labels} == {
        " ": ("same", [" "]),
        "a": ("same", ["a"]),
        "b": ("same", ["b"]),
        "ω": ("relative", ["ɔ"]),
    }


def test_the_config_to_start_from_fits_the_source(tmp_path: Path, micro: Path) -> None:
    path = Path(__file__).parents[3] / "configs/hama.yaml"
    assert (start := load_config(path).init) is not None and start.from_ == "hama"
    manifest = spoken(tmp_path, micro, "aωb")
    overrides = [
        f"init.from={write_hama(tmp_path / 'hama')}",
        "language=mdw",
        f"data.train={manifest}",
        "data.valid=[]",
    ]
    config = load_config(path, [*overrides, "model.kind=conformer", "model.dropout=0.1"])
    settings = prepare(config, tmp_path / "run", Silent()).config
    assert isinstance(settings.model, ConformerSettings) and settings.features == FEATURES
    assert (settings.model.n_layers, settings.model.dropout, settings.model.dropout_att) == (2, 0.1, 0.0)
