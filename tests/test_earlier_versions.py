"""A model folder, an exported folder and an interrupted run that Anadil 0.1.0 wrote must stay usable."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import anadil
from anadil.cli.main import app
from tests.support.micro import TEXTS, write_corpus

MADE = Path(__file__).parent / "made_by_0.1.0"
"""Trained on `write_corpus` for 30 of the 40 epochs of its config.yaml, then killed."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(MADE, tmp_path / "made")
    (tmp_path / "made/exported/model.onnx").write_bytes(gzip.decompress((MADE / "exported/model.onnx.gz").read_bytes()))
    write_corpus(tmp_path / "made")
    monkeypatch.chdir(tmp_path / "made")
    return tmp_path / "made"


@pytest.mark.parametrize("model", ["run/best", "exported"])
def test_earlier_models_still_recognise(folder: Path, model: str) -> None:
    recognizer = anadil.load(folder / model)
    assert [recognizer.transcribe(folder / f"clips/{i}.wav").text for i in range(len(TEXTS))] == list(TEXTS)


def test_an_earlier_run_can_be_resumed(folder: Path) -> None:
    before = (folder / "run/metrics.csv").read_text(encoding="utf-8").splitlines()
    result = CliRunner().invoke(app, ["train", "config.yaml", "--out", "run", "--resume"])
    assert result.exit_code == 0, result.output
    after = (folder / "run/metrics.csv").read_text(encoding="utf-8").splitlines()
    assert after[: len(before)] == before and len(after) == 1 + 40
