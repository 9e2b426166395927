from __future__ import annotations

import os
import pickle
import random
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from anadil.errors import AnadilError
from anadil.training import checkpoint as module
from anadil.training.config import Config
from anadil.training.monitoring.report import Silent
from anadil.training.prepare import prepare
from anadil.training.train import train
from tests.support.killing import DEATHS, process_of
from tests.support.lines import write_lines
from tests.support.micro import micro_config, micro_data, write_config, write_corpus
from tests.support.runs import (
    EVERY_STEP,
    Crash,
    CrashAt,
    Told,
    assert_same_run,
    metrics,
    no_space,
)
from tests.support.validation import script_validation

SETTINGS: dict[str, Any] = {"epochs": 5, "batch_seconds": 2.5, "flat_start_steps": 10}


def data_of(micro: Path, checkpoint_minutes: float = EVERY_STEP) -> dict[str, Any]:
    """With everything on that draws random numbers: dither, augmentation, SpecAugment, dropout."""
    data = micro_data(micro / "train.jsonl", micro / "train.jsonl", **SETTINGS, checkpoint_minutes=checkpoint_minutes)
    data["augment"] = {"speed": {"probability": 0.5}, "white_noise": {"probability": 0.5}}
    data["model"] = {"blocks": [{**block, "dropout": 0.1} for block in data["model"]["blocks"]]}
    return data


def config_of(micro: Path, checkpoint_minutes: float = EVERY_STEP) -> Config:
    return Config.model_validate(data_of(micro, checkpoint_minutes))


