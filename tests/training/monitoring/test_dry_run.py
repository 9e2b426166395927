"""--dry-run and --find-lr: what they tell, and that they leave nothing."""

from __future__ import annotations

import csv
import itertools
import re
import sys
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from anadil.cli.main import app
from anadil.data.batches import Batch
from anadil.errors import AnadilError
from anadil.training import step as step_module
from anadil.training.config import Config
from anadil.training.monitoring import find_lr as finder
from anadil.training.monitoring.chart import Chart, svg
from anadil.training.monitoring.dry_run import dry_run
from anadil.training.monitoring.find_lr import RangeTest, explain, find_lr
from tests.support.curves import curves
from tests.support.lines import write_lines
from tests.support.micro import micro_config, micro_data, write_config
from tests.support.runs import Told, entries


def test_a_dry_run_tells_memory_speed_and_the_end_and_writes_nothing(tmp_path: Path, micro: Path) -> None:
    config = micro_config(micro / "train.jsonl", micro / "train.jsonl", epochs=7)
    told = Told()
    found = dry_run(config, tmp_path / "run", told)
    assert entries(tmp_path) == set()
    assert found.steps_per_epoch == 3 and found.parameters > 1000  # 8 recordings of 8.0 s in batches of 4 s
    assert 2 < found.longest_batch_s <= 4
    assert found.memory_mb is not None and 50 < found.memory_mb < 20_000
    assert found.epochs == 7 and found.total_s == pytest.approx(7 * found.epoch_s)
    assert found.epoch_s > 8.0 / found.audio_s_per_s
    assert found.ends_at(datetime(2026, 1, 1)).timestamp() == pytest.approx(
        datetime(2026, 1, 1).timestamp() + found.total_s
    )
    assert any("training 0.00 h (8 utterances)" in text for text in told.said)


def test_the_clock_ends_it_where_epochs_would_last_longer(tmp_path: Path, micro: Path) -> None:
    config = micro_config(micro / "train.jsonl", epochs=None, max_minutes=2)
    found = dry_run(config, tmp_path / "run")
    assert found.ends_by_clock and found.total_s == 120 and 1 <= found.epochs < 10**6
    assert "(ended by training.max_minutes)" in "".join(found.lines(datetime(2026, 1, 1, 12)))
    assert "expected end     2026-01-01 12:02, 2 min from now" in found.lines(datetime(2026, 1, 1, 12))


