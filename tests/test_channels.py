"""The channel of an utterance: read and checked in one place, and followed by everything that reads audio."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from anadil import audio
from anadil.data.augment.copies import augment_manifest
from anadil.data.augment.settings import AugmentSettings
from anadil.data.batches import Loader
from anadil.data.cache import DiskCache
from anadil.data.examples import Example
from anadil.errors import AnadilError
from anadil.manifest import Utterance, measured, read_audio, read_manifest, write_manifest
from anadil.splitting.links import find_links
from tests.support.command_line import anadil, fails, succeeds
from tests.support.diagnoses import babble, diagnose, kinds_in
from tests.support.lines import write_lines
from tests.support.micro import speak, write_config

RATE = 16000
WriteWav = Callable[..., Path]


@pytest.fixture
def both(tmp_path: Path, write_wav: WriteWav) -> Path:
    """Two speakers on two channels: "abc" on the left, "cab ba" on the right."""
    sides = [speak("abc"), speak("cab ba", seed=1)]
    n = max(map(len, sides))
    return write_wav("call.wav", np.stack([np.pad(side, (0, n - len(side))) for side in sides], axis=1))


def manifest_of(both: Path, *channels: object, texts: tuple[str, ...] = ("abc", "cab ba"), **more: object) -> Path:
    lines = [
        {"audio_filepath": both.name, "text": text} | ({} if channel is None else {"channel": channel}) | more
        for channel, text in zip(channels, texts, strict=False)
    ]
    return write_lines(both.parent / "train.jsonl", lines)


@pytest.mark.parametrize(
    ("written", "meant"),
    [(1, 1), (2, 2), ("left", 1), ("right", 2), ("mix", "mix"), (None, "mix"), ("2", 2), (2.0, 2), ("A", 1), ("B", 2)],
)
def test_a_manifest_names_the_channel(tmp_path: Path, both: Path, written: object, meant: audio.Channel) -> None:
    (one,) = read_manifest(manifest_of(both, written))
    assert one.channel == meant and "channel" not in one.extra
    samples, _ = soundfile.read(str(both), dtype="float32")
    wanted = samples.mean(axis=1) if meant == "mix" else samples[:, meant - 1]
    assert np.array_equal(read_audio(one, RATE), wanted)
    write_manifest(tmp_path / "again.jsonl", [one])
    assert read_manifest(tmp_path / "again.jsonl") == [one]
    assert ("channel" in (tmp_path / "again.jsonl").read_text()) == (meant != "mix")


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "both", "split", "", [1], {"left": 1}, 4096])
def test_a_channel_that_is_none_is_named_with_its_line(both: Path, wrong: object) -> None:
    with pytest.raises(
        AnadilError, match=r'train.jsonl:1: "channel" must be a number from 1, "left", "right" or "mix"'
    ):
        read_manifest(manifest_of(both, wrong))


def test_a_channel_that_the_file_does_not_have(both: Path, exported: Path) -> None:
    manifest = manifest_of(both, 1, 3)
    message = f"{manifest}:2: {both} has 2 channels, and no channel 3"
    _, third = read_manifest(manifest)
    for use in (lambda: measured(third, audio.probe(both)), lambda: read_audio(third, RATE)):
        with pytest.raises(AnadilError, match="has 2 channels, and no channel 3"):
            use()
    assert message in fails("evaluate", exported, manifest)
    assert message in fails("augment", manifest, "speed.rate=[0.9,0.9]", "--out", both.parent / "copies")
    report = diagnose(both.parent, [json.loads(line) for line in manifest.read_text().splitlines()])
    (finding,) = [one for one in report.findings if one.kind.name == "outside-audio"]
    assert report.spoiled and finding.where.endswith(":2") and "channel 3, and" in finding.what


def test_training_and_its_cache_read_the_channel(both: Path, tmp_path: Path) -> None:
    utterances = [replace(one, duration=1.0) for one in read_manifest(manifest_of(both, 1, 2))]
    examples = [Example(one, (1,)) for one in utterances]
    samples, _ = soundfile.read(str(both), dtype="float32")
    for _ in range(2):  # the second time from the cache
        batch = Loader(examples, RATE, disk=DiskCache(tmp_path / "cache", 1)).load([0, 1])
        for row, side in zip(batch.waveforms.numpy(), samples.T, strict=True):
            assert np.abs(row[: min(RATE, len(side))] - side[:RATE]).max() < 1e-4
    assert len(list((tmp_path / "cache").rglob("*.pcm"))) == 2


def test_evaluation_and_pseudo_labels_recognise_the_channel(both: Path, exported: Path, tmp_path: Path) -> None:
    manifest = manifest_of(both, "left", "right")
    succeeds("evaluate", exported, manifest, "--json", tmp_path / "sides.json")
    assert json.loads((tmp_path / "sides.json").read_text())["cer"] == 0
    succeeds("evaluate", exported, manifest_of(both, "mix", "mix"), "--json", tmp_path / "mixed.json")
    assert json.loads((tmp_path / "mixed.json").read_text())["cer"] > 0.2
    manifest = manifest_of(both, 1, 2, texts=("", ""))
    succeeds("pseudo-label", exported, manifest, "--out", tmp_path / "p.jsonl", "--min-confidence", "0")
    assert [(one.text, one.channel) for one in read_manifest(tmp_path / "p.jsonl")] == [("abc", 1), ("cab ba", 2)]


def test_the_doctor_measures_the_channel(tmp_path: Path, write_wav: WriteWav) -> None:
    loud, silent = babble(), np.zeros(len(babble()))
    write_wav("one_side.wav", np.stack([loud, silent], axis=1))
    write_wav("mono.wav", loud)
    write_wav("opposite.wav", np.stack([loud, -loud], axis=1))

    def findings(name: str, channel: object) -> dict[str, int]:
        line = {"audio_filepath": name, "text": "a", "channel": channel}
        return kinds_in(diagnose(tmp_path, [line]))

    assert findings("one_side.wav", 1) == {} and findings("one_side.wav", 2) == {"silent-audio": 1}
    lines = [{"audio_filepath": name, "text": "a", "channel": 1} for name in ("one_side.wav", "mono.wav")]
    assert kinds_in(diagnose(tmp_path, lines)) == {"duplicate-audio": 1}
    assert findings("opposite.wav", 2) == {} and findings("opposite.wav", "mix") == {"several-channels": 1}
    report = diagnose(tmp_path, [{"audio_filepath": "opposite.wav", "text": "a"}])
    assert report.findings[0].what == "1 utterances of 2 channels, in opposite phase: channel 1 is used"


def test_copies_have_the_channel_and_no_key(both: Path, tmp_path: Path) -> None:
    settings = AugmentSettings.model_validate({"gain": {"probability": 1, "db": [-6, -6]}})
    result = augment_manifest(manifest_of(both, 2), tmp_path / "out", settings)
    original, copy = read_manifest(result.manifest)
    assert (original.channel, copy.channel) == (2, "mix")
    assert np.corrcoef(read_audio(copy, RATE), read_audio(original, RATE))[0, 1] > 0.999


def test_two_channels_of_a_file_are_two_clips(both: Path) -> None:
    one, two = (Utterance(str(both), channel=channel) for channel in (1, 2))
    assert find_links([one, two]).n_repeated == 0 and find_links([one, two, one]).n_repeated == 1
    named = find_links([replace(one, speaker="x", text="a"), replace(two, speaker="y", text="b")])
    assert len(set(named.speaker.tolist())) == 2


def test_training_from_the_command_line(both: Path, micro: Path, tmp_path: Path) -> None:
    """A note on mixing would be wrong here, and each channel has its own text."""
    from tests.support.micro import micro_data

    config = write_config(tmp_path / "c.yaml", micro_data(manifest_of(both, 1, 2)))
    told = anadil("train", config, "--out", tmp_path / "run", "--dry-run").stderr
    assert "mixed down" not in told
    config = write_config(tmp_path / "c.yaml", micro_data(manifest_of(both, None, 2)))
    assert "2 channels, mixed down to one" in anadil("train", config, "--out", tmp_path / "run", "--dry-run").stderr


def test_nothing_reads_an_utterance_without_its_channel() -> None:
    """`manifest.read_audio` is the one place where the path of an utterance is decoded."""
    found = []
    for path in sorted((Path(__file__).parents[1] / "anadil").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("audio.read", "read", "cut_file"):
                arguments = ast.unparse(node)
                if ".audio_filepath" in arguments and ".channel" not in arguments:
                    found.append(f"{path.name}:{node.lineno}: {arguments}")
    assert found == []
