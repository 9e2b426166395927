from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from anadil import audio
from anadil.manifest import read_manifest
from tests.support.command_line import anadil as run
from tests.support.command_line import fails, files, succeeds
from tests.support.lines import write_lines
from tests.support.micro import TEXTS, micro_data, speak, write_config, write_corpus


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """valid.jsonl: 60 utterances, every third under noise; recordings/: twelve nobody has written down; a text file."""
    folder = tmp_path_factory.mktemp("speech")
    texts = [f"{TEXTS[i % 8]} bac abc" for i in range(60)]
    rng = np.random.default_rng(0)
    write_corpus(folder, texts, "valid.jsonl")
    for i in range(0, 60, 3):
        clean = speak(texts[i], seed=i)
        noisy = np.clip(clean + rng.normal(0, 0.4, len(clean)), -1, 1).astype(np.float32)
        audio.write(folder / f"clips/{i}.wav", noisy, 16000)
    write_corpus(folder / "recordings", [f"{TEXTS[i % 8]} cab" for i in range(12)], "../texts.jsonl")
    (folder / "recordings/notes.txt").write_text("no recording")
    return folder


def arguments(model: Path, speech: Path, out: Path, *more: str | Path) -> tuple[str | Path, ...]:
    return ("pseudo-label", model, speech / "recordings", "--calibrate", speech / "valid.jsonl", "--out", out, *more)


def test_train_label_and_train_on_both(
    micro: Path, exported: Path, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "pseudo.jsonl"
    result = succeeds(*arguments(exported, speech, out, "--max-cer", "0.1"))
    assert result.stdout == f"{out}\n"
    told = " ".join(result.stderr.split())
    assert "confidence from kept share CER of the kept 95 % interval" in told and "chosen" in told
    threshold = float(re.search(r"confidence (0\.\d+) keeps", told)[1])  # type: ignore[index]
    kept = read_manifest(out)
    assert f"kept {len(kept)} of 12 utterances" in told and 6 < len(kept) <= 12
    assert all(one.is_pseudo_label and one.extra["confidence"] >= threshold for one in kept)
    assert all((one.language, one.extra["pseudo_label_model"]) == ("en", "micro") for one in kept)
    heard = [one.text.replace(" ", "") for one in kept]  # a model so small may miss a space
    assert heard[:2] == ["abccab", "cabbacab"]  # in the order of the names: 0.wav, 1.wav
    rejected = (tmp_path / "pseudo.rejected.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(kept) + len(rejected) == 12

    config = write_config(tmp_path / "config.yaml", micro_data(micro / "train.jsonl", speech / "valid.jsonl", epochs=1))
    trained = succeeds(
        "train", config, f"data.train=[{micro / 'train.jsonl'},{out}]", "data.pseudo_label_weight=0.5", "--out", "run"
    )
    assert f"({len(kept)} utterances) have pseudo labels" in trained.stderr
    assert "weights in the loss from 0.5 to 1" in trained.stderr
    assert "of it with pseudo labels" in Path("run/best/README.md").read_text(encoding="utf-8")
    assert "pseudo_label_weight: 0.5" in Path("run/best/config.yaml").read_text(encoding="utf-8")

    again = tmp_path / "again.jsonl"
    model = ("pseudo-label", exported, speech / "recordings", "--min-confidence", str(threshold), "--out", again)
    assert "not calibrated" in succeeds(*model).stderr
    assert again.read_text(encoding="utf-8") == out.read_text(encoding="utf-8")  # the printed threshold keeps the same


def test_an_error_rate_out_of_reach_says_what_can_be_reached(exported: Path, speech: Path, tmp_path: Path) -> None:
    out = tmp_path / "pseudo.jsonl"
    before = files(speech)
    error = fails(*arguments(exported, speech, out, "--max-cer", "0.001"))
    assert "no threshold reaches a character error rate of 0.1%: the best, confidence 0." in error
    reachable = re.search(r"next: --max-cer (0\.\d+), more validation data, or a better model", error)
    assert reachable is not None
    assert not out.exists() and files(speech) == before
    succeeds(*arguments(exported, speech, out, "--max-cer", reachable[1]))  # what it says does work


def test_a_model_that_is_mostly_wrong_is_not_offered_as_a_teacher(exported: Path, speech: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in (speech / "valid.jsonl").read_text(encoding="utf-8").splitlines()]
    wrong = write_lines(tmp_path / "wrong.jsonl", [
        line | {"audio_filepath": str(speech / line["audio_filepath"]), "text": "c" * 30} for line in lines
    ])  # fmt: skip
    error = fails("pseudo-label", exported, speech / "recordings", "--calibrate", wrong, "--max-cer", "0.1",
                  "--out", tmp_path / "out.jsonl")  # fmt: skip
    assert (
        "next: a better model first: training on texts with so many errors does not help" in error
        and "--max-cer 0" not in error
    )


def test_too_little_validation_data_is_an_error(exported: Path, speech: Path, tmp_path: Path) -> None:
    few = write_lines(tmp_path / "few.jsonl", [{"audio_filepath": str(speech / "clips/1.wav"), "text": "cab"}])
    error = fails("pseudo-label", exported, speech / "recordings", "--calibrate", few, "--max-cer", "0.5",
                  "--out", tmp_path / "out.jsonl")  # fmt: skip
    assert "too little validation data to calibrate on: 1 utterances" in error and "--min-confidence" in error


def test_files_manifests_and_folders_are_told_apart_by_what_they_hold(
    exported: Path, speech: Path, tmp_path: Path
) -> None:
    manifest = tmp_path / "speech.txt"  # as the name says nothing
    write_lines(manifest, [{"audio_filepath": str(speech / "clips/1.wav"), "text": "said", "speaker": "ayşe"}])
    named = tmp_path / "odd.jsonl"
    named.write_bytes((speech / "clips/2.wav").read_bytes())
    out = tmp_path / "out.jsonl"
    result = succeeds("pseudo-label", exported, manifest, named, "--min-confidence", "0", "--out", out)
    first, second = read_manifest(out)
    assert (first.speaker, first.language, first.extra["original_text"]) == ("ayşe", None, "said")
    assert (second.speaker, second.language, second.audio_filepath) == (None, "en", str(named))
    assert "1 utterances already have a text: it was not used" in result.stderr
    assert manifest.read_text(encoding="utf-8").count("said") == 1


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ('{"audio_filepath": "a.wav"}\n'.encode("utf-16"), "this is UTF-16"),
        ('{"audio_filepath": "a.wav"}\n'.encode("utf-16-le"), "this is UTF-16 without a byte-order mark"),
        (b'[{"audio_filepath": "a.wav"}]', "this is a JSON array"),
        (b"path,text\na.wav,bir\n", "this is a table"),
    ],
)
def test_text_that_is_no_manifest_is_not_taken_for_audio(
    exported: Path, tmp_path: Path, content: bytes, what: str
) -> None:
    given = tmp_path / "speech"
    given.write_bytes(content)
    assert what in fails("pseudo-label", exported, given, "--min-confidence", "0", "--out", tmp_path / "out.jsonl")


