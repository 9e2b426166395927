"""NeMo models with subwords: texts are encoded by the archive's SentencePiece model after every conversion."""

from __future__ import annotations

from pathlib import Path

import pytest
import sentencepiece

import anadil
from anadil.errors import AnadilError
from anadil.export.layout import read_rules, read_settings
from anadil.export.onnx import export_folder
from anadil.manifest import read_manifest
from anadil.models.acoustic import load_model
from anadil.models.nemo.archive import read_archive
from anadil.models.nemo.read import read_nemo
from anadil.text.rules import TextRules
from anadil.training.config import Config
from anadil.training.monitoring.report import Silent
from anadil.training.train import train
from anadil.training.transfer.convert import convert
from tests.support.labels import decoded
from tests.support.lines import write_lines

FAMILIES = ("citrinet_bpe", "fastconformer_bpe")


def archive_of(shared: Path, family: str) -> Path:
    return shared / "reference/nemo" / family / "model.nemo"


def texts_of(shared: Path, rules: TextRules) -> list[str]:
    texts = [rules.normalize(one.text) for one in read_manifest(shared / "speech/mboshi/valid.jsonl")]
    return [text for text in texts if text and not rules.unknown_characters(text)]


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_are_encoded_as_sentencepiece_does(shared: Path, tmp_path: Path, family: str) -> None:
    source = archive_of(shared, family)
    model = read_nemo(source)
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model.files["tokenizer.model"])
    convert(source, tmp_path / "m", Silent())
    export_folder(tmp_path / "m", tmp_path / "exported")
    exported = read_rules(tmp_path / "exported", read_settings(tmp_path / "exported"))
    for rules in (model.loaded.rules, load_model(tmp_path / "m").rules, exported):
        texts = texts_of(shared, rules)
        assert len(texts) > 100 and rules.labels[0] == "<unk>"
        assert all(rules.encode(text) == theirs.encode(text) for text in texts)
        assert all(decoded(rules, rules.encode(text)) == text for text in texts)
    plain = read_nemo(source).loaded.rules
    longest_first = [plain._ids[unit] for text in texts for unit in plain._label_pattern.findall(" " + text)]
    assert longest_first != [label for text in texts for label in plain.encode(text)]  # it would have been otherwise
    for other in ("<unk>", "q"):
        with pytest.raises(AnadilError, match="no label for"):
            plain.encode(other)


def test_fine_tuned_and_back_to_nemo(shared: Path, tmp_path: Path) -> None:
    source = archive_of(shared, "fastconformer_bpe")
    rules = read_nemo(source).loaded.rules
    lines = []
    for one in read_manifest(shared / "speech/mboshi/valid.jsonl"):
        text = rules.normalize(one.text)
        if len(lines) < 3 and text and not rules.unknown_characters(text) and one.duration and one.duration > 3:
            lines.append({"audio_filepath": str(one.audio_filepath), "text": text})
    manifest = write_lines(tmp_path / "t.jsonl", lines)
    data = {
        "name": "tuned",
        "language": "mdw",
        "data": {"train": [str(manifest)], "valid": [str(manifest)], "skip_bad": True},
        "init": {"from": str(source), "head": "keep"},
        "training": {"epochs": 1, "batch_seconds": 20, "warmup_steps": 1, "accelerator": "cpu"},
    }
    train(Config.model_validate(data), tmp_path / "run")
    tuned = load_model(tmp_path / "run/best").rules
    assert (tuned.labels, tuned.subwords) == (rules.labels, rules.subwords) and tuned.subwords
    convert(tmp_path / "run/best", tmp_path / "tuned.nemo", Silent())
    there, back = read_archive(source), read_archive(tmp_path / "tuned.nemo")
    assert back.config["tokenizer"]["type"] == "bpe"
    assert back.config["decoder"]["vocabulary"] == there.config["decoder"]["vocabulary"]
    assert rules.subwords in back.artifacts.values()
    again = read_nemo(tmp_path / "tuned.nemo").loaded.rules
    assert again.encode(lines[0]["text"]) == rules.encode(lines[0]["text"])
    assert anadil.load(tmp_path / "tuned.nemo").rules.subwords == rules.subwords
