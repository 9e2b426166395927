"""Checkpoints: all that a run needs to continue exactly, written every few minutes.

They hold weights, optimiser, position in the data and random generators. The models to use are RUN/best and RUN/last.
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

from anadil.data.augment.settings import BAND_SHARE
from anadil.data.examples import Example
from anadil.errors import AnadilError
from anadil.files import sweep, whole_file
from anadil.training.averages import Averages
from anadil.training.config import Config
from anadil.training.distributed.sharding import full_state, shard_like
from anadil.training.distributed.workers import gathered
from anadil.training.learner import Learner, reseed
from anadil.training.optimizers import restore_optimizer
from anadil.training.regularization import Regularization, with_regularization
from anadil.training.run import CHECKPOINTS, Run, Validation

VERSION = 2
KEPT = 3
"""So many are kept: the newest may be damaged by a power cut, or hold the step at which training diverged."""

MAY_CHANGE = (
    "name",
    "text.saved.version",  # if it changes what a text becomes, the labels change, which the digests of the data show
    "data.longest_pause",
    "data.pause_margin",
    "data.cache_mb",
    "data.cache",
    "data.cache_gb",
    "lm",
    "lm.order",
    "lm.beam",
    "training.epochs",
    "training.max_minutes",
    "training.patience",
    "training.stop_on_collapse",
    "training.loggers",
    "training.devices",
    "training.strategy",
    "training.accumulate",
    "training.checkpoint_minutes",
)
"""Settings that may change in a resumed run: they change only its end or its speed."""

_LABELS = "tokenizer.labels"

ADDED = {
    "features.edges": '"zeros"',
    "features.mel_edges": '"exact"',
    "model.self_conditioned": "null",
    "training.intermediate_weight": "0.3",
}
"""Settings that runs of earlier versions do not know, as JSON, with the values that mean what those versions did."""

REGULARIZATION = ("model.dropout", "augment.spec_augment.freq_width", "augment.spec_augment.time_masks")
"""Settings that `auto` resolves, in the order of `Regularization`."""

COUNTS = (
    "step", "epoch", "batch", "audio_s", "losses", "norms", "first_loss", "best_epoch", "patient_since",
    "lowest_loss", "warned", "dead_looks", "dead_since", "dead_loss",
)  # fmt: skip
"""Fields of `Run` that a checkpoint holds unchanged."""


class RunCompleteError(AnadilError):
    """There is nothing to go on with: the epochs, the time or the patience of the run are used up."""


@dataclass(frozen=True)
class Resumable:
    """Everything of a run that has a state."""

    learner: Learner
    averages: Averages
    run: Run
    identity: dict[str, Any]  # of `identity_of`


def save_checkpoint(state_of: Resumable) -> None:
    """Write RUN/checkpoints/step-N.ckpt, whole or not at all, and delete all but the newest. Raises AnadilError.

    All processes must call it; the first one writes.
    """
    run, learner = state_of.run, state_of.learner
    first = learner.fabric.is_global_zero
    state = {
        "version": VERSION,
        "identity": state_of.identity,
        "run": {
            **{name: getattr(run, name) for name in COUNTS},
            "best": asdict(run.best) if run.best else None,
            "last": asdict(run.last) if run.last else None,
            "elapsed_s": time.monotonic() - run.started,
        },
        "network": full_state(learner.data.acoustic.network.state_dict(), first),
        "optimizer": full_state(learner.optimizer.state_dict(), first),
        "ema": full_state(state_of.averages.ema, first),
        "precision": learner.fabric.strategy.precision.state_dict(),  # the loss scaler of float16
        "generators": gathered(learner.fabric, _generators(learner)),  # of each process
    }
    if not first:
        return
    folder = run.out / CHECKPOINTS
    with whole_file(folder / f"step-{run.step:08d}.ckpt") as beside:
        try:
            torch.save(state, beside)
        except RuntimeError as error:  # PyTorch's error for a full disk
            raise OSError(str(error)) from error
    for old in _checkpoints(folder)[:-KEPT]:
        old.unlink(missing_ok=True)
    run.saved = time.monotonic()


def restore_checkpoint(state_of: Resumable) -> list[str]:
    """Restore the newest readable checkpoint. Returns notes for the user.

    Raises AnadilError if there is none, RunCompleteError, or AnadilError if the data or a setting that matters has changed.
    """
    run, learner, settings = state_of.run, state_of.learner, state_of.learner.settings
    state, notes = _newest(run.out / CHECKPOINTS)
    _require_same(state["identity"], state_of.identity, run.out)
    state_of.identity["settings"] = state["identity"]["settings"]  # `as_it_began` reads them at the next resumption too
    learner.fabric.barrier()  # every process has read it
    if learner.fabric.is_global_zero:
        sweep(run.out)
        sweep(run.out / CHECKPOINTS)
    own = learner.data.acoustic.network.state_dict()
    cut = {name: shard_like(tensor, own[name]) if name in own else tensor for name, tensor in state["network"].items()}
    learner.data.acoustic.network.load_state_dict(cut)
    restore_optimizer(learner.optimizer, state["optimizer"])
    state_of.averages.restore(state["ema"])
    learner.fabric.strategy.precision.load_state_dict(state["precision"])
    was = state["run"]
    for name in COUNTS:
        setattr(run, name, was[name])
    for name in ("best", "last"):
        setattr(run, name, Validation(**was[name]) if was[name] else None)
    run.started = time.monotonic() - was["elapsed_s"]
    run.tick()
    notes += _restore_generators(learner, state["generators"], run.step)
    if run.finished(settings):
        raise RunCompleteError(
            f"the run in {run.out} is complete ({run.epoch} epochs, {run.minutes:.1f} minutes)\n"
            "  next: use its best, or give it more time with training.epochs, training.max_minutes or training.patience"
        )
    return [*notes, f"going on from step {run.step:,} (epoch {run.epoch}, {run.minutes:.1f} minutes)"]


def as_it_began(config: Config, out: Path) -> Config:
    """The config of a run that goes on: what it says of `auto` is as the run began.

    Sections of `augment` that are on by default now and that the run did not know are left out.
    """
    settings = _newest(out / CHECKPOINTS)[0]["identity"]["settings"]
    names = {key.split(".")[1] for key in settings if key.startswith("augment.")}
    unknown = {name: None for name in type(config.augment).model_fields if name not in names}
    config = config.model_copy(update={"augment": config.augment.model_copy(update=unknown)})
    return with_regularization(config, _regularization(settings))


def _regularization(settings: dict[str, str]) -> Regularization:
    """What a run began with; of a section that it had not, the defaults, which nothing reads."""
    dropout, freq_width, time_masks = (json.loads(settings.get(key, "null")) for key in REGULARIZATION)
    return Regularization(dropout or 0.0, BAND_SHARE if freq_width is None else freq_width, time_masks or 0)


def _generators(learner: Learner) -> dict[str, Any]:
    device = learner.fabric.device
    return {
        "masks": learner.masks.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def _restore_generators(learner: Learner, of_each: list[dict[str, Any]], step: int) -> list[str]:
    """Restore random generators; with another number of processes, seed them anew. Returns notes for the user."""
    fabric = learner.fabric
    if len(of_each) != fabric.world_size:
        reseed(learner.masks, learner.settings.seed, fabric.global_rank, step)
        return [
            f"{fabric.world_size} processes instead of {len(of_each)}: the batches are the same, the random numbers are not"
        ]
    mine = of_each[fabric.global_rank]
    learner.masks.set_state(mine["masks"])
    torch.set_rng_state(mine["torch"])
    if mine["cuda"] is not None and fabric.device.type == "cuda":
        torch.cuda.set_rng_state(mine["cuda"], fabric.device)
    return []


def identity_of(config: Config, train: Sequence[Example], valid: Sequence[Example]) -> dict[str, Any]:
    """Return what must not change in a resumed run: the settings, and digests of the data.

    There are two digests of each set: of what the model sees (labels as numbers), and of the texts as written. The
    numbers of all texts change if the labels do, which `labels: auto` makes of the training texts.
    """

    def digest(rows: list[tuple[Any, ...]]) -> str:
        return hashlib.sha256(repr(rows).encode()).hexdigest()

    def seen(examples: Sequence[Example]) -> str:
        return digest(
            [
                (one.duration, one.utterance.offset, one.labels, *([one.weight] if one.weight != 1 else ()))
                for one in examples
            ]
        )

    def written(examples: Sequence[Example]) -> str:
        return digest([(one.duration, one.utterance.offset, one.utterance.text, one.weight) for one in examples])

    settings = dict(flat(config.model_dump(mode="json", by_alias=True)))
    settings = {key: json.dumps(value) for key, value in settings.items() if key not in MAY_CHANGE}
    return {
        "settings": settings,
        "training data": seen(train),
        "validation data": seen(valid),
        "as written": {"training data": written(train), "validation data": written(valid)},
    }


def flat(data: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return nested settings as rows of "a.b" and value."""
    rows: list[tuple[str, Any]] = []
    for key, value in data.items():
        rows += flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [(prefix + key, value)]
    return rows


