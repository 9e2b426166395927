from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from anadil.errors import AnadilError
from anadil.models.acoustic import AcousticModel
from anadil.models.features import FeatureSettings
from anadil.models.quartznet import BlockSettings, QuartzNet, QuartzNetSettings
from anadil.models.summary import count_parameters, layer_table
from anadil.models.time_major import upsample
from tests.support.nemo import Golden, read_golden

BLOCKS = [
    BlockSettings(filters=8, kernel=5, stride=2),
    BlockSettings(filters=12, kernel=3, repeat=2, stride=2, residual=True),
    BlockSettings(filters=8, kernel=5, dilation=2),
    BlockSettings(filters=16, kernel=1, separable=False),
]
TINY = QuartzNetSettings(blocks=BLOCKS)  # stride 8
N_MELS, N_LABELS = 10, 5


def tiny(settings: QuartzNetSettings = TINY) -> QuartzNet:
    """A network with batch-norm statistics as after training."""
    torch.manual_seed(0)
    network = QuartzNet(settings, N_MELS, N_LABELS).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean)  # type: ignore[arg-type]
            torch.nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]
            torch.nn.init.normal_(module.bias)
    return network


@pytest.fixture(scope="module")
def nemo(shared: Path) -> Golden:
    return read_golden(shared / "reference/nemo/quartznet_char")


def test_log_probs_are_nemos(nemo: Golden) -> None:
    settings, weights, golden = nemo
    acoustic = AcousticModel(FeatureSettings(), settings, golden["log_probs"].shape[2] - 1).eval()
    acoustic.network.load_state_dict(weights)
    log_probs, counts = acoustic(torch.from_numpy(golden["audio"]), torch.from_numpy(golden["audio_lengths"]))
    assert counts.tolist() == golden["encoded_lengths"].tolist()
    assert counts.tolist() == [acoustic.frame_count(n) for n in golden["audio_lengths"].tolist()]
    for row, expected, n in zip(log_probs.detach().numpy(), golden["log_probs"], counts.tolist(), strict=True):
        np.testing.assert_allclose(row[:n], expected[:n], atol=1e-3)


def test_weights_have_nemos_names_and_shapes(nemo: Golden) -> None:
    settings, weights, _ = nemo
    ours = QuartzNet(settings, 64, 34).state_dict()
    assert {name: tensor.shape for name, tensor in ours.items()} == {name: one.shape for name, one in weights.items()}
    assert "encoder.encoder.1.res.0.0.conv.weight" in ours and "decoder.decoder_layers.0.bias" in ours


@pytest.mark.parametrize(
    ("preset", "n_parameters", "stride", "n_layers"),
    [
        ("5x5", 6_719_331, 2, 8),
        ("15x5", 18_930_531, 2, 18),
        ("small-2d", 2_026_051, 2, 8),
        ("small-2d-sc", 2_129_695, 2, 10),
    ],
)
def test_presets_have_the_papers_sizes(preset: str, n_parameters: int, stride: int, n_layers: int) -> None:
    settings = QuartzNetSettings.model_validate({"preset": preset})
    with torch.device("meta"):  # no memory, no time
        acoustic = AcousticModel(FeatureSettings(), settings, 34)
    assert count_parameters(acoustic) == n_parameters
    assert settings.stride == stride and acoustic.frame_s == pytest.approx(stride / 100)
    columns, rows = layer_table(acoustic)
    assert {len(row) for row in rows} == {len(columns)}
    assert len(rows) == n_layers + 3  # features, head, total
    *parts, total = [int(row[-1].replace(",", "")) for row in rows]
    assert sum(parts) == total == n_parameters


def test_small_2d_is_the_default_and_makes_50_frames_a_second() -> None:
    assert QuartzNetSettings().resolved_blocks == QuartzNetSettings(preset="small-2d").resolved_blocks
    frames = {name: AcousticModel(FeatureSettings(), QuartzNetSettings(preset=name), 34) for name in ("small", None)}
    assert [acoustic.frame_count(16000) for acoustic in frames.values()] == [25, 50]


def test_dropout_of_a_preset_is_that_of_every_block() -> None:
    assert {block.dropout for block in QuartzNetSettings(preset="5x5", dropout=0.2).resolved_blocks} == {0.2}


STEMMED = QuartzNetSettings.model_validate(
    {
        "stem": {"channels": [3, 4], "residual": 1},
        "blocks": [{"filters": 12, "kernel": 5, "stride": 2, "upsample": 4}, {"filters": 8, "kernel": 3}],
    }
)


