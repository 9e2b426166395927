"""Studies from the command line, on three speakers of a language of tones: folders, resumption, failures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from anadil.errors import AnadilError
from anadil.manifest import read_manifest
from anadil.training.train import train as real_train
from tests.support.command_line import anadil, fails, succeeds
from tests.support.lines import write_lines
from tests.support.micro import TEXTS, micro_data, write_config, write_corpus

SPEAKERS = ("ada", "ben", "cem")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder)
    lines = [
        {"audio_filepath": f"clips/{number}.wav", "text": text, "speaker": SPEAKERS[number % 3], "village": "here"}
        for number, text in enumerate(TEXTS)
    ]
    write_lines(folder / "train.jsonl", lines)
    write_lines(folder / "valid.jsonl", lines[:3])
    data = micro_data(folder / "train.jsonl", folder / "valid.jsonl", epochs=2) | {"lm": None}
    write_config(folder / "config.yaml", data)
    return folder


def test_crossval_tests_every_speaker_once(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = succeeds("crossval", corpus / "config.yaml", "--out", out)
    for name in SPEAKERS:
        assert name in result.stdout
        assert {one.speaker for one in read_manifest(out / name / "hypotheses.jsonl")} == {name}
        assert {one.speaker for one in read_manifest(out / name / "train.jsonl")} == set(SPEAKERS) - {name}
    figures = json.loads((out / "crossval.json").read_text(encoding="utf-8"))
    assert [fold["name"] for fold in figures["folds"]] == list(SPEAKERS) and figures["failed"] == {}
    assert figures["all"]["n_utterances"] == len(TEXTS) + 3 == len(read_manifest(out / "hypotheses.jsonl"))
    errors = sum(fold["characters"]["substitutions"] for fold in figures["folds"])
    assert figures["all"]["characters"]["substitutions"] == errors


def test_a_trial_that_fails_is_named_and_the_others_are_done(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(config: object, out: Path, *args: object, **kwargs: object) -> object:
        if out.parent.name == "ben":
            raise AnadilError("the loss is not finite")
        return real_train(config, out, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr("anadil.studies.trials.train", train)
    result = anadil("crossval", corpus / "config.yaml", "training.epochs=1", "--out", tmp_path / "out")
    assert result.exit_code == 1 and "ada" in result.stdout and "ben" not in result.stdout
    assert "trial ben failed: the loss is not finite" in result.stderr
    figures = json.loads((tmp_path / "out/crossval.json").read_text(encoding="utf-8"))
    assert figures["failed"] == {"ben": "the loss is not finite"} and len(figures["folds"]) == 2


def test_an_interrupted_study_goes_on_where_it_stopped(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped between the training and the test of "ben": "ada" is not trained again, and "ben" is tested as it is."""
    out, trained = tmp_path / "out", []

    def train(config: object, out: Path, *args: object, **kwargs: object) -> object:
        trained.append(out.parent.name)
        run = real_train(config, out, *args, **kwargs)  # type: ignore[arg-type]
        if trained == ["ada", "ben"]:
            raise KeyboardInterrupt
        return run

    monkeypatch.setattr("anadil.studies.trials.train", train)
    command = ("crossval", corpus / "config.yaml", "training.epochs=1", "--out", out)
    assert anadil(*command).exit_code == 130
    assert "--resume" in fails(*command)
    before = (out / "ada/hypotheses.jsonl").stat().st_mtime_ns
    result = succeeds(*command, "--resume")
    assert trained == ["ada", "ben", "ben", "cem"]
    assert "the training of ben is complete already" in result.stderr
    assert (out / "ada/hypotheses.jsonl").stat().st_mtime_ns == before
    assert len(json.loads((out / "crossval.json").read_text(encoding="utf-8"))["folds"]) == 3


def test_a_study_with_another_config_is_not_mixed_with_the_first(corpus: Path, tmp_path: Path) -> None:
    command = ("curve", corpus / "config.yaml", "--fractions", "1", "--out", tmp_path / "out")
    succeeds(*command, "training.epochs=1")
    message = fails(*command, "training.epochs=1", "training.lr=0.01", "--resume")
    assert "another config" in message and "--force" in message
    succeeds(*command, "training.epochs=1", "training.lr=0.01", "--force")


def test_curve_says_what_more_speech_is_worth_and_draws_it(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = succeeds("curve", corpus / "config.yaml", "--fractions", "0.4,0.7,1", "--seeds", 2, "--out", out)
    assert result.stdout.count("-seed-") == 6
    assert "CER" in result.stdout and ("falls as" in result.stdout or "do not show" in result.stdout)
    assert "<svg" in (out / "curve.svg").read_text(encoding="utf-8")
    figures = json.loads((out / "curve.json").read_text(encoding="utf-8"))
    assert len(figures["trials"]) == 6 and figures["fits"]["CER"]["exponent"]
    assert "which chose the checkpoints too" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("crossval", "--by", "village"), "nothing can be left out"),
        (("crossval", "--by", "town"), 'no "town"'),
        (("crossval", "training.devices=2"), "training.devices=1"),
        (("curve", "data.valid=[]"), "data.valid=valid.jsonl"),
        (("curve", "--test", "none.jsonl"), "manifest not found"),
    ],
)
def test_what_cannot_be_studied_is_one_message(
    corpus: Path, tmp_path: Path, arguments: tuple[str, ...], expected: str
) -> None:
    verb, *rest = arguments
    assert expected in fails(verb, corpus / "config.yaml", *rest, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["", "0", "0.5,2", "half", "nan"])
def test_wrong_fractions_are_wrong_usage(corpus: Path, text: str) -> None:
    assert anadil("curve", corpus / "config.yaml", "--fractions", text).exit_code == 2


def test_a_recording_that_cannot_be_read_is_named(corpus: Path, tmp_path: Path) -> None:
    lines = (corpus / "train.jsonl").read_text(encoding="utf-8").splitlines()
    lost = [json.loads(line) | {"audio_filepath": str(corpus / json.loads(line)["audio_filepath"])} for line in lines]
    lost[4]["audio_filepath"] = "lost.wav"
    manifest = write_lines(tmp_path / "train.jsonl", lost)
    command = (
        "crossval",
        corpus / "config.yaml",
        f"data.train={manifest}",
        "training.epochs=1",
        "--out",
        tmp_path / "out",
    )
    assert "lost.wav" in fails(*command)
    assert "lost.wav" in succeeds(*command, "data.skip_bad=true").stderr
