from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from anadil.errors import AnadilError
from anadil.export.card import Card, read_results, shared_speakers, write_card
from anadil.export.layout import read_front_matter, read_settings
from anadil.export.onnx import ExportOptions, export_folder
from tests.support.command_line import fails, succeeds
from tests.support.lines import write_lines
from tests.support.micro import TEXTS

TRAINED = "# swahili\n\n| | |\n|---|---|\n| its licences | {} |\n"


@pytest.fixture(scope="module")
def figures(micro: Path, exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `anadil evaluate --json` writes for a test set of one speaker."""
    folder = tmp_path_factory.mktemp("figures")
    lines = [
        {"audio_filepath": str(micro / f"clips/{i % 8}.wav"), "text": TEXTS[i % 8], "speaker": "eve"} for i in range(16)
    ]
    lines[0]["text"] = "abca"
    succeeds("evaluate", exported, write_lines(folder / "test.jsonl", lines), "--json", folder / "test.json")
    return folder / "test.json"


def card(exported: Path, **changes: Any) -> Card:
    return dataclasses.replace(Card("", read_settings(exported), 1e-5, 2e-5, 100.0, None), **changes)


def test_the_card_has_error_rates_with_intervals_and_says_on_what(micro: Path, tmp_path: Path, figures: Path) -> None:
    out = tmp_path / "out"
    succeeds("export", micro / "run/best", "--out", out, "--results", figures)
    text = (out / "README.md").read_text(encoding="utf-8")
    data = json.loads(figures.read_text())
    low, high = data["cer_interval"]
    assert f"| test.jsonl (16 utterances, 0.00 h) | not known: not all are named | greedy | {data['cer']:.2%} " in text
    assert f"({low:.2%} to {high:.2%})" in text
    found = read_front_matter(text)["model-index"][0]["results"][0]
    assert found["dataset"]["name"] == "test.jsonl"
    assert found["metrics"][0] == {"type": "cer", "value": round(100 * data["cer"], 2), "name": "CER, greedy, %"}


def test_the_front_matter_is_what_the_hub_reads(micro: Path, exported: Path) -> None:
    text = (exported / "README.md").read_text(encoding="utf-8")
    data = yaml.safe_load(text.split("---\n")[1])
    assert data["language"] == ["en"] and data["license"] == "unknown"
    assert data["pipeline_tag"] == "automatic-speech-recognition" and data["library_name"] == "anadil"
    assert "model-index" not in data and "No test results were given" in text
    huggingface_hub = pytest.importorskip("huggingface_hub")
    assert huggingface_hub.ModelCard(text).data.language == ["en"]


@pytest.mark.parametrize(
    ("licences", "expected"),
    [
        ("CC-BY-4.0 (3.78 h)", {"license": "cc-by-4.0"}),
        ("CC0-1.0 (1.00 h), MIT (0.20 h)", {"license": "other", "license_name": "CC0-1.0, MIT"}),
        ("ours (1,000.00 h)", {"license": "other", "license_name": "ours"}),
        ("not given (3.78 h)", {"license": "unknown"}),
    ],
)
def test_the_licence_is_that_of_the_training_speech(exported: Path, licences: str, expected: dict[str, str]) -> None:
    data = read_front_matter(write_card(card(exported, model_card=TRAINED.format(licences)), exported))
    assert {name: data[name] for name in ("license", "license_name") if name in data} == expected


def test_an_earlier_front_matter_is_replaced(exported: Path) -> None:
    once = write_card(card(exported, model_card="---\nlicense: mit\n---\n# a\n"), exported)
    assert once.count("---\nlanguage") == 1 and "license: mit" not in once and "# a\n" in once


def test_shared_speakers_are_counted(tmp_path: Path) -> None:
    def manifest(name: str, *speakers: str | None) -> str:
        lines = [{"audio_filepath": "a.wav", "text": "a"} | ({"speaker": one} if one else {}) for one in speakers]
        return str(write_lines(tmp_path / name, lines))

    train = manifest("train.jsonl", "ana", "ben")
    assert shared_speakers([train], [manifest("1.jsonl", "ben", "eve")]) == "1 of 2 are in the training data"
    assert shared_speakers([train], [manifest("2.jsonl", "eve")]) == "none is in the training data"
    assert shared_speakers([train], [manifest("3.jsonl", "eve", None)]) == "not known: not all are named"
    assert shared_speakers([train], [str(tmp_path / "none")]) == "not known: the manifests are not here"


def test_synthetic_speech_and_int8_are_among_the_limits(exported: Path) -> None:
    assert "synthetic" not in write_card(card(exported, model_card="# people's speech\n"), exported)
    settings = read_settings(exported).model_copy(update={"precision": "int8"})
    text = write_card(card(exported, model_card="| training speech | 2 h, synthetic |", settings=settings), exported)
    assert "It was trained on synthetic speech" in text and "Processors without VNNI" in text


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"manifests": ["a"], "cer": "low", "wer": 1, "n_utterances": 1}'])
def test_files_without_figures_are_named(tmp_path: Path, micro: Path, content: str) -> None:
    (tmp_path / "figures.json").write_text(content)
    with pytest.raises(AnadilError, match=r"figures.json holds no figures of anadil evaluate.*\n  next: "):
        read_results([tmp_path / "figures.json"])
    message = fails("export", micro / "run/best", "--out", tmp_path / "out", "--results", tmp_path / "figures.json")
    assert "holds no figures" in message and not (tmp_path / "out").exists()


def test_with_a_language_model_both_ways_to_decode_are_there(tmp_path: Path, exported: Path) -> None:
    rates = {
        "cer": 0.1,
        "wer": 0.2,
        "n_utterances": 5,
        "hours": 0.5,
        "cer_interval": [0.05, 0.15],
        "wer_interval": None,
    }
    data = {"manifests": ["test.jsonl"], "lm": {"order": 3}, **rates, "greedy": rates | {"cer": 0.3}}
    (tmp_path / "f.json").write_text(json.dumps(data))
    text = write_card(card(exported, results=read_results([tmp_path / "f.json"])), exported)
    assert "| greedy | 30.00% (5.00% to 15.00%) | 20.00% |" in text and "| with LM | 10.00% (5.00% to 15.00%) |" in text


def test_speed_and_differences_are_measured(micro: Path, tmp_path: Path) -> None:
    exported = export_folder(micro / "run/best", tmp_path / "out", options=ExportOptions())
    text = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    assert f"by at most {exported.difference:.1e}" in text and " times real time on one core of " in text
    assert 0 < exported.batch_difference < 1e-3
