"""Audio as programs and devices write it: all of these are one clip, so all must give its samples."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from anadil import audio, sound_files
from anadil.corpora.importing import _convert_to_wav
from anadil.doctor.audio import measure
from anadil.errors import AnadilError
from anadil.sound_files import open_recording
from tests.support.command_line import anadil as run
from tests.support.command_line import succeeds
from tests.support.signals import speech_with_pauses

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


CUT = "cut off: the header promises more samples"


@pytest.mark.parametrize("share", [0.3, 0.6, 0.97, 0.995])
@pytest.mark.parametrize(
    ("name", "options", "note"),
    [
        ("a.mp3", {"format": "MP3", "subtype": "MPEG_LAYER_III"}, CUT),
        ("a.flac", {"format": "FLAC", "subtype": "PCM_16"}, CUT),
        ("a.flac", {"format": "FLAC", "subtype": "PCM_24"}, CUT),
        ("a.w64", {"format": "W64", "subtype": "PCM_16"}, CUT),
        ("a.wav", {"format": "RF64", "subtype": "PCM_16"}, CUT),
        ("a.aiff", {"format": "AIFF", "subtype": "PCM_16"}, CUT),
        ("a.au", {"format": "AU", "subtype": "PCM_16"}, CUT),
        ("a.ogg", {"format": "OGG", "subtype": "VORBIS"}, "cut off: the file ends in the middle of an Ogg page"),
    ],
)
def test_a_file_that_is_cut_off(
    write_wav: Callable[..., Path], name: str, options: dict[str, str], note: str, share: float
) -> None:
    path = write_wav(name, speech_with_pauses(12.0), RATE, **options)
    whole = audio.probe(path)
    assert whole.notes == () and whole.promised == whole.duration == pytest.approx(12.0, abs=0.01)
    share = max(share, 0.9 if name == "a.ogg" else 0)  # its pages are long
    path.write_bytes(path.read_bytes()[: round(share * path.stat().st_size)])
    info, samples = audio.probe(path), audio.read(path, RATE)
    assert [text for text in info.notes if not text.startswith(note)] == [] and len(info.notes) == 1
    assert info.duration == len(samples) / RATE < 11.99
    assert note != CUT or info.promised == pytest.approx(12.0, abs=0.01)
    with open_recording(path) as recording:  # in blocks as at once, and its segments are of it
        blocks = np.concatenate(list(recording.blocks(size=5000)))
    assert np.array_equal(np.clip(blocks[:, 0], -1, 1), samples)
    assert np.array_equal(audio.read(path, RATE, 1.0, 1.0), samples[RATE : 2 * RATE])
    assert len(audio.read(path, RATE, info.duration - 0.01)) > 0 and len(audio.read(path, RATE, 11.99)) == 0
    _, (measured,) = measure(str(path), [(0.0, None)])
    assert measured.duration == info.duration and not measured.failure


@pytest.mark.parametrize("size", [1000, 200_000])
def test_a_flac_file_without_the_end_of_its_last_frame(write_wav: Callable[..., Path], size: int) -> None:
    """All but its last frame, which starts at sample 94208 (23 frames of 4096), is read; that the header cannot tell."""
    path = write_wav("a.flac", 6.0, format="FLAC", subtype="PCM_16")
    whole = audio.read(path, RATE)
    path.write_bytes(path.read_bytes()[:-20])
    assert np.array_equal(audio.read(path, RATE), whole[:94208])
    with open_recording(path) as recording:
        recording.seek(90000)
        assert np.array_equal(np.concatenate(list(recording.blocks(size=size)))[:, 0], whole[90000:94208])
        recording.seek(95000)
        assert len(recording.read(10)) == 0
    info = audio.probe(path)
    assert (info.duration, info.promised) == (94208 / RATE, 6.0) and info.notes[0].startswith(CUT)


def test_a_flac_file_that_is_damaged_in_the_middle_is_an_error(write_wav: Callable[..., Path]) -> None:
    path = write_wav("a.flac", 6.0, format="FLAC", subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 20000] = bytes(20000)
    path.write_bytes(content)
    with pytest.raises(AnadilError, match="not readable as audio"):
        audio.read(path, RATE)


@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize("tag", [b"", b"ID3\x04\0\0\0\0\x07\x7f" + bytes(1023)])
@pytest.mark.parametrize("header", ["Xing", "Xing without bytes", "VBRI"])
def test_headers_of_mp3(write_wav: Callable[..., Path], header: str, tag: bytes, share: float) -> None:
    """libsndfile writes a Xing header and does not know VBRI, without which it takes this file to be half as long."""
    path = write_wav("a.mp3", speech_with_pauses(12.0), RATE, format="MP3", subtype="MPEG_LAYER_III")
    content = bytearray(path.read_bytes())
    at = content.index(b"Xing")
    n_frames, n_bytes = content[at + 8 : at + 12], content[at + 12 : at + 16]
    if header != "Xing":
        content[at : at + 120] = bytes(120)
    if header == "VBRI":
        content[36:54] = b"VBRI\0\1\0\0\0\x4b" + n_bytes + n_frames
    if header == "Xing without bytes":
        content[at : at + 12] = b"Xing\0\0\0\1" + n_frames
    path.write_bytes(tag + content[: round(share * len(content))])
    info = audio.probe(path)
    assert info.promised == pytest.approx(12.0, abs=0.1) and len(audio.read(path, RATE)) == round(info.duration * RATE)
    assert [note.partition(":")[0] for note in info.notes] == ([] if share == 1 else ["cut off"])
    assert (info.duration == info.promised) == (share == 1)


def test_a_voice_message_that_is_cut_off(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    samples = speech_with_pauses(12.0).astype(np.float32)
    path = tmp_path / "a.m4a"
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("aac", rate=RATE, layout="mono")
        for i in range(len(samples) // 1024):
            frame = av.AudioFrame.from_ndarray(samples[None, i * 1024 :][:, :1024], format="fltp", layout="mono")
            frame.rate, frame.pts = RATE, i * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert audio.probe(path).notes == ()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    info = audio.probe(path)
    assert info.notes[0].startswith(CUT) and 2 < info.duration < 10 < info.promised
    assert len(audio.read(path, RATE)) == round(info.duration * RATE)


def phases(*pairs: tuple[float, float, float]) -> np.ndarray:
    """Stereo noise: for each (seconds, left, right), the same noise at these two levels."""
    rng = np.random.default_rng(0)
    return np.concatenate(
        [rng.uniform(-0.5, 0.5, (round(s * RATE), 1)) * np.array([[left, right]]) for s, left, right in pairs]
    )


@pytest.mark.parametrize(
    ("samples", "loudest"),
    [
        (phases((3, 1, -1)), 1),
        (phases((3, 0.8, -1)), 2),
        (phases((3, 1, 1)), None),
        (phases((1, 1, 1), (2, 1, -1)), None),  # in the mean they do not cancel, so all of the file is mixed
        (phases((0.2, 1, 1), (60, 1, -1)), 1),  # and here none of it
        (phases((40, 0, 0), (1, 1, -1), (40, 0, 0)), 1),  # too short for the stretches that are looked at
    ],
)
def test_the_phase_is_judged_once_for_a_file(
    tmp_path: Path, write_wav: Callable[..., Path], samples: np.ndarray, loudest: int | None
) -> None:
    path = write_wav("a.wav", samples, subtype="FLOAT")
    decoded = samples.astype(np.float32)
    wanted = decoded.mean(axis=1) if loudest is None else decoded[:, loudest - 1]
    info = audio.probe(path)
    assert info.loudest == loudest and len(info.notes) == 1
    assert info.notes[0] == (
        "2 channels, mixed down to one"
        if loudest is None
        else f"2 channels, in opposite phase: channel {loudest} is used, not their mean"
    )
    assert np.array_equal(audio.read(path, RATE), wanted)
    seconds = len(samples) / RATE
    segments = np.concatenate([audio.read(path, RATE, i * seconds / 5, seconds / 5) for i in range(5)])
    assert len(segments) == len(wanted) and np.array_equal(segments, wanted)
    _convert_to_wav(path, tmp_path / "b.wav")
    assert np.abs(audio.read(tmp_path / "b.wav", RATE) - wanted).max() < 1e-4
    _, (measured, half) = measure(str(path), [(0.0, None), (0.0, seconds / 2)])
    blocks = [wanted[i : i + 2**10] for i in range(0, len(wanted), 2**10)]
    assert measured.digest == hashlib.blake2b(b"".join(block.tobytes() for block in blocks), digest_size=16).digest()
    assert half.digest != measured.digest


def test_float_samples_are_scaled_alike_in_every_segment(write_wav: Callable[..., Path]) -> None:
    samples = np.concatenate([np.full(RATE, 0.5), np.full(RATE, 4.0)])
    path = write_wav("a.wav", samples, subtype="FLOAT")
    whole = audio.read(path, RATE)
    assert whole.tolist() == (samples / 4).tolist()
    assert np.array_equal(audio.read(path, RATE, 0.0, 0.5), whole[: RATE // 2])


@pytest.mark.parametrize("installed", [True, False])
def test_the_message_tells_what_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: bool) -> None:
    if installed:
        pytest.importorskip("av")
    else:
        monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "a.wav").write_bytes(b"no audio at all, " * 9)
    with pytest.raises(AnadilError) as caught:
        audio.probe(tmp_path / "a.wav")
    message = str(caught.value)
    assert "readable are WAV, FLAC, OGG, Opus, MP3" in message and "m4a, mp4" in message
    assert ("pip install 'anadil[media]'" in message) == (not installed)


def test_a_media_file_is_opened_once(faults: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    av = pytest.importorskip("av")
    opened: list[object] = []
    real = av.open
    monkeypatch.setattr(av, "open", lambda file, **options: opened.append(file) or real(file, **options))
    audio.read(faults / "voice_message.m4a", RATE)
    assert len(opened) == 1


def test_the_name_is_looked_up_once(write_wav: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_wav("a.wav", phases((1, 1, -1)), subtype="FLOAT")
    audio.probe(path)  # the caches of peak and phase look it up themselves
    asked: list[object] = []
    real = sound_files.find_file
    monkeypatch.setattr(sound_files, "find_file", lambda name: asked.append(name) or real(name))
    audio.probe(path)
    assert asked == [path]
