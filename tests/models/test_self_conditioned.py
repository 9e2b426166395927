"""Self-conditioned CTC: both layouts, padding, long audio, export, training, resumption, and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional as F

from anadil.errors import AnadilError
from anadil.export.onnx import trace, verify
from anadil.models.acoustic import AcousticModel, load_model
from anadil.models.features import FeatureSettings
from anadil.models.quartznet import QuartzNet, QuartzNetSettings
from anadil.models.summary import count_parameters, layer_table
from anadil.training.config import Config
from anadil.training.learner import assemble, make_fabric
from anadil.training.monitoring.report import Silent
from anadil.training.prepare import plan_steps, prepare
from anadil.training.step import _loss, ctc_loss
from anadil.training.train import _loaders, train
from tests.support.micro import TEXTS, micro_data, write_corpus
from tests.support.runs import EVERY_STEP, Crash, CrashAt, assert_same_run

N_MELS, N_LABELS = 12, 5
SETTINGS: dict[str, Any] = {
    "stem": {"channels": [3, 4]},
    "self_conditioned": [1, 2],
    "blocks": [
        {"filters": 8, "kernel": 5, "repeat": 2, "residual": True},
        {"filters": 12, "kernel": 3, "repeat": 2, "residual": True},
        {"filters": 10, "kernel": 1, "separable": False, "upsample": 2},
    ],
}


def network_of(**changes: Any) -> QuartzNet:
    torch.manual_seed(0)
    return QuartzNet(QuartzNetSettings.model_validate(SETTINGS | changes), N_MELS, N_LABELS)


def step(network: QuartzNet, features: Tensor, counts: Tensor) -> list[Tensor]:
    """Log-probs of the output and of the intermediate heads, after a backward pass of the sum of their losses."""
    log_probs, frame_counts = network(features, counts)
    heads = [log_probs, *network.take_intermediate()]
    targets, lengths = torch.arange(3).expand(len(counts), 3), torch.full_like(counts, 3)
    losses = [F.ctc_loss(one.transpose(0, 1), targets, frame_counts, lengths, N_LABELS) for one in heads]
    torch.stack(losses).sum().backward()
    return heads


def test_both_layouts_compute_the_same() -> None:
    network = network_of().train()
    usual = copy.deepcopy(network)
    usual.encoder.has_time_major = False
    features, counts = torch.randn(3, N_MELS, 83), torch.tensor([83, 60, 31])
    ours, theirs = step(network, features, counts), step(usual, features, counts)
    assert len(ours) == len(theirs) == 3 and network.take_intermediate() == []
    frames = [network.frame_count(n) for n in counts.tolist()]
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape == (3, network.frame_count(83), N_LABELS + 1)
        for row, wanted, n in zip(one, other, frames, strict=True):
            torch.testing.assert_close(row[:n], wanted[:n], rtol=1e-4, atol=1e-4)
    for (name, weight), wanted in zip(network.named_parameters(), usual.parameters(), strict=True):
        assert weight.grad is not None and wanted.grad is not None, name
        torch.testing.assert_close(weight.grad, wanted.grad, rtol=1e-3, atol=1e-4, msg=name)
    assert all(weight.grad is not None and weight.grad.any() for weight in network.conditioning.parameters())


def test_without_the_projections_the_network_is_the_plain_one() -> None:
    network, plain = network_of().eval(), network_of(self_conditioned=[]).eval()
    plain.load_state_dict({name: one for name, one in network.state_dict().items() if "conditioning" not in name})
    features, counts = torch.randn(2, N_MELS, 60), torch.tensor([60, 40])
    conditioned = network(features, counts)[0]
    assert not torch.allclose(conditioned, plain(features, counts)[0], atol=1e-3)
    with torch.no_grad():
        for place in network.conditioning.values():
            place.back.weight.zero_()  # type: ignore[union-attr, operator]
            place.back.bias.zero_()  # type: ignore[union-attr, operator]
    torch.testing.assert_close(network(features, counts)[0], plain(features, counts)[0])
    assert network.take_intermediate() == []  # nothing is kept outside of training


def test_padding_and_batch_change_nothing() -> None:
    network = network_of().eval()
    features, lengths = torch.randn(4, N_MELS, 70), [70, 41, 8, 1]
    log_probs, counts = network(features, torch.tensor(lengths))
    for row, one, length, count in zip(log_probs, features, lengths, counts.tolist(), strict=True):
        alone, _ = network(one[None, :, :length], torch.tensor([length]))
        torch.testing.assert_close(row[:count], alone[0], atol=1e-5, rtol=0)


def test_a_piece_with_context_gives_the_frames_of_the_whole() -> None:
    """Conditioning looks at one frame alone: a piece of long audio needs no more context than without it."""
    features = torch.randn(1, N_MELS, 400)
    reach = 80  # features on each side, more than the network sees: a multiple of its stride of 4
    for network in (network_of().eval(), network_of(self_conditioned=[]).eval()):
        whole, _ = network(features, torch.tensor([400]))
        piece, _ = network(features[:, :, 100:300], torch.tensor([200]))
        torch.testing.assert_close(piece[0, reach // 2 : -reach // 2], whole[0, 50 + reach // 2 : 150 - reach // 2])


def test_the_exported_graph_holds_the_heads(tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain = AcousticModel(FeatureSettings(mels=N_MELS), QuartzNetSettings.model_validate(SETTINGS), N_LABELS).eval()
    trace(plain, tmp_path / "model.onnx")
    assert verify(plain, tmp_path / "model.onnx") < 1e-4
    for place in plain.network.conditioning.values():  # type: ignore[union-attr, operator]
        with torch.no_grad():
            place.back.weight.mul_(100)  # type: ignore[union-attr, operator]
    with pytest.raises(AnadilError):
        verify(plain, tmp_path / "model.onnx")


def test_small_2d_at_a_third_and_two_thirds() -> None:
    plain = AcousticModel(FeatureSettings(), QuartzNetSettings(), 32)
    model = AcousticModel(FeatureSettings(), QuartzNetSettings(self_conditioned=[3, 5]), 32)
    # two output frames in each frame there: heads of 2 x 33, and their projections
    assert count_parameters(model) - count_parameters(plain) == 2 * (384 * 66 + 66 + 66 * 384 + 384)
    names = [row[0] for row in layer_table(model)[1]]
    assert names[-4:-2] == ["conditioning after 3", "conditioning after 5"]
    small = QuartzNetSettings(preset="small", self_conditioned=[4])
    assert small.frames_in_each(4) == 1


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"self_conditioned": [3]}, "numbers from 1 to 2"),
        ({"self_conditioned": [1, 1]}, "different numbers"),
        ({"self_conditioned": [0]}, "greater than or equal to 1"),
        ({"stem": None, "blocks": None, "preset": "small", "self_conditioned": [1]}, "a block with a stride follows"),
    ],
)
def test_impossible_places_are_refused(changes: dict[str, Any], what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        QuartzNetSettings.model_validate(SETTINGS | changes)


# --- training


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"), TEXTS)


def data_of(manifest: Path, **training: Any) -> dict[str, Any]:
    data = micro_data(manifest, manifest, batch_seconds=2.5, flat_start_steps=3, epochs=2, **training)
    model = {"blocks": [*data["model"]["blocks"][:2], {"filters": 16, "kernel": 5, "dropout": 0.1}]}
    model["blocks"].append({"filters": 16, "kernel": 1, "separable": False})
    return data | {"model": model | {"self_conditioned": [2, 3]}, "lm": None}


def test_the_loss_is_a_mean_of_the_output_and_the_intermediate_heads(manifest: Path, tmp_path: Path) -> None:
    data = data_of(manifest, intermediate_weight=0.3)
    data["model"]["blocks"][2]["dropout"] = 0.0
    data["augment"]["spec_augment"] = None
    learner = assemble(make_fabric(config := Config.model_validate(data)), prepare(config, tmp_path, Silent()))
    batch = _loaders(learner.data)[0].load(plan_steps(learner.data, 1)[0])
    network = learner.data.acoustic.network
    assert isinstance(network, QuartzNet)
    learner.model.train()
    torch.manual_seed(0)
    log_probs, counts = learner.model(batch.waveforms, batch.sample_counts, None)
    heads = network.take_intermediate()
    assert len(heads) == 2
    own, others = ctc_loss(log_probs, counts, batch), [ctc_loss(one, counts, batch) for one in heads]
    torch.manual_seed(0)
    loss, _, _ = _loss(learner, batch, flat_start=False)
    torch.testing.assert_close(loss, 0.7 * own + 0.3 * (others[0] + others[1]) / 2)
    assert network.take_intermediate() == []


def test_a_run_that_crashes_ends_with_the_same_weights(manifest: Path, tmp_path: Path) -> None:
    config = Config.model_validate(data_of(manifest, checkpoint_minutes=EVERY_STEP))
    train(config, tmp_path / "undisturbed")
    for attempt, crash_after in enumerate((5, 99)):
        torch.manual_seed(crash_after)
        try:
            train(config, tmp_path / "run", CrashAt(crash_after), resume=attempt > 0)
        except Crash:
            assert attempt == 0
    assert_same_run(tmp_path / "run", tmp_path / "undisturbed")
    saved = load_model(tmp_path / "run/last").acoustic.network
    assert isinstance(saved, QuartzNet) and sorted(saved.conditioning) == ["2", "3"]


def test_what_it_cannot_be_combined_with_is_refused(manifest: Path, tmp_path: Path) -> None:
    train(
        Config.model_validate(data_of(manifest) | {"training": data_of(manifest)["training"] | {"epochs": 1}}),
        tmp_path / "run",
    )
    data = data_of(manifest) | {"init": {"from": str(tmp_path / "run/last")}}
    with pytest.raises(AnadilError, match="model.self_conditioned=\\[\\]"):
        train(Config.model_validate(data), tmp_path / "fine-tuned")