def test_validation_and_excluded_speech_is_not_labelled(exported: Path, speech: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    test = write_lines(tmp_path / "test.jsonl", [{"audio_filepath": str(speech / "recordings/clips/0.wav")}])
    result = succeeds("pseudo-label", exported, speech, "--calibrate", speech / "valid.jsonl", "--max-cer", "0.2",
                      "--exclude", test, "--out", out)  # fmt: skip
    assert "rejected: 61 x labelled already (--calibrate, --exclude)" in result.stderr
    assert {Path(one.audio_filepath).parent for one in read_manifest(out)} == {speech / "recordings/clips"}


def test_nothing_kept_is_an_error_that_leaves_the_list_of_the_rejected(
    exported: Path, speech: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    result = run("pseudo-label", exported, speech / "recordings", "--min-confidence", "1", "--out", out)
    assert result.exit_code == 1 and "nothing is kept: all 12 utterances are rejected" in result.stderr
    assert not out.exists() and len(read_manifest(tmp_path / "out.rejected.jsonl")) == 12


def test_nothing_is_overwritten_and_no_input_even_with_force(exported: Path, speech: Path, tmp_path: Path) -> None:
    manifest = write_lines(tmp_path / "m.jsonl", [{"audio_filepath": str(speech / "clips/1.wav")}])
    (tmp_path / "out.rejected.jsonl").write_text("earlier")
    before = files(tmp_path)
    plain = ("pseudo-label", exported, manifest, "--min-confidence", "0")
    assert "add --force to replace" in fails(*plain, "--out", tmp_path / "out.jsonl")
    for options in (("--out", manifest), ("--out", tmp_path / "n.jsonl", "--exclude", tmp_path / "n.jsonl")):
        assert "is an input, and cannot be written too" in fails(*plain, *options, "--force")
    assert "is not there" in fails("pseudo-label", exported, "none", "--min-confidence", "0", "--out", tmp_path / "o")
    assert files(tmp_path) == before
    succeeds(*plain, "--out", tmp_path / "out.jsonl", "--force")


def test_an_interrupt_leaves_nothing(
    exported: Path, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr("anadil.decoding.decoder.sequence_confidence", interrupted)
    result = run(
        "pseudo-label", exported, speech / "recordings", "--min-confidence", "0", "--out", tmp_path / "o.jsonl"
    )
    assert result.exit_code == 130 and files(tmp_path) == {}


# --- the trap: errors counted against what a model wrote


@pytest.fixture
def pseudo(micro: Path, tmp_path: Path) -> Path:
    lines = [{"audio_filepath": str(micro / f"clips/{i}.wav"), "text": TEXTS[i]} for i in range(3)]
    return write_lines(tmp_path / "valid.jsonl", [*lines[:2], lines[2] | {"pseudo_label": True}])


def test_evaluate_warns_that_references_are_pseudo_labels(
    exported: Path, micro: Path, pseudo: Path, tmp_path: Path
) -> None:
    result = succeeds("evaluate", exported, pseudo, "--json", tmp_path / "figures.json")
    assert "1 of 3 reference texts are pseudo labels" in " ".join(result.stderr.split())
    assert json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))["pseudo_labels"] == 1
    assert "pseudo" not in succeeds("evaluate", exported, micro / "train.jsonl").stderr


def test_the_doctor_counts_them_and_finds_them_in_validation(pseudo: Path) -> None:
    result = run("check", pseudo, "--json")
    assert result.exit_code == 1 and "3 utterances, 1 of them pseudo labels" in result.stderr
    listed = json.loads(result.stdout)
    assert listed["manifests"][0]["pseudo_labels"] == 1
    assert [one["where"] for one in listed["findings"] if one["kind"] == "pseudo-label"] == [f"{pseudo}:3"]
    train = pseudo.rename(pseudo.with_name("train.jsonl"))
    assert "pseudo-label" not in {one["kind"] for one in json.loads(run("check", train, "--json").stdout)["findings"]}
