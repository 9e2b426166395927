"""A model folder, an exported folder and an interrupted run that Anadil 0.1.0 wrote must stay usable."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import anadil
from anadil.cli.main import app
from tests.support.earlier_versions import copy_made
from tests.support.micro import TEXTS


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = copy_made(tmp_path / "made")
    monkeypatch.chdir(made)
    return made


@pytest.mark.parametrize("model", ["run/best", "exported"])
def test_earlier_models_still_recognise(folder: Path, model: str) -> None:
    recognizer = anadil.load(folder / model)
    assert [recognizer.transcribe(folder / f"clips/{i}.wav").text for i in range(len(TEXTS))] == list(TEXTS)


def test_an_earlier_run_can_be_resumed_again_and_again(folder: Path) -> None:
    before = (folder / "run/metrics.csv").read_text(encoding="utf-8").splitlines()
    for epochs in (35, 40):  # the second time from a checkpoint that this version wrote
        command = ["train", "config.yaml", f"training.epochs={epochs}", "--out", "run", "--resume"]
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
    after = (folder / "run/metrics.csv").read_text(encoding="utf-8").splitlines()
    assert after[: len(before)] == before and len(after) == 1 + 40
