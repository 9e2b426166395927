"""Training in a process of its own that can be killed, or kills itself in the middle of writing something."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from anadil.training.config import load_config
from anadil.training.monitoring.logs import Logs
from anadil.training.train import train

CONTEXT = multiprocessing.get_context("forkserver" if os.name != "nt" else "spawn")
CONTEXT.set_forkserver_preload(["tests.support.killing"])  # PyTorch is imported once for all of them


def process_of(config: Path, out: Path, resume: bool, death: str = "", countdown: int = 0) -> Any:
    return CONTEXT.Process(target=_train, args=(config, out, resume, death, countdown))


def _train(config: Path, out: Path, resume: bool, death: str, countdown: int) -> None:
    torch.set_num_threads(1)  # sums in one order
    if death:
        DEATHS[death](countdown)
    train(load_config(config), out, resume=resume)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _patched(module: Any, name: str, countdown: int, instead: Callable[..., Any], only: str = "") -> None:
    """`instead`, given the real function first, replaces the call at which the countdown reaches 0."""
    real, left = getattr(module, name), [countdown]

    def counted(*args: Any, **options: Any) -> Any:
        if only in str(args[0]):
            left[0] -= 1
        return real(*args, **options) if left[0] else instead(real, *args, **options)

    setattr(module, name, counted)


def _half_a_checkpoint(countdown: int) -> None:
    def half(real: Any, state: Any, path: Path) -> None:
        content = io.BytesIO()
        real(state, content)
        path.write_bytes(content.getvalue()[: len(content.getvalue()) // 2])
        _die()

    _patched(torch, "save", countdown, half)


def _before_the_rename(countdown: int) -> None:
    _patched(os, "replace", countdown, lambda *_: _die())


def _after_the_rename(countdown: int) -> None:
    """Before the oldest checkpoint is deleted."""
    _patched(os, "replace", countdown, lambda real, *args: (real(*args), _die()))


def _between_the_renames_of_best(countdown: int) -> None:
    """The earlier folder is set aside, the new one is not there yet; once is enough, it is not written often."""
    _patched(os, "rename", 1, lambda real, *args: (real(*args), _die()), only="run/best")


def _half_a_row_of_metrics(countdown: int) -> None:
    def half(real: Any, logs: Logs, row: dict[str, Any], samples: str, step: int) -> None:
        with open(logs.path, "a", encoding="utf-8") as file:
            file.write(f"{row['epoch']},")
        _die()

    _patched(Logs, "epoch", 1, half)


DEATHS: dict[str, Callable[[int], None]] = {
    "half a checkpoint": _half_a_checkpoint,
    "half a row of metrics": _half_a_row_of_metrics,
    "before the rename": _before_the_rename,
    "after the rename": _after_the_rename,
    "half a checkpoint again": _half_a_checkpoint,
    "between the renames of best": _between_the_renames_of_best,
}
