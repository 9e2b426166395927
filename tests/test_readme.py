"""The README's commands are run as they stand, on a small corpus; only training is cut to one epoch."""

from __future__ import annotations

import csv
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from anadil.corpora.synthetic import synthesize_corpus
from anadil.manifest import read_manifest
from tests.support.command_line import succeeds

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder with the user's own speech in it, as the README asks for it."""
    home = tmp_path_factory.mktemp("home")
    corpus = home / "my-speech"
    synthesize_corpus(corpus, "tr", seed=1, hours=0.02, n_valid=3, n_test=3)
    (corpus / "wav").joinpath("test").rename(corpus / "clips")
    (corpus / "test.jsonl").write_text((corpus / "test.jsonl").read_text().replace("wav/test/", "clips/"))
    next(iter(sorted((corpus / "clips").iterdir()))).rename(corpus / "clips" / "1.wav")
    lines = (corpus / "test.jsonl").read_text().splitlines()[1:]
    (corpus / "test.jsonl").write_text("\n".join(lines) + "\n")
    (home / "configs").symlink_to(ROOT / "configs")
    return home


def test_the_road_runs_as_written(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    commands = blocks("bash")[1].strip().splitlines()
    assert len(commands) == 8
    for command in commands[2:]:
        words = shlex.split(command)
        assert words[0] == "anadil"
        if words[1] == "train":
            words += ["training.epochs=1", "training.batch_seconds=20"]
        succeeds(*words[1:])
    assert (home / "runs/first/test/hypotheses.jsonl").is_file()
    assert (home / "exported/test.json").is_file()
    assert len(list((home / "transcripts").iterdir())) == 3
    code = blocks("python")[0].replace(
        '"language=sw",', '"language=sw", "training.epochs=1", "training.batch_seconds=20",'
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_spreadsheet_becomes_manifests_as_written(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    with open(home / "my-speech/sheet.csv", "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "sentence", "who"])
        for number, utterance in enumerate(read_manifest(home / "my-speech/train.jsonl")):
            rows.writerow([os.path.relpath(utterance.audio_filepath, home / "my-speech"), utterance.text, f"s{number}"])
    for command in blocks("bash")[2].strip().splitlines():
        words = shlex.split(command)
        assert words[0] == "anadil"
        succeeds(*words[1:])
    assert (home / "corpus/split/train.jsonl").is_file() and (home / "preview/preview.html").is_file()


def test_its_make_targets_are_there() -> None:
    makes = re.findall(r"^make (\w+)", "\n".join(blocks("bash")), re.MULTILINE)
    assert set(makes) == {"demo", "test", "install"}
    for target in makes:
        done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_the_files_it_names_are_there() -> None:
    tree = README.split("## Where things are")[1]
    folders = re.findall(r"^ {4}([\w.]+/?[\w.]*) ", tree, re.MULTILINE)
    assert len(folders) == 5
    assert all((ROOT / name).exists() for name in folders), folders
    inner = re.findall(r"^ {6}([\w.]+/?) ", tree, re.MULTILINE)
    assert all((ROOT / "anadil" / name).exists() for name in inner), inner
