from __future__ import annotations

import csv
import json
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from anadil import audio
from anadil.errors import AnadilError

FORMATS = [
    ("a.wav", "WAV", "PCM_16"),
    ("a.wav", "WAV", "PCM_24"),
    ("a.wav", "WAV", "FLOAT"),
    ("a.wav", "WAV", "ULAW"),
    ("a.w64", "W64", "PCM_16"),
    ("a.aiff", "AIFF", "PCM_16"),
    ("a.au", "AU", "PCM_16"),
    ("a.caf", "CAF", "PCM_16"),
    ("a.flac", "FLAC", "PCM_16"),
    ("a.ogg", "OGG", "VORBIS"),
    ("a.opus", "OGG", "OPUS"),
    ("a.mp3", "MP3", "MPEG_LAYER_III"),
]


def sine(hz: float, seconds: float, rate: int, level: float = 0.5) -> np.ndarray:
    samples: np.ndarray = level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)
    return samples


def loudest_hz(samples: np.ndarray, rate: int) -> float:
    return float(np.abs(np.fft.rfft(samples)).argmax() * rate / len(samples))


@pytest.mark.parametrize(("name", "kind", "subtype"), FORMATS)
def test_every_format_is_decoded_and_resampled(
    write_wav: Callable[..., Path], name: str, kind: str, subtype: str
) -> None:
    if subtype not in soundfile.available_subtypes(kind):
        pytest.skip(f"this libsndfile has no {subtype}")
    path = write_wav(name, sine(440, 1.0, 48000), 48000, format=kind, subtype=subtype)
    info = audio.probe(path)
    assert (info.sample_rate, info.channels) == (48000, 1)
    assert info.promised == info.duration == pytest.approx(1.0, abs=0.05)  # MP3 pads to whole frames
    samples = audio.read(path, 16000)
    assert samples.dtype == np.float32 and samples.ndim == 1
    assert len(samples) == round(16000 * info.duration)
    assert loudest_hz(samples[2000:14000], 16000) == pytest.approx(440, abs=1.5)
    assert samples[2000:14000].std() == pytest.approx(0.5 / 2**0.5, rel=0.02)


def test_channels_are_averaged(write_wav: Callable[..., Path]) -> None:
    stereo = np.stack([np.full(100, 0.5), np.full(100, -0.25)], axis=1)
    path = write_wav("a.wav", stereo)
    assert audio.probe(path).channels == 2
    assert audio.read(path, 16000).tolist() == [0.125] * 100


@pytest.mark.parametrize(
    ("offset", "duration", "part"),
    [(0, None, slice(None)), (0.25, None, slice(4000, None)), (0, 0.5, slice(8000)), (0.25, 0.5, slice(4000, 12000)),
     (0.5, 9, slice(8000, None)), (1, None, slice(0)), (7, 1, slice(0))],
)  # fmt: skip
def test_a_segment_is_a_slice(
    write_wav: Callable[..., Path], offset: float, duration: float | None, part: slice
) -> None:
    path = write_wav("a.wav", 1.0)
    whole = audio.read(path, 16000)
    assert len(whole) == 16000
    stretch = audio.read(path, 16000, offset, duration)
    assert stretch.dtype == np.float32
    np.testing.assert_array_equal(stretch, whole[part])


@pytest.mark.parametrize(("hz", "kept"), [(1000, 1), (7000, 1), (9000, 0), (20000, 0)])
def test_resampling_keeps_what_the_new_rate_can_hold_and_nothing_else(hz: int, kept: float) -> None:
    samples = audio.resample(sine(hz, 1.0, 48000).astype(np.float32), 48000, 16000)[2000:14000]
    assert samples.std() == pytest.approx(kept * 0.5 / 2**0.5, abs=1e-3)
    if kept:
        assert loudest_hz(samples, 16000) == pytest.approx(hz, abs=1)


@pytest.mark.parametrize("rate", [16000, 48000])
def test_full_scale_stays_within_one(write_wav: Callable[..., Path], rate: int) -> None:
    square = np.repeat(np.tile(np.array([-32768, 32767], dtype=np.int16), 100), 37)
    samples = audio.read(write_wav("a.wav", square, rate), 16000)
    assert samples.min() == -1 and 0.9999 < samples.max() <= 1


def test_written_audio_is_read_back(tmp_path: Path) -> None:
    samples = np.array([-1, -0.5, 0, 0.5], dtype=np.float32)
    audio.write(tmp_path / "a.wav", samples, 8000)
    assert audio.read(tmp_path / "a.wav", 8000).tolist() == samples.tolist()


