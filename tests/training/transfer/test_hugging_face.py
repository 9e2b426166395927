"""A start from Hugging Face: converted, trained, resumed, exported, and used for recognition."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import anadil
from anadil.errors import AnadilError
from anadil.export.onnx import export_folder
from anadil.models.acoustic import load_model
from anadil.models.hugging_face.read import read_hugging_face
from anadil.training.config import Config
from anadil.training.monitoring.report import Silent
from anadil.training.train import train
from anadil.training.transfer.convert import Hints, convert
from anadil.training.transfer.freezing import apply_freezing, block_depths, frozen_names
from anadil.training.transfer.lora import insert_lora, is_lora, merged_state
from anadil.training.transfer.settings import InitSettings
from tests.support.hugging_face import write, write_mms
from tests.support.runs import EVERY_STEP, Told, assert_resumes_exactly
from tests.support.transfer import data_of, log_probs, prepared, spoken, weights_of


def run_data(folder: Path, micro: Path, source: Path, letters: str = "abc", **init: Any) -> dict[str, Any]:
    data = data_of(spoken(folder, micro, letters), micro, "tr", init={"from": str(source), **init})
    data["training"] |= {"epochs": 1, "batch_seconds": 2.5, "warmup_steps": 2, "lr": 0.001}
    return data


@pytest.mark.parametrize("case", ["wav2vec2", "w2v-bert"])
def test_a_folder_is_converted_exported_and_recognises_the_same(tmp_path: Path, micro: Path, case: str) -> None:
    write(tmp_path / "hf", case)
    told = Told()
    assert convert(tmp_path / "hf", tmp_path / "m", told, Hints(language="en")) == "model folder"
    assert "labels that occur in no text: <s>, </s>, <unk>" in "\n".join(told.said)
    assert yaml.safe_load((tmp_path / "m/config.yaml").read_text(encoding="utf-8"))["language"] == "en"
    export_folder(tmp_path / "m", tmp_path / "exported")
    texts = {anadil.load(tmp_path / name).transcribe(micro / "clips/1.wav").text for name in ("m", "exported", "hf")}
    assert len(texts) == 1 and texts != {""}
    with pytest.raises(AnadilError, match="has no counterpart in NeMo"):
        convert(tmp_path / "m", tmp_path / "m.nemo", Silent())


def test_mms_is_converted_with_its_language(tmp_path: Path) -> None:
    write_mms(tmp_path / "hf")
    convert(tmp_path / "hf", tmp_path / "m", Silent(), Hints(language="tr", adapter="tur"))
    model = load_model(tmp_path / "m")
    assert (model.name, model.rules.labels[-1]) == ("hf-tur", "ş")
    with pytest.raises(AnadilError, match="no CTC head"):
        write(tmp_path / "base", "wav2vec2", head="Model")
        convert(tmp_path / "base", tmp_path / "b", Silent())


def test_a_head_is_mapped_and_the_convolutions_stay_frozen(tmp_path: Path, micro: Path) -> None:
    write(tmp_path / "hf", "xls-r")
    data = run_data(tmp_path, micro, tmp_path / "hf", "açb") | {"augment": {}}
    train(Config.model_validate(data), tmp_path / "run")
    source = read_hugging_face(str(tmp_path / "hf")).loaded.acoustic.network.state_dict()
    model = load_model(tmp_path / "run/last")
    assert model.rules.labels == (" ", "a", "b", "ç")
    now = model.acoustic.network.state_dict()
    still = {name for name in source if name.startswith("encoder.") and torch.equal(source[name], now[name])}
    assert still == {name for name in source if name.startswith("encoder.feature_extractor.")}
    shutil.rmtree(tmp_path / "hf")
    again = prepared(run_data(tmp_path, micro, tmp_path / "run/last", "açb"), tmp_path)
    assert torch.equal(again.acoustic.network.state_dict()["decoder.weight"][1], now["decoder.weight"][1])


def test_a_base_model_gets_a_new_head(tmp_path: Path, micro: Path) -> None:
    write(tmp_path / "hf", "xls-r", head="Model")
    start = prepared(run_data(tmp_path, micro, tmp_path / "hf", freeze="encoder"), tmp_path)
    assert start.config.init is not None and start.config.init.head == "new"
    assert start.config.training.flat_start_steps == 100
    assert start.start is not None and start.start.new == ["decoder.weight", "decoder.bias"]
    with pytest.raises(AnadilError, match=r"init.head=map, but .* has no CTC head"):
        prepared(run_data(tmp_path, micro, tmp_path / "hf", head="map"), tmp_path)


def test_single_settings_change_and_what_it_does_not_have_is_refused(tmp_path: Path, micro: Path) -> None:
    write_mms(tmp_path / "hf")
    data = run_data(tmp_path, micro, tmp_path / "hf", adapter="tur")
    start = prepared(data | {"model": {"kind": "wav2vec2", "layerdrop": 0.0, "gradient_checkpointing": True}}, tmp_path)
    assert start.config.model.kind == "wav2vec2" and start.config.model.layerdrop == 0
    assert start.start is not None and [label.kind for label in start.start.labels] == ["same"] * 4
    for changes, message in (
        ({"features": {"mels": 40}, "model": {"kind": "hubert"}}, "has its own features"),
        ({"init": {"from": str(micro / "run/best"), "adapter": "tur"}}, "no model of Hugging Face"),
        ({"model": {"kind": "wav2vec2", "num_hidden_layers": 3}}, "missing in the source"),
    ):
        with pytest.raises((AnadilError, ValueError), match=message):
            prepared(data | changes, tmp_path)


@pytest.mark.parametrize("case", ["hubert", "w2v-bert"])
def test_lora_adapts_the_attention_of_every_layer(tmp_path: Path, case: str) -> None:
    write(tmp_path / "hf", case)
    acoustic = read_hugging_face(str(tmp_path / "hf")).loaded.acoustic
    init = InitSettings.model_validate({"from": "x", "lora": {"targets": ["q", "k", "v", "out"]}})
    assert init.lora is not None
    before = log_probs(acoustic)
    assert len(insert_lora(acoustic.network, init.lora)) == 2 * 4
    assert torch.equal(log_probs(acoustic), before)
    for name, parameter in acoustic.network.named_parameters():
        if is_lora(name):
            torch.nn.init.normal_(parameter, std=0.1)
    after = log_probs(acoustic)
    assert float((after - before).abs().max()) > 1e-3
    merged = read_hugging_face(str(tmp_path / "hf")).loaded.acoustic
    merged.network.load_state_dict(merged_state(acoustic.network, init.lora))
    torch.testing.assert_close(log_probs(merged), after, atol=1e-5, rtol=0)
    apply_freezing(acoustic.network.train(), init, 1)
    learning = {name for name, one in acoustic.network.named_parameters() if one.requires_grad}
    assert all(is_lora(name) or name.startswith("decoder.") for name in learning) and len(learning) == 2 * 4 * 2 + 2


def test_gradient_checkpointing_changes_no_gradient(tmp_path: Path, micro: Path) -> None:
    write(tmp_path / "hf", "w2v-bert")
    grads = []
    for on in (False, True):
        data = run_data(tmp_path, micro, tmp_path / "hf") | {
            "model": {
                "kind": "w2v_bert",
                "gradient_checkpointing": on,
                "layerdrop": 0,
                "final_dropout": 0,
                "conformer_conv_dropout": 0,
            }
        }
        acoustic = prepared(data, tmp_path).acoustic.train()
        acoustic(torch.randn(1, 8000, generator=torch.Generator().manual_seed(0)), torch.tensor([8000]))[0][
            0, :, 1
        ].sum().backward()
        grads.append({name: one.grad for name, one in acoustic.named_parameters() if one.grad is not None})
    assert grads[0].keys() == grads[1].keys() and len(grads[0]) > 20
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad)


def test_a_resumed_run_is_exact(tmp_path: Path, micro: Path) -> None:
    """With skipped layers, dropout and masks: all are drawn by generators that a checkpoint saves."""
    write(tmp_path / "hf", "w2v-bert", layerdrop=0.3)
    data = run_data(tmp_path, micro, tmp_path / "hf", freeze={"first_n": 1}) | {"augment": {}}
    data["training"] |= {"epochs": 2, "checkpoint_minutes": EVERY_STEP}
    assert_resumes_exactly(Config.model_validate(data), tmp_path)
    source = read_hugging_face(str(tmp_path / "hf")).loaded.acoustic.network.state_dict()
    now = weights_of(tmp_path / "run/last")
    moved = {name.split(".")[3] for name in now if ".layers." in name and not torch.equal(now[name], source[name])}
    assert moved == {"1"}


def test_blocks_are_the_layers_and_norms_are_found(tmp_path: Path) -> None:
    write(tmp_path / "hf", "xls-r")
    network = read_hugging_face(str(tmp_path / "hf")).loaded.acoustic.network
    depth, n_blocks = block_depths([name for name, _ in network.named_parameters()])
    assert n_blocks == 2
    assert depth["encoder.encoder.pos_conv_embed.conv.bias"] == depth["encoder.masked_spec_embed"] == 0
    assert depth["encoder.encoder.layer_norm.weight"] == 1  # after the last layer, as it is computed
    init = InitSettings.model_validate({"from": "x", "freeze": "encoder_except_norm"})
    learning = {name for name, _ in network.named_parameters()} - frozen_names(network, init)
    assert all("norm" in name or name.startswith("decoder.") for name in learning) and len(learning) > 10
    network.train()
    apply_freezing(network, init, 1)
    learns = {name for name, one in network.named_parameters() if one.requires_grad}
    assert learns == {name for name in learning if not name.startswith("encoder.feature_extractor.")}


def test_weights_are_kept_under_their_names(tmp_path: Path) -> None:
    write(tmp_path / "hf", "hubert")
    convert(tmp_path / "hf", tmp_path / "m", Silent())
    theirs = {name.removeprefix("hubert.") for name in load_file(tmp_path / "hf/model.safetensors")}
    ours = {name.removeprefix("encoder.") for name in weights_of(tmp_path / "m")}
    assert theirs - ours == {"lm_head.weight", "lm_head.bias"} and ours - theirs == {"decoder.weight", "decoder.bias"}