@pytest.fixture(scope="module")
def undisturbed(micro: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    train(config_of(micro), out)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint_minutes", [EVERY_STEP, 60])
def test_a_run_that_crashes_again_and_again_ends_with_the_same_weights(
    tmp_path: Path, micro: Path, undisturbed: Path, checkpoint_minutes: float
) -> None:
    """With a checkpoint at each step, and with one at the end of each epoch only."""
    for attempt, crash_after in enumerate((7, 5, 6, 99)):  # of 20 steps, 4 an epoch
        torch.manual_seed(crash_after)  # nothing may be left to what was drawn before
        told = CrashAt(crash_after)
        try:
            train(config_of(micro, checkpoint_minutes), tmp_path / "run", told, resume=attempt > 0)
        except Crash:
            assert attempt < 3
        else:
            assert attempt == 3 and "going on from step" in "".join(told.said)
    assert_same_run(tmp_path / "run", undisturbed)
    assert len(list((tmp_path / "run/checkpoints").iterdir())) == module.KEPT


def checkpoints(out: Path) -> list[Path]:
    return sorted((out / "checkpoints").glob("step-*"))


def end_of(process: Any) -> int:
    """Exit code, negative for the signal that killed it."""
    process.join(600)
    process.kill()
    process.join()
    return int(process.exitcode)


def train_with_kills(config: Path, out: Path, last_checkpoint: str) -> int:
    """Kill the run up to five times, up to 0.05 s after a checkpoint, and resume it each time. Returns the number of kills."""
    draws, killed, exit_code = random.Random(), 0, 1
    # a kill may come behind the last checkpoint, when all is written and there is nothing to go on with
    while exit_code != 0 and last_checkpoint not in {path.name for path in checkpoints(out)}:
        before = checkpoints(out)
        process = process_of(config, out, resume=bool(before))
        process.start()
        while killed < 5 and process.exitcode is None and checkpoints(out) == before:
            time.sleep(0.001)
        if killed < 5:
            time.sleep(draws.uniform(0, 0.05))
            process.kill()
        exit_code = end_of(process)
        assert exit_code in (0, -signal.SIGKILL)
        killed += exit_code != 0
    return killed


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_kill_9_at_random_moments(tmp_path: Path, micro: Path, undisturbed: Path) -> None:
    """The run writes a checkpoint at every step and two models at every epoch: some kills fall into that.

    A run that ended before it could be killed twice, as on a busy machine, is repeated.
    """
    config, killed, attempt = write_config(tmp_path / "config.yaml", data_of(micro)), 0, 0
    while killed < 2:
        attempt += 1
        out = tmp_path / str(attempt)
        killed = train_with_kills(config, out, checkpoints(undisturbed)[-1].name)
        assert_same_run(out, undisturbed)
        assert_nothing_is_left_over(out)
        assert killed >= 2 or attempt < 20


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_kill_9_in_the_middle_of_every_kind_of_writing(tmp_path: Path, micro: Path, undisturbed: Path) -> None:
    config, out = write_config(tmp_path / "config.yaml", data_of(micro)), tmp_path / "run"
    for attempt, moment in enumerate(DEATHS):
        process = process_of(config, out, attempt > 0, moment, 3)
        process.start()
        assert end_of(process) == -signal.SIGKILL, moment
    process = process_of(config, out, resume=True)
    process.start()
    assert end_of(process) == 0
    assert_same_run(out, undisturbed)
    assert_nothing_is_left_over(out)


def test_a_model_folder_caught_between_its_renames_is_put_back_even_if_it_is_not_written_again(
    tmp_path: Path, micro: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = micro / "train.jsonl"
    out = tmp_path / "run"
    train(micro_config(manifest, manifest, epochs=1), out)
    (out / "best").rename(out / ".best.replaced")
    (out / ".best.0a1b2c3d.partial").mkdir()
    (out / "checkpoints/.step-00000009.ckpt.0a1b2c3d.partial").write_bytes(b"half")
    script_validation(monkeypatch, [9.0])
    train(micro_config(manifest, manifest, epochs=2), out, resume=True)
    assert (out / "best/model.safetensors").is_file()
    assert_nothing_is_left_over(out)


def assert_nothing_is_left_over(out: Path) -> None:
    assert list(out.rglob(".*")) == []
    assert len(list((out / "checkpoints").iterdir())) == module.KEPT


@pytest.mark.parametrize("cores", [1, 3, 64])
def test_the_number_of_loader_threads_changes_nothing(
    tmp_path: Path, micro: Path, undisturbed: Path, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    train(config_of(micro), tmp_path / "run")
    assert_same_run(tmp_path / "run", undisturbed)


def crashed(micro: Path, out: Path) -> None:
    with pytest.raises(Crash):
        train(config_of(micro), out, CrashAt(4))


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
        (
            other_rate,
            r"cannot go on, because it began with other settings or data:\n  training.lr was 0.02, is 0.5\n  next: ",
        ),
        (other_data, r"(?s)data.train.* was .*the training data has changed"),
        (no_checkpoint, r"nothing to resume: no checkpoint in .*checkpoints\n  next: omit --resume"),
        (another_version, r"step-\d+.ckpt was written by another version"),
    ],
)
def test_what_cannot_go_on_says_why(tmp_path: Path, micro: Path, change: Change, message: str) -> None:
    crashed(micro, tmp_path / "run")
    data = data_of(micro)
    change(tmp_path, data)
    before = (tmp_path / "run/last/model.safetensors").read_bytes() if (tmp_path / "run/last").exists() else b""
    with pytest.raises(AnadilError, match=message):
        train(Config.model_validate(data), tmp_path / "run", resume=True)
    assert not before or (tmp_path / "run/last/model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("train_texts", "valid_texts", "message"),
    [  # a new letter in a training text changes the label numbers of every text
        (("abc", "cab d"), ("abc", "cab ba"), "training data; new 'd'"),
        (("abc", "cab ba"), ("abc", "cab a"), "validation data"),
        (("abc", "cab d"), ("abc", "cab a"), "training data; validation data; new 'd'"),
        (("Abc", "cab ba"), ("abc", "cab Ba"), ""),  # the model sees no capitals
    ],
)
@pytest.mark.parametrize("of_0_1_0", [False, True])
def test_only_what_has_changed_is_blamed(
    tmp_path: Path, train_texts: tuple[str, ...], valid_texts: tuple[str, ...], message: str, of_0_1_0: bool
) -> None:
    def identity(name: str, first: tuple[str, ...], second: tuple[str, ...]) -> dict[str, Any]:
        manifest, valid = write_corpus(tmp_path / "a", first), write_corpus(tmp_path / "b", second)
        data = prepare(Config.model_validate(micro_data(manifest, valid)), tmp_path / "run", Silent(), writes=False)
        return module.identity_of(data.config, data.train, data.valid)

    was = identity("was", ("abc", "cab ba"), ("abc", "cab ba"))
    now = identity("now", train_texts, valid_texts)
    if of_0_1_0:
        del was["as written"]
    if not message:
        module._require_same(was, now, tmp_path)
        return
    with pytest.raises(AnadilError) as caught:
        module._require_same(was, now, tmp_path)
    *listed, _ = str(caught.value).split("\n")[1:]
    said = "; ".join(re.sub(r"^ *the ((training|validation) data) has.*|.*changed: ", r"\1", line) for line in listed)
    if of_0_1_0 and "'d'" in message:  # its checkpoints hold only the label numbers
        message = "new 'd'"
    assert said == message


def test_labels_that_are_gone_or_in_another_order_are_named() -> None:
    assert module._label_changes('["a", "d"]', '["a"]').endswith("have changed: gone 'd'")
    assert module._label_changes('["a", "d"]', '["d", "a"]').endswith("have changed: the same ones in another order")


def test_a_complete_run_goes_on_only_with_more_epochs(tmp_path: Path, micro: Path) -> None:
    manifest = micro / "train.jsonl"
    train(micro_config(manifest, manifest, epochs=1), tmp_path / "run")
    with pytest.raises(AnadilError, match=r"is complete \(1 epochs.*\n  next: .*training.epochs"):
        train(micro_config(manifest, manifest, epochs=1), tmp_path / "run", resume=True)
    run = train(micro_config(manifest, manifest, epochs=2), tmp_path / "run", resume=True)
    assert (run.epoch, len(metrics(tmp_path / "run"))) == (2, 2)


class Pickled:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("pwned"),))


@pytest.mark.slow
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
    train(config_of(micro), tmp_path / "run", told, resume=True)
    assert f"{newest} cannot be read" in "".join(told.said)
    assert not Path("pwned").exists()
    assert_same_run(tmp_path / "run", undisturbed)


def test_a_full_disk_costs_the_checkpoint_and_not_the_run(
    tmp_path: Path, micro: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.torch, "save", no_space)
    told = Told()
    train(config_of(micro), tmp_path / "run", told)
    assert all("could not write" in text and "No space left" in text for text in told.warned) and told.warned
    assert_same_run(tmp_path / "run", undisturbed)
