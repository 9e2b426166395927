"""Optimisers and the learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from anadil.training.config import TrainingSettings

ADAMW_BETAS = (0.9, 0.98)
NOVOGRAD_BETAS = (0.95, 0.98)
"""The field's defaults; the QuartzNet paper trains with (0.95, 0.5), arXiv:1910.10261 section 3."""


class NovoGrad(Optimizer):
    """Layer-wise normalised gradients with decoupled weight decay (Ginsburg et al., arXiv:1905.11286, algorithm 1).

    The second moment is one number a tensor: v = b2 v + (1 - b2) |g|^2, started at |g|^2.
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
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                norm_squared = weight.grad.square().sum()
                state = self.state[weight]
                if not state:
                    state["second"] = norm_squared.clone()
                    state["first"] = torch.zeros_like(weight)
                else:
                    state["second"].mul_(beta2).add_(norm_squared, alpha=1 - beta2)
                direction = weight.grad / (state["second"].sqrt() + group["eps"]) + group["weight_decay"] * weight
                state["first"].mul_(beta1).add_(direction)
                weight.sub_(group["lr"] * state["first"])
        return loss


def build_optimizer(model: nn.Module, settings: TrainingSettings) -> Optimizer:
    """Weight decay on matrices and filters only: on batch norms and biases it would fight the data's scale."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    free = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": free, "weight_decay": 0.0}]
    if settings.optimizer == "novograd":
        return NovoGrad(groups, settings.lr, settings.betas or NOVOGRAD_BETAS)
    return AdamW(groups, settings.lr, settings.betas or ADAMW_BETAS)


def learning_rate(settings: TrainingSettings, step: int, progress: float) -> float:
    """Linear warm-up over `warmup_steps`, then a half cosine to `min_lr` (Loshchilov and Hutter, arXiv:1608.03983).

    `progress` is the share of the whole run that is done, 0 to 1.
    """
    warm = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    cosine = 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))
    return settings.min_lr + (settings.lr - settings.min_lr) * warm * cosine
