from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import anadil
from anadil import audio
from anadil.cli.main import app
from tests.support.nemo_models import write_case


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def archive(shared: Path, tmp_path: Path) -> Path:
    """Under a name that says nothing."""
    path = tmp_path / "archive.bin"
    path.write_bytes((shared / "reference/nemo/citrinet_bpe/model.nemo").read_bytes())
    return path


@pytest.fixture
def recording(shared: Path, tmp_path: Path) -> Path:
    samples = np.load(shared / "reference/nemo/citrinet_bpe/expected.npz")["audio"][0]
    audio.write(tmp_path / "clip.wav", samples, 16000)
    return tmp_path / "clip.wav"


def test_an_archive_a_folder_and_an_exported_folder_are_one_model(
    archive: Path, recording: Path, tmp_path: Path
) -> None:
    made = run("convert", archive, "--out", tmp_path / "m", "--lang", "mdw")
    assert made.exit_code == 0 and made.stdout.strip() == str(tmp_path / "m")
    assert "43,649 parameters" in made.stderr and "left out" in made.stderr
    assert run("convert", tmp_path / "m", "--out", tmp_path / "m.nemo").exit_code == 0
    assert run("export", archive, "--out", tmp_path / "from-archive").exit_code == 0
    assert run("export", tmp_path / "m", "--out", tmp_path / "from-folder").exit_code == 0
    texts = []
    for model in (archive, "m", "m.nemo", "from-archive", "from-folder"):
        found = run("transcribe", tmp_path / model, recording, "--format", "json")
        assert found.exit_code == 0, found.stderr
        texts.append(json.loads(found.stdout))
    assert texts[0]["text"] and all(one["text"] == texts[0]["text"] for one in texts)
    assert texts[1]["words"] == texts[0]["words"]
    card = (tmp_path / "from-archive/README.md").read_text(encoding="utf-8")
    assert "archive.bin, NeMo 3.0.0, EncDecCTCModelBPE" in card
    again = run("convert", archive, "--out", tmp_path / "m")
    assert again.exit_code == 1 and "exists already" in again.stderr
    assert run("convert", archive, "--out", tmp_path / "m", "--force").exit_code == 0


def test_an_archive_can_be_evaluated(archive: Path, recording: Path, tmp_path: Path) -> None:
    line = {"audio_filepath": str(recording), "text": "wáré"}
    (tmp_path / "test.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    found = run("evaluate", archive, tmp_path / "test.jsonl")
    assert found.exit_code == 0 and "1 utterances" in found.stdout


def test_anadil_load_takes_an_archive(archive: Path, recording: Path) -> None:
    recognizer = anadil.load(archive)
    assert recognizer.frame_s == pytest.approx(0.08) and len(recognizer.rules.labels) == 64
    assert recognizer.transcribe(recording).duration == pytest.approx(3.54, abs=0.1)


def test_what_is_no_model_is_said(tmp_path: Path, recording: Path) -> None:
    found = run("transcribe", recording, recording)
    assert found.exit_code == 1 and "neither a NeMo archive" in found.stderr
    broken = write_case(tmp_path / "x.nemo", "citrinet", encoder={"quantize": True})
    for verb in (["transcribe", broken, recording], ["export", broken, "--out", tmp_path / "o"]):
        found = run(*verb)
        assert found.exit_code == 1 and "encoder.quantize: true" in found.stderr


def test_a_model_of_hugging_face_with_the_adapter_of_a_language(tmp_path: Path) -> None:
    hugging_face = pytest.importorskip("tests.support.hugging_face", reason="the extra hf is not installed")
    hugging_face.write_mms(tmp_path / "mms")
    several = run("convert", tmp_path / "mms", "--out", tmp_path / "m")
    assert several.exit_code == 1 and "there are eng, tur" in several.stderr and not (tmp_path / "m").exists()
    made = run("convert", tmp_path / "mms", "--out", tmp_path / "m", "--adapter", "tur", "--lang", "tr")
    assert (made.exit_code, made.stdout) == (0, f"{tmp_path / 'm'}\n"), made.stderr
    assert anadil.load(tmp_path / "m").rules.labels[-1] == "ş"