def _require_same(was: dict[str, Any], now: dict[str, Any], out: Path) -> None:
    """Raise AnadilError that names what has changed since a run began: settings, labels, training or validation data."""
    new = now["settings"]
    old = {key: value for key, value in ADDED.items() if key in new} | was["settings"]
    relabelled = old.get(_LABELS) != new.get(_LABELS)
    changed = [
        f"{key} was {old.get(key, 'not there')}, is {new.get(key, 'not there')}"
        for key in sorted({*old, *new} - {_LABELS, *MAY_CHANGE})  # an earlier version compared more of them
        if old.get(key, "null") != new.get(key, "null")
    ]
    for name in ("training data", "validation data"):
        before = was.get("as written", {}).get(name)  # checkpoints of 0.1.0 have none
        blameless = before == now["as written"][name] if before else relabelled
        if was[name] != now[name] and not blameless:
            changed.append(f"the {name} has changed: a text, a duration, or which utterances there are")
    if relabelled:
        changed.append(_label_changes(old.get(_LABELS), new.get(_LABELS)))
    if changed:
        raise AnadilError(
            f"the run in {out} cannot go on, because it began with other settings or data:\n  "
            + "\n  ".join(changed)
            + "\n  next: use the config and the data that it began with, or start a new run with another --out"
        )


