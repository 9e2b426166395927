"""Self-conditioned CTC: both layouts, padding, long audio, export, training, resumption, and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Literal

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
from anadil.training.transfer.settings import InitSettings
from anadil.training.transfer.source import Source
from anadil.training.transfer.weights import Transferred, transfer
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
    preset = QuartzNetSettings(preset="small-2d-sc")
    assert (
        preset.conditioned_places == [3, 5]
        and preset.model_copy(update={"self_conditioned": []}).conditioned_places == []
    )
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


# --- as a source of another training

KNOWN = ["a", "b", "c", "d", "e"]  # labels of the source


def started(
    target: QuartzNet, labels: list[str], source: QuartzNet, head: Literal["map", "new"] = "map"
) -> Transferred:
    described = Source("runs/source/best", "xx", KNOWN, {}, {}, {})
    init = InitSettings.model_validate({"from": "runs/source/best", "head": head})
    return transfer(target.eval(), labels, described, source.state_dict(), init, seed=0)


def of_labels(n_labels: int, **changes: Any) -> QuartzNet:
    torch.manual_seed(1)
    return QuartzNet(QuartzNetSettings.model_validate(SETTINGS | changes), N_MELS, n_labels)


def outputs(network: QuartzNet) -> Tensor:
    torch.manual_seed(2)
    log_probs: Tensor = network.eval()(torch.randn(2, N_MELS, 60), torch.tensor([60, 40]))[0]
    return log_probs


def test_onto_the_same_labels_nothing_changes_and_onto_permuted_ones_the_output_is_permuted() -> None:
    source, same, other = network_of(), of_labels(5), of_labels(5)
    assert started(same, KNOWN, source).new == []
    assert torch.equal(outputs(same), outputs(source))
    labels = ["d", "a", "c", "e", "b"]
    started(other, labels, source)
    order = [*(KNOWN.index(label) for label in labels), 5]
    torch.testing.assert_close(outputs(other), outputs(source)[:, :, order])


def test_a_new_label_begins_without_a_past() -> None:
    source, larger = network_of(), of_labels(6)
    transferred = started(larger, [*KNOWN, "x"], source)
    assert {"conditioning.1.head.weight", "conditioning.2.back.bias"} <= set(transferred.mapped)
    ours, theirs = larger.state_dict(), source.state_dict()
    for name, n in (("head.weight", 0), ("back.weight", 1)):  # two output frames in a frame: two sets of labels
        new, old = (one[f"conditioning.1.{name}"].transpose(0, n).chunk(2) for one in (ours, theirs))
        for part, wanted in zip(new, old, strict=True):
            assert torch.equal(part[[0, 1, 2, 3, 4, 6]], wanted)


@pytest.mark.parametrize("head", ["map", "new"])
def test_from_a_source_without_it_the_network_begins_as_the_source(head: Literal["map", "new"]) -> None:
    source, network = network_of(self_conditioned=[]), of_labels(5)
    transferred = started(network, KNOWN, source, head)
    assert {"conditioning.1.back.weight", "conditioning.2.head.bias"} <= set(transferred.new)
    encoded = [
        one.eval().encoder(torch.ones(1, N_MELS, 40), torch.tensor([40]), one.conditioning)[0]
        for one in (network, source)
    ]
    assert torch.equal(*encoded)


def test_a_network_without_it_takes_what_is_left() -> None:
    source, plain = network_of(), of_labels(5, self_conditioned=[])
    transferred = started(plain, KNOWN, source)
    assert transferred.new == [] and all(name.startswith("conditioning.") for name in transferred.unused)


def test_a_model_trained_with_it_is_fine_tuned(manifest: Path, tmp_path: Path) -> None:
    train(
        Config.model_validate(data_of(manifest) | {"training": data_of(manifest)["training"] | {"epochs": 1}}),
        tmp_path / "run",
    )
    data = data_of(manifest) | {"init": {"from": str(tmp_path / "run/last")}}
    train(Config.model_validate(data), tmp_path / "fine-tuned")
    saved = load_model(tmp_path / "fine-tuned/last").acoustic.network
    assert isinstance(saved, QuartzNet) and sorted(saved.conditioning) == ["2", "3"]
