"""A dry run: reads all data, takes a few steps, and estimates the memory and time that training will take."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import torch
from lightning_fabric import seed_everything

from anadil.data.batches import Loader, padded_seconds, plan_epoch
from anadil.models.summary import count_parameters
from anadil.training.config import Config
from anadil.training.distributed.workers import split_batch
from anadil.training.learner import Learner, add_adapters, assemble, make_fabric
from anadil.training.monitoring.memory import peak_memory_mb, resolve_batch_seconds
from anadil.training.monitoring.report import Reporter, Silent
from anadil.training.prepare import plan_steps, prepare
from anadil.training.regularization import resolve_regularization
from anadil.training.step import gradients, optimizer_step

TIMED_STEPS = 3
"""On batches of median size, after one step on the longest batch, which decides the memory."""


@dataclass(frozen=True)
class DryRun:
    """Estimates for the whole run. `audio_s_per_s`: seconds of training audio, padding included, per second."""

    parameters: int
    hours: float
    longest_batch_s: float
    loss: float  # of the longest batch, nats per label; in the flat start, per frame
    memory_mb: float | None  # peak, after that batch
    device: str
    steps_per_epoch: int
    audio_s_per_s: float
    epoch_s: float  # training and validation
    epochs: int  # at most as many as fit in training.max_minutes
    ends_by_clock: bool
    total_s: float

    def ends_at(self, now: datetime) -> datetime:
        return now + timedelta(seconds=self.total_s)

    def lines(self, now: datetime) -> list[str]:
        """The estimates as lines of text."""
        ends = self.ends_at(now)
        memory = "unknown on this system" if self.memory_mb is None else f"{self.memory_mb:,.0f} MiB on {self.device}"
        why = "training.max_minutes" if self.ends_by_clock else "training.epochs"
        return [
            f"model            {self.parameters:,} parameters",
            f"training speech  {self.hours:.2f} h, {self.steps_per_epoch:,} steps per epoch",
            f"longest batch    {self.longest_batch_s:.1f} s of audio, loss {self.loss:.3f}",
            f"memory, at most  {memory}",
            f"speed            {self.audio_s_per_s:,.0f} s of audio per second",
            f"an epoch         {_clock(self.epoch_s)} with validation",
            f"epochs           {self.epochs:,} (ended by {why})",
            f"expected end     {ends:%Y-%m-%d %H:%M}, {_clock(self.total_s)} from now",
        ]


def dry_run(config: Config, out: Path, report: Reporter | None = None) -> DryRun:
    """Estimate a run of `config`; nothing is written. Raises AnadilError if the data cannot be used or memory is too small."""
    report = report or Silent()
    seed_everything(config.training.seed, verbose=False)
    data = prepare(config, out, report, writes=False)
    add_adapters(data, report)
    fabric = make_fabric(config, alone=True)
    data = resolve_batch_seconds(data, fabric.device, out, False, report, writes=False)
    learner = assemble(fabric, resolve_regularization(data, fabric, report))
    data = learner.data
    settings = learner.settings
    plan, durations = plan_steps(data, epoch=1), data.augmenter.durations(1)
    sizes = [padded_seconds(durations, batch) for batch in plan]
    longest = max(range(len(plan)), key=sizes.__getitem__)
    loader = Loader(data.train, data.acoustic.sample_rate, augment=data.augmenter)
    learner.model.train()
    loss = _step(learner, loader, plan[longest])
    median = [plan[i] for i in sorted(range(len(plan)), key=sizes.__getitem__)[len(plan) // 2 :][:TIMED_STEPS]]
    started = time.monotonic()
    for batch in median:
        _step(learner, loader, batch)
    speed = sum(padded_seconds(durations, batch) for batch in median) / (time.monotonic() - started)
    validations = (1 + (settings.ema_decay is not None) + (settings.average_last > 1)) / settings.validate_every
    epoch_s = sum(sizes) / speed + validations * _validation_s(learner)
    by_epochs, by_clock = settings.epoch_limit * epoch_s, 60 * (settings.max_minutes or math.inf)
    epochs = settings.epoch_limit
    return DryRun(
        parameters=count_parameters(data.acoustic),
        hours=data.hours,
        longest_batch_s=sizes[longest],
        loss=loss,
        memory_mb=peak_memory_mb(learner.fabric.device),
        device=str(learner.fabric.device),
        steps_per_epoch=len(plan),
        audio_s_per_s=speed,
        epoch_s=epoch_s,
        epochs=min(epochs, math.ceil(by_clock / epoch_s)) if math.isfinite(by_clock) else epochs,
        ends_by_clock=by_clock < by_epochs,
        total_s=min(by_epochs, by_clock),
    )


def _step(learner: Learner, loader: Loader, indices: Sequence[int]) -> float:
    """Take a training step on the first device's share of a batch. Returns its loss."""
    micro_batches, _ = split_batch(indices, 0, learner.settings.devices, learner.settings.accumulate)
    pieces = [loader.load(indices) for indices in micro_batches]
    step = gradients(learner, pieces, learner.settings.flat_start_steps > 0)
    optimizer_step(learner)  # its moments take memory too
    return step.loss


def _validation_s(learner: Learner) -> float:
    """Seconds of a validation, estimated from one batch of median length; decoding is not included."""
    valid, acoustic = learner.data.valid, learner.data.acoustic
    if not valid:
        return 0.0
    durations = [example.duration for example in valid]
    plan = plan_epoch(durations, learner.settings.batch_limit, seed=None)
    median = plan[len(plan) // 2]
    learner.model.eval()
    started = time.monotonic()
    with torch.no_grad():
        batch = Loader(valid, acoustic.sample_rate).load(median).to(learner.fabric.device)
        learner.model(batch.waveforms, batch.sample_counts)
    spent = time.monotonic() - started
    learner.model.train()
    return spent * sum(padded_seconds(durations, batch) for batch in plan) / padded_seconds(durations, median)


def _clock(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
