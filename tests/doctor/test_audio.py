"""One bad recording each, and a near miss that must not be reported."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from anadil import audio
from anadil.doctor.audio import AudioLimits, measure, measure_all
from anadil.doctor.findings import Severity
from anadil.manifest import Utterance, read_manifest
from anadil.sound_headers import ends_inside_page
from tests.support.diagnoses import babble, diagnose, kinds_in

Make = Callable[[Path], dict[str, Any]]
RATE = 16000


def wav(samples: np.ndarray, rate: int = RATE, **fields: Any) -> Make:
    def make(folder: Path) -> dict[str, Any]:
        soundfile.write(folder / "clip.wav", samples, rate)
        return {"audio_filepath": "clip.wav"} | fields

    return make


def cut(name: str, keep: float, **fields: Any) -> Make:
    """A file of this kind, of which a share of the bytes is there."""

    def make(folder: Path) -> dict[str, Any]:
        options = {"subtype": "OPUS", "format": "OGG"} if name.endswith("opus") else {}
        soundfile.write(folder / name, babble(4), RATE, **options)
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: round(keep * len(content))])
        return {"audio_filepath": name} | fields

    return make


def raw(content: bytes, name: str = "clip.wav") -> Make:
    def make(folder: Path) -> dict[str, Any]:
        (folder / name).write_bytes(content)
        return {"audio_filepath": name}

    return make


def coded(samples: np.ndarray, rate: int, subtype: str, container: str) -> Make:
    def make(folder: Path) -> dict[str, Any]:
        soundfile.write(folder / "clip.x", samples, rate, subtype=subtype, format=container)
        return {"audio_filepath": "clip.x"}

    return make


def telephone(rate: int, seed: int = 0) -> np.ndarray:
    return soxr.resample(babble(rate=8000, seed=seed), 8000, rate)


def vowel(noise: float) -> np.ndarray:
    """Harmonics of 140 Hz that fall by 12 dB an octave, from 2.1 kHz on by 48 dB, in the noise of a room."""
    time = np.arange(2 * RATE) / RATE
    tone = sum(np.sin(2 * np.pi * 140 * k * time) / k**2 / max(1, k / 15) ** 6 for k in range(1, RATE // 280))
    room = np.random.default_rng(0).normal(0, noise, len(time))
    sound: np.ndarray = 0.3 * np.asarray(tone) * np.clip(np.sin(2 * np.pi * time), 0, 1) + room
    return sound


def driven(gain: float) -> np.ndarray:
    """A voice-like wave whose peak would be `gain` of full scale, held at full scale."""
    time = np.arange(2 * RATE) / RATE
    wave = np.sin(2 * np.pi * 150 * time) * np.sin(2 * np.pi * 0.25 * time)
    return np.asarray(np.clip(gain * wave, -1, 1))


GOOD = babble()
CASES: dict[str, tuple[str, Make, Make]] = {
    "absent": ("missing-audio", lambda folder: {"audio_filepath": "none.wav"}, wav(GOOD)),
    "no audio": ("unreadable-audio", raw(b"no audio at all"), wav(GOOD)),
    "0 bytes": ("unreadable-audio", raw(b""), wav(GOOD)),
    "no samples": ("unreadable-audio", wav(np.zeros(0)), wav(GOOD)),
    "past the end": ("outside-audio", wav(GOOD, offset=2.0), wav(GOOD, offset=1.5)),
    "duration 0": ("outside-audio", wav(GOOD, duration=0), wav(GOOD, duration=2)),
    "cut WAV": ("truncated-audio", cut("c.wav", 0.6), cut("c.wav", 1)),
    "cut FLAC": ("truncated-audio", cut("c.flac", 0.6), cut("c.flac", 1)),
    "cut MP3": ("truncated-audio", cut("c.mp3", 0.6), cut("c.mp3", 1)),
    "cut Ogg Opus": ("truncated-audio", cut("c.opus", 0.6), cut("c.opus", 1)),
    "zeros": ("silent-audio", wav(np.zeros(2 * RATE)), wav(GOOD)),
    "constant": ("silent-audio", wav(np.full(2 * RATE, 0.1)), wav(0.1 + GOOD)),
    "quiet": ("near-silent-audio", wav(babble(level=0.005)), wav(babble(level=0.03))),
    "clipped": ("clipped-audio", wav(driven(1.5)), wav(driven(1.0))),
    "clipped, then made softer": ("clipped-audio", wav(0.4 * driven(1.5)), wav(0.4 * driven(1.0))),
    "clipped, then MP3": (
        "clipped-audio",
        coded(driven(3), RATE, "MPEG_LAYER_III", "MP3"),
        coded(driven(0.95), RATE, "MPEG_LAYER_III", "MP3"),
    ),
    "loud telephone": ("clipped-audio", wav(driven(1.5), 8000), coded(driven(0.9), 8000, "ULAW", "WAV")),
    "too long in the manifest": ("wrong-duration", wav(GOOD, duration=2.06), wav(GOOD, duration=2.04)),
    "too short in the manifest": ("wrong-duration", wav(GOOD, duration=1.94), wav(GOOD, duration=1.96)),
    "segment beyond the end": (
        "wrong-duration",
        wav(GOOD, offset=1, duration=1.06),
        wav(GOOD, offset=0.5, duration=1),
    ),
    "short": ("too-short", wav(GOOD[2000 : 2000 + 1500]), wav(GOOD[2000 : 2000 + 1700])),
    "long": ("too-long", wav(babble(20.1)), wav(babble(19.9))),
    "stereo": ("several-channels", wav(np.stack([GOOD, GOOD], axis=1)), wav(GOOD)),
    "narrow at 16 kHz": ("narrow-band", wav(telephone(16000)), wav(telephone(8000), 8000)),
    "narrow at 48 kHz": ("narrow-band", wav(telephone(48000), 48000), wav(babble(rate=48000), 48000)),
    "narrow, then MP3": (
        "narrow-band",
        coded(telephone(48000), 48000, "MPEG_LAYER_III", "MP3"),
        coded(babble(rate=48000), 48000, "MPEG_LAYER_III", "MP3"),  # which ends at 16 kHz
    ),
    "narrow, then Opus": (
        "narrow-band",
        coded(telephone(16000), 16000, "OPUS", "OGG"),
        coded(babble(), 16000, "OPUS", "OGG"),
    ),
    "a vowel": ("narrow-band", wav(telephone(16000)), wav(vowel(1e-4))),
    "a vowel in a studio": ("narrow-band", wav(telephone(16000)), wav(vowel(0))),
    "from 12 kHz": (
        "narrow-band",
        wav(telephone(44100), 44100),
        wav(soxr.resample(babble(rate=12000), 12000, 44100), 44100),
    ),
}


@pytest.mark.parametrize("name", list(CASES))
def test_a_bad_recording_is_reported_and_a_similar_good_one_is_not(tmp_path: Path, name: str) -> None:
    kind, bad, near_miss = CASES[name]
    record = {"text": "a", "duration": None}
    report = diagnose(tmp_path, [record | bad(tmp_path)])
    assert kind in kinds_in(report), report.findings
    assert set(kinds_in(report)) <= {kind, "too-short", "several-channels"}
    (finding,) = next(some for found, some in report.by_kind() if found.name == kind)
    assert finding.where == f"{tmp_path / 'train.jsonl'}:1"
    assert kind != "clipped-audio" or report.seconds_of([finding]) == report.seconds >= 2
    report = diagnose(tmp_path, [record | near_miss(tmp_path)])
    assert kinds_in(report) == {}, report.findings


def test_findings_that_stop_or_mislead_training_spoil_it(tmp_path: Path) -> None:
    spoiling = set()
    for name, (kind, bad, _) in CASES.items():
        if diagnose(tmp_path, [{"text": "a"} | bad(tmp_path)]).spoiled:
            spoiling.add(name if kind == "truncated-audio" else kind)
    # of recordings that break off, what is there is used
    assert spoiling == {"missing-audio", "unreadable-audio", "outside-audio", "silent-audio"}


def test_segments_of_one_file_do_not_have_wrong_durations(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", babble(6), RATE)
    segments = [{"audio_filepath": "long.wav", "text": "a", "offset": 2.0 * i, "duration": 2.0} for i in (2, 0, 1)]
    assert kinds_in(diagnose(tmp_path, segments)) == {}
    assert kinds_in(diagnose(tmp_path, segments[1:2])) == {"wrong-duration": 1}
    beside = diagnose(tmp_path, segments[1:2], valid=[segments[2] | {"text": "aa"}])  # in another split
    assert kinds_in(beside) == {}


def test_rates_that_differ_and_rates_below_the_models(tmp_path: Path) -> None:
    for i, rate in enumerate((48000, 16000, 48000, 8000)):
        soundfile.write(tmp_path / f"{i}.wav", babble(rate=rate, seed=i), rate)
    records = [{"audio_filepath": f"{i}.wav", "text": "a"} for i in range(4)]
    report = diagnose(tmp_path, records, limits=AudioLimits(0.1, 20, sample_rate=16000))
    assert kinds_in(report) == {"mixed-rates": 2, "low-rate": 1}
    assert [one.value for one in report.findings[:3]] == [8000, 16000, 8000]
    assert kinds_in(diagnose(tmp_path, [records[0], records[2]])) == {}


def test_measurements_are_correct_and_do_not_depend_on_the_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = np.arange(3 * RATE) / RATE
    tone = np.where((time > 1) & (time < 2), 0.5 * np.sin(2 * np.pi * 500 * time), 0)
    soundfile.write(tmp_path / "tone.wav", tone, RATE)
    soundfile.write(tmp_path / "clipped.wav", 0.4 * driven(1.5), RATE)
    stretches = [(0.0, None), (0.5, 2.0), (5.0, 1.0)]
    whole, middle, beyond = measure(str(tmp_path / "tone.wav"), stretches)[1]
    assert whole.level_db == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.05)
    assert whole.speech_s == pytest.approx(1, abs=0.07) and whole.voiced_s == pytest.approx(1, abs=0.07)
    assert (whole.duration, middle.duration, beyond.duration) == (3, 2, 0)
    assert whole.digest != middle.digest
    clipped = measure(str(tmp_path / "clipped.wav"), stretches[:1])[1][0].clipped
    assert clipped == pytest.approx(np.mean(np.abs(driven(1.5)) == 1), rel=0.1)
    monkeypatch.setattr("anadil.doctor.audio._BLOCK_FRAMES", 7)
    assert measure(str(tmp_path / "clipped.wav"), stretches[:1])[1][0].clipped == pytest.approx(clipped, rel=0.05)
    assert measure(str(tmp_path / "tone.wav"), stretches)[1][0].digest == whole.digest
    again = measure(str(tmp_path / "tone.wav"), stretches)[1][0]
    assert (again.level_db, again.speech_s) == pytest.approx((whole.level_db, whole.speech_s))


def test_nan_spoils_training(tmp_path: Path) -> None:
    samples = GOOD.astype(np.float32)
    samples[20000] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, RATE, subtype="FLOAT")
    report = diagnose(tmp_path, [{"audio_filepath": "nan.wav", "text": "a"}])
    assert report.spoiled and "not numbers" in report.findings[0].what


def test_real_recordings_have_no_findings_and_damaged_ones_do(shared: Path) -> None:
    speech = shared / "speech"
    clips = read_manifest(speech / "mboshi/valid.jsonl")[:40] + read_manifest(speech / "english/train.jsonl")[:40]
    assert measure_all(clips, AudioLimits(0.1, 20))[1] == []
    damaged = measure_all(read_manifest(speech / "damaged/manifest.jsonl"), AudioLimits(0.1, 20))[1]
    assert [(one.kind.name, one.severity) for one in damaged] == [("truncated-audio", Severity.LOOK)] * 4
    assert [round(one.value, 3) for one in damaged] == [0.023] * 4


def test_an_ogg_file_that_ends_with_a_page_is_whole(tmp_path: Path) -> None:
    page = b"OggS" + bytes(22) + struct.pack("BBB", 2, 255, 3) + bytes(258)
    for content, is_cut in ((page + page, False), (page + page[:-1], True), (page + page[:20], True), (b"RIFF", False)):
        (tmp_path / "x.ogg").write_bytes(content)
        assert ends_inside_page(tmp_path / "x.ogg") is is_cut


def test_an_interrupt_cancels_waiting_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(200):
        soundfile.write(tmp_path / f"{i}.wav", GOOD, RATE)
    n_measured, n_threads = 0, threading.active_count()

    def counted(path: str, stretches: list[tuple[float, float | None]], channels: list[audio.Channel]) -> Any:
        nonlocal n_measured
        n_measured += 1
        return measure(path, stretches, channels)

    def interrupted(done: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("anadil.doctor.audio.measure", counted)
    with pytest.raises(KeyboardInterrupt) as caught:
        measure_all([Utterance(str(tmp_path / f"{i}.wav")) for i in range(200)], AudioLimits(0.1, 20), interrupted)
    assert n_measured < 200
    assert threading.active_count() == n_threads, caught  # as long as the traceback lives too
