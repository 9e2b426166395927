"""`anadil transcribe --stream` and `--mic`."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner, Result

from anadil import audio
from anadil.cli import transcribe_live
from anadil.cli.console import _Terminated
from anadil.cli.main import app
from anadil.cli.transcribe_live import LivePrinter, raw_blocks
from anadil.errors import AnadilError
from anadil.recognition.stream import Result as Heard
from tests.support.command_line import anadil, fails, succeeds
from tests.support.fake_sounddevice import FakeSounddevice
from tests.support.micro import speak


def words_in(result: Result) -> str:
    """All final texts of lines of text, joined."""
    return " ".join(result.stdout.split())


def spoken(rate: int = 16000) -> np.ndarray:
    """ "cab ba", and two seconds of noise."""
    return speak("cab ba" + " " * 10, rate)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    audio.write(tmp_path / "cab ba.wav", spoken(), 16000)
    return tmp_path / "cab ba.wav"


@pytest.mark.parametrize("latency", ["low", "medium", "high", "0.8"])
def test_a_file_as_if_it_were_live(exported: Path, recording: Path, latency: str) -> None:
    result = succeeds("transcribe", exported, recording, "--stream", "--latency", latency)
    assert words_in(result) == "cab ba" and result.stderr == ""


def test_json_has_partial_and_final_results(exported: Path, recording: Path) -> None:
    result = succeeds("transcribe", exported, recording, "--stream", "--format", "json", "--latency", "high")
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert all(set(one) == {"text", "final", "start", "end", "words"} for one in records)
    assert [one["text"] for one in records if one["final"]] == ["cab ba"]
    assert not records[0]["final"] and records[-1]["final"]


def test_a_channel_of_a_file_at_another_rate(exported: Path, tmp_path: Path) -> None:
    sides = [spoken(44100), speak("abc" + " " * 13, 44100)]
    soundfile.write(str(tmp_path / "call.flac"), np.stack(sides, axis=1)[: len(sides[0])], 44100)
    for channel, text in (("1", "cab ba"), ("right", "abc")):
        result = succeeds("transcribe", exported, tmp_path / "call.flac", "--stream", "--channel", channel)
        assert words_in(result) == text


@pytest.mark.parametrize("rate", [16000, 22050])
def test_raw_samples_from_stdin(exported: Path, rate: int) -> None:
    data = (spoken(rate) * 32767).astype("<i2").tobytes()
    arguments = ["transcribe", str(exported), "-", "--stream", "--rate", str(rate)]
    assert words_in(CliRunner().invoke(app, arguments, input=data)) == "cab ba"
    result = CliRunner().invoke(app, arguments, input=data + b"x")
    assert result.exit_code == 1 and words_in(result) == "cab ba"
    assert "stdin ended in the middle of a sample" in result.stderr


def test_raw_samples_are_all_read_however_they_come() -> None:
    class Slow(io.BytesIO):
        def read1(self, size: int | None = -1) -> bytes:
            return self.read(3)

    samples = np.arange(-500, 500, dtype="<i2")
    found = np.concatenate(list(raw_blocks(Slow(samples.tobytes()), 16000)))
    assert found.dtype == np.float32 and np.array_equal(found * 32768, samples)
    assert list(raw_blocks(io.BytesIO(), 16000)) == []


@pytest.mark.parametrize("header", [b"RIFF\x00\x00WAVE", b"OggS\x00\x00", b"fLaC\x00\x00", b"ID3\x04\x00\x00"])
def test_a_file_with_a_header_is_not_taken_for_samples(header: bytes) -> None:
    with pytest.raises(AnadilError, match=r"stdin has a file of another format.*\n  next: give the file itself"):
        list(raw_blocks(io.BytesIO(header + bytes(1000)), 16000))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("-", "needs --stream"),
        ("a.wav b.wav --stream", "takes one recording, found 2"),
        ("--stream", "takes one recording, found 0"),
        (". --stream", "is a folder"),
        ("a.wav --stream --format srt", "text or json, not srt"),
        ("a.wav --stream --out out", "redirect it"),
        ("a.wav --stream --channel split", "--channel split"),
        ("- --stream --channel 2", "--channel 2"),
        ("a.wav --stream --latency never", "expected low, medium, high or seconds"),
        ("a.wav --stream --latency nan", "expected low, medium, high or seconds"),
        ("a.wav --stream --rate 8000", "--rate is for raw samples"),
        ("- --stream --rate 1", "--rate"),
        ("a.wav --stream --device 1", "--device is for --mic"),
        ("a.wav --mic", "takes no audio files"),
        ("--mic --stream", "no --stream"),
        ("--mic --rate 8000", "--rate is for raw samples"),
        ("a.wav --latency low", "--latency: goes with --stream and --mic"),
        ("a.wav --device 1", "--device: goes with --mic"),
        ("a.wav --rate 8000", "--rate: goes with --stream"),
        ("a.wav --shard-size 4", "--shard-size: goes with --engine"),
        ("a.wav --stream --force", "--force: does not go with --stream"),
        ("a.wav --stream --engine local --out out", "--engine: does not go with --stream"),
        ("a.wav --stream --hotword x", "--hotword: goes with neither --engine nor --stream nor --mic"),
        ("a.wav --stream --format json --n-best 2", "--n-best: goes with neither"),
        ("a.wav --engine local --out out --hotword x", "--hotword: goes with neither"),
        ("- --provider cuda --stream", "--provider: goes with neither"),
        ("", "give audio files or folders, or --mic"),
    ],
)
def test_options_that_do_not_belong_together(exported: Path, arguments: str, message: str) -> None:
    result = anadil("transcribe", exported, *arguments.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_a_recording_that_cannot_be_read(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("no audio")
    assert "a.wav" in fails("transcribe", exported, tmp_path / "a.wav", "--stream")
    assert "not found" in fails("transcribe", exported, tmp_path / "none.wav", "--stream")


# --- microphone


def install(monkeypatch: pytest.MonkeyPatch, **options: object) -> FakeSounddevice:
    library = FakeSounddevice(spoken, **options)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "sounddevice", library)
    return library


def test_ctrl_c_ends_with_the_final_text(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = install(monkeypatch, end=KeyboardInterrupt())
    result = succeeds("transcribe", exported, "--mic", "--latency", "high")
    assert words_in(result) == "cab ba" and result.stderr == "listening to Webcam; Ctrl-C ends\n"
    assert library.closed == 1


def test_the_device_is_chosen_by_number_or_name(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for device in ("2", "usb"):
        library = install(monkeypatch, rates=(44100,), end=KeyboardInterrupt())
        result = succeeds("transcribe", exported, "--mic", "--device", device)
        assert words_in(result) == "cab ba" and "listening to USB Audio" in result.stderr
        assert (library.opened[0]["device"], library.opened[0]["samplerate"]) == (2, 44100)
    assert "  1: Webcam (48,000 Hz)" in fails("transcribe", exported, "--mic", "--device", "9")


def test_a_microphone_that_is_pulled_out_or_too_fast_is_a_fault(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch)
    result = anadil("transcribe", exported, "--mic")
    assert result.exit_code == 1 and words_in(result) == "cab ba" and "delivers no audio" in result.stderr
    install(monkeypatch, end=KeyboardInterrupt(), overflows=2)
    result = anadil("transcribe", exported, "--mic")
    assert result.exit_code == 1 and words_in(result) == "cab ba" and "2 blocks have gaps" in result.stderr


def test_sigterm_ends_with_the_final_text_and_143(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, end=_Terminated())
    result = anadil("transcribe", exported, "--mic")
    assert result.exit_code == 143 and words_in(result) == "cab ba"


@pytest.mark.slow
def test_ctrl_c_while_stdin_waits(exported: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "anadil.cli.main",
        "transcribe",
        str(exported),
        "-",
        "--stream",
        "--latency",
        "high",
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        process.stdin.write((np.tile(spoken(), 3) * 32767).astype("<i2").tobytes())
        process.stdin.flush()
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read() + b" " + first
        assert process.wait(60) == 130, process.stderr.read()
        assert b"Traceback" not in process.stderr.read()
    assert first.split() == [b"cab", b"ba"] and len(rest.split()) >= 2


# --- the terminal


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_partial_result_is_replaced_on_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    out, terminal = io.StringIO(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "11")
    printer = LivePrinter(as_json=False)
    printer.show([Heard("one", (), False, 0.0, 1.0)])
    assert terminal.getvalue() == "one"
    printer.show([Heard("one two three four", (), False, 0.0, 1.0)])
    assert terminal.getvalue() == "one\r   \r" + "three four"  # the end of it, as wide as the line
    printer.show([Heard("one", (), True, 0.0, 1.0)])
    assert terminal.getvalue().endswith("\r" + " " * 10 + "\r") and out.getvalue() == "one\n"
    printer.show([Heard("", (), False, 1.0, 1.0), Heard("日本", (), False, 0.0, 1.0)])
    printer.clear()
    assert terminal.getvalue().endswith("日本\r    \r")  # two columns each


def test_nothing_partial_is_written_where_no_terminal_is(exported: Path, recording: Path) -> None:
    result = succeeds("transcribe", exported, recording, "--stream", "--latency", "high")
    assert (result.stdout, result.stderr) == ("cab ba\n", "")


def test_the_chunk_of_the_command_is_short() -> None:
    assert transcribe_live._CHUNK_S <= 0.1
