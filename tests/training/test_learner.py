from __future__ import annotations

import torch
from torch import Tensor, nn

from anadil.training.config import Config
from anadil.training.learner import make_fabric


class Listener(nn.Module):
    """Keeps what it hears, and what autocast makes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 1)

    def forward(self, waveforms: Tensor) -> Tensor:
        self.heard = waveforms
        self.made = self.linear(waveforms)
        return self.made


def test_half_precision_is_the_networks_business_not_the_waveforms() -> None:
    training = {"accelerator": "cpu", "precision": "bf16-mixed"}
    config = Config.model_validate({"language": "tr", "data": {"train": ["a.jsonl"]}, "training": training})
    listener, waveforms = Listener(), torch.tensor([[1e-3, 0.1001, -0.25, 1.0]])
    with torch.no_grad():
        out = make_fabric(config).setup_module(listener)(waveforms)
    assert listener.heard.dtype == torch.float32 and torch.equal(listener.heard, waveforms)
    assert listener.made.dtype == torch.bfloat16 and out.dtype == torch.float32
