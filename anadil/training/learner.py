"""All that a step of training works with, put together: alike for a run, a dry run and the search for a learning rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch.optim import Optimizer

from anadil.training.config import TrainingSettings
from anadil.training.optimizers import Pull, build_optimizer
from anadil.training.prepare import Prepared


@dataclass(frozen=True)
class Learner:
    """Everything that has weights, moments or random numbers, and the data."""

    fabric: Fabric
    model: Any  # the acoustic model as Fabric wraps it, for forward passes of training
    optimizer: Optimizer
    data: Prepared
    masks: torch.Generator  # of SpecAugment
    pull: Pull | None = None

    @property
    def settings(self) -> TrainingSettings:
        return self.data.config.training


def make_fabric(settings: TrainingSettings) -> Fabric:
    """The device, and how numbers are rounded on it."""
    return Fabric(accelerator=settings.accelerator, devices=1, precision=_precision(settings))


def assemble(fabric: Fabric, data: Prepared) -> Learner:
    """Put the model on its device, with an optimiser."""
    init = data.config.init
    pulled = data.start.loaded if init is not None and init.l2_sp > 0 and data.start is not None else ()
    optimizer = build_optimizer(data.acoustic.network, data.config.training, init, pulled)
    model, optimizer = fabric.setup(data.acoustic, optimizer)
    masks = torch.Generator().manual_seed(data.config.training.seed)
    return Learner(fabric, model, optimizer, data, masks)


def _precision(settings: TrainingSettings) -> Any:
    if settings.precision != "auto":
        return settings.precision
    on_gpu = settings.accelerator in ("auto", "cuda") and torch.cuda.is_available()
    return "bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported() else "32-true"
