"""Transcribing in shards: here and on a Ray cluster of this machine, interrupted, with damaged input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from anadil import audio, load
from anadil.errors import AnadilError
from anadil.manifest import read_audio, read_manifest
from anadil.recognition.bulk import Counts, plan, transcribe_here, transcribe_on_ray
from tests.support.command_line import anadil, files
from tests.support.lines import write_lines
from tests.support.micro import TEXTS, write_corpus
from tests.support.ray_workers import kill_workers


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Eight utterances with a key of their own, two to a shard in the tests."""
    corpus = write_corpus(tmp_path / "corpus")
    lines = [json.loads(line) | {"id": number} for number, line in enumerate(corpus.read_text("utf-8").splitlines())]
    return write_lines(tmp_path / "corpus/all.jsonl", lines)


def shards_of(out: Path) -> dict[str, bytes]:
    return files(out / "shards")


def test_shards_together_are_the_manifest_transcribed(exported: Path, manifest: Path, tmp_path: Path) -> None:
    out, progress = tmp_path / "out", list[tuple[int, int]]()
    shards = plan(exported, [manifest], [], out, per_shard=3)
    assert [(shard.first_line, shard.n_lines) for shard in shards] == [(1, 3), (4, 3), (7, 2)]
    counts = transcribe_here(exported, shards, out, on_progress=lambda done, of: progress.append((done, of)))
    assert counts == Counts(done=8) and progress == [(3, 8), (6, 8), (8, 8)]
    lines = [line for shard in shards for line in read_manifest(shard.output(out))]
    assert [line.extra["id"] for line in lines] == list(range(8))
    recognizer = load(exported)
    for line, utterance in zip(lines, read_manifest(manifest), strict=True):
        expected = recognizer.transcribe(read_audio(utterance, recognizer.sample_rate)).to_dict()
        assert (line.extra["pred_text"], line.extra["words"]) == (expected["text"], expected["words"])
        assert Path(line.audio_filepath).resolve() == Path(utterance.audio_filepath).resolve()
        assert line.text == utterance.text
    assert [line.extra["pred_text"] for line in lines] == list(TEXTS)


def test_recordings_are_listed_and_keep_their_order(exported: Path, manifest: Path, tmp_path: Path) -> None:
    recordings = [manifest.parent / f"clips/{number}.wav" for number in (3, 0)]
    shards = plan(exported, [], recordings, tmp_path / "out")
    assert transcribe_here(exported, shards, tmp_path / "out") == Counts(done=2)
    lines = read_manifest(shards[0].output(tmp_path / "out"))
    assert [(Path(line.audio_filepath).name, line.extra["pred_text"]) for line in lines] == [
        ("3.wav", TEXTS[3]),
        ("0.wav", TEXTS[0]),
    ]