def _label_changes(was: str | None, now: str | None) -> str:
    """Which labels are new, which are gone. With `labels: auto` the training texts decide on them and on their order."""
    before, after = json.loads(was or "[]"), json.loads(now or "[]")
    new = ", ".join(repr(label) for label in after if label not in before)
    gone = ", ".join(repr(label) for label in before if label not in after)
    parts = [f"new {new}" * bool(new), f"gone {gone}" * bool(gone)]
    what = "; ".join(filter(None, parts)) or "the same ones in another order"
    return f"{_LABELS} (made of the training texts if auto) have changed: {what}"


def _newest(folder: Path) -> tuple[dict[str, Any], list[str]]:
    notes: list[str] = []
    for path in reversed(_checkpoints(folder)):
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a truncated archive raises a dozen classes
            notes.append(f"{path} cannot be read ({type(error).__name__}); the one before it is taken")
            continue
        if not isinstance(state, dict) or state.get("version") != VERSION:
            raise AnadilError(
                f"{path} was written by another version of Anadil\n  next: start a new run with another --out"
            )
        return state, notes
    raise AnadilError(
        f"nothing to resume: no checkpoint in {folder}\n  next: omit --resume; add --force if the folder holds a run"
    )


def _checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, the oldest first."""
    return sorted(folder.glob("step-*.ckpt"))
