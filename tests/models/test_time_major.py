"""The time-major layout computes the same as the usual one: log-probs, gradients, running statistics."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anadil.models import time_major
from anadil.models.quartznet import Encoder, QuartzNet, QuartzNetSettings
from anadil.models.time_major import activate, batch_norm, depthwise, frame_mask, masked_pointwise, pointwise

N_MELS, N_LABELS = 10, 5
SQUEEZE = {"reduction": 2}

NETWORKS: dict[str, dict[str, Any]] = {
    "small": {"preset": "small"},
    "small-2d": {"preset": "small-2d"},
    "stem, upsample 2": {
        "stem": {"channels": [4, 6], "residual": 2},
        "blocks": [
            {"filters": 8, "kernel": 3, "stride": 2, "upsample": 2},
            {"filters": 12, "kernel": 5, "repeat": 2, "residual": True, "upsample": 2},
            {"filters": 6, "kernel": 5, "repeat": 2, "residual": True, "residual_projection": False},
        ],
    },
    "first frames dropped, dilated, filters longer than the audio": {
        "blocks": [
            {"filters": 8, "kernel": 5, "stride": 2},
            {"filters": 12, "kernel": 3, "repeat": 2, "stride": 2, "residual": True},
            {"filters": 8, "kernel": 75, "repeat": 2, "residual": True},
            {"filters": 8, "kernel": 29, "dilation": 3},
            {"filters": 16, "kernel": 1, "separable": False},
        ]
    },
    "citrinet": {
        "kind": "citrinet",
        "activation": "swish",
        "blocks": [
            {"filters": 8, "kernel": 5, "squeeze_excite": SQUEEZE},
            {"filters": 8, "kernel": 7, "repeat": 3, "stride": 2, "stride_last": True, "residual": True}
            | {"squeeze_excite": SQUEEZE},
            {
                "filters": 12,
                "kernel": 5,
                "repeat": 2,
                "residual": True,
                "residual_mode": "max",
                "squeeze_excite": SQUEEZE,
            },
        ],
    },
    "dense, looking ahead": {
        "blocks": [
            {"filters": 8, "kernel": 5, "future_context": 1},
            {"filters": 8, "kernel": 3, "repeat": 2, "residual": True, "residual_dense": True},
            {"filters": 12, "kernel": 9, "repeat": 2, "residual": True, "residual_dense": True, "future_context": 0},
        ]
    },
}


def usual_layout(network: QuartzNet) -> QuartzNet:
    """A copy that trains in the layout of evaluation and export."""
    other = copy.deepcopy(network)
    other.encoder.has_time_major = False
    return other


def step(network: QuartzNet, features: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    log_probs, frame_counts = network(features, counts)
    targets = torch.arange(3).expand(len(counts), 3)
    total = F.ctc_loss(
        log_probs.transpose(0, 1), targets, frame_counts, torch.full_like(counts, 3), N_LABELS, zero_infinity=True
    )
    total.backward()
    return log_probs, frame_counts


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("lengths", [[83, 60, 31], [40]])
def test_both_layouts_agree(name: str, dtype: torch.dtype, lengths: list[int]) -> None:
    if name == "citrinet" and dtype == torch.float64:
        pytest.skip("squeeze-and-excitation computes in float32")
    torch.manual_seed(0)
    network = QuartzNet(QuartzNetSettings.model_validate(NETWORKS[name]), N_MELS, N_LABELS).to(dtype).train()
    features = torch.randn(len(lengths), N_MELS, max(lengths), dtype=dtype)  # noise beyond each utterance too
    counts, other = torch.tensor(lengths), usual_layout(network)
    assert network.encoder.is_time_major(features) and not other.encoder.is_time_major(features)
    log_probs, frame_counts = step(network, features, counts)
    expected, expected_counts = step(other, features, counts)
    assert frame_counts.tolist() == expected_counts.tolist()
    exact = 1e-10 if dtype == torch.float64 else 1e-4
    for row, wanted, n in zip(log_probs, expected, frame_counts.tolist(), strict=True):
        torch.testing.assert_close(row[:n], wanted[:n], atol=exact, rtol=0)
    for (weight, parameter), wanted in zip(network.named_parameters(), other.parameters(), strict=True):
        assert parameter.grad is not None and wanted.grad is not None, weight
        # float32: relative to the largest gradient, as biases before a norm have gradients of rounding alone
        torch.testing.assert_close(parameter.grad, wanted.grad, atol=10 * exact, rtol=0, msg=weight)
    for (buffer, now), wanted in zip(network.named_buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(now, wanted, atol=exact, rtol=0, msg=buffer)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_view_of_the_frames_gives_the_same_gradient_of_the_filters(batch: int) -> None:
    """As FSDP's hooks make one: PyTorch takes its one image's stride for another layout, and sums wrongly."""
    torch.manual_seed(0)
    conv = nn.Conv1d(16, 16, 9, 2, groups=16, bias=False)
    x = torch.randn(1, 16, 63, batch).contiguous(memory_format=torch.channels_last)
    found = [
        torch.autograd.grad(depthwise(one, conv, (4, 4)).square().sum(), conv.weight)[0] for one in (x, x.view_as(x))
    ]
    torch.testing.assert_close(*found)


def test_a_frozen_block_keeps_its_statistics_and_gets_no_gradient() -> None:
    torch.manual_seed(0)
    network = QuartzNet(QuartzNetSettings(preset="small", dropout=0.1), N_MELS, N_LABELS).train()
    frozen = network.encoder.encoder[2].requires_grad_(False).eval()
    features, counts = torch.randn(2, N_MELS, 60), torch.tensor([60, 44])
    before = {name: tensor.clone() for name, tensor in frozen.state_dict().items()}
    step(network, features, counts)
    assert all(torch.equal(before[name], tensor) for name, tensor in frozen.state_dict().items())
    assert all(parameter.grad is None for parameter in frozen.parameters())
    assert network.encoder.encoder[0].mconv[0].conv.weight.grad.abs().max() > 0  # type: ignore[union-attr,index]


@pytest.mark.parametrize(
    "settings",
    [
        {"norm": "group", "preset": "small"},
        {"conv_mask": False, "preset": "small"},
        {"blocks": [{"filters": 8, "kernel": 5, "separable": False}]},
        {"blocks": [{"filters": 8, "kernel": 5}, {"filters": 8, "kernel": 5, "groups": 2}]},
        {"blocks": [{"filters": 8, "kernel": 5}, {"filters": 8, "kernel": 5, "heads": 4}]},
    ],
)
def test_other_networks_and_other_uses_keep_the_usual_layout(settings: dict[str, Any]) -> None:
    features = torch.randn(1, N_MELS, 40)
    assert not Encoder(N_MELS, QuartzNetSettings.model_validate(settings)).train().is_time_major(features)
    usual = Encoder(N_MELS, QuartzNetSettings())
    assert usual.train().is_time_major(features)
    assert not usual.is_time_major(features.to("meta"))
    assert not usual.eval().is_time_major(features)


@pytest.mark.parametrize("name", ["small-2d", "citrinet", "dense, looking ahead"])
def test_only_matrix_products_are_in_half_precision(name: str) -> None:
    """What a CPU gains from bfloat16 are matrix products; sums, norms, weights and gradients stay as they are."""
    torch.manual_seed(0)
    network = QuartzNet(QuartzNetSettings.model_validate(NETWORKS[name]), N_MELS, N_LABELS).train()
    exact_network, counts = copy.deepcopy(network), torch.tensor([83, 60, 31])
    features = torch.randn(3, N_MELS, 83)
    exact, _ = step(exact_network, features, counts)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert network.encoder.is_time_major(features)
        log_probs, frame_counts = step(network, features, counts)
    assert log_probs.dtype == torch.float32
    for row, wanted, n in zip(log_probs, exact, frame_counts.tolist(), strict=True):
        assert 1e-4 < (row[:n] - wanted[:n]).abs().max() < 0.1
    for (weight, parameter), wanted in zip(network.named_parameters(), exact_network.parameters(), strict=True):
        assert parameter.grad is not None and wanted.grad is not None and parameter.grad.dtype == torch.float32
        if wanted.grad.norm() > 1e-3:  # biases before a norm have gradients of rounding alone
            assert F.cosine_similarity(parameter.grad.flatten(), wanted.grad.flatten(), dim=0) > 0.95, weight


@pytest.mark.parametrize("name", ["small-2d", "citrinet", "dense, looking ahead", "stem, upsample 2"])
def test_activations_stay_in_bfloat16_and_weights_gradients_and_statistics_do_not(name: str) -> None:
    torch.manual_seed(0)
    network = QuartzNet(QuartzNetSettings.model_validate(NETWORKS[name]), N_MELS, N_LABELS).train()
    exact_network, counts = copy.deepcopy(network), torch.tensor([83, 60, 31])
    features = torch.randn(3, N_MELS, 83)
    exact, _ = step(exact_network, features, counts)
    network.encoder.keeps_bf16 = True
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert network.encoder(features, counts)[0].dtype == torch.bfloat16
        log_probs, frame_counts = step(copy.deepcopy(network), features, counts)
    assert log_probs.dtype == torch.float32
    for row, wanted, n in zip(log_probs, exact, frame_counts.tolist(), strict=True):
        assert 1e-4 < (row[:n] - wanted[:n]).abs().max() < 0.25
    assert network.encoder(features, counts)[0].dtype == torch.float32  # without autocast nothing is half
    assert network.eval().encoder(features, counts)[0].dtype == torch.float32


def test_gradients_of_bfloat16_activations_point_where_the_exact_ones_do() -> None:
    torch.manual_seed(0)
    network = QuartzNet(QuartzNetSettings(preset="small-2d"), N_MELS, N_LABELS).train()
    exact_network, counts, features = copy.deepcopy(network), torch.tensor([83, 60, 31]), torch.randn(3, N_MELS, 83)
    step(exact_network, features, counts)
    network.encoder.keeps_bf16 = True
    with torch.autocast("cpu", dtype=torch.bfloat16):
        step(network, features, counts)
    for (weight, parameter), wanted in zip(network.named_parameters(), exact_network.parameters(), strict=True):
        assert parameter.grad is not None and wanted.grad is not None and parameter.grad.dtype == torch.float32
        if wanted.grad.norm() > 1e-3:
            assert F.cosine_similarity(parameter.grad.flatten(), wanted.grad.flatten(), dim=0) > 0.9, weight
    for (name, ours), theirs in zip(network.named_buffers(), exact_network.buffers(), strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.02, msg=name)


def test_depthwise_filters_and_norms_are_exact_under_autocast() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 16, 63, 2).contiguous(memory_format=torch.channels_last)
    short, long, norm = nn.Conv1d(16, 16, 9, groups=16), nn.Conv1d(16, 16, 31, groups=16), nn.BatchNorm2d(16)
    expected = [depthwise(x, short, (4, 4)), depthwise(x, long, (15, 15)), batch_norm(x, norm)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = [depthwise(x, short, (4, 4)), depthwise(x, long, (15, 15)), batch_norm(x, norm)]
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_products_are_those_of_rounded_factors() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 16, 40, 3).contiguous(memory_format=torch.channels_last)
    conv, frames = nn.Conv1d(16, 8, 1, bias=False), frame_mask((torch.rand(1, 1, 40, 3) > 0.3).float())
    rounded = F.conv2d(x.bfloat16().float(), conv.weight.bfloat16().float().unsqueeze(3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, within = pointwise(x, conv), masked_pointwise(x.clone(), conv, frames)
    torch.testing.assert_close(found, rounded, rtol=1e-2, atol=1e-2)  # rounded once more at the end
    torch.testing.assert_close(within, rounded * frames.mask, rtol=1e-2, atol=1e-2)
    assert not torch.equal(found, pointwise(x, conv))
    assert not torch.equal(within, masked_pointwise(x.clone(), conv, frames))


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5])
def test_dropout_keeps_the_mean_and_drops_its_share(p: float) -> None:
    torch.manual_seed(0)
    frames = frame_mask(torch.cat([torch.ones(1, 1, 100, 3), torch.zeros(1, 1, 20, 3)], dim=2))
    x = torch.rand(1, 120, 3, 1001).permute(0, 3, 1, 2) + 0.5
    given = (x - 0.7).requires_grad_()
    out = activate(given * 1, nn.ReLU(), nn.Dropout(p), frames)
    spoken, expected = out[:, :, :100], given.detach()[:, :, :100].relu()
    assert not out[:, :, 100:].any()
    kept = spoken[expected > 0] > 0
    assert kept.double().mean().item() == pytest.approx(1 - p, abs=0.004)  # four deviations
    torch.testing.assert_close(spoken[spoken > 0] * (1 - p), expected[spoken > 0], rtol=1e-4, atol=0)
    assert abs(spoken.mean().item() - expected.mean().item()) < 0.004
    out.sum().backward()
    torch.testing.assert_close(given.grad, (out > 0) / (1 - p), rtol=1e-4, atol=0)


@pytest.mark.parametrize("p", [0.05, 0.15])
def test_dropout_of_bfloat16_keeps_the_mean_as_well_as_its_numbers_allow(p: float) -> None:
    torch.manual_seed(0)
    frames = frame_mask(torch.ones(1, 1, 100, 3))
    ones = torch.ones(1, 1001, 100, 3, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
    out = activate(ones, nn.ReLU(), nn.Dropout(p), frames)
    assert out.dtype == torch.bfloat16
    assert (out == 0).double().mean().item() == pytest.approx(p, abs=0.003)  # four deviations
    assert out.max().item() == pytest.approx(1 / (1 - p), rel=2**-8)


def test_dropout_of_a_tensor_above_the_drawn_numbers() -> None:
    n_frames = 2 * time_major._DRAWN // 1024
    frames, ones = frame_mask(torch.ones(1, 1, n_frames, 2)), torch.ones(1, 1024, n_frames, 2)
    out = activate(ones.contiguous(memory_format=torch.channels_last), nn.ReLU(), nn.Dropout(0.1), frames)
    assert (out == 0).double().mean().item() == pytest.approx(0.1, abs=0.001)


def test_dropout_follows_the_seed_and_no_two_draws_are_alike() -> None:
    frames, ones = frame_mask(torch.ones(1, 1, 50, 2)), torch.ones(1, 8, 50, 2)

    def drawn() -> Tensor:
        return activate(ones.clone(), nn.ReLU(), nn.Dropout(0.5), frames)

    torch.manual_seed(3)
    first, second = drawn(), drawn()
    torch.manual_seed(3)
    assert torch.equal(first, drawn()) and not torch.equal(first, second)
