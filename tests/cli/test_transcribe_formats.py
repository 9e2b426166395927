"""What `anadil transcribe` writes with times is what the readers of the same formats read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from anadil import audio
from anadil.cli.main import app
from anadil.corpora import audacity, ctm, elan, subtitles, textgrid
from anadil.corpora.reader import Options
from anadil.errors import AnadilError
from anadil.recognition.recognizer import Recognizer
from tests.support.micro import speak

READERS = {"srt": subtitles, "vtt": subtitles, "textgrid": textgrid, "eaf": elan, "audacity": audacity, "ctm": ctm}
ENDINGS = {"textgrid": ".TextGrid", "audacity": ".txt"}


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for name, text in (("one.wav", "cab ba"), ("two.wav", "abc")):
        audio.write(tmp_path / "in" / name, speak(text), 16000)
    return tmp_path / "in"


@pytest.mark.parametrize("form", READERS)
def test_each_format_is_read_again(exported: Path, recordings: Path, tmp_path: Path, form: str) -> None:
    out = tmp_path / "out"
    arguments = ["transcribe", str(exported), str(recordings), "--format", form, "--out", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr
    ending = ENDINGS.get(form, f".{form}")
    assert sorted(path.name for path in out.iterdir()) == [f"one{ending}", f"two{ending}"]
    options: Any = {"audio": recordings} | ({"tier": "utterances"} if form in ("eaf", "textgrid") else {})
    rejected: list[object] = []
    found = list(READERS[form].utterances(out, Options(**options), rejected.append))
    assert rejected == []
    assert [(Path(one.audio_filepath).name, one.text) for one in found] == [("one.wav", "cab ba"), ("two.wav", "abc")]
    first = found[0]
    assert 0 <= first.offset < 0.3 and first.duration is not None and 0.6 < first.duration < 1.3
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 1 and "--force" in again.stderr


def test_tiers_of_words_come_with_the_utterances(exported: Path, recordings: Path, tmp_path: Path) -> None:
    for form, reader in (("eaf", elan), ("textgrid", textgrid)):
        arguments = ["transcribe", str(exported), str(recordings / "one.wav"), "--format", form]
        result = CliRunner().invoke(app, arguments)
        file = tmp_path / f"one.{form}"
        file.write_text(result.stdout, encoding="utf-8")
        found = reader.utterances(
            file, Options(audio=recordings, tier="words"), lambda problem: pytest.fail(str(problem))
        )
        assert [one.text for one in found] == ["cab", "ba"]


def test_a_file_about_one_recording_is_not_printed_for_several(exported: Path, recordings: Path) -> None:
    result = CliRunner().invoke(app, ["transcribe", str(exported), str(recordings), "--format", "srt"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "add --out DIR" in result.stderr
    result = CliRunner().invoke(app, ["transcribe", str(exported), str(recordings), "--format", "ctm"])
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["one", "one", "two"]
    (recordings / "two.wav").rename(recordings / "t w o.wav")
    result = CliRunner().invoke(app, ["transcribe", str(exported), str(recordings), "--format", "ctm"])
    assert (result.exit_code, result.stdout) == (1, "") and "t w o.wav" in result.stderr


def test_a_recording_that_cannot_be_recognised_fails_alone(
    exported: Path, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Short recordings are recognised together; the one at fault is named, and the others are written."""
    audio.write(recordings / "three.wav", speak("a b"), 16000)
    files = sorted(recordings.iterdir())
    assert len(files) == 3
    run = Recognizer.log_probs
    longest = max(len(audio.read(path, 16000)) for path in files)

    def picky(self: Recognizer, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        if any(len(samples) > longest - 1600 for samples in waveforms):  # its edges are trimmed
            raise AnadilError("its log-probs hold NaN")
        return run(self, waveforms)

    monkeypatch.setattr(Recognizer, "log_probs", picky)
    done = CliRunner().invoke(app, ["transcribe", str(exported), *map(str, files), "--out", str(tmp_path / "out")])
    at_fault = [path for path in files if len(audio.read(path, 16000)) == longest]
    assert done.exit_code == 1 and all(f"{path}: its log-probs hold NaN" in done.stderr for path in at_fault)
    assert f"{len(at_fault)} of 3 recordings could not be read" in done.stderr
    assert {path.stem for path in (tmp_path / "out").iterdir()} == {path.stem for path in files if path not in at_fault}
