"""Self-attention between blocks: both layouts, padding, reach, any length, export, and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from anadil.errors import AnadilError
from anadil.export.onnx import trace, verify
from anadil.models.acoustic import AcousticModel
from anadil.models.attention import SelfAttention
from anadil.models.features import FeatureSettings
from anadil.models.nemo.write import _convolutions
from anadil.models.quartznet import QuartzNet, QuartzNetSettings
from anadil.models.summary import count_parameters, layer_table

N_MELS, N_LABELS = 12, 5
SETTINGS: dict[str, Any] = {
    "stem": {"channels": [3, 4]},
    "attention": [1, 2],
    "blocks": [
        {"filters": 8, "kernel": 5, "repeat": 2, "residual": True},
        {"filters": 12, "kernel": 3, "repeat": 2, "residual": True},
        {"filters": 10, "kernel": 1, "separable": False, "upsample": 2},
    ],
}


def as_trained(network: nn.Module) -> None:
    """Random numbers in place of the zeros with which attention begins."""
    for module in network.modules():
        if isinstance(module, SelfAttention):
            nn.init.normal_(module.out.weight, std=0.3)
            nn.init.normal_(module.out.bias, std=0.1)


def network_of(**changes: Any) -> QuartzNet:
    torch.manual_seed(0)
    network = QuartzNet(QuartzNetSettings.model_validate(SETTINGS | changes), N_MELS, N_LABELS)
    as_trained(network)
    return network


def test_both_layouts_compute_the_same() -> None:
    network = network_of().train()
    usual = copy.deepcopy(network)
    usual.encoder.has_time_major = False
    features, counts = torch.randn(3, N_MELS, 83), torch.tensor([83, 60, 31])
    outputs = [one(features, counts)[0] for one in (network, usual)]
    frames = [network.frame_count(n) for n in counts.tolist()]
    weights = torch.randn_like(outputs[0])
    inside = torch.arange(weights.shape[1])[None, :, None] < torch.tensor(frames)[:, None, None]
    for output in outputs:
        (output * weights * inside).sum().backward()
    for row, wanted, n in zip(*outputs, frames, strict=True):
        torch.testing.assert_close(row[:n], wanted[:n], rtol=1e-4, atol=1e-4)
    for (name, weight), wanted in zip(network.named_parameters(), usual.parameters(), strict=True):
        assert weight.grad is not None and wanted.grad is not None, name
        torch.testing.assert_close(weight.grad, wanted.grad, rtol=1e-3, atol=1e-3, msg=name)
    assert all(weight.grad is not None and weight.grad.any() for weight in network.encoder.attention.parameters())


def test_a_new_network_is_the_one_without_attention() -> None:
    torch.manual_seed(0)
    network = QuartzNet(QuartzNetSettings.model_validate(SETTINGS), N_MELS, N_LABELS).eval()
    plain = network_of(attention=[]).eval()
    plain.load_state_dict({name: one for name, one in network.state_dict().items() if "attention" not in name})
    features, counts = torch.randn(2, N_MELS, 60), torch.tensor([60, 40])
    torch.testing.assert_close(network(features, counts)[0], plain(features, counts)[0])
    as_trained(network)
    assert not torch.allclose(network(features, counts)[0], plain(features, counts)[0], atol=1e-2)


def test_padding_and_batch_change_nothing() -> None:
    network = network_of().eval()
    features, lengths = torch.randn(4, N_MELS, 70), [70, 41, 8, 1]
    log_probs, counts = network(features, torch.tensor(lengths))
    for row, one, length, count in zip(log_probs, features, lengths, counts.tolist(), strict=True):
        alone, _ = network(one[None, :, :length], torch.tensor([length]))
        torch.testing.assert_close(row[:count], alone[0], atol=1e-5, rtol=0)


def test_near_frames_count_more_than_far_ones() -> None:
    attention = SelfAttention(16).eval()
    as_trained(attention)
    x, mask = torch.randn(1, 16, 1, 3000), torch.ones(1, 1, 1, 3000)
    whole = attention(x, mask)
    moved = x.clone()
    moved[..., 1400:1500] = torch.randn(1, 16, 1, 100)
    changed = (attention(moved, mask) - whole).abs().amax(dim=(0, 1, 2))
    assert changed[1510] > 10 * changed[1900] > 0  # 400 frames away it is still seen, in the head that looks farthest
    assert whole.isfinite().all()


def test_the_exported_graph_has_it_at_every_length(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = AcousticModel(FeatureSettings(mels=N_MELS), QuartzNetSettings.model_validate(SETTINGS), N_LABELS).eval()
    as_trained(model)
    trace(model, tmp_path / "model.onnx")
    assert verify(model, tmp_path / "model.onnx") < 1e-4  # of several lengths
    with torch.no_grad():
        model.network.encoder.attention["2"].out.weight.mul_(3)  # type: ignore[union-attr, operator]
    with pytest.raises(AnadilError):
        verify(model, tmp_path / "model.onnx")


def test_small_2d_with_two_layers() -> None:
    plain = AcousticModel(FeatureSettings(), QuartzNetSettings(), 32)
    model = AcousticModel(FeatureSettings(), QuartzNetSettings(attention=[4, 6]), 32)
    each = 2 * 384 + 384 * 768 + 768 + 256 * 384 + 384  # norm, queries with keys and values, output
    assert count_parameters(model) - count_parameters(plain) == 2 * each
    rows = {row[0]: row for row in layer_table(model)[1]}
    assert rows["attention after 4"][-1] == rows["attention after 6"][-1] == f"{each:,}"


@pytest.mark.parametrize("places", [[4], [1, 1], [0]])
def test_wrong_places_are_refused(places: list[int]) -> None:
    with pytest.raises(ValidationError, match="from 1 to 3|greater than or equal to 1"):
        QuartzNetSettings.model_validate(SETTINGS | {"attention": places})


def test_nemo_has_no_counterpart() -> None:
    settings = QuartzNetSettings.model_validate({"preset": "small", "attention": [3]})
    with pytest.raises(AnadilError, match="attention"):
        _convolutions(settings, "model")
