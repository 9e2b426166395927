"""Checkpoints: all that a run needs to go on as if it had never stopped, written every few minutes.

Not a model to be used (RUN/best and RUN/last are): weights, optimiser, position in the data, generators.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim import Optimizer

from anadil.data.checks import Example
from anadil.errors import AnadilError
from anadil.files import whole_file
from anadil.training.config import Config, TrainingSettings
from anadil.training.run import CHECKPOINTS, Run, Validation

VERSION = 1
KEPT = 3
"""The newest are kept: one may be damaged by a power cut, or hold the step where training went wrong."""

MAY_CHANGE = (
    "name", "data.cache_mb", "data.cache", "data.cache_gb", "training.epochs", "training.max_minutes",
    "training.checkpoint_minutes",
)  # fmt: skip
"""Settings that a resumed run may have otherwise: they end it sooner or later, or cost only time."""


@dataclass(frozen=True)
class Resumable:
    """Everything that has a state."""

    fabric: Fabric
    network: nn.Module
    optimizer: Optimizer
    masks: torch.Generator  # of SpecAugment
    run: Run
    identity: dict[str, Any]  # of `identity_of`


def save_checkpoint(state_of: Resumable) -> None:
    """Write RUN/checkpoints/step-N.ckpt, whole or not at all, and delete all but the newest. Raises AnadilError."""
    run = state_of.run
    state = {
        "version": VERSION,
        "identity": state_of.identity,
        "run": {
            "step": run.step,
            "epoch": run.epoch,
            "batch": run.batch,
            "audio_s": run.audio_s,
            "losses": run.losses,
            "first_loss": run.first_loss,
            "best": asdict(run.best) if run.best else None,
            "last": asdict(run.last) if run.last else None,
            "elapsed_s": time.monotonic() - run.started,
        },
        "network": state_of.network.state_dict(),
        "optimizer": state_of.optimizer.state_dict(),
        "precision": state_of.fabric.strategy.precision.state_dict(),  # the loss scaler of float16
        "generators": {
            "masks": state_of.masks.get_state(),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        },
    }
    folder = run.out / CHECKPOINTS
    with whole_file(folder / f"step-{run.step:08d}.ckpt") as beside:
        try:
            torch.save(state, beside)
        except RuntimeError as error:  # its own name for a full disk
            raise OSError(str(error)) from error
    for old in _checkpoints(folder)[:-KEPT]:
        old.unlink(missing_ok=True)
    run.saved = time.monotonic()


def restore_checkpoint(state_of: Resumable, settings: TrainingSettings) -> list[str]:
    """Put everything back as it was at the newest checkpoint that can be read. Returns what there is to tell.

    Raises AnadilError if there is none, if the run is complete, or if the data or a setting that matters has changed.
    """
    run = state_of.run
    state, notes = _newest(run.out / CHECKPOINTS)
    _require_same(state["identity"], state_of.identity, run.out)
    state_of.network.load_state_dict(state["network"])
    state_of.optimizer.load_state_dict(state["optimizer"])
    state_of.fabric.strategy.precision.load_state_dict(state["precision"])
    generators = state["generators"]
    state_of.masks.set_state(generators["masks"])
    torch.set_rng_state(generators["torch"])
    if torch.cuda.is_available() and generators["cuda"]:
        torch.cuda.set_rng_state_all(generators["cuda"])
    was = state["run"]
    for name in ("step", "epoch", "batch", "audio_s", "losses", "first_loss"):
        setattr(run, name, was[name])
    for name in ("best", "last"):
        setattr(run, name, Validation(**was[name]) if was[name] else None)
    run.started = time.monotonic() - was["elapsed_s"]
    if run.finished(settings.epochs, settings.max_minutes):
        raise AnadilError(
            f"the run in {run.out} is complete ({run.epoch} epochs, {run.minutes:.1f} minutes)\n"
            "  next: use its best, or give it more with training.epochs or training.max_minutes"
        )
    return [*notes, f"going on from step {run.step:,} (epoch {run.epoch}, {run.minutes:.1f} minutes)"]


def identity_of(config: Config, train: Sequence[Example], valid: Sequence[Example]) -> dict[str, Any]:
    """What must not change between a run and its resumption: the settings, and the data by content of the manifests."""

    def digest(examples: Sequence[Example]) -> str:
        rows = [
            (one.duration, one.utterance.offset, one.labels, *([one.weight] if one.weight != 1 else ()))
            for one in examples
        ]
        return hashlib.sha256(repr(rows).encode()).hexdigest()

    settings = dict(_flat(config.model_dump(mode="json", by_alias=True)))
    settings = {key: json.dumps(value) for key, value in settings.items() if key not in MAY_CHANGE}
    return {"settings": settings, "training data": digest(train), "validation data": digest(valid)}


def _flat(data: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in data.items():
        rows += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [(prefix + key, value)]
    return rows


def _require_same(was: dict[str, Any], now: dict[str, Any], out: Path) -> None:
    keys = {*was["settings"], *now["settings"]}
    changed = [
        f"{key} was {was['settings'].get(key, 'not there')}, is {now['settings'].get(key, 'not there')}"
        for key in sorted(keys)
        if was["settings"].get(key) != now["settings"].get(key)
    ]
    changed += [f"the {name} is not what it was" for name in was if name != "settings" and was[name] != now.get(name)]
    if changed:
        raise AnadilError(
            f"the run in {out} cannot go on, for it began otherwise:\n  "
            + "\n  ".join(changed)
            + "\n  next: give it the config and the data that it began with, or start anew with another --out"
        )


def _newest(folder: Path) -> tuple[dict[str, Any], list[str]]:
    notes: list[str] = []
    for path in reversed(_checkpoints(folder)):
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a truncated archive raises a dozen classes
            notes.append(f"{path} cannot be read ({type(error).__name__}); the one before it is taken")
            continue
        if not isinstance(state, dict) or state.get("version") != VERSION:
            raise AnadilError(f"{path} is of another version of Anadil\n  next: train anew with another --out")
        return state, notes
    raise AnadilError(f"nothing to resume: no checkpoint in {folder}\n  next: leave --resume out")


def _checkpoints(folder: Path) -> list[Path]:
    """Oldest first."""
    return sorted(folder.glob("step-*.ckpt"))
