from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from anadil import audio
from anadil.manifest import read_manifest
from tests.support.command_line import anadil as run
from tests.support.command_line import fails, succeeds
from tests.support.diagnoses import babble
from tests.support.lines import write_lines
from tests.support.micro import TEXTS, micro_data, write_config, write_corpus


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """train.jsonl without faults, and a config for it."""
    manifest = write_corpus(tmp_path, TEXTS[:5])
    write_config(tmp_path / "config.yaml", micro_data(manifest, epochs=1))
    return tmp_path


def add(folder: Path, **record: object) -> Path:
    with open(folder / "train.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps({"audio_filepath": "clips/0.wav", "text": "abc"} | record) + "\n")
    return folder / "train.jsonl"


def test_a_good_corpus_has_nothing_to_find(corpus: Path) -> None:
    result = succeeds("check", corpus / "train.jsonl")
    assert re.fullmatch(r"5 utterances, 0\.00 h: nothing found\n", result.stdout)
    assert "train.jsonl: train, 5 utterances" in result.stderr
    assert succeeds("check", "--config", corpus / "config.yaml").stdout == result.stdout


def test_what_would_be_worth_a_look_leaves_the_status_0(corpus: Path) -> None:
    result = succeeds("check", add(corpus, text="abc 5"), "--no-audio")
    assert "the audio was not decoded" in result.stdout
    assert re.search(r"symbols +1 +0\.00 +look at it", result.stdout)
    assert "train.jsonl:6: '5' (U+0035 DIGIT FIVE) in 'abc 5'\n  mend: write them" in result.stdout
    assert f"anadil check {corpus}/train.jsonl --without symbols --out cleaned" in result.stdout


def test_what_spoils_training_makes_the_status_1(corpus: Path) -> None:
    result = run("check", add(corpus, audio_filepath="none.wav"), "--config", corpus / "config.yaml")
    assert result.exit_code == 1
    assert re.search(r"missing-audio +1 .* spoils training", result.stdout)
    assert f"train.jsonl:6: audio file not found: {corpus}/none.wav" in result.stdout
    assert f"mend: check the paths; anadil train {corpus}/config.yaml data.skip_bad=true trains" in result.stdout


def test_the_worst_ten_are_shown_and_json_lists_all(corpus: Path) -> None:
    manifest = corpus / "train.jsonl"
    for i in range(12):
        manifest = add(corpus, audio_filepath="clips/1.wav", text="5 " * (i + 1), id=i)
    shown = succeeds("check", manifest, "--no-audio").stdout
    symbols = shown.split("symbols: digits")[1].split("mend: ")[0]
    assert re.findall(r"jsonl:(\d+)", symbols) == [str(17 - i) for i in range(10)]
    assert "... and 2 more; --json lists all" in symbols
    listed = json.loads(succeeds("check", manifest, "--no-audio", "--json").stdout)
    assert listed["manifests"] == [{"path": str(manifest), "split": "train", "utterances": 17}]
    assert (listed["audio"], listed["spoiled"]) == (False, False)
    symbols = [one for one in listed["findings"] if one["kind"] == "symbols"]
    assert [one["value"] for one in symbols] == list(range(12, 0, -1))
    assert symbols[0]["where"] == f"{manifest}:17" and symbols[0]["severity"] == "look at it"


def test_the_config_gives_labels_limits_and_the_models_frames(corpus: Path) -> None:
    data = micro_data(corpus / "train.jsonl", corpus / "valid.jsonl", epochs=1)
    data["data"] |= {"max_duration": 2.0, "min_duration": 0.5}
    config = write_config(corpus / "config.yaml", data)
    audio.write(corpus / "long.wav", babble(2.1).astype(np.float32), 16000)
    audio.write(corpus / "short.wav", babble(0.4).astype(np.float32), 16000)
    add(corpus, audio_filepath="long.wav")
    add(corpus, audio_filepath="short.wav", text="ab")
    add(corpus, text="ab" * 50)
    write_lines(corpus / "valid.jsonl", [{"audio_filepath": "clips/1.wav", "text": "abq"}])
    result = run("check", "--config", config, "--json")
    found = {one["kind"]: one for one in json.loads(result.stdout)["findings"]}
    assert result.exit_code == 1
    assert found["too-long"]["what"] == "2.1 s is longer than 2 s"
    assert found["too-short"]["what"] == "0.400 s is shorter than 0.5 s"
    assert "100 labels and 0 repeats need 100 frames, the model makes 17" in found["too-many-labels"]["what"]
    assert found["unseen-character"]["severity"] == "spoils training" and "no-label" not in found
    assert found["shared-audio"]["where"] == f"{corpus}/valid.jsonl:1"
    with_labels = write_config(corpus / "labels.yaml", data | {"tokenizer": {"labels": [" ", "a", "b", "c"]}})
    found = {one["kind"] for one in json.loads(run("check", "--config", with_labels, "--json").stdout)["findings"]}
    assert "no-label" in found and "unseen-character" not in found


def test_with_a_source_its_features_model_and_labels_count(corpus: Path, micro: Path) -> None:
    data = micro_data(add(corpus, text="abx"), epochs=1) | {"init": {"from": str(micro / "run/best"), "head": "keep"}}
    del data["model"], data["features"]
    result = run("check", "--config", write_config(corpus / "transfer.yaml", data), "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1 and "'x' (U+0078" in json.dumps(found, ensure_ascii=False)
    data["init"]["from"] = "nowhere"
    config = write_config(corpus / "transfer.yaml", data)
    assert "init.from: model not found: nowhere" in fails("check", "--config", config)
    again = run("check", "--config", config, f"init.from={micro / 'run/best'}", "--json")
    assert json.loads(again.stdout)["findings"] == found["findings"]
    without = run("check", corpus / "train.jsonl", "init.from=x")
    assert without.exit_code == 2 and "init.from=x changes a config" in without.stderr


def test_a_manifest_without_a_finding_is_written_and_nothing_replaced(corpus: Path) -> None:
    manifest = add(corpus, text="", note=7)
    arguments = ("check", manifest, "--without", "empty-text", "--out", corpus / "clean")
    assert run(*arguments).exit_code == 1
    assert [one.text for one in read_manifest(corpus / "clean/train.jsonl")] == list(TEXTS[:5])
    assert "add --force to replace" in fails(*arguments)
    assert run(*arguments, "--force").exit_code == 1
    succeeds("check", corpus / "clean/train.jsonl")
    assert "did you mean empty-text" in fails("check", manifest, "--without", "empty", "--out", corpus / "new")
    assert not (corpus / "new").exists()


def test_what_is_no_manifest_is_named(corpus: Path) -> None:
    assert "manifest not found" in fails("check", corpus / "none.jsonl")
    (corpus / "empty.jsonl").touch()
    assert "the manifest is empty" in fails("check", corpus / "empty.jsonl")
    assert "config not found" in fails("check", "--config", corpus / "none.yaml")


def test_each_file_is_decoded_once(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(corpus / "long.wav", babble(6), 16000)
    for offset in (4, 0, 2):
        add(corpus, audio_filepath="long.wav", offset=offset, duration=2, text="abc")
    n_frames = 0

    class Counted(soundfile.SoundFile):
        def read(self, *arguments: object, **options: object) -> np.ndarray:
            nonlocal n_frames
            samples = super().read(*arguments, **options)
            n_frames += len(samples)
            return samples

    monkeypatch.setattr("soundfile.SoundFile", Counted)
    succeeds("check", corpus / "train.jsonl")
    assert n_frames == sum(soundfile.info(path).frames for path in (*corpus.glob("clips/*.wav"), corpus / "long.wav"))


def test_without_a_config_it_needs_no_pytorch(corpus: Path) -> None:
    code = """
import sys
for name in ("torch", "lightning_fabric", "safetensors", "onnx"):
    sys.modules[name] = None
from anadil.cli.main import main
main()
"""

    def check(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, "check", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=600)

    done = check(corpus / "train.jsonl")
    assert (done.returncode, "nothing found" in done.stdout) == (0, True), done.stderr
    done = check(corpus / "train.jsonl", "--config", corpus / "config.yaml")
    assert (done.returncode, done.stdout) == (1, "") and "--config needs PyTorch" in done.stderr