def test_what_is_done_is_not_done_again(exported: Path, manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shards = plan(exported, [manifest], [], out, per_shard=3)

    def stop(done: int, of: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        transcribe_here(exported, shards, out, on_progress=stop)
    assert list(shards_of(out)) == ["shard-000000.jsonl"]
    marked = shards[0].output(out)
    marked.write_text(marked.read_text("utf-8").replace('"id": 0', '"id": 99'), encoding="utf-8")
    again = plan(exported, [manifest], [], out, per_shard=3)
    assert transcribe_here(exported, again, out) == Counts(done=5, kept=3)
    assert read_manifest(marked)[0].extra["id"] == 99 and len(shards_of(out)) == 3


def test_damaged_input_costs_its_own_line(exported: Path, manifest: Path, tmp_path: Path) -> None:
    (manifest.parent / "clips/1.wav").write_bytes(b"RIFF")
    lines = manifest.read_text("utf-8").splitlines()
    lines[2] = '{"text": "no audio"}'
    lines[3] = lines[3].replace("3.wav", "lost.wav")
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    shards = plan(exported, [manifest], [], tmp_path / "out", per_shard=8)
    assert transcribe_here(exported, shards, tmp_path / "out") == Counts(done=5, failed=3)
    found = read_manifest(shards[0].output(tmp_path / "out"))
    errors = {number: line.extra["error"] for number, line in enumerate(found) if "error" in line.extra}
    assert list(errors) == [1, 2, 3]
    assert "1.wav" in errors[1] and "audio_filepath" in errors[2] and "lost.wav" in errors[3]
    assert found[2].extra["line"] == 3


def test_silence_has_an_empty_text(exported: Path, tmp_path: Path) -> None:
    audio.write(tmp_path / "quiet.wav", np.zeros(16000, np.float32), 16000)
    shards = plan(exported, [], [tmp_path / "quiet.wav"], tmp_path / "out")
    assert transcribe_here(exported, shards, tmp_path / "out") == Counts(done=1)
    (line,) = read_manifest(shards[0].output(tmp_path / "out"))
    assert (line.extra["pred_text"], line.extra["words"], line.duration) == ("", [], 1.0)


def test_another_input_or_model_is_not_mixed_with_the_first(exported: Path, manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    plan(exported, [manifest], [], out)
    assert plan(exported, [manifest], [], out)
    with pytest.raises(AnadilError, match="shards of another size"):
        plan(exported, [manifest], [], out, per_shard=3)
    manifest.write_text(manifest.read_text("utf-8").replace("abc", "abd"), encoding="utf-8")
    with pytest.raises(AnadilError, match=r"other input(.|\n)*--out"):
        plan(exported, [manifest], [], out)


def test_an_empty_manifest_is_refused(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(AnadilError, match="no utterance"):
        plan(exported, [tmp_path / "empty.jsonl"], [], tmp_path / "out")


def test_without_ray_the_error_names_the_extra(
    exported: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    shards = plan(exported, [manifest], [], tmp_path / "out")
    with pytest.raises(AnadilError, match=r"anadil\[cluster\]"):
        transcribe_on_ray(exported, shards, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the workers in /proc")
def test_a_cluster_gives_the_same_though_its_workers_are_killed(exported: Path, manifest: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra cluster is not installed")
    here, there = tmp_path / "here", tmp_path / "there"
    transcribe_here(exported, plan(exported, [manifest], [], here, per_shard=1), here)
    killed: list[int] = []

    def kill_once(done: int, of: int) -> None:
        if not killed:
            killed.append(kill_workers())

    counts = transcribe_on_ray(
        exported, plan(exported, [manifest], [], there, per_shard=1), there, on_progress=kill_once
    )
    assert killed[0] >= 1
    assert counts.done + counts.kept == 8 and counts.failed == 0
    assert shards_of(there) == shards_of(here)


def test_the_command_line_counts_what_failed_and_goes_on(exported: Path, manifest: Path, tmp_path: Path) -> None:
    (manifest.parent / "clips/1.wav").write_bytes(b"RIFF")
    command = (
        "transcribe",
        exported,
        manifest,
        manifest.parent / "clips/0.wav",
        "--engine",
        "local",
        "--out",
        tmp_path / "out",
    )
    result = anadil(*command, "--shard-size", 4)
    assert result.exit_code == 1 and result.stdout == f"{tmp_path / 'out/shards'}\n"
    assert "9 utterances in 3 shards" in result.stderr and "8 transcribed" in result.stderr
    assert "1 could not be transcribed" in result.stderr
    (tmp_path / "out/shards/shard-000000.jsonl").unlink()
    again = anadil(*command, "--shard-size", 4)
    assert again.exit_code == 1 and "3 transcribed, 5 were done before" in again.stderr


@pytest.mark.parametrize(
    "more",
    [(), ("--out", "out", "--format", "srt"), ("--out", "out", "--channel", "split"), ("--out", "out", "--force")],
)
def test_options_that_shards_do_not_have_are_wrong_usage(exported: Path, manifest: Path, more: tuple[str, ...]) -> None:
    assert anadil("transcribe", exported, manifest, "--engine", "local", *more).exit_code == 2
