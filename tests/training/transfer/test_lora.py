"""LoRA: bit-identical at the start, only updates trained, merged when saved, exact when resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from anadil.errors import AnadilError
from anadil.export.onnx import export_folder
from anadil.models.acoustic import load_model
from anadil.training.config import Config
from anadil.training.train import train
from anadil.training.transfer.freezing import apply_freezing, lr_factors
from anadil.training.transfer.lora import insert_lora, is_lora, merged_state, projection_of
from anadil.training.transfer.settings import InitSettings
from tests.support.micro import micro_data
from tests.support.runs import EVERY_STEP, assert_resumes_exactly
from tests.support.transfer import data_of, log_probs, prepared, spoken, weights_of

LAYERS = 2


@pytest.fixture(scope="module")
def conformer(micro: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of a Conformer trained for one epoch."""
    small = {"kind": "conformer", "n_layers": LAYERS, "d_model": 16, "dropout": 0.1, "conv_kernel_size": 5}
    data = micro_data(micro / "train.jsonl", epochs=1, lr=0.002, batch_seconds=2.5) | {"model": small}
    train(Config.model_validate(data), tmp_path_factory.mktemp("lora") / "source")
    return tmp_path_factory.getbasetemp() / "lora0/source/last"


def data_with(folder: Path, micro: Path, source: Path, lora: dict[str, Any], **init: Any) -> dict[str, Any]:
    data = data_of(spoken(folder, micro), micro, init={"from": str(source), "lora": lora, **init})
    data["training"] |= {"epochs": 2, "batch_seconds": 2.5, "warmup_steps": 2, "lr": 0.01, "weight_decay": 0.1}
    return data


def test_at_the_start_the_output_is_bit_identical_and_merged_it_is_the_same(
    tmp_path: Path, micro: Path, conformer: Path
) -> None:
    acoustic = prepared(data_with(tmp_path, micro, conformer, {"alpha": 4}), tmp_path).acoustic
    lora = InitSettings.model_validate({"from": "x", "lora": {"alpha": 4, "rank": 3}}).lora
    assert lora is not None
    before = log_probs(acoustic)
    names = insert_lora(acoustic.network, lora)
    assert names == [f"encoder.layers.{i}.self_attn.linear_{one}" for i in range(LAYERS) for one in ("q", "v")]
    assert torch.equal(log_probs(acoustic), before)
    for name, parameter in acoustic.network.named_parameters():
        if is_lora(name):
            torch.nn.init.normal_(parameter)
    unmerged = log_probs(acoustic)
    assert float((unmerged - before).abs().max()) > 1e-2
    merged = load_model(conformer).acoustic
    merged.network.load_state_dict(merged_state(acoustic.network, lora))
    torch.testing.assert_close(log_probs(merged), unmerged, atol=1e-5, rtol=0)


def test_only_the_updates_and_the_head_are_trained_and_saved_weights_are_merged(
    tmp_path: Path, micro: Path, conformer: Path
) -> None:
    data = data_with(tmp_path, micro, conformer, {"targets": ["q", "out"], "dropout": 0.1})
    train(Config.model_validate(data), tmp_path / "run")
    before, after = weights_of(conformer), weights_of(tmp_path / "run/last")
    assert before.keys() == after.keys()
    moved = {
        name for name in before if before[name].shape != after[name].shape or not torch.equal(before[name], after[name])
    }
    projections = {f"encoder.layers.{i}.self_attn.linear_{one}.weight" for i in range(LAYERS) for one in ("q", "out")}
    assert moved == {*projections, "decoder.decoder_layers.0.weight", "decoder.decoder_layers.0.bias"}
    for name in projections:
        assert torch.linalg.matrix_rank(after[name] - before[name], tol=1e-5) <= 8
    assert export_folder(tmp_path / "run/last", tmp_path / "exported").difference < 1e-3


@pytest.mark.slow
def test_a_resumed_run_is_exact(tmp_path: Path, micro: Path, conformer: Path) -> None:
    data = data_with(tmp_path, micro, conformer, {"rank": 2, "dropout": 0.2}, layer_lr_decay=0.5)
    data["training"]["checkpoint_minutes"] = EVERY_STEP
    assert_resumes_exactly(Config.model_validate(data), tmp_path)


def test_rates_and_gradients(tmp_path: Path, micro: Path, conformer: Path) -> None:
    acoustic = prepared(data_with(tmp_path, micro, conformer, {}), tmp_path).acoustic
    init = InitSettings.model_validate({"from": "x", "lora": {}, "layer_lr_decay": 0.5})
    assert init.lora is not None
    insert_lora(acoustic.network, init.lora)
    factors = lr_factors([name for name, _ in acoustic.network.named_parameters()], init)
    found = [factors[f"encoder.layers.{i}.self_attn.linear_q.lora_a"] for i in range(LAYERS)]
    assert found == [0.25, 0.5]
    apply_freezing(acoustic.network.train(), init, epoch=5)
    learning = {name for name, one in acoustic.network.named_parameters() if one.requires_grad}
    assert learning == {name for name in factors if is_lora(name) or name.startswith("decoder.")}


@pytest.mark.parametrize(
    ("name", "projection"),
    [
        ("encoder.layers.3.self_attn.linear_q", "q"),
        ("encoder.encoder.layers.0.attention.out_proj", "out"),
        ("encoder.encoder.layers.0.self_attn.linear_out", "out"),
        ("encoder.encoder.layers.0.attention.k_proj", "k"),
        ("encoder.layers.3.self_attn.linear_pos", None),
        ("encoder.encoder.layers.0.feed_forward.output_dense", None),
        ("encoder.out_proj", None),
        ("decoder", None),
    ],
)
def test_projections_by_name(name: str, projection: str | None) -> None:
    assert projection_of(name) == projection


def test_what_cannot_be_adapted_is_refused(tmp_path: Path, micro: Path) -> None:
    data = data_of(spoken(tmp_path, micro), micro, init={"lora": {}})
    with pytest.raises(AnadilError, match="no attention to adapt"):
        train(Config.model_validate(data), tmp_path / "run")
    for init in ({"freeze": "encoder"}, {"l2_sp": 0.1}):
        with pytest.raises(ValueError, match="lora already freezes the encoder"):
            InitSettings.model_validate({"from": "x", "lora": {}, **init})
    with pytest.raises(ValueError, match=r"targets"):
        InitSettings.model_validate({"from": "x", "lora": {"targets": ["x"]}})
