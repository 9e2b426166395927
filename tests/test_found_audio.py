"""Audio as programs and devices write it: all of these are one clip, so all must give its samples."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from anadil import audio, sound_files
from anadil.doctor.audio import measure
from anadil.errors import AnadilError
from tests.support.command_line import anadil as run
from tests.support.command_line import succeeds

RATE = 16000
HEADER = "the header is wrong"


@pytest.fixture
def faults(shared: Path) -> Path:
    return shared / "faults"


def likeness(samples: np.ndarray, clean: np.ndarray) -> float:
    n = min(len(samples), len(clean))
    return float(np.corrcoef(samples[:n], clean[:n])[0, 1])


@pytest.mark.parametrize(
    ("name", "at_least", "note"),
    [
        ("gsm610.wav", 0.96, ""),
        ("g721.au", 0.99, ""),
        ("unknown_length.flac", 1, ""),
        ("data_size_zero.wav", 1, HEADER),
        ("data_size_quarter.wav", 1, HEADER),
        ("over_full_scale.wav", 1, "float samples over full scale"),
        ("opposite_phase.wav", 1, "in opposite phase: channel 1 is used"),
        ("voice_message.m4a", 0.99, ""),
        ("browser.webm", 0.99, ""),
        ("names/ngá_é.flac", 1, ""),
    ],
)
def test_it_is_read_as_the_clean_clip(faults: Path, name: str, at_least: float, note: str) -> None:
    if name.endswith((".m4a", ".webm")):
        pytest.importorskip("av")
    clean = audio.read(faults / "clean.wav", RATE)
    info, samples = audio.probe(faults / name), audio.read(faults / name, RATE)
    assert info.duration == pytest.approx(2.836, abs=0.05) and len(samples) == pytest.approx(len(clean), abs=800)
    assert likeness(samples, clean) >= at_least - 1e-6 and np.abs(samples).max() <= 1
    assert [text for text in info.notes if note in text] if note else info.notes == ()
    part = audio.read(faults / name, RATE, offset=1.0, duration=0.5)
    assert likeness(part, samples[RATE:]) > 0.999 and len(part) == RATE // 2
    assert len(audio.read(faults / name, RATE, offset=9.0)) == 0
    found, (whole, segment) = measure(str(faults / name), [(0.0, None), (1.0, 0.5)])  # overlapping: back, and on
    assert found == info and whole.duration == info.duration and segment.duration == 0.5


def test_the_doctor_measures_it_as_the_clean_clip(faults: Path) -> None:
    _, (clean,) = measure(str(faults / "clean.wav"), [(0.0, None)])
    for name in ("unknown_length.flac", "data_size_zero.wav", "opposite_phase.wav", "g721.au", "over_full_scale.wav"):
        _, (found,) = measure(str(faults / name), [(0.0, None)])
        assert found.duration == pytest.approx(clean.duration, abs=0.05) and not found.failure and found.clipped < 1e-4
        gain_db = 20 * np.log10(6) if name.startswith("over") else 0
        assert found.level_db == pytest.approx(clean.level_db + gain_db, abs=0.3)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
@pytest.mark.parametrize("stated", [0, 0.25, 0.5])
def test_a_header_that_understates(write_wav: Callable[..., Path], subtype: str, stated: float) -> None:
    path = write_wav("a.wav", 0.5, subtype=subtype)
    whole = audio.read(path, RATE)
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    size = len(content) - at - 4
    content[at : at + 4] = (int(size * stated) // 8 * 8).to_bytes(4, "little")
    path.write_bytes(content)
    assert audio.probe(path).notes[0].startswith(HEADER) and audio.probe(path).duration == pytest.approx(0.5, abs=1e-3)
    assert np.array_equal(audio.read(path, RATE)[: len(whole)], whole)


def test_chunks_behind_the_samples_are_no_samples(write_wav: Callable[..., Path]) -> None:
    path = write_wav("a.wav", 0.5)
    whole = audio.read(path, RATE)
    with open(path, "ab") as file:
        file.write(
            b"LIST" + (10).to_bytes(4, "little") + b"INFOISFT\0\0" + b"id3 " + (3).to_bytes(4, "little") + b"abc\0"
        )
    assert audio.probe(path).notes == () and np.array_equal(audio.read(path, RATE), whole)


def test_channels(faults: Path, write_wav: Callable[..., Path]) -> None:
    both = faults / "two_speakers.wav"
    samples, _ = soundfile.read(str(both), dtype="float32")
    for channel in (1, 2):
        assert np.array_equal(audio.read(both, RATE, channel=channel), samples[:, channel - 1])
    assert np.allclose(audio.read(both, RATE), samples.mean(axis=1))
    with pytest.raises(AnadilError, match="has 2 channels, and no channel 3"):
        audio.read(both, RATE, channel=3)
    with pytest.raises(AnadilError, match="has 1 channel, and no channel 2"):
        audio.read(faults / "clean.wav", RATE, channel=2)


@pytest.mark.parametrize("name", ["nga\u0301_e\u0301.flac", "ng\u00e1_\u00e9.flac", "NG"])
def test_names_composed_and_decomposed(faults: Path, name: str) -> None:
    if name == "NG":
        with pytest.raises(AnadilError, match="audio file not found"):
            sound_files.find_file(faults / "names" / name)
        return
    assert audio.probe(faults / "names" / name).duration == pytest.approx(2.836, abs=1e-3)


@pytest.mark.parametrize("path", ["a" * 300 + ".wav", "a\0b.wav", "no/such/folder/a.wav"])
def test_names_that_no_file_can_have(path: str) -> None:
    with pytest.raises(AnadilError, match="audio file not found"):
        audio.probe(path)


@pytest.mark.skipif(sys.platform == "win32", reason="backslashes are separators there")
def test_backslashes_of_another_system(tmp_path: Path, write_wav: Callable[..., Path]) -> None:
    (tmp_path / "clips").mkdir()
    write_wav("clips/a.wav", 0.1)
    assert audio.probe(f"{tmp_path}/clips\\a.wav").duration == pytest.approx(0.1)


def test_without_pyav_the_command_is_named(faults: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(
        AnadilError, match=r"voice_message.m4a: .m4a files need PyAV\n  next: pip install 'anadil\[media\]'"
    ):
        audio.probe(faults / "voice_message.m4a")


def test_a_playlist_is_not_followed(tmp_path: Path, faults: Path) -> None:
    """FFmpeg's playlists name other files and addresses."""
    pytest.importorskip("av")
    shutil.copy(faults / "voice_message.m4a", tmp_path / "secret.m4a")
    for name, content in (
        ("a.m4a", "#EXTM3U\n#EXTINF:1,\nsecret.m4a\n#EXT-X-ENDLIST\n"),
        ("b.mkv", f"ffconcat version 1.0\nfile {tmp_path / 'secret.m4a'}\n"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(AnadilError, match="not readable as audio"):
            audio.probe(tmp_path / name)


def test_a_folder_of_them_is_done_to_its_end(faults: Path, exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "found"
    folder.mkdir()
    names = ("clean.wav", "gsm610.wav", "header_only.wav", "opposite_phase.wav", "unknown_length.flac")
    for name in names:
        shutil.copy(faults / name, folder / name)
    result = run("transcribe", exported, folder)
    texts = dict(line.rsplit("\t", 1) for line in result.stdout.splitlines())
    assert result.exit_code == 1 and {Path(name).name for name in texts} == set(names) - {"header_only.wav"}
    told = " ".join(result.stderr.split())
    assert (
        "audio has no samples" in told and "header_only.wav" in told and "1 of 5 recordings could not be read" in told
    )
    assert "in opposite phase: channel 1 is used" in told
    clean = texts[str(folder / "clean.wav")]
    assert texts[str(folder / "unknown_length.flac")] == texts[str(folder / "opposite_phase.wav")] == clean


def test_each_channel_by_itself(faults: Path, exported: Path, tmp_path: Path) -> None:
    both = faults / "two_speakers.wav"
    left, right = (succeeds("transcribe", exported, both, "--channel", side).stdout for side in ("left", "2"))
    lines = succeeds("transcribe", exported, both, "--channel", "split").stdout.splitlines()
    assert lines == [f"{both} channel 1\t{left.strip()}", f"{both} channel 2\t{right.strip()}"]
    succeeds("transcribe", exported, both, "--channel", "split", "--format", "json", "--out", tmp_path)
    first = json.loads((tmp_path / "two_speakers-channel1.json").read_text(encoding="utf-8"))
    assert (first["channel"], first["text"]) == (1, left.strip())
    assert (tmp_path / "two_speakers-channel2.json").is_file()
    assert (
        "has 1 channel, and no channel 2"
        in run("transcribe", exported, faults / "clean.wav", "--channel", "right").stderr
    )
    assert run("transcribe", exported, both, "--channel", "middle").exit_code == 2
