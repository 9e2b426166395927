from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anadil import audio
from anadil.corpora import ctm, elan, subtitles, textgrid
from anadil.corpora.reader import Options
from anadil.errors import AnadilError
from tests.support.command_line import anadil, fails, files, succeeds
from tests.support.lines import write_lines
from tests.support.micro import speak
from tests.support.tones import RATE, tone_recognizer

READERS: dict[str, Any] = {"srt": subtitles, "vtt": subtitles, "textgrid": textgrid, "eaf": elan, "ctm": ctm}
LINES = ["Cab, ba!", "abc", "b ac"]


@pytest.fixture(autouse=True)
def tones(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that recognises tones; "missing" is none."""

    def load(path: Path, lm: bool = True) -> object:
        if path.name == "missing":
            raise AnadilError("model not found: missing")
        return tone_recognizer()

    monkeypatch.setattr("anadil.recognition.load.load", load)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """talk.wav, its text, and a manifest of two clips in two folders."""
    monkeypatch.chdir(tmp_path)
    quiet = np.random.default_rng(0).normal(0, 0.003, round(0.6 * RATE)).astype(np.float32)
    audio.write("talk.wav", np.concatenate([quiet, *(p for line in LINES for p in (speak(spoken(line)), quiet))]), RATE)
    Path("talk.txt").write_text("\n".join(LINES), encoding="utf-8")
    for name, text in (("one", "cab ba"), ("two", "abc")):
        Path(name).mkdir()
        audio.write(f"{name}/clip.wav", speak(text), RATE)
    write_lines(
        Path("m.jsonl"),
        [
            {"audio_filepath": "one/clip.wav", "text": "Cab, ba!", "speaker": "ana", "kept": 1},
            {"audio_filepath": "two/clip.wav", "text": "abc"},
        ],
    )
    return tmp_path


def spoken(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter in "abc ")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.usefixtures("folder")
def test_a_manifest_gets_word_times() -> None:
    result = succeeds("align", "model", "m.jsonl", "--out", "out")
    assert result.stdout == f"{Path('out/m.jsonl')}\n"
    assert "aligned 2 of 2 utterances, 3 words" in result.stderr
    first, second = lines(Path("out/m.jsonl"))
    assert (first["text"], first["speaker"], first["kept"]) == ("Cab, ba!", "ana", 1)
    words = first["alignment"]["words"]
    assert [(word["text"], word["spoken"]) for word in words] == [("Cab,", "cab"), ("ba!", "ba")]
    assert words[0]["start"] == pytest.approx(0.06, abs=0.03) and words[1]["end"] == pytest.approx(1.2, abs=0.03)
    assert "spoken" not in second["alignment"]["words"][0] and second["alignment"]["score"] > 0.9
    assert json.loads(Path("out/m.report.json").read_text(encoding="utf-8"))["not_aligned"] == []
    assert "--force" in fails("align", "model", "m.jsonl", "--out", "out")
    printed = succeeds("align", "model", "m.jsonl", "--out", "out", "--force")
    assert printed.stdout
    to_stdout = succeeds("align", "model", "m.jsonl").stdout.splitlines()
    assert [json.loads(line)["audio_filepath"] for line in to_stdout] == ["one/clip.wav", "two/clip.wav"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("form", READERS)
def test_each_format_is_read_again(form: str) -> None:
    succeeds("align", "model", "m.jsonl", "--out", "out", "--format", form)
    suffix = ".TextGrid" if form == "textgrid" else f".{form}"
    if form == "ctm":
        rows = [line.split() for line in Path("out/m.ctm").read_text(encoding="utf-8").splitlines()]
        assert [row[4] for row in rows] == ["Cab,", "ba!", "abc"] and rows[0][-1] == "ana"
        return
    options: Any = {"audio": Path("one")} | ({"tier": "utterances"} if form in ("eaf", "textgrid") else {})
    found = list(READERS[form].utterances(Path(f"out/m/one/clip{suffix}"), Options(**options), pytest.fail))
    assert [one.text for one in found] == ["Cab, ba!"]
    assert Path(f"out/m/two/clip{suffix}").is_file()
    for tier, texts in (("words", ["Cab,", "ba!"]), ("characters", list("cabba"))):
        if form in ("eaf", "textgrid"):
            some = READERS[form].utterances(
                Path(f"out/m/one/clip{suffix}"), Options(audio=Path("one"), tier=tier), pytest.fail
            )
            assert [one.text for one in some] == texts


@pytest.mark.usefixtures("folder")
def test_json_has_everything_of_a_recording() -> None:
    Path("talk.txt").write_text("\n".join([*LINES, "ccccccc aaaaaaaaa ccccccccc bbbbbbbbb"]), encoding="utf-8")
    result = anadil("align", "model", "--segment", "talk.wav", "talk.txt", "--out", "out", "--format", "json")
    assert result.exit_code == 1
    content = json.loads(Path("out/talk.json").read_text(encoding="utf-8"))
    assert [word["text"] for part in content["segments"] for word in part["words"]] == " ".join(LINES).split()
    assert content["left_out"][0]["text"] == "ccccccc aaaaaaaaa ccccccccc bbbbbbbbb"


@pytest.mark.usefixtures("folder")
def test_what_fails_is_named_and_the_rest_is_written() -> None:
    with open("m.jsonl", "a", encoding="utf-8") as file:
        for record in (
            {"audio_filepath": "no.wav", "text": "abc"},
            {"audio_filepath": "two/clip.wav", "text": "zz ab"},
        ):
            file.write(json.dumps(record) + "\n")
    result = anadil("align", "model", "m.jsonl", "--out", "out")
    assert result.exit_code == 1
    assert "m.jsonl:3: audio file not found: ./no.wav" in result.stderr
    assert "1 of 4 utterances are not aligned" in result.stderr
    assert "2 characters have no label in the model and are not aligned: 'z'" in result.stderr
    assert len(lines(Path("out/m.jsonl"))) == 3
    report = json.loads(Path("out/m.report.json").read_text(encoding="utf-8"))
    assert [one["where"] for one in report["not_aligned"]] == ["m.jsonl:3"]
    assert report["characters_without_label"] == {"z": 2}


@pytest.mark.usefixtures("folder")
def test_overlapping_utterances_are_named_where_a_tier_cannot_hold_them() -> None:
    write_lines(Path("m.jsonl"), [{"audio_filepath": "one/clip.wav", "text": "cab ba"}] * 2)
    result = anadil("align", "model", "m.jsonl", "--out", "out", "--format", "textgrid")
    assert result.exit_code == 1 and "utterances of one speaker overlap" in result.stderr
    assert sorted(files(Path("out"))) == ["m.jsonl", "m.report.json"]


@pytest.mark.usefixtures("folder")
def test_a_recording_and_its_text_become_segments() -> None:
    result = succeeds("align", "model", "--segment", "talk.wav", "talk.txt", "--out", "out", "--format", "srt")
    assert result.stdout == f"{Path('out/talk.jsonl')}\n"
    segments = lines(Path("out/talk.jsonl"))
    assert " ".join(one["text"] for one in segments) == " ".join(LINES)
    assert sorted(files(Path("out"))) == ["talk.jsonl", "talk.report.json", "talk.srt"]
    again = succeeds("align", "model", "--segment", "talk.wav", "talk.txt")
    assert [json.loads(line)["text"] for line in again.stdout.splitlines()] == [one["text"] for one in segments]


@pytest.mark.usefixtures("folder")
def test_what_is_left_out_is_listed_and_changes_the_exit_status() -> None:
    Path("talk.txt").write_text("\n".join([LINES[0], "ccccccc aaaaaaaaa ccccccccc", *LINES[1:]]), encoding="utf-8")
    result = anadil("align", "model", "--segment", "talk.wav", "talk.txt", "--out", "out")
    assert result.exit_code == 1 and result.stdout
    assert "text that is not spoken: 1 x" in result.stderr
    assert "line 2: ccccccc aaaaaaaaa ccccccccc" in result.stderr
    assert "5 of 8 words" in result.stderr
    report = json.loads(Path("out/talk.report.json").read_text(encoding="utf-8"))
    assert (report["words"], report["words_in_segments"], report["left_out"][0]["line"]) == (8, 5, 2)


BAD: dict[str, tuple[Callable[[], object], str]] = {
    "empty text": (lambda: Path("talk.txt").write_text(" \n"), "talk.txt: the text is empty"),
    "marks alone": (
        lambda: Path("talk.txt").write_text("... !"),
        "talk.txt: empty text: the text rules leave nothing of",
    ),
    "another script": (
        lambda: Path("talk.txt").write_text("привет мир", encoding="utf-8"),
        "the text is in another script or language",
    ),
    "no UTF-8": (lambda: Path("talk.txt").write_bytes(b"\xff\xfeab\xff"), "talk.txt: not UTF-16-LE"),
    "no text": (lambda: Path("talk.txt").unlink(), "file not found: talk.txt"),
    "no recording": (lambda: Path("talk.wav").unlink(), "audio file not found: talk.wav"),
    "no audio": (lambda: Path("talk.wav").write_text("no audio"), "talk.wav"),
    "another text": (lambda: Path("talk.txt").write_text("bbbbbbbb " * 40), "talk.wav: no word of the text is found"),
}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_error(name: str) -> None:
    change, message = BAD[name]
    change()
    assert message in fails("align", "model", "--segment", "talk.wav", "talk.txt", "--out", "out")
    assert not Path("out").exists()


@pytest.mark.usefixtures("folder")
def test_errors_of_a_manifest() -> None:
    assert "manifest not found: no.jsonl" in fails("align", "model", "no.jsonl", "--out", "out")
    assert "model not found" in fails("align", "missing", "m.jsonl", "--out", "out")
    assert "an audio file" in fails("align", "model", "talk.wav", "--out", "out")
    assert "m.jsonl is an input" in fails("align", "model", "m.jsonl", "--out", ".", "--force")
    write_lines(Path("m.jsonl"), [{"audio_filepath": "one/clip.wav", "text": ""}])
    assert "no utterance is aligned" in fails("align", "model", "m.jsonl", "--out", "out")
    assert not Path("out").exists()
