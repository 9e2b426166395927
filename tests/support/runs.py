"""Training runs of the tests: what was reported, what was written, and runs that crash."""

from __future__ import annotations

import csv
import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from anadil.training.config import Config
from anadil.training.train import train


class Told:
    """A reporter that keeps all messages; `on_say` is called with each one."""

    def __init__(self, on_say: Callable[[str], None] = lambda text: None) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []
        self.tables: list[str] = []
        self.on_say = on_say

    def say(self, text: str) -> None:
        self.said.append(text)
        self.on_say(text)

    def warn(self, text: str) -> None:
        self.warned.append(text)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self.tables.append(title)

    def progress(self, stage: str, done: float, total: float, note: str = "") -> None:
        assert 0 <= done <= total


def metrics(run: Path) -> list[dict[str, str]]:
    with open(run / "metrics.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def entries(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def no_space(*args: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


EVERY_STEP = 1e-9


class Crash(BaseException):
    """Nothing catches it, as nothing catches `kill -9`."""


class CrashAt(Told):
    def __init__(self, step: int) -> None:
        super().__init__()
        self.left = step

    def progress(self, stage: str, done: float, total: float, note: str = "") -> None:
        if stage == "training":
            self.left -= 1
            if self.left < 0:
                raise Crash


def assert_same_run(one: Path, other: Path) -> None:
    for name in ("best", "last"):
        weights, others = (load_file(run / name / "model.safetensors") for run in (one, other))
        assert all(torch.equal(weights[key], others[key]) for key in weights)
    timed = ("minutes", "audio_s_per_s", "memory_mb", "data_wait")
    rows = [[{k: v for k, v in row.items() if k not in timed} for row in metrics(run)] for run in (one, other)]
    assert rows[0] == rows[1]


def assert_resumes_exactly(config: Config, folder: Path, crash_after: int = 3) -> None:
    """Train in folder/undisturbed, and with a crash and --resume in folder/run: weights and metrics are the same."""
    train(config, folder / "undisturbed")
    with pytest.raises(Crash):
        train(config, folder / "run", CrashAt(crash_after))
    torch.manual_seed(99)
    train(config, folder / "run", resume=True)
    assert_same_run(folder / "run", folder / "undisturbed")
