from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from anadil.errors import AnadilError
from anadil.models.acoustic import load_model
from anadil.settings import read_yaml
from anadil.training import train as training
from anadil.training.config import Config, load_config
from anadil.training.monitoring.report import Silent
from anadil.training.prepare import prepare
from anadil.training.train import train
from anadil.training.transfer.convert import Hints, convert
from tests.support.micro import write_corpus
from tests.support.nemo_models import write_case


class Told(Silent):
    """A reporter that keeps its messages."""

    def __init__(self) -> None:
        self.text = ""

    def say(self, text: str) -> None:
        self.text += text + "\n"

    warn = say

    def table(self, title: str, columns: Any, rows: Any) -> None:
        self.text += "\n".join([title, *(" ".join(row) for row in rows)]) + "\n"


NEMO_YAML = """
name: &name "Citrinet-8"
model:
  sample_rate: &rate 16000
  labels: &labels [" ", a, b, ş]
  log_prediction: true
  model_defaults: {repeat: 2, separable: true, factor: 0.25, filters: 16}
  train_ds:
    manifest_filepath: [a.jsonl, b.jsonl]
    sample_rate: ${model.sample_rate}
    labels: *labels
    batch_size: 32
    max_duration: 16.7
  validation_ds: {manifest_filepath: "c.jsonl,d.jsonl", shuffle: false}
  preprocessor:
    _target_: nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor
    sample_rate: *rate
    window_size: 0.025
    features: &mels 40
    n_fft: 512
  spec_augment: {_target_: x.SpectrogramAugmentation, freq_masks: 2, freq_width: 10, time_masks: 5, time_width: 0.05,
                 rect_masks: 3}
  encoder:
    _target_: nemo.collections.asr.modules.ConvASREncoder
    feat_in: *mels
    activation: relu
    conv_mask: true
    jasper:
    - {filters: "${model.model_defaults.filters}", repeat: 1, kernel: [5], stride: [1], dilation: [1], dropout: 0.0,
       residual: false, separable: "${model.model_defaults.separable}", se: true}
    - {filters: 16, repeat: "${model.model_defaults.repeat}", kernel: [33], stride: [2], dilation: [1], dropout: 0.1,
       residual: true, separable: true, stride_last: true, residual_mode: stride_add, se: true,
       kernel_size_factor: "${model.model_defaults.factor}"}
  decoder: {_target_: nemo.collections.asr.modules.ConvASRDecoder, feat_in: 16, num_classes: 4, vocabulary: *labels}
  optim:
    name: novograd
    lr: 1e-2
    betas: [0.8, 0.25]
    weight_decay: 0.001
    eps: 1e-7
    sched: {name: CosineAnnealing, warmup_steps: 1000, warmup_ratio: null, min_lr: 1e-5}
trainer: {max_epochs: 100, precision: bf16, strategy: ddp, gradient_clip_val: 0.0}
exp_manager: {name: *name, exp_dir: "${oc.env:HOME}"}
"""


def test_nemos_yaml_becomes_a_config(tmp_path: Path) -> None:
    source, out, told = tmp_path / "nemo.yaml", tmp_path / "anadil.yaml", Told()
    source.write_text(NEMO_YAML, encoding="utf-8")
    assert convert(source, out, told, Hints(language="tr")) == "config"
    config = load_config(out)
    assert (config.name, config.language, config.model.kind) == ("Citrinet-8", "tr", "citrinet")
    assert config.data.train == ["a.jsonl", "b.jsonl"] and config.data.valid == ["c.jsonl", "d.jsonl"]
    assert config.data.max_duration == 16.7 and config.tokenizer.labels == [" ", "a", "b", "ş"]
    assert (config.features.mels, config.features.window_size, config.features.pad_to) == (40, 0.025, 16)
    blocks = config.model.resolved_blocks  # type: ignore[union-attr]
    assert [block.kernel for block in blocks] == [5, 9]  # 33 / 4 = 8.25, to the next odd number
    assert blocks[1].stride_last and blocks[1].repeat == 2 and blocks[1].squeeze_excite is not None
    augment = config.augment.spec_augment
    assert augment is not None and (augment.freq_masks, augment.freq_width, augment.time_masks) == (2, 0.25, 5)
    training = config.training
    assert (training.optimizer, training.lr, training.betas, training.epochs) == ("novograd", 0.01, (0.8, 0.25), 100)
    assert (training.warmup_steps, training.min_lr, training.precision) == (1000, 1e-5, "bf16-mixed")
    for word in ("train_ds.batch_size: 32", "optim.eps", "trainer.strategy: ddp", "rect_masks: 3", "exp_manager",
                 "log_prediction", "gradient_clip_val"):  # fmt: skip
        assert word in told.text, word
    assert "labels: [" not in told.text and "HOME" not in told.text


