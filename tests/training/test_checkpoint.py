from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from anadil.cli.train import judge
from anadil.errors import AnadilError
from anadil.training import checkpoint as module
from anadil.training.config import Config
from anadil.training.train import train
from tests.micro import micro_config, micro_data, write_config, write_lines
from tests.training.test_train import Told, metrics, no_space

EVERY_STEP = 1e-9
SETTINGS: dict[str, Any] = {"epochs": 5, "batch_seconds": 2.5, "flat_start_steps": 10}


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


def data_of(micro: Path, checkpoint_minutes: float = EVERY_STEP) -> dict[str, Any]:
    """With everything on that draws random numbers: dither, augmentation, SpecAugment, dropout."""
    data = micro_data(micro / "train.jsonl", micro / "train.jsonl", **SETTINGS, checkpoint_minutes=checkpoint_minutes)
    data["augment"] = {"speed": {"probability": 0.5}, "white_noise": {"probability": 0.5}}
    data["model"] = {"blocks": [{**block, "dropout": 0.1} for block in data["model"]["blocks"]]}
    return data


def config_of(micro: Path, checkpoint_minutes: float = EVERY_STEP) -> Config:
    return Config.model_validate(data_of(micro, checkpoint_minutes))


def assert_same_run(one: Path, other: Path) -> None:
    for name in ("best", "last"):
        weights, others = (load_file(run / name / "model.safetensors") for run in (one, other))
        assert all(torch.equal(weights[key], others[key]) for key in weights)
    timed = ("minutes", "audio_s_per_s", "data_wait")
    rows = [[{k: v for k, v in row.items() if k not in timed} for row in metrics(run)] for run in (one, other)]
    assert rows[0] == rows[1]


@pytest.fixture(scope="module")
def undisturbed(micro: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    train(config_of(micro), out, judge)
    return out


@pytest.mark.parametrize("checkpoint_minutes", [EVERY_STEP, 60])
def test_a_run_that_crashes_again_and_again_ends_with_the_same_weights(
    tmp_path: Path, micro: Path, undisturbed: Path, checkpoint_minutes: float
) -> None:
    """With a checkpoint at each step, and with one at the end of each epoch only."""
    for attempt, crash_after in enumerate((7, 5, 6, 99)):  # of 20 steps, 4 an epoch
        torch.manual_seed(crash_after)  # nothing may be left to what was drawn before
        told = CrashAt(crash_after)
        try:
            train(config_of(micro, checkpoint_minutes), tmp_path / "run", judge, told, resume=attempt > 0)
        except Crash:
            assert attempt < 3
        else:
            assert attempt == 3 and "going on from step" in "".join(told.said)
    assert_same_run(tmp_path / "run", undisturbed)
    assert len(list((tmp_path / "run/checkpoints").iterdir())) == module.KEPT


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_kill_9_at_any_moment(tmp_path: Path, micro: Path, undisturbed: Path) -> None:
    config = write_config(tmp_path / "config.yaml", data_of(micro))
    out = tmp_path / "run"
    program = "from tests.micro import *; from anadil.cli.main import main; main()"  # on one thread
    command = [sys.executable, "-c", program, "train", str(config), "--out", str(out)]
    draws = random.Random()
    for attempt in range(3):
        resume = ["--resume"] if (out / "checkpoints").exists() and any((out / "checkpoints").glob("step-*")) else []
        process = subprocess.Popen([*command, *resume], stderr=subprocess.PIPE, text=True)
        n_before = len(metrics(out)) if (out / "metrics.csv").exists() else 0
        while attempt < 2 and process.poll() is None and not _has_moved(out, n_before):
            time.sleep(0.002)
        if attempt < 2:
            time.sleep(draws.uniform(0, 0.2))
            process.kill()
        _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert_same_run(out, undisturbed)


def _has_moved(out: Path, n_before: int) -> bool:
    return (out / "metrics.csv").exists() and len((out / "metrics.csv").read_text().splitlines()) - 1 != n_before


def crashed(micro: Path, out: Path) -> None:
    with pytest.raises(Crash):
        train(config_of(micro), out, judge, CrashAt(4))


Change = Callable[[Path, dict[str, Any]], None]


def other_rate(folder: Path, data: dict[str, Any]) -> None:
    data["training"]["lr"] = 0.5


def other_data(folder: Path, data: dict[str, Any]) -> None:
    audio = str(Path(data["data"]["train"][0]).parent / "clips/0.wav")
    data["data"]["train"] = [str(write_lines(folder / "t.jsonl", [{"audio_filepath": audio, "text": "acb"}]))]
    data["tokenizer"] = {"labels": [" ", "a", "b", "c"]}


def no_checkpoint(folder: Path, data: dict[str, Any]) -> None:
    for path in (folder / "run/checkpoints").iterdir():
        path.unlink()


def another_version(folder: Path, data: dict[str, Any]) -> None:
    for path in (folder / "run/checkpoints").iterdir():
        torch.save({"version": 99}, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_rate, r"cannot go on, for it began otherwise:\n  training.lr was 0.02, is 0.5\n  next: "),
        (other_data, r"(?s)data.train.* was .*the training data is not what it was"),
        (no_checkpoint, r"nothing to resume: no checkpoint in .*checkpoints\n  next: leave --resume out"),
        (another_version, r"step-\d+.ckpt is of another version"),
    ],
)
def test_what_cannot_go_on_says_why(tmp_path: Path, micro: Path, change: Change, message: str) -> None:
    crashed(micro, tmp_path / "run")
    data = data_of(micro)
    change(tmp_path, data)
    before = (tmp_path / "run/last/model.safetensors").read_bytes() if (tmp_path / "run/last").exists() else b""
    with pytest.raises(AnadilError, match=message):
        train(Config.model_validate(data), tmp_path / "run", judge, resume=True)
    assert not before or (tmp_path / "run/last/model.safetensors").read_bytes() == before


def test_a_complete_run_goes_on_only_with_more_epochs(tmp_path: Path, micro: Path) -> None:
    manifest = micro / "train.jsonl"
    train(micro_config(manifest, manifest, epochs=1), tmp_path / "run", judge)
    with pytest.raises(AnadilError, match=r"is complete \(1 epochs.*\n  next: .*training.epochs"):
        train(micro_config(manifest, manifest, epochs=1), tmp_path / "run", judge, resume=True)
    run = train(micro_config(manifest, manifest, epochs=2), tmp_path / "run", judge, resume=True)
    assert (run.epoch, len(metrics(tmp_path / "run"))) == (2, 2)


class Pickled:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("pwned"),))


@pytest.mark.parametrize(
    "damage", [lambda content: content[: len(content) // 2], lambda content: pickle.dumps(Pickled())]
)
def test_a_checkpoint_that_cannot_be_read_makes_room_for_the_one_before(
    tmp_path: Path, micro: Path, undisturbed: Path, damage: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    crashed(micro, tmp_path / "run")
    newest = max((tmp_path / "run/checkpoints").iterdir())
    newest.write_bytes(damage(newest.read_bytes()))
    told = Told()
    train(config_of(micro), tmp_path / "run", judge, told, resume=True)
    assert f"{newest} cannot be read" in "".join(told.said)
    assert not Path("pwned").exists()
    assert_same_run(tmp_path / "run", undisturbed)


def test_a_full_disk_costs_the_checkpoint_and_not_the_run(
    tmp_path: Path, micro: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.torch, "save", no_space)
    told = Told()
    train(config_of(micro), tmp_path / "run", judge, told)
    assert all("could not write" in text and "No space left" in text for text in told.warned) and told.warned
    assert_same_run(tmp_path / "run", undisturbed)
