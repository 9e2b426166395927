"""Averages of weights, which often have a lower error rate than the weights themselves. Validation decides.

There are two: a moving average over steps (EMA; Polyak and Juditsky 1992), whose decay is warmed up so that it forgets
the random start; and the mean of the last epochs (Izmailov et al., arXiv:1803.05407, without its learning rate). Running
statistics of batch norms are averaged like weights: they are averages of the same data, and the weights differ little.
Why not torch.optim.swa_utils: docs/libraries.md.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from anadil.errors import AnadilError
from anadil.files import whole_file
from anadil.training.config import TrainingSettings
from anadil.training.distributed.sharding import full_state, local_shard, shard_like
from anadil.training.run import EPOCHS

SPARE = 3
"""So many more epochs than are averaged keep their file: a run may be resumed from an earlier checkpoint."""

PLAIN = ""
"""The name of the weights that are not averaged."""


class Averages:
    """The averages of a network during a run; files of epochs are in `out`/epochs."""

    def __init__(self, network: nn.Module, settings: TrainingSettings, out: Path) -> None:
        self.network, self.decay, self.span = network, settings.ema_decay, settings.average_last
        self.folder = out / EPOCHS
        self.ema = None if self.decay is None else _copied(network)

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Update the moving average; `step` counts from 1. The decay is at most (1 + step) / (10 + step)."""
        if self.ema is None or self.decay is None:
            return
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        averaged, current = [], []
        for name, tensor in self.network.state_dict().items():
            if tensor.is_floating_point():
                averaged.append(local_shard(self.ema[name]))
                current.append(local_shard(tensor))
            else:
                self.ema[name].copy_(tensor)  # the batch counts of batch norms
        torch._foreach_lerp_(averaged, current, share)

    def after_epoch(self, epoch: int) -> None:
        """Save the epoch's weights, if the last epochs are averaged. Raises AnadilError if they cannot be written."""
        if self.span < 2:
            return
        with whole_file(self._file(epoch)) as beside:
            try:
                save_file({name: tensor.cpu().contiguous() for name, tensor in _copied(self.network).items()}, beside)
            except SafetensorError as error:  # its own name for an I/O error
                raise OSError(str(error)) from error
        self._file(epoch - self.span - SPARE).unlink(missing_ok=True)

    def candidates(self, epoch: int) -> dict[str, dict[str, Tensor] | None]:
        """Return the candidates after `epoch` by name: weights, or None for those of the network."""
        found: dict[str, dict[str, Tensor] | None] = {PLAIN: None}
        if self.ema is not None:
            found["ema"] = self.ema
        files = [self._file(one) for one in range(max(1, epoch - self.span + 1), epoch + 1)] if self.span > 1 else []
        files = [file for file in files if file.is_file()]  # a full disk may have prevented some
        if len(files) > 1:
            found["average"] = mean_of(files)
        return found

    def over(self, network: nn.Module, first: bool) -> Averages:
        """Return the averages for an unsharded `network`, on rank 0. All ranks must call it."""
        other = copy.copy(self)
        other.network, other.ema = network, full_state(self.ema, first)
        return other

    @contextmanager
    def in_place(self, weights: dict[str, Tensor] | None) -> Iterator[None]:
        """Give the network these weights inside the block."""
        if weights is None:
            yield
            return
        own = _copied(self.network)
        self.network.load_state_dict(weights)
        try:
            yield
        finally:
            self.network.load_state_dict(own)

    def restore(self, ema: dict[str, Tensor] | None) -> None:
        """Restore the moving average from a checkpoint."""
        if self.ema is not None and ema is not None:
            for name, tensor in ema.items():
                self.ema[name].copy_(shard_like(tensor, self.ema[name]))

    def _file(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:05d}.safetensors"


def mean_of(files: list[Path]) -> dict[str, Tensor]:
    """Return the mean of the weights in these files; counts are those of the last. Raises AnadilError if one cannot be read."""
    total: dict[str, Tensor] = {}
    for file in files:
        try:
            weights = load_file(file)
        except (OSError, SafetensorError) as error:
            raise AnadilError(f"{file} cannot be read: {error}\n  next: delete it; --resume goes on without") from error
        for name, tensor in weights.items():
            total[name] = total[name] + tensor if name in total and tensor.is_floating_point() else tensor
    return {name: tensor / len(files) if tensor.is_floating_point() else tensor for name, tensor in total.items()}


def describe(name: str, settings: TrainingSettings) -> str:
    """Describe a candidate in words; empty for the weights that are not averaged."""
    return {
        "ema": f"moving average over steps, decay {settings.ema_decay:g}" if settings.ema_decay else "",
        "average": f"mean of the last {settings.average_last} epochs",
    }.get(name, "")


def _copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
