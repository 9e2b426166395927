"""Learner: model, optimiser, device and data, for a run, a dry run and the learning-rate test alike."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import nn
from torch.optim import Optimizer

from anadil.errors import AnadilError
from anadil.models.acoustic import AcousticModel
from anadil.models.hugging_face.network import W2vBertSettings, Wav2Vec2Settings
from anadil.training.config import Config, TrainingSettings
from anadil.training.distributed.sharding import (
    broadcast_weights,
    empty_copy,
    fsdp_strategy,
    full_state,
    with_weights,
)
from anadil.training.distributed.workers import TIMEOUT, world_shape
from anadil.training.monitoring.report import Reporter
from anadil.training.optimizers import Pull, build_optimizer
from anadil.training.precision import precision_plugin
from anadil.training.prepare import Prepared
from anadil.training.transfer.lora import insert_lora

_MOST_PROCESSES = 16
"""On CPUs, where more processes than cores are of use only to try out how several work together."""


@dataclass(frozen=True)
class Learner:
    """Everything that has weights, moments or random numbers, and the data."""

    fabric: Fabric
    model: Any  # the acoustic model as Fabric wraps it, for forward passes of training
    optimizer: Optimizer
    data: Prepared
    masks: torch.Generator  # of SpecAugment
    pull: Pull | None = None
    unsharded_model: AcousticModel | None = None  # with sharded weights: a model to load the full weights into

    @property
    def settings(self) -> TrainingSettings:
        return self.data.config.training

    @property
    def waits(self) -> bool:
        """Whether processes exchange gradients after the last micro-batch only; sharded gradients are exchanged after each."""
        return self.fabric.world_size > 1 and self.unsharded_model is None


def with_whole_weights(learner: Learner) -> Learner:
    """Return the learner with full weights, for the first process to validate and save. All processes must call it."""
    fabric, data = learner.fabric, learner.data
    if learner.unsharded_model is None:
        return learner
    state = full_state(data.acoustic.network.state_dict(), fabric.is_global_zero)
    if not fabric.is_global_zero:
        return learner
    return replace(learner, data=replace(data, acoustic=with_weights(learner.unsharded_model, state, fabric.device)))


def refuse_accelerator(settings: TrainingSettings) -> None:
    """Raise AnadilError if this machine has no such accelerator, or not so many."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(settings.accelerator, True):
        reason = "PyTorch was built without CUDA" if settings.accelerator == "cuda" and not torch.version.cuda else ""
        raise AnadilError(
            f"training.accelerator is {settings.accelerator}, but PyTorch finds none on this machine"
            + (f": {reason}" if reason else "")
            + "\n  next: training.accelerator=auto, or cpu"
        )
    on_gpu = settings.accelerator in ("auto", "cuda") and there["cuda"]
    most = torch.cuda.device_count() if on_gpu else max(_MOST_PROCESSES, os.cpu_count() or 1)
    if settings.devices > most:
        raise AnadilError(
            f"training.devices is {settings.devices:,}, but this machine has "
            + (f"{most:,} GPUs" if on_gpu else f"{os.cpu_count()} cores; allowed are {most:,} processes")
            + f"\n  next: training.devices={most:,} or fewer"
        )


def make_fabric(config: Config, alone: bool = False) -> Fabric:
    """Return Fabric for the device or devices and the precision of `config`. `alone`: one device, whatever it says."""
    settings = config.training
    refuse_accelerator(settings)
    n_devices, n_machines = (1, 1) if alone else world_shape(settings)
    if n_devices * n_machines == 1:
        return Fabric(accelerator=settings.accelerator, devices=1, plugins=precision_plugin(config))
    # some parameters may get no gradient: wav2vec 2.0 has frozen convolutions and layer drop; a source is not read yet
    own = isinstance(config.model, Wav2Vec2Settings | W2vBertSettings)
    may_skip = own or config.init is not None or getattr(config.model, "stochastic_depth_drop_prob", 0.0) > 0
    fabric = Fabric(
        accelerator=settings.accelerator,
        devices=n_devices,
        num_nodes=n_machines,
        strategy=fsdp_strategy(n_devices * n_machines)
        if settings.strategy == "fsdp"
        else DDPStrategy(timeout=TIMEOUT, find_unused_parameters=may_skip),
        plugins=precision_plugin(config),
    )
    fabric.launch()
    return fabric


def add_adapters(data: Prepared, report: Reporter) -> None:
    """Insert LoRA adapters, if the config asks for it; call it before anything else uses the model's parameters."""
    init = data.config.init
    if init is not None and init.lora is not None:
        n = len(insert_lora(data.acoustic.network, init.lora))
        report.say(f"LoRA: {n} projections are trained, the rest of the encoder is frozen")


def assemble(fabric: Fabric, data: Prepared) -> Learner:
    """Put the model on its device, and build its optimiser.

    On several GPUs the statistics of batch norms are over the whole batch. PyTorch has no such norm for CPUs: there each
    process has its own statistics, and those of the first one are saved.
    """
    init, settings = data.config.init, data.config.training
    sharded = settings.strategy == "fsdp" and fabric.world_size > 1
    unsharded_model = empty_copy(data.acoustic) if sharded else None
    if sharded:
        broadcast_weights(fabric, data.acoustic)
    if fabric.world_size > 1 and fabric.device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(data.acoustic)  # type: ignore[no-untyped-call]
    pulled = data.start.loaded if init is not None and init.l2_sp > 0 and data.start is not None else ()
    model = fabric.setup_module(data.acoustic)
    optimizer: Any = fabric.setup_optimizers(build_optimizer(data.acoustic.network, settings, init, pulled))
    masks = torch.Generator().manual_seed(settings.seed)
    if fabric.global_rank > 0:
        reseed(masks, settings.seed, fabric.global_rank)
    return Learner(fabric, model, optimizer, data, masks, unsharded_model=unsharded_model)


def reseed(masks: torch.Generator, seed: int, rank: int, step: int = 0) -> None:
    """Seed the random numbers of a process, different in each; weights are those of the first process."""
    mixed = int(np.random.SeedSequence((seed, rank, step)).generate_state(1, np.uint64)[0] >> 1)
    masks.manual_seed(mixed)
    torch.manual_seed(mixed)
