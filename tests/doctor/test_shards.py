"""Recordings measured in shards: as all at once, after an interruption, with recordings that change, on a cluster."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from anadil.cluster import shard_file
from anadil.doctor import shards
from anadil.doctor.audio import AudioLimits, Task, measure_all, measure_here
from anadil.errors import AnadilError
from anadil.manifest import Utterance, read_manifest
from tests.support.command_line import anadil
from tests.support.diagnoses import babble
from tests.support.lines import write_lines
from tests.support.ray_workers import kill_workers

LIMITS = AudioLimits(0.1, 20.0, 16000)
RATE = 16000


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Eleven utterances of seven files: good, stereo, silent, clipped, cut into segments, damaged and missing."""
    speech = babble(2)
    sounds = {"0": speech, "1": np.stack([speech, -speech], 1), "2": np.zeros(RATE), "3": np.clip(100 * speech, -1, 1)}
    for name, samples in sounds.items():
        soundfile.write(tmp_path / f"{name}.wav", samples, RATE)
    soundfile.write(tmp_path / "4.flac", babble(6), RATE)
    (tmp_path / "5.wav").write_bytes((tmp_path / "0.wav").read_bytes()[:30_000])
    names = ["0.wav", "1.wav", "2.wav", "3.wav", "5.wav", "gone.wav"]
    lines: list[dict[str, Any]] = [{"audio_filepath": name, "text": "a b", "speaker": "ana"} for name in names]
    lines += [{"audio_filepath": "4.flac", "text": "a", "offset": 2.0 * n, "duration": 1.5} for n in range(4)]
    lines.append({"audio_filepath": "1.wav", "text": "b", "channel": 2})
    return write_lines(tmp_path / "train.jsonl", lines)


def findings(utterances: Sequence[Utterance], folder: Path | None, **options: Any) -> list[tuple[Any, ...]]:
    measure = (
        measure_here if folder is None else shards.in_shards(folder, **{"on_ray": False, "per_shard": 2} | options)
    )
    measured, found = measure_all(utterances, LIMITS, lambda done: None, measure)
    return [*((one.kind.name, one.lines, one.what, one.value) for one in found), *map(str, measured)]


def counted(monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> list[str]:
    """The paths that are measured from now on; with `stop_after` the next shard is interrupted."""
    done: list[str] = []

    def measure(tasks: Sequence[Task], on_progress: Callable[[int], None] = lambda done: None) -> Any:
        if stop_after is not None and len(done) >= stop_after:
            raise KeyboardInterrupt
        done.extend(Path(task.path).name for task in tasks)
        return measure_here(tasks, on_progress)

    monkeypatch.setattr(shards, "measure_here", measure)
    return done


def test_shards_find_what_is_found_at_once(manifest: Path, tmp_path: Path) -> None:
    utterances = read_manifest(manifest)
    expected = findings(utterances, None)
    assert {one[0] for one in expected if isinstance(one, tuple)} >= {
        "missing-audio", "truncated-audio", "silent-audio", "clipped-audio",
    }  # fmt: skip
    progress: list[int] = []
    measure = shards.in_shards(tmp_path / "m", on_ray=False, per_shard=2)
    measure_all(utterances, LIMITS, progress.append, measure)
    assert progress[-1] == len(utterances) and progress == sorted(progress) and len(progress) == 4
    assert findings(utterances, tmp_path / "m") == expected


def test_what_is_measured_is_kept_and_what_has_changed_is_measured_again(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    utterances, folder = read_manifest(manifest), tmp_path / "m"
    expected = findings(utterances, None)
    with monkeypatch.context() as patch:
        counted(patch, stop_after=4)
        with pytest.raises(KeyboardInterrupt):
            findings(utterances, folder)
    done = counted(monkeypatch)
    assert findings(utterances, folder) == expected and len(done) == 3
    done.clear()
    assert findings(utterances, folder) == expected and done == []
    soundfile.write(tmp_path / "gone.wav", babble(2), RATE)
    shard_file(folder, 0).write_text('{"path": 1}\n', encoding="utf-8")
    changed = findings(utterances, folder)
    assert changed == findings(utterances, None) != expected
    assert set(done) >= {"gone.wav", "0.wav"} and len(done) == 4


def test_other_recordings_are_not_mixed_with_the_first(manifest: Path, tmp_path: Path) -> None:
    utterances = read_manifest(manifest)
    findings(utterances, tmp_path / "m")
    for some, options in ((utterances[1:], {}), (utterances, {"per_shard": 3})):
        with pytest.raises(AnadilError, match=r"other recordings(.|\n)*--measured"):
            findings(some, tmp_path / "m", **options)


def test_the_command_line_finds_the_same_with_an_engine(manifest: Path, tmp_path: Path) -> None:
    plain = anadil("check", manifest, "--json")
    sharded = anadil("check", manifest, "--json", "--engine", "local", "--measured", tmp_path / "m", "--shard-size", 3)
    assert plain.exit_code == sharded.exit_code == 1
    assert json.loads(sharded.stdout) == json.loads(plain.stdout)
    assert len(list((tmp_path / "m/shards").iterdir())) == 3


@pytest.mark.parametrize(
    "options",
    [("--engine", "local"), ("--measured", "m"), ("--shard-size", 3),
     ("--engine", "local", "--measured", "m", "--no-audio")],
)  # fmt: skip
def test_options_that_would_have_no_effect_are_wrong_usage(manifest: Path, options: tuple[object, ...]) -> None:
    assert anadil("check", manifest, *options).exit_code == 2


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the workers in /proc")
def test_a_cluster_finds_the_same_though_its_workers_are_killed(manifest: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra cluster is not installed")
    utterances, killed = read_manifest(manifest), list[int]()

    def kill_once(done: int) -> None:
        if not killed:
            killed.append(kill_workers())

    measure = shards.in_shards(tmp_path / "m", on_ray=True, per_shard=1)
    measured, found = measure_all(utterances, LIMITS, kill_once, measure)
    assert killed[0] >= 1
    expected, expected_findings = measure_all(utterances, LIMITS)
    assert measured == expected and found == expected_findings
