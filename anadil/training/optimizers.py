"""Optimisers, the learning-rate schedule, and L2-SP (decay towards the start of a transfer)."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from anadil.training.config import TrainingSettings
from anadil.training.distributed.sharding import full_sums, local_shard, shard_like
from anadil.training.transfer.freezing import frozen_names, is_frozen, lr_factors
from anadil.training.transfer.settings import InitSettings

ADAMW_BETAS = (0.9, 0.98)
NOVOGRAD_BETAS = (0.95, 0.98)
"""The field's defaults; the QuartzNet paper trains with (0.95, 0.5), arXiv:1910.10261 section 3."""


class NovoGrad(Optimizer):
    """Layer-wise normalised gradients with decoupled weight decay (Ginsburg et al., arXiv:1905.11286, algorithm 1).

    The second moment is one number per tensor: v = b2 v + (1 - b2) |g|^2, started at |g|^2.
    The first: m = b1 m + (g / (sqrt(v) + eps) + decay * w), started without b1. Step: w = w - lr m.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = NOVOGRAD_BETAS,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            weights = [weight for weight in group["params"] if weight.grad is not None]
            norms = full_sums([weight.grad.square() for weight in weights]) if weights else ()
            for weight, norm_squared in zip(weights, norms, strict=True):
                state = self.state[weight]
                if not state:
                    state["second"] = norm_squared.clone()
                    state["first"] = torch.zeros_like(weight)
                else:
                    state["second"].mul_(beta2).add_(norm_squared, alpha=1 - beta2)
                mine, gradient, first = local_shard(weight), local_shard(weight.grad), local_shard(state["first"])
                direction = gradient / (state["second"].sqrt() + group["eps"]) + group["weight_decay"] * mine
                first.mul_(beta1).add_(direction)
                mine.sub_(group["lr"] * first)
        return loss


def build_optimizer(
    model: nn.Module, settings: TrainingSettings, init: InitSettings | None = None, pulled: Collection[str] = ()
) -> Optimizer:
    """Build the optimiser. Weight decay applies to matrices and filters, not to batch norms and biases.

    Parameters named in `pulled` decay towards their start (L2-SP), not towards zero. A group's `factor` scales its
    learning rate. Its warm-up counts from step `since`, so that weights that are unfrozen late get a warm-up too.
    """
    parameters = dict(model.named_parameters())
    factors = lr_factors(list(parameters), init)
    frozen = frozen_names(model, init) if init else frozenset()
    groups: dict[tuple[bool, float, bool, bool], dict[str, Any]] = {}
    for name, parameter in sorted(parameters.items(), key=lambda item: item[1].ndim <= 1):
        decayed = parameter.ndim > 1 and name not in pulled
        key = (parameter.ndim > 1, factors[name], name in frozen, name in pulled)
        fresh = {"params": [], "weight_decay": settings.weight_decay if decayed else 0.0}
        fresh |= {"factor": factors[name], "frozen": name in frozen, "since": 0}
        groups.setdefault(key, fresh)["params"].append(parameter)
    if settings.optimizer == "novograd":
        return NovoGrad(groups.values(), settings.lr, settings.betas or NOVOGRAD_BETAS)
    # fused: 2.5 ms per step instead of 5.8 (small preset, one thread); the loss scaler of 16-bit floats cannot use it
    fused = settings.precision != "16-mixed"
    return AdamW(groups.values(), settings.lr, settings.betas or ADAMW_BETAS, fused=fused)


def restore_optimizer(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Load the `state_dict` of an unsharded optimiser; each process takes its part of the moments."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    moments = {
        i: {
            name: shard_like(one, weights[i]) if one.shape == weights[i].shape else one
            for name, one in of_weight.items()
        }
        for i, of_weight in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": moments})


def begin_thaw(optimizer: Optimizer, init: InitSettings | None, epoch: int, step: int) -> None:
    """Start the warm-up of unfrozen weights, if `epoch` is the first one in which they learn."""
    if init is not None and not is_frozen(init, epoch) and is_frozen(init, epoch - 1):
        for group in optimizer.param_groups:
            if group["frozen"]:
                group["since"] = step


def set_learning_rates(optimizer: Optimizer, settings: TrainingSettings, step: int, progress: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["factor"] * learning_rate(settings, step - group["since"], progress)


class Pull:
    """L2-SP (Li et al., arXiv:1802.01483, equation 4): weights decay towards their start, not towards zero.

    Decoupled from the gradient, as AdamW's weight decay is (arXiv:1711.05101): after each step
    w = w - lr * strength * (w - start). So it does not enter the moments, and acts on every weight alike.
    """

    def __init__(self, network: nn.Module, start: Mapping[str, Tensor], strength: float) -> None:
        parameters = dict(network.named_parameters())
        self.strength = strength
        self.start = {
            parameters[name]: local_shard(shard_like(tensor.to(parameters[name].device), parameters[name]))
            for name, tensor in start.items()
        }

    @torch.no_grad()
    def step(self, optimizer: Optimizer) -> None:
        """Call after the optimiser's step; weights without a gradient (frozen ones) do not change."""
        for group in optimizer.param_groups:
            for weight in group["params"]:
                if weight.grad is not None and weight in self.start:
                    local_shard(weight).sub_(group["lr"] * self.strength * (local_shard(weight) - self.start[weight]))


def learning_rate(settings: TrainingSettings, step: int, progress: float) -> float:
    """Return the learning rate: linear warm-up over `warmup_steps`, then a half cosine to `min_lr`.

    The schedule is that of Loshchilov and Hutter, arXiv:1608.03983. `progress` is the share of the run that is done, 0 to 1.
    """
    warm = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    cosine = 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))
    return settings.min_lr + (settings.lr - settings.min_lr) * warm * cosine
