from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from anadil import audio
from anadil.data.augment import copies as module
from anadil.data.augment.copies import augment_manifest
from anadil.data.augment.settings import AugmentSettings
from anadil.errors import AnadilError
from anadil.manifest import read_manifest
from tests.support.lines import write_lines
from tests.support.micro import speak

TEXTS = ("ab c", "cab", "b")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Three recordings at 8, 16 and 44.1 kHz with unknown keys; the third line is a segment of the first file."""
    folder = tmp_path / "speech"
    folder.mkdir()
    for i, rate in enumerate((8000, 16000, 44100)):
        soundfile.write(folder / f"{i}.flac", speak(TEXTS[0], rate), rate)
    lines = [
        {"audio_filepath": f"{i}.flac", "text": text, "speaker": f"s{i}", "language": "xyz", "licence": "CC0"}
        for i, text in enumerate(TEXTS)
    ]
    segment = {"audio_filepath": "0.flac", "offset": 0.2, "duration": 0.5, "text": "a", "augmented": [{"by": "hand"}]}
    return write_lines(folder / "train.jsonl", [*lines, segment])


def settings(**sections: Any) -> AugmentSettings:
    return AugmentSettings.model_validate(sections)


SPEED_AND_GAIN = settings(speed={"probability": 1, "rate": 0.8}, gain={"probability": 1, "db": -6})


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_original_lines_stay_and_copies_follow(manifest: Path, tmp_path: Path) -> None:
    outcome = augment_manifest(manifest, tmp_path / "out", SPEED_AND_GAIN, n_copies=2)
    originals, lines = read_manifest(manifest), read_manifest(tmp_path / "out/train.jsonl")
    assert [line.audio_filepath for line in lines[:4]] == [line.audio_filepath for line in originals]
    assert lines[:4] == originals
    assert (outcome.originals, outcome.copies, outcome.unchanged) == (4, 8, 0)
    assert outcome.counts == {"speed": 8, "gain": 8}
    for copy, original in zip(lines[4:], [line for line in originals for _ in range(2)], strict=True):
        assert (copy.text, copy.speaker, copy.language) == (original.text, original.speaker, original.language)
        assert copy.extra.get("licence") == original.extra.get("licence")
        assert copy.offset == 0
        done = [{"transform": "speed", "rate": 0.8}, {"transform": "gain", "db": -6.0}]
        assert copy.extra["augmented"] == original.extra.get("augmented", []) + done


def test_a_copy_has_the_audio_that_its_line_describes(manifest: Path, tmp_path: Path) -> None:
    augment_manifest(manifest, tmp_path / "out", SPEED_AND_GAIN)
    for original, copy in zip(read_manifest(manifest), read_manifest(tmp_path / "out/train.jsonl")[4:], strict=True):
        info, before = audio.probe(copy.audio_filepath), audio.probe(original.audio_filepath)
        assert soundfile.info(copy.audio_filepath).format == "FLAC"
        assert info.sample_rate == before.sample_rate
        length = before.duration if original.duration is None else original.duration
        assert info.duration == pytest.approx(length / 0.8, abs=1 / 8000)
        assert copy.duration == pytest.approx(info.duration, abs=1e-5)
        samples = audio.read(original.audio_filepath, before.sample_rate, original.offset, original.duration)
        heard = audio.read(copy.audio_filepath, before.sample_rate)
        assert np.square(heard).mean() / np.square(samples).mean() == pytest.approx(0.25, rel=0.05)


def test_the_same_seed_makes_the_same_files(manifest: Path, tmp_path: Path) -> None:
    every = settings(speed={}, tempo={}, pitch={}, reverb={}, white_noise={"probability": 1}, telephone={}, clipping={})
    made = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        augment_manifest(manifest, tmp_path / name, every, 3, seed)
        made.append({key: value for key, value in files(tmp_path / name).items() if key.endswith(".flac")})
    assert made[0] == made[1] != made[2]
    assert len(made[0]) == len(set(made[0].values())) == 12


def test_a_copy_without_transforms_is_counted_and_not_written(manifest: Path, tmp_path: Path) -> None:
    outcome = augment_manifest(manifest, tmp_path / "out", settings(gain={"probability": 0.5}), n_copies=10)
    assert outcome.unchanged + outcome.copies == 40 and 8 < outcome.copies < 32
    assert len(read_manifest(tmp_path / "out/train.jsonl")) == 4 + outcome.copies


def test_nothing_is_overwritten_without_force(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    augment_manifest(manifest, out, SPEED_AND_GAIN)
    before = files(out)
    with pytest.raises(AnadilError, match="exists already"):
        augment_manifest(manifest, out, SPEED_AND_GAIN, 2)
    assert files(out) == before
    augment_manifest(manifest, out, SPEED_AND_GAIN, 2, force=True)
    assert len(files(out)) == 9


def test_the_source_is_never_replaced(manifest: Path, tmp_path: Path) -> None:
    before = files(tmp_path)
    with pytest.raises(AnadilError, match="is the manifest itself"):
        augment_manifest(manifest, manifest.parent, SPEED_AND_GAIN, force=True)
    (tmp_path / "list").mkdir()
    elsewhere = write_lines(tmp_path / "list/speech.jsonl", [{"audio_filepath": str(manifest.parent / "0.flac")}])
    with pytest.raises(AnadilError, match="which the copies would replace"):
        augment_manifest(elsewhere, tmp_path, SPEED_AND_GAIN, force=True)
    elsewhere.unlink()
    assert files(tmp_path) == before


def test_every_recording_that_cannot_be_used_is_named_and_nothing_written(manifest: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    lines[1]["audio_filepath"] = "gone.flac"
    lines[3]["offset"] = 99
    write_lines(manifest, lines)
    with pytest.raises(AnadilError) as caught:
        augment_manifest(manifest, tmp_path / "out", SPEED_AND_GAIN)
    assert "train.jsonl:2: audio file not found" in str(caught.value)
    assert "train.jsonl:4: offset 99 s is outside of" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_failure_leaves_no_files(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = module.write_flac

    def full_disk(path: Path, samples: np.ndarray, rate: int) -> None:
        if path.name.startswith("000003"):
            raise OSError(28, "No space left on device")
        write(path, samples, rate)

    monkeypatch.setattr(module, "write_flac", full_disk)
    with pytest.raises(AnadilError, match="No space left on device"):
        augment_manifest(manifest, tmp_path / "out", SPEED_AND_GAIN)
    assert files(tmp_path / "out") == {}


def test_without_transforms_of_audio_it_is_an_error(manifest: Path, tmp_path: Path) -> None:
    for off in (AugmentSettings(), settings(speed={"probability": 0}), settings(spec_cutout={})):
        with pytest.raises(AnadilError, match="no transform of audio is on"):
            augment_manifest(manifest, tmp_path / "out", off)