@pytest.mark.parametrize("claimed", [1.0, 1.5, 2.0])
def test_a_header_can_promise_more_than_the_file_has(write_wav: Callable[..., Path], claimed: float) -> None:
    path = write_wav("a.wav", 1.0)
    content = bytearray(path.read_bytes())
    assert content[36:40] == b"data"
    content[40:44] = struct.pack("<I", round(claimed * 32000))
    path.write_bytes(content)
    info = audio.probe(path)
    assert (info.duration, info.promised) == pytest.approx((1.0, claimed))
    assert len(audio.read(path, 16000)) == 16000


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF - 36])
def test_a_header_written_into_a_pipe_promises_nothing(write_wav: Callable[..., Path], size: int) -> None:
    path = write_wav("a.wav", 1.0)
    content = bytearray(path.read_bytes())
    content[40:44] = struct.pack("<I", size)
    path.write_bytes(content)
    assert (audio.probe(path).duration, audio.probe(path).promised) == (1.0, 1.0)


def test_damaged_recordings_are_read_up_to_the_damage(shared: Path) -> None:
    lines = (shared / "speech/damaged/manifest.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 4
    for record in map(json.loads, lines):
        path = shared / "speech/damaged" / record["audio_filepath"]
        info = audio.probe(path)
        assert info.promised == pytest.approx(record["duration"], abs=0.01)
        assert 1 < info.duration < info.promised
        assert len(audio.read(path, info.sample_rate)) == round(info.duration * info.sample_rate)


def test_common_voice_clips_come_at_16_khz(shared: Path) -> None:
    with open(shared / "speech/common_voice/tr/validated.tsv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert len(rows) == 100
    infos = [audio.probe(shared / "speech/common_voice/tr/clips" / row["path"]) for row in rows]
    assert {(info.sample_rate, info.channels) for info in infos} == {(48000, 1)}
    per_letter = [info.duration / len(row["sentence"]) for info, row in zip(infos, rows, strict=True)]
    assert min(per_letter) > 0.03 and max(per_letter) < 1.5  # seconds a letter
    for info, row in zip(infos[:5], rows, strict=False):
        samples = audio.read(shared / "speech/common_voice/tr/clips" / row["path"], 16000)
        assert len(samples) / 16000 == pytest.approx(info.duration, abs=0.05)
        assert 0.01 < np.abs(samples).max() <= 1


@pytest.mark.parametrize(
    ("content", "what"),
    [(b"", "is empty"), (b"not audio at all, " * 9, "not readable as audio"), (b"RIFF", "not readable"), (None, "not found")],
)  # fmt: skip
@pytest.mark.parametrize("function", [audio.probe, lambda path: audio.read(path, 16000)], ids=["probe", "read"])
def test_a_file_that_is_not_audio_is_an_error(
    tmp_path: Path, content: bytes | None, what: str, function: Callable[[Path], object]
) -> None:
    path = tmp_path / "a.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AnadilError, match=f"{what}.*a.wav"):
        function(path)
    with pytest.raises(AnadilError, match="not found"):
        function(tmp_path)


def test_an_error_page_saved_as_audio_is_reported_as_one(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_text("<html>503 Service Unavailable</html>")
    with pytest.raises(AnadilError, match=r"not readable as audio: .*a.mp3 \(it is a web page\)"):
        audio.probe(tmp_path / "a.mp3")
    (tmp_path / "notes.mp3").write_text("a list of recordings")
    with pytest.raises(AnadilError, match=r"notes.mp3 \(its content is not of the kind that its name says\)"):
        audio.probe(tmp_path / "notes.mp3")


def test_a_manifest_is_not_called_a_web_page(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"audio_filepath": "a.wav", "text": "a"}\n', encoding="utf-8")
    with pytest.raises(AnadilError, match="it is JSON, as a manifest"):
        audio.probe(tmp_path / "a.jsonl")


def test_a_name_that_is_not_utf8_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "caf\udce9.wav"
    for function in (audio.probe, lambda path: audio.read(path, 16000)):
        with pytest.raises(AnadilError, match=r"^not UTF-8: .*caf\\udce9.wav; rename the file or folder$"):
            function(path)


def test_threads_give_results_in_order_and_report_each() -> None:
    progress: list[int] = []
    assert audio.in_threads(lambda n: n * n, range(1000), progress.append) == [n * n for n in range(1000)]
    assert progress == list(range(1, 1001))
    assert audio.in_threads(str, []) == []


def test_the_first_error_in_a_thread_is_raised_and_waiting_tasks_are_cancelled() -> None:
    begun: list[int] = []

    def fail_at_3(n: int) -> None:
        begun.append(n)
        if n == 3:
            raise AnadilError("number 3")
        time.sleep(0.001)

    with pytest.raises(AnadilError, match="number 3"):
        audio.in_threads(fail_at_3, range(100_000), n_threads=2)
    assert len(begun) < 1000
