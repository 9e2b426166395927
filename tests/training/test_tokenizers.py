"""Training with labels that are not characters, from the config to the exported folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import anadil
from anadil.errors import AnadilError
from anadil.export.onnx import export_folder
from anadil.models.acoustic import load_model
from anadil.text.rules import TextSettings, text_rules
from anadil.text.tokenizer import make_tokenizer, write_tokenizer
from anadil.training.config import Config
from anadil.training.monitoring.report import Silent
from anadil.training.prepare import prepare, sampled_labels
from anadil.training.train import train
from tests.support.labels import decoded
from tests.support.micro import TEXTS, micro_data, write_corpus


def config(folder: Path, **tokenizer: object) -> Config:
    manifest = write_corpus(folder)
    return Config.model_validate(micro_data(manifest, manifest, epochs=1) | {"tokenizer": tokenizer})


def test_subwords_go_into_the_model_and_the_exported_folder(tmp_path: Path) -> None:
    train(config(tmp_path, kind="unigram", size=8, sampling=0.2), tmp_path / "run")
    rules = load_model(tmp_path / "run/last").rules
    assert len(rules.labels) == 8 and any(len(label) > 1 for label in rules.labels)
    export_folder(tmp_path / "run/last", tmp_path / "exported")
    recognizer = anadil.load(tmp_path / "exported")
    assert recognizer.rules == rules
    assert decoded(recognizer.rules, recognizer.rules.encode("cab ba")) == "cab ba"
    assert recognizer.transcribe(tmp_path / "clips/0.wav").duration > 0
    for folder in ("run/last", "exported"):
        (tmp_path / folder / "tokenizer.model").unlink()
        with pytest.raises(AnadilError, match="tokenizer.model is missing"):
            anadil.load(tmp_path / folder)


def test_a_tokenizer_folder_gives_the_labels(tmp_path: Path) -> None:
    made = make_tokenizer([(text_rules("en", TextSettings()), TEXTS)], "bpe", 7)
    write_tokenizer(tmp_path / "tok", made)
    prepared = prepare(config(tmp_path, path=str(tmp_path / "tok")), tmp_path / "run", Silent())
    assert prepared.rules.labels == made.labels and prepared.rules.subwords == made.subwords
    assert prepared.config.tokenizer.kind == "bpe" and prepared.config.tokenizer.path is None


def test_drawn_subwords_differ_by_epoch_repeat_by_seed_and_fit_the_audio(tmp_path: Path) -> None:
    data = prepare(config(tmp_path, kind="unigram", size=8, sampling=0.3), tmp_path / "run", Silent())
    first, again, second = sampled_labels(data, 1), sampled_labels(data, 1), sampled_labels(data, 2)
    assert first is not None and second is not None
    assert first == again != second
    for labels, example in zip(first, data.train, strict=True):
        assert decoded(data.rules, labels) == example.utterance.text
    crowded = replace(data, acoustic=SimpleNamespace(frame_count=lambda n: 1, sample_rate=16000))
    assert sampled_labels(crowded, 1) == [example.labels for example in data.train]  # no draw would fit one frame
    plain = prepare(config(tmp_path, kind="unigram", size=8), tmp_path / "run", Silent())
    assert sampled_labels(plain, 1) is None


def test_crowded_labels_are_warned_of_before_training(tmp_path: Path) -> None:
    class Told(Silent):
        def __init__(self) -> None:
            self.said: list[str] = []

        def say(self, text: str) -> None:
            self.said.append(text)

        def warn(self, text: str) -> None:
            self.said.append(text)

    data = micro_data(write_corpus(tmp_path, ["abcab ca bc abab"] * 3, rate=16000))
    told = Told()
    prepare(Config.model_validate(data), tmp_path / "run", told)
    assert any("labels per second" in text and "model frames per second" in text for text in told.said)
    assert not any("trains badly" in text for text in told.said)
    data["model"] = {"blocks": [{"filters": 8, "kernel": 3, "stride": 9}, {"filters": 8, "kernel": 3, "stride": 2}]}
    told = Told()
    prepare(Config.model_validate(data), tmp_path / "run", told)
    assert any("more than 80% of the model's frames" in text and "tokenizer.kind=unigram" in text for text in told.said)


def test_subwords_with_labels_of_their_own_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AnadilError, match="tokenizer.kind bpe makes its own labels\n  next: "):
        prepare(config(tmp_path, kind="bpe", labels=["a"]), tmp_path / "run", Silent())