def test_a_yaml_without_data_or_labels_says_so(tmp_path: Path) -> None:
    data = yaml.safe_load(NEMO_YAML)
    data["model"]["train_ds"]["manifest_filepath"] = "???"
    data["model"]["decoder"] |= {"num_classes": -1, "vocabulary": []}
    data["model"]["tokenizer"] = {"dir": "???", "type": "bpe"}
    data["model"]["optim"]["lr"] = -3
    (tmp_path / "n.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    told = Told()
    convert(tmp_path / "n.yaml", tmp_path / "a.yaml", told)
    assert "names no training data" in told.text and "tokenizer: bpe" in told.text
    assert "training.lr: -3 (not allowed in Anadil)" in told.text
    config = load_config(tmp_path / "a.yaml", ["data.train=x.jsonl"])
    assert config.tokenizer.labels == "auto"
    (tmp_path / "other.yaml").write_text("a: 1", encoding="utf-8")
    with pytest.raises(AnadilError, match="no NeMo config of a model"):
        convert(tmp_path / "other.yaml", tmp_path / "b.yaml", told)


def test_noams_factor_becomes_the_peak_learning_rate(tmp_path: Path) -> None:
    data = yaml.safe_load(NEMO_YAML)
    data["model"]["optim"] = {
        "name": "adam",
        "lr": 2.0,
        "sched": {"name": "NoamAnnealing", "d_model": 256, "warmup_steps": 10000},
    }
    (tmp_path / "n.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    convert(tmp_path / "n.yaml", tmp_path / "a.yaml", told := Told())
    assert load_config(tmp_path / "a.yaml").training.lr == pytest.approx(2 / 16 / 100)
    assert "NoamAnnealing" in told.text and "optim.name: adam" in told.text


def test_a_converted_folder_describes_its_model(shared: Path, tmp_path: Path) -> None:
    told = Told()
    source = shared / "reference/nemo/fastconformer_bpe/model.nemo"
    assert convert(source, tmp_path / "m", told, Hints(language="mdw")) == "model folder"
    for word in ("fastconformer, 2 layers of 64, 8x stride, a frame every 80 ms", "229,697 parameters", "16,000 Hz",
                 "64 labels: <unk> á a ▁", "NeMo 3.0.0, EncDecCTCModelBPE", "decoding"):  # fmt: skip
        assert word in told.text, word
    card = (tmp_path / "m/README.md").read_text(encoding="utf-8")
    assert "converted from | model.nemo" in card and "licence | not stated in the archive" in card
    config = load_config(tmp_path / "m/config.yaml", ["data.train=x.jsonl"])  # to go on training with
    assert config.training.optimizer == "novograd" and config.training.flat_start_steps == 0
    assert config.augment.spec_augment is not None and config.augment.spec_augment.time_masks == 10
    with pytest.raises(AnadilError, match="exists already"):
        convert(source, tmp_path / "m", told)


def test_an_unsupported_source_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.nemo").write_text("text")
    for path, message in (("x.nemo", "Lightning checkpoint"), ("none", "not found"), (".", "model folder")):
        with pytest.raises(AnadilError, match=message):
            convert(tmp_path / path, tmp_path / "out", Silent())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["citrinet", "limited context, no biases, shared positions"])
def test_training_continues_from_a_converted_model(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert(write_case(tmp_path / "m.nemo", name), tmp_path / "m", Silent())
    manifest = write_corpus(tmp_path, texts=["ab ba", "bab a", "aab b", "ba"] * 2)
    data = read_yaml(tmp_path / "m/config.yaml") | {"data": {"train": [str(manifest)], "valid": [str(manifest)]}}
    data["augment"] = data.get("augment", {}) | {"silence": None}
    data["training"] = {"epochs": 20, "flat_start_steps": 0, "lr": 0.01, "warmup_steps": 5, "batch_seconds": 3}
    config = Config.model_validate({**data, "training": {**data["training"], "accelerator": "cpu"}})
    started = load_model(tmp_path / "m").acoustic

    def from_converted(*args: Any) -> Any:
        return replace(prepare(*args), acoustic=started)

    monkeypatch.setattr(training, "prepare", from_converted)
    run = train(config, tmp_path / "run")
    losses = [line.split(",")[4] for line in (tmp_path / "run/metrics.csv").read_text().splitlines()[1:]]
    assert float(losses[-1]) < 0.6 * float(losses[0]) and run.step >= 20
    convert(tmp_path / "run/last", tmp_path / "back.nemo", Silent())
    found = load_model(tmp_path / "run/last").acoustic
    audio = torch.randn(1, 8000)
    again = convert_and_load(tmp_path / "back.nemo", tmp_path / "again")
    with torch.no_grad():
        np.testing.assert_allclose(
            again(audio, torch.tensor([8000]))[0], found(audio, torch.tensor([8000]))[0], atol=1e-6
        )


def convert_and_load(source: Path, out: Path) -> Any:
    convert(source, out, Silent())
    return load_model(out).acoustic
