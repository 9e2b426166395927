"""`training.consistency`: each utterance twice under different masks, and what the two say of each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import seed_everything

from anadil.data.batches import Batch, Loader
from anadil.settings import override
from anadil.training.config import Config
from anadil.training.learner import assemble, make_fabric
from anadil.training.monitoring.memory import resolve_batch_seconds
from anadil.training.monitoring.report import Silent
from anadil.training.prepare import prepare
from anadil.training.step import consistency_loss, gradients
from anadil.training.train import train
from tests.support.micro import micro_data

BATCH = Batch(torch.zeros(2, 1), torch.tensor([1, 1]), torch.tensor([[0, 1], [1, 0]]), torch.tensor([2, 1]), (0, 1))
FRAMES = torch.tensor([2, 1])
EVEN, SKEW = [0.5, 0.5], [0.25, 0.75]
FROM_EVEN, FROM_SKEW = 0.5 * np.log(2) + 0.5 * np.log(2 / 3), 0.25 * np.log(1 / 2) + 0.75 * np.log(3 / 2)
BOTH_WAYS = (FROM_EVEN + FROM_SKEW) / 2  # the mean of KL(even || skew) and KL(skew || even)


def views(*frames: list[list[float]]) -> torch.Tensor:
    return torch.tensor(frames).log()


LOG_PROBS = views([EVEN, SKEW], [EVEN, EVEN], [SKEW, SKEW], [SKEW, SKEW])  # the first utterance, the second; both again


def test_it_is_the_mean_of_both_divergences_over_frames_a_label() -> None:
    # one frame of each utterance differs; what lies beyond the second one's only frame does not count
    assert consistency_loss(LOG_PROBS, FRAMES, BATCH).item() == pytest.approx(2 * BOTH_WAYS / 3, rel=1e-5)
    weighed = replace(BATCH, weights=torch.tensor([1.0, 0.5]))
    expected = 1.5 * BOTH_WAYS / (2 + 0.5)
    assert consistency_loss(LOG_PROBS, FRAMES, weighed).item() == pytest.approx(expected, rel=1e-5)


def test_each_view_learns_from_the_other_which_holds_still() -> None:
    logits = LOG_PROBS.clone().requires_grad_()
    consistency_loss(logits.log_softmax(2), FRAMES, BATCH).backward()
    # the gradient of KL(q || softmax(z)) is softmax(z) - q
    apart = (torch.tensor(EVEN) - torch.tensor(SKEW)) / 2 / 3
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad[:2, 0], torch.stack([apart, apart]))
    torch.testing.assert_close(logits.grad[2:, 0], torch.stack([-apart, -apart]))
    assert logits.grad[:, 1].abs().max() < 1e-6  # alike, and beyond the utterance


def step_of(micro: Path, folder: Path, flat_start: bool, *changes: str) -> tuple[float, float, list[torch.Tensor]]:
    """Loss, gradient norm and gradients of the first step."""
    config = Config.model_validate(override(micro_data(micro / "train.jsonl"), ["training.clip_norm=1e9", *changes]))
    seed_everything(0, verbose=False)
    learner = assemble(make_fabric(config), prepare(config, folder, Silent()))
    learner.model.train()
    loader = Loader(learner.data.train, learner.data.acoustic.sample_rate)
    found = gradients(learner, [loader.load([0, 3, 5])], flat_start)
    return found.loss, found.norm, [one.grad.clone() for one in learner.data.acoustic.network.parameters()]


@pytest.mark.parametrize("flat_start", [True, False])
def test_two_views_that_are_alike_are_the_step_of_one(micro: Path, tmp_path: Path, flat_start: bool) -> None:
    """Without masks and dropout nothing tells them apart, and batch norms see the same statistics."""
    loss, norm, slopes = step_of(micro, tmp_path / "one", flat_start)
    twice_loss, twice_norm, twice = step_of(micro, tmp_path / "two", flat_start, "training.consistency=0.2")
    assert (twice_loss, twice_norm) == (pytest.approx(loss, rel=1e-4), pytest.approx(norm, rel=1e-3))
    for one, other in zip(slopes, twice, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-4)


def test_views_that_differ_cost_more_the_more_consistency_counts(micro: Path, tmp_path: Path) -> None:
    masks = "augment.spec_augment.freq_masks=2"
    losses = [
        step_of(micro, tmp_path / str(share), False, masks, f"training.consistency={share}")[0]
        for share in (0.1, 0.2, 0.3)
    ]
    assert losses[2] - losses[1] == pytest.approx(losses[1] - losses[0], rel=1e-3) and losses[1] > losses[0]


@pytest.mark.slow
def test_a_model_trains_with_it(micro: Path, tmp_path: Path) -> None:
    changes = ["training.consistency=0.2", "augment.spec_augment.time_width=0.1", "training.epochs=60"]
    data = override(micro_data(micro / "train.jsonl", micro / "train.jsonl"), changes)
    run = train(Config.model_validate(data), tmp_path / "run")
    assert run.best is not None and run.best.cer <= 0.05


def test_automatic_batches_leave_room_for_both_views(micro: Path, tmp_path: Path) -> None:
    sizes = []
    for share in (0, 0.2):
        changes = ["training.batch_seconds=auto", f"training.consistency={share}"]
        config = Config.model_validate(override(micro_data(micro / "train.jsonl"), changes))
        data = prepare(config, tmp_path / "run", Silent())
        settled = resolve_batch_seconds(data, torch.device("cpu"), tmp_path / "run", False, Silent(), writes=False)
        sizes.append(settled.config.training.batch_limit)
    assert sizes == [30, 15]
