from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from anadil.training.config import TrainingSettings
from anadil.training.optimizers import ADAMW_BETAS, NOVOGRAD_BETAS, NovoGrad, build_optimizer, learning_rate

WEIGHT = [[0.5, -1.0], [2.0, 0.25]]
GRADIENTS = ([[3.0, 0.0], [0.0, 4.0]], [[1.0, -1.0], [1.0, -1.0]], [[0.0, 0.0], [-0.3, 0.4]])  # norms 5, 2 and 0.5


def novograd_by_hand(lr: float, beta1: float, beta2: float, decay: float) -> list[np.ndarray]:
    """Algorithm 1 of arXiv:1905.11286, line by line, in float64."""
    w = np.array(WEIGHT)
    g = [np.array(gradient) for gradient in GRADIENTS]
    v = np.sum(g[0] ** 2)
    m = g[0] / np.sqrt(v) + decay * w
    path = [w := w - lr * m]
    for gradient in g[1:]:
        v = beta2 * v + (1 - beta2) * np.sum(gradient**2)
        m = beta1 * m + (gradient / np.sqrt(v) + decay * w)
        path.append(w := w - lr * m)
    return path


@pytest.mark.parametrize(("beta1", "beta2", "decay"), [(0.95, 0.98, 0.0), (0.95, 0.5, 0.001), (0.0, 0.0, 0.1)])
def test_novograd_is_the_papers_algorithm(beta1: float, beta2: float, decay: float) -> None:
    weight = nn.Parameter(torch.tensor(WEIGHT, dtype=torch.float64))
    optimizer = NovoGrad([weight], 0.1, (beta1, beta2), weight_decay=decay)
    for gradient, expected in zip(GRADIENTS, novograd_by_hand(0.1, beta1, beta2, decay), strict=True):
        weight.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=1e-7)


def test_novograds_first_step_has_the_length_of_the_learning_rate_in_every_tensor() -> None:
    small, large = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    small.grad, large.grad = torch.tensor([3e-4, 4e-4]), torch.tensor([3e4, 4e4])
    NovoGrad([small, large], lr=0.5).step()
    torch.testing.assert_close(small.data, torch.tensor([-0.3, -0.4]), rtol=1e-4, atol=0)
    torch.testing.assert_close(large.data, torch.tensor([-0.3, -0.4]), rtol=1e-4, atol=0)


def test_novograd_leaves_alone_what_has_no_gradient_and_survives_a_gradient_of_zeros() -> None:
    frozen, still = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    still.grad = torch.zeros(2)
    NovoGrad([frozen, still], lr=0.5).step()
    assert frozen.tolist() == still.tolist() == [1, 1]


NETWORK = nn.Sequential(nn.Conv1d(2, 3, 1), nn.BatchNorm1d(3), nn.Linear(3, 4))


@pytest.mark.parametrize("name", ["adamw", "novograd"])
def test_biases_and_batch_norms_are_free_of_weight_decay(name: str) -> None:
    optimizer = build_optimizer(NETWORK, settings(optimizer=name, weight_decay=0.3))
    decay = {tuple(p.shape): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay == {(3, 2, 1): 0.3, (4, 3): 0.3, (3,): 0.0, (4,): 0.0}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(NETWORK.parameters()))


@pytest.mark.parametrize(
    ("fields", "kind", "betas"),
    [
        ({}, torch.optim.AdamW, ADAMW_BETAS),
        ({"optimizer": "adamw", "betas": (0.8, 0.9)}, torch.optim.AdamW, (0.8, 0.9)),
        ({"optimizer": "novograd"}, NovoGrad, NOVOGRAD_BETAS),
        ({"optimizer": "novograd", "betas": (0.95, 0.5)}, NovoGrad, (0.95, 0.5)),
    ],
)
def test_the_optimizer_is_the_configs(fields: dict[str, Any], kind: type, betas: tuple[float, float]) -> None:
    optimizer = build_optimizer(NETWORK, settings(lr=0.25, **fields))
    assert type(optimizer) is kind
    assert {group["betas"] for group in optimizer.param_groups} == {betas}
    assert {group["lr"] for group in optimizer.param_groups} == {0.25}


def settings(**fields: Any) -> TrainingSettings:
    return TrainingSettings.model_validate(fields)


RATES = settings(lr=1.0, min_lr=0.1, warmup_steps=4)


@pytest.mark.parametrize(
    ("step", "progress", "expected"),
    [
        (0, 0.0, 0.1 + 0.9 / 4),  # warm-up
        (1, 0.0, 0.1 + 0.9 / 2),
        (3, 0.0, 1.0),  # peak
        (100, 1 / 3, 0.1 + 0.9 * 0.75),  # cos 60 degrees is 1/2
        (100, 0.5, 0.55),
        (100, 2 / 3, 0.1 + 0.9 * 0.25),
        (100, 1.0, 0.1),  # end
        (100, 1.5, 0.1),  # past it
    ],
)
def test_learning_rate_at_known_points(step: int, progress: float, expected: float) -> None:
    assert learning_rate(RATES, step, progress) == pytest.approx(expected)


def test_learning_rate_rises_in_warm_up_then_falls_to_its_least() -> None:
    n_steps = 100
    rates = [learning_rate(RATES, step, step / n_steps) for step in range(n_steps + 1)]
    assert all(a < b for a, b in itertools.pairwise(rates[:4]))
    assert all(a > b for a, b in itertools.pairwise(rates[3:]))
    assert max(rates) == rates[3] > 0.99
    assert rates[-1] == pytest.approx(RATES.min_lr)


def test_without_warm_up_the_first_step_has_the_peak_rate() -> None:
    assert learning_rate(settings(lr=0.5, warmup_steps=0), 0, 0.0) == 0.5
