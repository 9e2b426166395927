"""`anadil check --config` and training see the same: labels, rules of each language, model, utterances."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from anadil import audio
from anadil.cli.main import app
from anadil.training.config import load_config
from anadil.training.prepare import prepare
from tests.support.lines import write_lines
from tests.support.micro import micro_data, speak, write_config
from tests.support.runs import Told

TURKISH = ["IŞIK İLE", "ILIK IŞIK", "SICAK ÇAY HAH"]
GERMAN = ["ICH SCHIEẞE", "STRASSE IST", "EIN Ş IST FALSCH"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A config over one manifest in two languages: I is ı in Turkish and i in German; h is rare in each, not in both."""
    records = []
    for language, texts in (("tr", TURKISH), ("de", GERMAN)):
        for i, text in enumerate(texts):
            name = f"{language}{i}.wav"
            audio.write(tmp_path / name, speak("abc" * 4), 16000)
            records.append({"audio_filepath": name, "text": text, "language": language})
    manifest = write_lines(tmp_path / "train.jsonl", records)
    valid = write_lines(tmp_path / "valid.jsonl", [records[0], records[-1]])
    data = micro_data(manifest, valid) | {"language": "tr"}
    return write_config(tmp_path / "config.yaml", data)


def test_they_agree_on_a_manifest_in_two_languages(config: Path, tmp_path: Path) -> None:
    told = Told()
    data = prepare(load_config(config), tmp_path / "run", told)
    references = [data.reference(example) for example in data.train]
    assert sorted(references) == sorted(
        ["ışık ile", "ılık ışık", "sıcak çay hah", "ich schieße", "strasse ist", "ein ş ist falsch"]
    )
    counts = Counter("".join(references))

    result = CliRunner().invoke(app, ["check", "--config", str(config), "--json", "--no-audio"])
    printed = next(line for line in result.stderr.splitlines() if "ı:" in line)
    assert {label: int(n) for label, n in re.findall(r"(\S| ):(\d+)", printed)} == counts
    assert [text for text in told.said if "ı:" in text] == [text for text in told.said if printed.strip() in text]

    findings = json.loads(result.stdout)["findings"]
    rare = {one["what"].split()[0]: one["value"] for one in findings if one["kind"] == "rare-character"}
    assert rare == {repr(label): n for label, n in counts.items() if n < 5 and label != " "}
    (warned,) = [text for text in told.warned if "occur fewer than 5 times" in text]
    assert counts["h"] == 5 and "'h'" not in warned and re.search(rf"'ş' \([^)]*\) x {counts['ş']}", warned)
    outside = {one["what"].split()[0] for one in findings if one["kind"] == "outside-alphabet"}
    assert outside == {"'ş'"}  # in the German text alone


def test_they_resolve_the_same_model_with_a_source(config: Path, tmp_path: Path, micro: Path) -> None:
    overrides = [f"init.from={micro / 'run/best'}", "tokenizer.labels=[' ', ı, ş, k, i, l, e]"]
    data = prepare(load_config(config, [*overrides, "data.skip_bad=true"]), tmp_path / "run", Told())
    result = CliRunner().invoke(app, ["check", *overrides, "--config", str(config), "--json", "--no-audio"])
    kinds = Counter(one["kind"] for one in json.loads(result.stdout)["findings"])
    unusable = len(TURKISH + GERMAN) - len(data.train) + 2 - len(data.valid)
    assert unusable == 5 and kinds["no-label"] + kinds["too-many-labels"] == unusable
