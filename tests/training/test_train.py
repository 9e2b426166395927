from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from anadil.errors import AnadilError
from anadil.models import acoustic as acoustic_module
from anadil.models.acoustic import load_model
from anadil.text.rules import TextSettings, text_rules
from anadil.training import step as step_module
from anadil.training import train as module
from anadil.training.config import Config, TrainingSettings, load_config
from anadil.training.monitoring import diagnosis
from anadil.training.prepare import Prepared, prepare
from anadil.training.run import Run, stop_on_interrupt
from anadil.training.train import train
from tests.support.lines import write_lines
from tests.support.micro import TEXTS, micro_config, micro_data, write_config, write_corpus
from tests.support.runs import Told, entries, metrics, no_space
from tests.support.validation import script_validation

WEIGHTS = "model.safetensors"
WITHOUT_BEST = {"last", "checkpoints", "metrics.csv", "metrics.svg", "tensorboard"}
COLUMNS = [
    "epoch", "step", "minutes", "lr", "train_loss", "gradient_norm", "audio_s_per_s", "data_wait",
    "memory_mb", "valid_loss", "valid_cer", "valid_wer",
]  # fmt: skip


def config_of(micro: Path, **training: Any) -> Config:
    return micro_config(micro / "train.jsonl", micro / "train.jsonl", **training)


# --- a run that goes well


def test_a_tiny_run_learns_its_words(micro: Path) -> None:
    rows = metrics(micro / "run")
    assert float(rows[0]["valid_cer"]) > 0.5
    assert float(rows[-1]["valid_cer"]) < 0.1
    assert float(rows[-1]["train_loss"]) < 0.3 < float(rows[0]["train_loss"])


def test_a_run_leaves_models_metrics_and_tensorboard(micro: Path) -> None:
    run = micro / "run"
    assert entries(run) == {"best", *WITHOUT_BEST, "validation.txt", "hypotheses.jsonl"}
    assert entries(run / "best") == entries(run / "last") == {WEIGHTS, "config.yaml", "README.md"}
    (events,) = (run / "tensorboard").iterdir()
    assert b"train_loss" in events.read_bytes() and b"valid_cer" in events.read_bytes()


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_who_may_read_the_card_may_read_the_weights(micro: Path) -> None:
    card, weights = (micro / "run/best" / name for name in ("README.md", WEIGHTS))
    assert oct(weights.stat().st_mode) == oct(card.stat().st_mode)


def test_metrics_have_a_row_an_epoch(micro: Path) -> None:
    rows = metrics(micro / "run")
    assert list(rows[0]) == COLUMNS
    assert [int(row["epoch"]) for row in rows] == list(range(1, 41))
    steps = [int(row["step"]) for row in rows]
    assert steps == [steps[0] * epoch for epoch in range(1, 41)]
    assert all(math.isfinite(float(row[column])) for row in rows for column in COLUMNS)


