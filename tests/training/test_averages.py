from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from anadil.errors import AnadilError
from anadil.settings import parse
from anadil.training import averages as module
from anadil.training.averages import Averages, mean_of
from anadil.training.config import Config, TrainingSettings
from anadil.training.train import train
from tests.support.micro import micro_config, micro_data
from tests.support.runs import Crash, CrashAt, Told, metrics, no_space
from tests.support.validation import script_validation


def settings_of(**fields: object) -> TrainingSettings:
    return TrainingSettings.model_validate(fields)


def test_the_moving_average_follows_its_formula_statistics_included(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    network[0].weight.data.fill_(10.0)
    averages = Averages(network, settings_of(ema_decay=0.5), tmp_path)
    assert averages.ema is not None
    expected_w, expected_m = 10.0, 0.0
    for step, (weight, mean) in enumerate([(4.0, 1.0), (2.0, 3.0), (8.0, 5.0)], start=1):
        network[0].weight.data.fill_(weight)
        network[1].running_mean.fill_(mean)
        network[1].num_batches_tracked.fill_(step)
        averages.after_step(step)
        decay = min(0.5, (1 + step) / (10 + step))  # 2/11, 3/12, 4/13: still warming up
        expected_w = decay * expected_w + (1 - decay) * weight
        expected_m = decay * expected_m + (1 - decay) * mean
    assert averages.ema["0.weight"].item() == pytest.approx(expected_w)
    assert averages.ema["1.running_mean"].item() == pytest.approx(expected_m)
    assert averages.ema["1.num_batches_tracked"].item() == 3
    averages.after_step(10_000)
    assert averages.ema["0.weight"].item() == pytest.approx(0.5 * expected_w + 0.5 * 8.0)


def test_the_mean_of_the_last_epochs_and_how_many_files_stay(tmp_path: Path) -> None:
    network = nn.Linear(1, 1, bias=False)
    averages = Averages(network, settings_of(average_last=3), tmp_path)
    for epoch in range(1, 10):
        network.weight.data.fill_(float(epoch**2))
        averages.after_epoch(epoch)
        found = averages.candidates(epoch)
        assert ("average" in found) == (epoch > 1)
    average = found["average"]
    assert average is not None and average["weight"].item() == pytest.approx((49 + 64 + 81) / 3)
    assert len(list((tmp_path / "epochs").iterdir())) == 3 + module.SPARE
    with averages.in_place(average):
        assert network.weight.item() == pytest.approx((49 + 64 + 81) / 3)
    assert network.weight.item() == 81
    (tmp_path / "epochs/epoch-00009.safetensors").write_bytes(b"damaged")
    with pytest.raises(AnadilError, match="epoch-00009.safetensors cannot be read"):
        mean_of([tmp_path / "epochs/epoch-00009.safetensors"])


def averaged(micro: Path, epochs: int = 4) -> Config:
    return micro_config(
        micro / "train.jsonl", micro / "train.jsonl", epochs=epochs, flat_start_steps=2, ema_decay=0.9, average_last=2,
        checkpoint_minutes=1e-9,
    )  # fmt: skip


@pytest.mark.slow
def test_averages_survive_crashes_bit_by_bit(tmp_path: Path, micro: Path) -> None:
    train(averaged(micro), tmp_path / "undisturbed")
    for attempt, crash_after in enumerate((4, 4, 99)):  # of 12 steps, 3 an epoch
        try:
            train(averaged(micro), tmp_path / "run", CrashAt(crash_after), resume=attempt > 0)
        except Crash:
            assert attempt < 2
    for name in ("best/model.safetensors", "last/model.safetensors", "epochs/epoch-00004.safetensors"):
        one, other = load_file(tmp_path / "run" / name), load_file(tmp_path / "undisturbed" / name)
        assert all(torch.equal(one[key], other[key]) for key in one)
    columns = ("ema_cer", "average_cer", "valid_cer")
    rows = [[[row[c] for c in columns] for row in metrics(tmp_path / name)] for name in ("run", "undisturbed")]
    assert rows[0] == rows[1] and rows[0][0][1] == "" and all(row[1] for row in rows[0][1:])


@pytest.mark.parametrize("winner", [0, 1, 2])
def test_validation_decides_which_weights_become_best(
    tmp_path: Path, micro: Path, monkeypatch: pytest.MonkeyPatch, winner: int
) -> None:
    """Of each epoch's validations (plain, moving average, mean of the last two) the one of this number is made the best."""
    script_validation(monkeypatch, [1, 1, *(0.5 if i == winner else 0.9 for i in range(3))])
    told = Told()
    run = train(averaged(micro, epochs=2), tmp_path / "run", told)
    assert run.best is not None and run.best.cer == 0.5 and run.best_epoch == 2
    best = load_file(tmp_path / "run/best/model.safetensors")
    plain = load_file(tmp_path / "run/epochs/epoch-00002.safetensors")
    same = all(torch.equal(best[key], plain[key]) for key in plain)
    assert same == (winner == 0)
    card = (tmp_path / "run/best/README.md").read_text(encoding="utf-8")
    note = ["", " (moving average over steps, decay 0.9)", " (mean of the last 2 epochs)"][winner]
    assert f"| at | epoch 2, step 6{note} |" in card
    assert any("CER by weights:  plain" in one for one in told.said)
    if winner == 2:
        mean = mean_of([tmp_path / f"run/epochs/epoch-0000{i}.safetensors" for i in (1, 2)])
        assert all(torch.allclose(best[key].float(), mean[key].float()) for key in best)
    last_row = metrics(tmp_path / "run")[-1]
    assert float([last_row["valid_cer"], last_row["ema_cer"], last_row["average_cer"]][winner]) == 0.5


def test_without_validation_last_is_the_average(tmp_path: Path, micro: Path) -> None:
    data = micro_data(micro / "train.jsonl", epochs=2, average_last=2)
    train(Config.model_validate(data), tmp_path / "run")
    last = load_file(tmp_path / "run/last/model.safetensors")
    mean = mean_of([tmp_path / f"run/epochs/epoch-0000{i}.safetensors" for i in (1, 2)])
    assert all(torch.allclose(last[key].float(), mean[key].float()) for key in last)


def test_a_full_disk_costs_an_epoch_of_the_average_and_not_the_run(
    tmp_path: Path, micro: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "save_file", no_space)
    told = Told()
    run = train(averaged(micro, epochs=2), tmp_path / "run", told)
    assert run.epoch == 2 and len(told.warned) == 2 and "No space left" in told.warned[0]


# --- patience


def test_a_run_without_a_better_cer_ends_by_its_patience_and_goes_on_with_more(
    tmp_path: Path, micro: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """12 steps are flat start and warm-up: epochs 1 to 4 do not count."""

    def config(patience: int) -> Config:
        return micro_config(
            micro / "train.jsonl",
            micro / "train.jsonl",
            epochs=50,
            flat_start_steps=7,
            warmup_steps=5,
            patience=patience,
        )

    script_validation(monkeypatch, [0.9, 0.95, 0.95, 0.95, 0.95, 0.8, 0.9, 0.9])
    told = Told()
    run = train(config(2), tmp_path / "run", told)
    assert (run.epoch, run.best_epoch) == (8, 6)
    assert "stopped: no better CER since epoch 6 (training.patience=2)" in told.said
    with pytest.raises(AnadilError, match=r"is complete.*\n.*training.patience"):
        train(config(2), tmp_path / "run", resume=True)
    script_validation(monkeypatch, itertools.repeat(0.7))
    assert train(config(3), tmp_path / "run", resume=True).epoch == 12  # better in epoch 9, no more then


def test_patience_without_validation_is_refused() -> None:
    with pytest.raises(AnadilError, match="training.patience needs data.valid"):
        parse(Config, {"language": "en", "data": {"train": "a.jsonl"}, "training": {"patience": 2}}, "config")
