from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from anadil.models.quartznet import QuartzNet
from anadil.training.config import Config
from anadil.training.learner import make_fabric
from anadil.training.monitoring.report import Silent
from anadil.training.prepare import resolve


class Listener(nn.Module):
    """Keeps what it hears, and what autocast makes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 1)

    def forward(self, waveforms: Tensor) -> Tensor:
        self.heard = waveforms
        self.made = self.linear(waveforms)
        return self.made


def config_of(training: dict[str, Any], **sections: Any) -> Config:
    return Config.model_validate({"language": "tr", "data": {"train": ["a.jsonl"]}, "training": training} | sections)


@pytest.mark.parametrize(
    ("capability", "precision", "model", "expected"),
    [
        ("avx512_bf16", "auto", {}, "bf16-mixed"),
        ("amx_bf16", "auto", {}, "bf16-mixed"),
        ("avx512_f", "auto", {}, "32-true"),
        ("avx512_bf16", "auto", {"kind": "fastconformer"}, "32-true"),
        ("avx512_bf16", "32-true", {}, "32-true"),
        ("avx512_f", "bf16-mixed", {}, "bf16-mixed"),
        ("amx_bf16", "bf16-activations", {}, "bf16-mixed"),
    ],
)
def test_a_cpu_with_products_in_bfloat16_uses_them(
    capability: str, precision: str, model: dict[str, Any], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {capability: True, "avx2": True}, raising=False)
    fabric = make_fabric(config_of({"accelerator": "cpu", "precision": precision}, model=model))
    assert fabric.strategy.precision.precision == expected


@pytest.mark.parametrize(
    ("capabilities", "precision", "kept"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, "auto", True),
        ({"avx512_bf16": True}, "auto", False),
        ({"amx_bf16": True}, "bf16-mixed", False),
        ({}, "bf16-activations", True),
    ],
)
def test_activations_stay_in_bfloat16_where_the_cpu_has_amx(
    capabilities: dict[str, bool], precision: str, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    config = config_of({"accelerator": "cpu", "precision": precision}, tokenizer={"labels": ["a", "b"]})
    network = resolve(config, [], [], Silent()).acoustic.network
    assert isinstance(network, QuartzNet) and network.encoder.keeps_bf16 is kept


def test_pytorch_that_does_not_tell_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert make_fabric(config_of({"accelerator": "cpu"})).strategy.precision.precision == "32-true"


def test_half_precision_is_the_networks_business_not_the_waveforms() -> None:
    config = config_of({"accelerator": "cpu", "precision": "bf16-mixed"})
    listener, waveforms = Listener(), torch.tensor([[1e-3, 0.1001, -0.25, 1.0]])
    with torch.no_grad():
        out = make_fabric(config).setup_module(listener)(waveforms)
    assert listener.heard.dtype == torch.float32 and torch.equal(listener.heard, waveforms)
    assert listener.made.dtype == torch.bfloat16 and out.dtype == torch.float32