def test_best_is_the_first_epoch_of_the_lowest_cer(micro: Path) -> None:
    rates = [float(row["valid_cer"]) for row in metrics(micro / "run")]
    best = rates.index(min(rates)) + 1
    assert f"| at | epoch {best}, step" in (micro / "run/best/README.md").read_text(encoding="utf-8")
    assert "| at | epoch 40, step" in (micro / "run/last/README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["best", "last"])
def test_the_saved_config_is_the_given_one_with_explicit_labels_and_measured_pauses(micro: Path, name: str) -> None:
    given = config_of(micro, epochs=40)
    assert given.tokenizer.labels == "auto"
    labels = [" ", "a", "b", "c"]
    wanted = given.with_labels(labels).with_rules(text_rules("en", TextSettings(), labels))
    saved = load_config(micro / "run" / name / "config.yaml")
    measured = {"longest_pause": saved.data.longest_pause, "pause_margin": saved.data.pause_margin}
    assert None not in measured.values()
    assert saved == wanted.model_copy(update={"data": wanted.data.model_copy(update=measured)})


def test_the_same_seed_gives_the_same_weights_to_the_bit(tmp_path: Path, micro: Path) -> None:
    data = micro_data(micro / "train.jsonl", micro / "train.jsonl", flat_start_steps=2)
    data["augment"] = {"spec_augment": {}}
    data["model"]["blocks"] = [block | {"dropout": 0.1} for block in data["model"]["blocks"]]
    for name, seed in (("a", 3), ("again", 3), ("other", 4)):
        torch.rand(len(name))  # what happened before in the process does not matter
        settings = data | {"training": data["training"] | {"seed": seed}}
        train(Config.model_validate(settings), tmp_path / name)
    a, again, other = ((tmp_path / name / "last" / WEIGHTS).read_bytes() for name in ("a", "again", "other"))
    assert a == again
    assert a != other


def test_the_seed_chooses_the_first_weights(tmp_path: Path, micro: Path) -> None:
    losses = [
        train(config_of(micro, epochs=1, batch_seconds=100, seed=seed), tmp_path / str(seed)).first_loss
        for seed in (1, 2)
    ]  # of one batch of everything: nothing else differs
    assert abs(losses[0] - losses[1]) > 0.01


def test_without_validation_there_is_only_last(tmp_path: Path, micro: Path) -> None:
    run = train(micro_config(micro / "train.jsonl"), tmp_path / "run")
    assert (run.best, run.epoch) == (None, 2)
    assert entries(tmp_path / "run") == WITHOUT_BEST
    assert "no validation data was given" in (tmp_path / "run/last/README.md").read_text(encoding="utf-8")
    assert [row["valid_cer"] for row in metrics(tmp_path / "run")] == ["", ""]


def test_validation_comes_every_few_epochs_and_at_the_end(tmp_path: Path, micro: Path) -> None:
    told = Told()
    train(config_of(micro, epochs=5, validate_every=2), tmp_path / "run", told)
    assert [text.split()[1] for text in told.said if text.startswith("epoch")] == ["2", "4", "5"]
    assert [bool(row["valid_cer"]) for row in metrics(tmp_path / "run")] == [False, True, False, True, True]
    assert [title.split(",")[0] for title in told.tables] == ["Layers"]


def test_the_clock_ends_a_run_with_epochs_left(tmp_path: Path, micro: Path) -> None:
    run = train(config_of(micro, epochs=1000, max_minutes=1e-6, min_lr=1e-4), tmp_path / "run")
    assert run.epoch == 1
    (row,) = metrics(tmp_path / "run")
    assert float(row["lr"]) == pytest.approx(1e-4)  # the schedule has ended too
    assert entries(tmp_path / "run") == {"best", *WITHOUT_BEST, "validation.txt", "hypotheses.jsonl"}


def test_a_time_budget_alone_is_used_in_full() -> None:
    assert TrainingSettings().epoch_limit == 60
    assert TrainingSettings(epochs=7, max_minutes=1).epoch_limit == 7
    assert TrainingSettings(max_minutes=1).epoch_limit > 100_000


def test_an_existing_run_is_refused_and_replaced_with_force(tmp_path: Path, micro: Path) -> None:
    out = tmp_path / "run"
    train(config_of(micro, epochs=2), out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    there = r"holds a run already \(best, last, checkpoints, metrics.csv, .*, tensorboard\)\n.*--resume.*--force"
    with pytest.raises(AnadilError, match=there):
        train(config_of(micro, epochs=1), out)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    train(config_of(micro, epochs=1), out, force=True)
    assert len(metrics(out)) == len(entries(out / "tensorboard")) == 1


# --- data that cannot be used


@pytest.fixture
def flawed(tmp_path: Path) -> Path:
    """Manifest of eight good utterances and four bad ones, lines 3, 6, 9 and 12."""
    manifest = write_corpus(tmp_path)
    records = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    (tmp_path / "clips/noise.wav").write_text("no audio")
    bad = [
        {"audio_filepath": "clips/gone.wav", "text": "a"},
        {"audio_filepath": "clips/noise.wav", "text": "a"},
        {"audio_filepath": "clips/0.wav", "text": "  "},
        {"audio_filepath": "clips/0.wav", "text": "ab" * 100},
    ]
    return write_lines(manifest, [one for i in range(4) for one in (*records[2 * i : 2 * i + 2], bad[i])])


def test_every_problem_is_listed_before_training(tmp_path: Path, flawed: Path) -> None:
    with pytest.raises(AnadilError) as caught:
        train(micro_config(flawed), tmp_path / "run")
    listed = [json.loads(line) for line in (tmp_path / "run/problems.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [problem["where"] for problem in listed] == [f"{flawed}:{line}" for line in (3, 6, 9, 12)]
    reasons = ["audio file not found", "not readable as audio", "empty text", "text too long for its audio"]
    assert all(reason in problem["what"] for reason, problem in zip(reasons, listed, strict=True))
    message = str(caught.value)
    assert all(f"{problem['where']}: {problem['what']}" in message for problem in listed)
    assert "4 of 12 utterances cannot be used" in message
    assert "problems.jsonl" in message and "data.skip_bad=true" in message
    assert entries(tmp_path / "run") == {"problems.jsonl"}


def test_skip_bad_trains_without_them_and_says_so(tmp_path: Path, flawed: Path) -> None:
    data = micro_data(flawed, epochs=1)
    data["data"]["skip_bad"] = True
    told = Told()
    run = train(Config.model_validate(data), tmp_path / "run", told)
    assert run.hours == pytest.approx(sum(0.06 + 0.2 * len(text) for text in TEXTS) / 3600, rel=1e-3)
    assert any("4 of 12 utterances cannot be used" in warning for warning in told.warned)
    assert {"last", "problems.jsonl"} <= entries(tmp_path / "run")


def test_nothing_left_to_train_on_is_an_error(tmp_path: Path, micro: Path) -> None:
    data = micro_data(micro / "train.jsonl")
    data["data"]["max_duration"] = 0.5
    told = Told()
    with pytest.raises(AnadilError, match="no training utterance is left"):
        train(Config.model_validate(data), tmp_path / "run", told)
    assert told.warned == ["training: 8 x set aside, longer than data.max_duration"]


def test_data_that_cannot_be_used_does_not_cost_the_earlier_run_even_with_force(tmp_path: Path, micro: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(micro / "run", out)
    with pytest.raises(AnadilError, match="manifest not found"):
        train(micro_config(tmp_path / "none.jsonl"), out, force=True)
    assert {"best", "last", "metrics.csv"} <= entries(out)


# --- runs that break


def weights_of(run: Path, name: str) -> dict[str, torch.Tensor]:
    load_model(run / name)
    return load_file(run / name / WEIGHTS)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("factor", "cause"),
    [(math.nan, "the learning rate 0.02 is too high"), (math.inf, "an utterance's audio is shorter than its header")],
)
def test_a_loss_that_is_not_finite_names_the_cause_and_leaves_last(
    tmp_path: Path, micro: Path, monkeypatch: pytest.MonkeyPatch, factor: float, cause: str
) -> None:
    out, kept, real = tmp_path / "run", [], step_module.ctc_loss

    def loss(*args: Any) -> torch.Tensor:
        training = torch.is_grad_enabled()
        if training and (out / "last").exists():
            kept.append(weights_of(out, "last"))
        return real(*args) * (factor if kept and training else 1.0)

    monkeypatch.setattr(step_module, "ctc_loss", loss)
    with pytest.raises(AnadilError, match=cause) as caught:
        train(config_of(micro, flat_start_steps=0), out)
    assert f"the batch held:\n    {micro / 'train.jsonl'}:" in str(caught.value)
    assert same(weights_of(out, "last"), kept[0])
    assert len(metrics(out)) == 1


def test_a_learning_rate_far_too_high_is_named(tmp_path: Path, micro: Path) -> None:
    with pytest.raises(AnadilError, match=r"the learning rate 10 is too high: try training.lr=2.5"):
        train(config_of(micro, lr=10, min_lr=10, weight_decay=10, warmup_steps=0, epochs=40), tmp_path / "run")


def test_a_recording_that_shrinks_during_training_is_named(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path, ["abc", "cab ba"])

    def shrink(text: str) -> None:
        if text.startswith("epoch"):
            shutil.copy(manifest.parent / "clips/short.wav", manifest.parent / "clips/1.wav")

    write_corpus(tmp_path / "other", [""])
    shutil.copy(tmp_path / "other/clips/0.wav", tmp_path / "clips/short.wav")
    data = micro_data(manifest, manifest, flat_start_steps=0)
    data["data"]["cache_mb"] = 0
    with pytest.raises(AnadilError, match="audio is shorter than its header says") as caught:
        train(Config.model_validate(data), tmp_path / "run", Told(shrink))
    assert f"{manifest}:2" in str(caught.value)
    load_model(tmp_path / "run/last")


def test_a_model_that_emits_blanks_alone_is_warned_of_once(
    tmp_path: Path, micro: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def biased(*args: Any) -> Prepared:
        data = prepare(*args)
        head = data.acoustic.network._head
        assert head.bias is not None
        head.bias.data[-1] = 20.0
        return data

    monkeypatch.setattr(module, "prepare", biased)
    monkeypatch.setattr(diagnosis, "LOOK_AT_STEP", 2)
    told = Told()
    train(config_of(micro, lr=1e-6, min_lr=0, flat_start_steps=0), tmp_path / "run", told)
    (warning,) = told.warned
    assert warning.startswith("after 2 steps the model emits only blanks")
    assert "the learning rate 1e-06 is low" in warning


def test_a_model_that_emits_letters_is_not_warned_of(
    tmp_path: Path, micro: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnosis, "LOOK_AT_STEP", 6)
    told = Told()
    train(config_of(micro), tmp_path / "run", told)
    assert told.warned == []


def no_space_says_safetensors(*args: Any) -> None:
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize("fails", [no_space, no_space_says_safetensors])
@pytest.mark.parametrize("which", ["best", "last"])
def test_a_full_disk_at_a_checkpoint_leaves_the_models_from_before(
    tmp_path: Path, micro: Path, monkeypatch: pytest.MonkeyPatch, fails: Callable[..., None], which: str
) -> None:
    out = tmp_path / "run"
    saved: list[str] = []

    def save(tensors: dict[str, torch.Tensor], path: Path) -> None:
        name = "best" if "best" in path.parent.name else "last"
        if name == which and saved.count(name) == 1:  # the second of its kind
            path.write_bytes(b"half")
            fails()
        save_file(tensors, path)
        saved.append(name)

    monkeypatch.setattr(acoustic_module, "save_file", save)
    script_validation(monkeypatch, [0.9, 0.8, 0.7])  # so that every epoch has a best
    with pytest.raises(AnadilError, match=rf"could not write .*{which}: .*No space left on device") as caught:
        train(config_of(micro, epochs=3), out)
    assert "the version that was there before is untouched" in str(caught.value)
    assert entries(out) == {"best", *WITHOUT_BEST, "validation.txt", "hypotheses.jsonl"}
    assert "epoch 1," in (out / which / "README.md").read_text(encoding="utf-8")
    weights_of(out, "best"), weights_of(out, "last")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_at_the_metrics_is_an_error_of_the_input(tmp_path: Path, micro: Path) -> None:
    out = tmp_path / "run"

    def fill(text: str) -> None:
        if text.startswith("epoch"):
            (out / "metrics.csv").unlink(missing_ok=True)
            (out / "metrics.csv").symlink_to("/dev/full")

    with pytest.raises(AnadilError, match="No space left on device"):
        train(config_of(micro), out, Told(fill))


def test_a_full_disk_at_tensorboards_log_is_an_error_of_the_input(
    tmp_path: Path, micro: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def log_metrics(*args: Any, **kwargs: Any) -> None:
        try:
            no_space()
        except OSError as error:  # what Lightning makes of it, seen on a full tmpfs
            raise ValueError("you tried to log 3 which is currently not supported. Try a dict or a scalar") from error

    monkeypatch.setattr("lightning_fabric.loggers.tensorboard.TensorBoardLogger.log_metrics", log_metrics)
    with pytest.raises(AnadilError):
        train(config_of(micro), tmp_path / "run")


# --- Ctrl-C


def test_the_first_interrupt_is_a_request_and_the_second_one_interrupts() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with stop_on_interrupt() as stop:
            assert not stop.requested
            signal.raise_signal(signal.SIGINT)
            assert stop.requested
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_training_works_off_the_main_thread(tmp_path: Path, micro: Path) -> None:
    runs: list[Run] = []
    thread = threading.Thread(target=lambda: runs.append(train(config_of(micro, epochs=1), tmp_path / "run")))
    thread.start()
    thread.join()
    assert [run.epoch for run in runs] == [1]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_last_and_exits_with_130(tmp_path: Path, micro: Path, number: int) -> None:
    config = write_config(tmp_path / "config.yaml", micro_data(micro / "train.jsonl", epochs=10**6))
    out = tmp_path / "run"
    command = [sys.executable, "-m", "anadil.cli.main", "train", str(config), "--out", str(out)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    try:
        deadline = time.monotonic() + 600
        while not (out / "metrics.csv").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == 130, stderr
    assert "interrupted: stopped at epoch" in stderr and f"{out / 'last'} is usable" in stderr
    assert "--resume" in stderr
    assert "Traceback" not in stderr and stdout == ""
    load_model(out / "last")
    assert entries(out) == WITHOUT_BEST