def test_the_longest_batch_is_tried_and_too_little_memory_is_named(
    tmp_path: Path, micro: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def no_memory(learner: object, batch: Batch, *_: object) -> None:
        seen.append(batch.waveforms.numel())
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(step_module, "_loss", no_memory)
    with pytest.raises(AnadilError, match=r"out of memory in a batch of [\d.]+ s.*\n.*training.batch_seconds") as e:
        dry_run(micro_config(micro / "train.jsonl"), tmp_path / "run")
    (n_samples,) = seen
    assert n_samples / 16000 == pytest.approx(float(re.findall(r"batch of ([\d.]+) s", str(e.value))[0]), abs=0.5)
    assert 3 < n_samples / 16000 <= 4


def test_a_dry_run_lists_what_cannot_be_used_without_a_file(tmp_path: Path, micro: Path) -> None:
    clip = str(micro / "clips/0.wav")
    manifest = write_lines(tmp_path / "t.jsonl", [{"audio_filepath": clip, "text": t} for t in ("abc", "ab" * 200)])
    with pytest.raises(AnadilError, match=r"t.jsonl:2: text too long.*\n.*\n.*anadil check lists all"):
        dry_run(micro_config(manifest), tmp_path / "run")
    assert entries(tmp_path) == {"t.jsonl"}


def test_a_dry_run_on_the_command_line(tmp_path: Path, micro: Path) -> None:
    config = write_config(tmp_path / "config.yaml", micro_data(micro / "train.jsonl"))
    before = entries(micro / "run")
    done = CliRunner().invoke(
        app, ["train", str(config), "--out", str(micro / "run"), "--dry-run"]
    )  # of a run that is there
    assert done.exit_code == 0, done.output
    assert [line.split("  ")[0] for line in done.stdout.splitlines()] == [
        "model", "training speech", "longest batch", "memory, at most", "speed", "an epoch", "epochs", "expected end",
    ]  # fmt: skip
    assert entries(micro / "run") == before and entries(tmp_path) == {"config.yaml"}
    both = CliRunner().invoke(app, ["train", str(config), "--dry-run", "--find-lr"])
    assert both.exit_code == 2 and "exclude each other" in both.output


# --- the learning rate


def test_find_lr_suggests_a_rate_that_learns_and_leaves_only_its_report(tmp_path: Path, micro: Path) -> None:
    config = micro_config(micro / "train.jsonl", micro / "train.jsonl")
    found = find_lr(config, tmp_path / "run")
    assert [test.phase for test in found.tests] == ["flat start", "CTC"]
    assert entries(tmp_path / "run") == {"find-lr.svg", "find-lr.csv"}
    assert found.suggestion is not None and 5e-4 < found.suggestion < 0.2  # 0.02 is what the tests train with
    with open(tmp_path / "run/find-lr.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["phase"] for row in rows} == {"flat start", "CTC"}
    rates = [float(row["lr"]) for row in rows if row["phase"] == "CTC"]
    factors = {round(b / a, 6) for a, b in itertools.pairwise(rates)}
    assert len(factors) == 1 and rates[0] == finder.LOWEST and rates[-1] <= finder.HIGHEST * 1.0001
    assert f"try {found.tests[-1].suggestion:g}" in explain(found)
    ET.fromstring((tmp_path / "run/find-lr.svg").read_text(encoding="utf-8"))
    with pytest.raises(AnadilError, match="exists already"):
        find_lr(config, tmp_path / "run")


def test_without_a_flat_start_ctc_alone_is_tested_from_the_first_weights(
    tmp_path: Path, micro: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finder, "N_STEPS", 5)
    found = find_lr(micro_config(micro / "train.jsonl", flat_start_steps=0), tmp_path / "run")
    assert [test.phase for test in found.tests] == ["CTC"] and len(found.tests[0].rates) == 5


def test_a_loss_that_diverges_stops_the_test(tmp_path: Path, micro: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finder, "HIGHEST", 1e6)
    data = micro_data(micro / "train.jsonl", flat_start_steps=0, optimizer="novograd")
    (test,) = find_lr(Config.model_validate(data), tmp_path / "run").tests
    assert test.rates[-1] < 1e6 / 2 and test.at_minimum < test.rates[-1]


def test_a_range_test_reads_the_steepest_place_and_keeps_below_the_minimum() -> None:
    rates = [10.0**-e for e in range(8, -1, -1)]
    losses = [4.0, 4.0, 3.9, 3.0, 1.5, 1.3, 1.2, 1.5, 9.0]  # falls most from 1e-5 to 1e-4, is smallest at 1e-2
    test = RangeTest("CTC", rates, losses, losses)
    assert test.at_minimum == 1e-2
    assert test.steepest in (rates[3], rates[4])
    assert test.suggestion == pytest.approx(test.steepest)
    late = RangeTest("CTC", rates, losses, [4.0, 4.0, 4.0, 4.0, 4.0, 3.9, 1.0, 4.0, 9.0])
    assert late.suggestion == pytest.approx(1e-2 / 3, rel=0.02)  # steepest at the minimum itself, which is too high
    flat = RangeTest("CTC", rates, losses, [4.0] * 9)
    assert flat.suggestion is None and "did not fall clearly at any rate" in explain(finder.FoundRate([flat]))


def test_find_lr_on_the_command_line(tmp_path: Path, micro: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finder, "N_STEPS", 40)
    config = write_config(tmp_path / "config.yaml", micro_data(micro / "train.jsonl"))
    done = CliRunner().invoke(app, ["train", str(config), "--out", str(tmp_path / "run"), "--find-lr"])
    assert done.exit_code == 0, done.output
    assert re.fullmatch(r"training\.lr=[\d.e-]+\n", done.stdout)
    assert "Loss by learning rate, CTC" in done.stderr and "find-lr.svg" in done.stderr


# --- curves


CHARTS = [
    Chart("a < b", "epoch", {"x & y": [(1, 0.5), (2, float("nan")), (3, 0.25)], "none": []}, percent=True),
    Chart("log", "lr", {"one": [(1e-6, 2.0), (1.0, 2.0)]}, log_x=True, marks={"here": 1e-3}),
    Chart("empty", "x", {}),
]


def test_a_chart_draws_every_curve_and_survives_what_is_not_finite() -> None:
    drawn = svg(CHARTS)
    lines = curves(drawn)
    assert {name: len(points) for name, points in lines.items()} == {"a < b: x & y": 2, "log: one": 2}
    (x0, y0), (x1, y1) = lines["a < b: x & y"]
    assert x0 < x1 and y0 < y1  # lower is further down
    texts = "".join(ET.fromstring(drawn).itertext())
    assert all(part in texts for part in ("a < b", "x & y 25.0%", "here", "nothing yet", "epoch"))


def test_a_chart_is_the_same_in_every_thread_and_leaves_matplotlibs_settings_alone() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    keys = ("svg.hashsalt", "svg.fonttype", "font.size")
    before = [matplotlib.rcParams[key] for key in keys]
    with ThreadPoolExecutor(4) as pool:
        drawn = set(pool.map(svg, [CHARTS] * 8))
    assert len(drawn) == 1 and "dc:date" not in drawn.pop()
    assert [matplotlib.rcParams[key] for key in keys] == before and "matplotlib.pyplot" not in sys.modules