def test_a_preset_can_have_another_stem_in_place_of_its_own() -> None:
    usual = AcousticModel(FeatureSettings(), QuartzNetSettings(), 30)
    narrow = QuartzNetSettings.model_validate({"stem": {"channels": [16, 32]}})
    slim = AcousticModel(FeatureSettings(), narrow, 30)
    assert narrow.stride == QuartzNetSettings().stride
    shapes = {name: tuple(weight.shape) for name, weight in slim.network.state_dict().items()}
    assert shapes["encoder.stem.halvings.0.0.weight"] == (16, 1, 3, 3) and shapes[
        "encoder.stem.halvings.1.0.weight"
    ] == (32, 16, 3, 3)
    different = {name for name, weight in usual.network.state_dict().items() if shapes[name] != tuple(weight.shape)}
    assert different and all(name.startswith("encoder.stem.halvings.") for name in different)


def test_a_block_without_projection_keeps_its_channels() -> None:
    blocks = [BlockSettings(filters=8, kernel=3, residual=True, residual_projection=False)]
    with pytest.raises(AnadilError, match=f"{N_MELS} in and 8 out"):
        QuartzNet(QuartzNetSettings(blocks=blocks), N_MELS, N_LABELS)


@pytest.mark.parametrize(("settings", "downsampling", "upsampling"), [(TINY, 8, 1), (STEMMED, 8, 4)])
def test_frame_counts_match_the_networks_output(
    settings: QuartzNetSettings, downsampling: int, upsampling: int
) -> None:
    network, lengths = tiny(settings), torch.arange(1, 80)
    log_probs, counts = network(torch.randn(len(lengths), N_MELS, 79), lengths)
    assert counts.tolist() == [network.frame_count(n) for n in lengths.tolist()]
    assert counts.tolist() == [-(-n // downsampling) * upsampling for n in lengths.tolist()]
    assert settings.stride == downsampling // upsampling
    assert log_probs.shape == (79, network.frame_count(79), N_LABELS + 1)
    assert network.frame_count(0) == 0


def test_upsampled_frames_share_the_channels() -> None:
    frames = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]).view(1, 4, 1, 2)
    x, mask = upsample(frames, torch.tensor([1.0, 0.0]).view(1, 1, 1, 2), 2)
    assert x.view(2, 4).tolist() == [[1, 5, 2, 6], [3, 7, 4, 8]] and mask.flatten().tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize("settings", [TINY, STEMMED])
def test_padding_and_batch_change_nothing(settings: QuartzNetSettings) -> None:
    network = tiny(settings)
    features = torch.randn(4, N_MELS, 70)  # padding is noise, not zeros
    lengths = [70, 41, 8, 1]
    log_probs, counts = network(features, torch.tensor(lengths))
    for row, one, length, count in zip(log_probs, features, lengths, counts.tolist(), strict=True):
        alone, _ = network(one[None, :, :length], torch.tensor([length]))
        torch.testing.assert_close(row[:count], alone[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(row[:count].exp().sum(1), torch.ones(count))


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"blocks": [{"filters": 8, "kernel": 4}]}, "kernel 4 is even"),
        ({"blocks": [{"filters": 8, "kernel": 3, "stride": 2, "dilation": 2}]}, "stride and dilation"),
        ({"blocks": [{"filters": 8, "kernel": 3}], "preset": "5x5"}, "a preset or blocks, not both"),
        ({"blocks": []}, "must not be empty"),
        ({"blocks": [{"filters": 8, "kernel": 3}], "dropout": 0.1}, "each block sets its own dropout"),
        ({"preset": "small", "stem": {}}, "stem needs blocks"),
        ({"stem": {}, "norm": "group", "blocks": [{"filters": 8, "kernel": 3}]}, "norm must be batch"),
        ({"conv_mask": False}, "small-2d has one.*conv_mask true"),
        ({"blocks": [{"filters": 9, "kernel": 3, "stride": 2, "upsample": 2}]}, "upsample 2 needs filters"),
        ({"blocks": [{"filters": 8, "kernel": 3, "upsample": 2}]}, "2 output frames per frame do not divide"),
        (
            {"blocks": [{"filters": 8, "kernel": 3, "stride": 2, "residual": True, "residual_projection": False}]},
            "residual_projection: false needs",
        ),
        ({"preset": "10x5"}, "'small', 'small-2d', 'small-2d-sc', '5x5' or '15x5'"),
    ],
)
def test_impossible_networks_are_refused(settings: dict[str, Any], what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        QuartzNetSettings.model_validate(settings)
