"""`data.cache` and the column `data_wait`, through a whole run."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from anadil.data.cache import DiskCache
from anadil.training.config import Config
from anadil.training.monitoring.report import Silent
from anadil.training.train import train
from tests.support.micro import micro_data, write_corpus


class Warned(Silent):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def config_of(folder: Path, cache: Path | None) -> Config:
    data = micro_data(write_corpus(folder), epochs=2)
    data["data"] |= {"cache": str(cache) if cache else None}
    return Config.model_validate(data)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "last/model.safetensors")


def test_a_run_from_the_cache_is_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(tmp_path, tmp_path / "cache")
    train(config_of(tmp_path, None), tmp_path / "without")
    train(config, tmp_path / "decoded")
    assert len(list((tmp_path / "cache").rglob("*.pcm"))) == 8
    monkeypatch.setattr("anadil.audio.read", lambda *_: pytest.fail("decoded again"))
    known = {"longest_pause": 1.0, "pause_margin": 0.3}  # else 200 utterances are decoded to measure them
    train(config.model_copy(update={"data": config.data.model_copy(update=known)}), tmp_path / "cached")
    wanted = weights(tmp_path / "without")
    for name in ("decoded", "cached"):
        assert all(torch.equal(wanted[key], tensor) for key, tensor in weights(tmp_path / name).items())


def test_the_share_of_time_spent_waiting_is_logged(tmp_path: Path) -> None:
    train(config_of(tmp_path, None), tmp_path / "run")
    with open(tmp_path / "run/metrics.csv", newline="", encoding="utf-8") as file:
        shares = [float(row["data_wait"]) for row in csv.DictReader(file)]
    assert len(shares) == 2 and all(0 < share < 1 for share in shares)


def test_a_cache_that_cannot_be_written_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anadil.data.cache.RESERVE_BYTES", 1 << 60)
    told = Warned()
    train(config_of(tmp_path, tmp_path / "cache"), tmp_path / "run", told)
    assert len([warning for warning in told.warnings if "data.cache" in warning and "nearly full" in warning]) == 1
    assert DiskCache(tmp_path / "cache", 1).new_trouble() is None
