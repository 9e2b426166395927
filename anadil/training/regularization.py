"""Dropout and masks for the number of epochs that a run will have, where its config says `auto`.

Few epochs of few hours want little regularisation, many want much. Both were measured on Mboshi (docs/LOG.md): the
numbers of `RECIPES` were right at these epochs of 3.8 hours, and the rule interpolates between them.
"""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from anadil.data.batches import padded_seconds
from anadil.models.quartznet import QuartzNet, QuartzNetSettings
from anadil.training.config import Config
from anadil.training.monitoring.report import Reporter
from anadil.training.prepare import Prepared, plan_steps

AUTO = "auto"


@dataclass(frozen=True)
class Regularization:
    """`model.dropout`, and `freq_width` and `time_masks` of `augment.spec_augment`."""

    dropout: float
    freq_width: float
    time_masks: int


RECIPES: dict[float, Regularization] = {
    8: Regularization(0.0, 0.15, 2),
    29: Regularization(0.05, 0.15, 2),
    112: Regularization(0.15, 0.25, 4),
}
"""By epochs of `MEASURED_HOURS`. Fewer or more epochs take the first or the last one."""

MEASURED_HOURS, HOURS_EXPONENT = 3.8, 0.75
"""E epochs of H hours are taken for E x (3.8 / H)^0.75 epochs of 3.8 hours. With the last recipe, training and validation
loss became equal at about 127 epochs of 3.8 hours and at about 46 of 0.96 (both between two measured runs)."""

SHARE = 0.85
"""Of a run's time is taken to be for features, forward and backward pass. Sampled once, it was 91 % (docs/LOG.md); the
rest is validation, loss and optimiser, and the loader takes some of the cores. The rule needs no better estimate."""

TIMED_STEPS = 3
"""After one that is not timed, on random numbers in a batch of median size."""


def regularization_for(epochs: float, hours: float) -> Regularization:
    """The numbers for so many epochs of so many hours of speech: linear in the logarithm of the epochs."""
    comparable = epochs * (MEASURED_HOURS / hours) ** HOURS_EXPONENT
    xs = [math.log(one) for one in RECIPES]

    def between(name: str) -> float:
        return float(np.interp(math.log(comparable), xs, [getattr(one, name) for one in RECIPES.values()]))

    return Regularization(round(between("dropout"), 3), round(between("freq_width"), 3), round(between("time_masks")))


def is_auto(config: Config) -> bool:
    """Whether the config leaves any of these numbers to the rule."""
    model, spec = config.model, config.augment.spec_augment
    by_model = isinstance(model, QuartzNetSettings) and model.dropout == AUTO
    return by_model or (spec is not None and AUTO in (spec.freq_width, spec.time_masks))


def resolve_regularization(data: Prepared, fabric: Fabric, report: Reporter) -> Prepared:
    """Return `data` with numbers for every `auto`, and set the network's dropout; all processes must call it.

    With `training.max_minutes`, the first process measures the speed of a few steps. `training.batch_seconds` must be
    a number by now.
    """
    if not is_auto(data.config):
        return data
    epochs = fabric.broadcast(expected_epochs(data, fabric) if fabric.is_global_zero else 0.0)
    config = with_regularization(data.config, regularization_for(epochs, data.hours))
    network = data.acoustic.network
    if isinstance(network, QuartzNet) and isinstance(config.model, QuartzNetSettings):
        network.set_dropout(config.model)
    report.say(f"{_describe(data.config, config)}: for about {epochs:.3g} epochs of {data.hours:.2f} h (auto)")
    return replace(data, config=config)


def with_regularization(config: Config, found: Regularization) -> Config:
    """The config with the numbers of `found` where it says `auto`; numbers stay as they are."""
    update: dict[str, Any] = {}
    if isinstance(config.model, QuartzNetSettings) and config.model.dropout == AUTO:
        update["model"] = config.model.model_copy(update={"dropout": found.dropout})
    spec = config.augment.spec_augment
    if spec is not None:
        numbers = {"freq_width": found.freq_width, "time_masks": found.time_masks}
        masks = {name: number for name, number in numbers.items() if getattr(spec, name) == AUTO}
        update["augment"] = config.augment.model_copy(update={"spec_augment": spec.model_copy(update=masks)})
    return config.model_copy(update=update)


def expected_epochs(data: Prepared, fabric: Fabric) -> float:
    """`training.epochs`, or those that fit into `training.max_minutes` at the speed of this machine, if they are fewer."""
    settings = data.config.training
    if settings.max_minutes is None:
        return float(settings.epoch_limit)
    plan, durations = plan_steps(data, epoch=1), data.augmenter.durations(1)
    sizes = [padded_seconds(durations, batch) for batch in plan]
    median = sorted(plan, key=lambda batch: padded_seconds(durations, batch))[len(plan) // 2]
    seconds = max(durations[index] for index in median)
    speed = SHARE * _speed(data, fabric, len(median), seconds)
    return min(float(settings.epoch_limit), 60 * settings.max_minutes * speed / sum(sizes))


def _speed(data: Prepared, fabric: Fabric, n_utterances: int, seconds: float) -> float:
    """Seconds of audio per second of features, forward and backward pass. The model and random numbers stay as they are."""
    acoustic, views = copy.deepcopy(data.acoustic).to(fabric.device).train(), data.config.training.views
    devices = [fabric.device] if fabric.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        n_samples = max(round(seconds * acoustic.sample_rate), acoustic.min_samples)
        waveforms = torch.randn(n_utterances, n_samples, device=fabric.device)
        counts = torch.full((n_utterances,), n_samples, device=fabric.device)
        spent: list[float] = []
        for _ in range(1 + TIMED_STEPS):
            started = time.monotonic()
            with fabric.autocast():
                log_probs, _ = acoustic(waveforms, counts)
            log_probs.sum().backward()
            float(log_probs.detach().sum())  # waits for a GPU
            spent.append(time.monotonic() - started)
    each = sorted(spent[1:])[TIMED_STEPS // 2] * views
    return fabric.world_size * n_utterances * n_samples / acoustic.sample_rate / max(each, 1e-6)


def _describe(before: Config, after: Config) -> str:
    """The numbers that `auto` became."""
    parts: list[str] = []
    if isinstance(before.model, QuartzNetSettings) and before.model.dropout == AUTO:
        parts.append(f"dropout {getattr(after.model, 'dropout', 0)}")
    spec, masks = before.augment.spec_augment, after.augment.spec_augment
    if spec is not None and masks is not None:
        if spec.freq_width == AUTO:
            parts.append(f"masks of at most {masks.band_share:.1%} of the mel bands")
        if spec.time_masks == AUTO:
            parts.append(f"{masks.n_time_masks} spans of time masked")
    return ", ".join(parts)
