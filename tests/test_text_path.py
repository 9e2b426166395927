"""Training and recognition normalise, decode and score by the same rules, so their results agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from anadil.export.onnx import export_folder
from anadil.manifest import read_manifest
from anadil.training.train import train
from tests.support.command_line import succeeds
from tests.support.lines import write_lines
from tests.support.micro import TEXTS, micro_config, write_corpus
from tests.support.runs import metrics

WRITTEN = ("Abc.", "CAB  ba!", "B, ac", "acb a", "«Ca» bc", "bac?", "A b c", "cba")
"""TEXTS as a corpus spells them: the rules must undo capitals, punctuation and double spaces."""
FIGURES = ("text", "pred_text", "wer", "cer")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that ends before it has learned everything, so that some hypotheses are wrong."""
    folder = tmp_path_factory.mktemp("run")
    clips = read_manifest(write_corpus(folder))
    manifest = write_lines(
        folder / "train.jsonl",
        [{"audio_filepath": clip.audio_filepath, "text": text} for clip, text in zip(clips, WRITTEN, strict=True)],
    )
    train(micro_config(manifest, manifest, epochs=12), folder / "run")
    export_folder(folder / "run/best", folder / "exported")
    return folder / "run"


@pytest.mark.parametrize("model", ["run/best", "exported"])
def test_evaluation_repeats_the_validation_of_the_best_epoch(run: Path, tmp_path: Path, model: str) -> None:
    validated = lines(run / "hypotheses.jsonl")
    assert [line["text"] for line in validated] == list(TEXTS)
    assert any(line["pred_text"] not in ("", line["text"]) for line in validated)
    manifest, figures = run.parent / "train.jsonl", tmp_path / "test.json"
    succeeds("evaluate", run.parent / model, manifest, "--out", tmp_path, "--json", figures)
    evaluated = lines(tmp_path / "hypotheses.jsonl")
    assert [[line[key] for key in FIGURES] for line in evaluated] == [
        [line[key] for key in FIGURES] for line in validated
    ]
    best = min(metrics(run), key=lambda row: float(row["valid_cer"]))
    rates = json.loads(figures.read_text(encoding="utf-8"))
    assert (rates["cer"], rates["wer"]) == pytest.approx((float(best["valid_cer"]), float(best["valid_wer"])), abs=1e-6)
