from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from anadil import __version__, audio
from anadil.manifest import read_manifest
from anadil.models.acoustic import load_model
from anadil.training.config import load_config
from tests.support.command_line import anadil, fails, files, succeeds
from tests.support.lines import write_lines
from tests.support.micro import TEXTS, micro_data, speak, write_config, write_corpus

VERBS = [
    "demo",
    "corpora",
    "download",
    "import",
    "normalize",
    "check",
    "split",
    "augment",
    "tokenizer",
    "pseudo-label",
    "train",
    "lm",
    "evaluate",
    "compare",
    "crossval",
    "curve",
    "ablate",
    "next",
    "export",
    "convert",
    "push",
    "transcribe",
    "align",
    "serve",
]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Folder with a manifest of two utterances, a config for them and a file that is no audio."""
    manifest = write_corpus(tmp_path, TEXTS[:2])
    (tmp_path / "clips/noise.wav").write_text("no audio")
    write_config(tmp_path / "config.yaml", micro_data(manifest, manifest, epochs=1))
    return tmp_path


# --- the program itself


def test_the_version_is_shown() -> None:
    assert succeeds("--version").stdout == f"anadil {__version__}\n"


def test_help_lists_the_verbs_in_the_order_of_the_road() -> None:
    for option in ("--help", "-h"):
        text = succeeds(option).stdout
        assert re.findall(r"^│ (\w[\w-]*) ", text, re.MULTILINE) == VERBS
        assert "Example: anadil " in text


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_every_verb_has_an_example_that_starts_with_it(verb: str) -> None:
    text = succeeds(verb, "--help").stdout
    assert f"Example: anadil {verb} " in text
    assert f"Usage: anadil {verb} " in text.replace("root", "anadil")


def test_help_imports_nothing_heavy() -> None:
    code = """
import sys
sys.argv = ["anadil", "--help"]
from anadil.cli.main import main
try:
    main()
except SystemExit as end:
    assert end.code in (0, None)
heavy = {"numpy", "torch", "onnxruntime", "pydantic", "yaml", "soundfile", "scipy", "lightning_fabric"}
sys.exit(" ".join(sorted(heavy & set(sys.modules))) or 0)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert "transcribe" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        "translate",
        "--verbose",
        "check",
        "check train.jsonl --without symbols",
        "train",
        "train config.yaml --epochs 3",
        "evaluate model",
        "compare a",
        "compare a b c",
        "compare a against",
        "pseudo-label model speech --out out.jsonl",
        "pseudo-label model speech --out out.jsonl --calibrate valid.jsonl",
        "pseudo-label model speech --out out.jsonl --max-cer 0.1",
        "pseudo-label model speech --out out.jsonl --calibrate valid.jsonl --max-cer 0.1 --min-confidence 0.5",
        "pseudo-label model speech --out out.jsonl --min-confidence nan",
        "export model",
        "transcribe model",
        "align model",
        "align model --segment talk.wav",
        "align model train.jsonl --min-score 0.5",
        "align model train.jsonl --format eaf",
        "align model --segment talk.wav talk.txt --channel split",
        "transcribe model a.wav --format docx",
        "demo --minutes soon",
    ],
)
def test_wrong_usage_exits_with_2(arguments: str) -> None:
    result = anadil(*arguments.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage: " in result.stderr


def test_without_a_verb_the_help_is_shown() -> None:
    result = anadil()
    assert result.exit_code == 2
    assert all(verb in result.output for verb in VERBS)


def test_an_interrupt_exits_with_130_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, exported: Path, micro: Path
) -> None:
    def interrupted(path: Path, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("anadil.recognition.load.load", interrupted)
    result = anadil("transcribe", exported, micro / "clips/0.wav")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "\ninterrupted\n")


# --- from a config to transcripts


def test_train_export_evaluate_transcribe(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(corpus)
    trained = succeeds("train", "config.yaml", "training.epochs=2", "name=ğ")
    assert trained.stdout == "runs/ğ/best\n"  # stdout is the result, all talk is on stderr
    assert "2 utterances" in trained.stderr and "next: anadil export runs/ğ/best" in trained.stderr
    assert load_config(corpus / "runs/ğ/best/config.yaml").training.epochs == 2
    assert load_model(corpus / "runs/ğ/last").name == "ğ"
    exported = succeeds("export", "runs/ğ/best", "--out", "exported")
    assert exported.stdout == "exported\n" and "of PyTorch" in exported.stderr
    assert "characters" in succeeds("evaluate", "exported", "train.jsonl").stdout
    assert succeeds("transcribe", "exported", "clips/0.wav").stdout.count("\n") == 1


def test_evaluate_writes_hypotheses_and_figures(micro: Path, exported: Path, tmp_path: Path) -> None:
    texts = ["abc", "cab ba", "B ACC!", "ağb a"]  # two errors in 18 characters, two in 7 words
    records = [{"audio_filepath": str(micro / f"clips/{i}.wav"), "text": text, "id": i} for i, text in enumerate(texts)]
    manifest = write_lines(tmp_path / "test.jsonl", records)
    arguments = ("evaluate", exported, manifest, "--out", tmp_path / "out", "--json", tmp_path / "figures.json")
    result = succeeds(*arguments)
    lines = read_manifest(tmp_path / "out/hypotheses.jsonl")
    assert [line.text for line in lines] == ["abc", "cab ba", "b acc", "ağb a"]
    assert [line.extra["pred_text"] for line in lines] == list(TEXTS[:4])
    assert [line.extra["cer"] for line in lines] == [0, 0, 1 / 5, 1 / 5]
    assert [line.extra["id"] for line in lines] == [0, 1, 2, 3]
    assert all(Path(line.audio_filepath).is_file() for line in lines)
    figures = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert figures["cer"] == pytest.approx(2 / 19) and figures["wer"] == pytest.approx(2 / 7)
    assert (figures["model"], figures["manifests"], figures["lm"]) == (str(exported), [str(manifest)], None)
    assert figures["n_utterances"] == 4 and figures["words"]["reference"] == 7
    assert figures["wer_interval"] is None and figures["real_time_factor"] > 0
    assert "10.53%" in result.stdout and "28.57%" in result.stdout
    assert "count as errors: 'ğ' (U+011F LATIN SMALL LETTER G WITH BREVE) x 1" in result.stderr.replace("\n", " ")


def test_evaluate_takes_several_manifests_together(micro: Path, exported: Path, tmp_path: Path) -> None:
    manifests = [
        write_lines(tmp_path / f"{i}.jsonl", [{"audio_filepath": str(micro / f"clips/{i}.wav"), "text": TEXTS[i]}])
        for i in (2, 0)
    ]
    succeeds("evaluate", exported, *manifests, "--out", tmp_path)
    assert [line.text for line in read_manifest(tmp_path / "hypotheses.jsonl")] == [TEXTS[2], TEXTS[0]]


# --- input at fault: one message, exit status 1, nothing half-written


def with_line(line: str) -> Callable[[Path, dict[str, Any]], None]:
    def change(folder: Path, config: dict[str, Any]) -> None:
        with open(folder / "train.jsonl", "a", encoding="utf-8") as file:
            file.write(line + "\n")

    return change


def with_key(section: str, key: str, value: Any) -> Callable[[Path, dict[str, Any]], None]:
    return lambda folder, config: config[section].update({key: value})


def no_manifest(folder: Path, config: dict[str, Any]) -> None:
    (folder / "train.jsonl").unlink()


def empty_manifest(folder: Path, config: dict[str, Any]) -> None:
    (folder / "train.jsonl").write_text("\n")


Change = Callable[[Path, dict[str, Any]], None]
BAD_MANIFESTS: dict[str, tuple[Change, str]] = {
    "missing": (no_manifest, "manifest not found: .*train.jsonl is not there"),
    "empty": (empty_manifest, "train.jsonl: the manifest is empty"),
    "broken line": (with_line('{"audio_filepath": "a.wav", '), r"train.jsonl:3: not valid JSON: .* at column \d+"),
    "no audio": (
        with_line('{"audio_filepath": "clips/noise.wav", "text": "a"}'),
        "train.jsonl:3: not readable as audio: .*noise.wav",
    ),
    "absent audio": (
        with_line('{"audio_filepath": "clips/9.wav", "text": "a"}'),
        "train.jsonl:3: audio file not found: .*9.wav",
    ),
    "empty text": (with_line('{"audio_filepath": "clips/0.wav", "text": ""}'), "train.jsonl:3: empty text"),
}
BAD_CONFIGS: dict[str, tuple[Change, str]] = {
    "unknown key": (with_key("training", "epoch", 3), "unknown key 'training.epoch'; did you mean 'training.epochs'"),
    "wrong value": (with_key("training", "lr", "fast"), "training.lr: .*number.*found 'fast'"),
    "repeated labels": (with_key("training", "lr", 0.01), "labels that repeat: 'a'"),
    "missing label": (with_key("training", "lr", 0.01), r"train.jsonl:1: no label for 'c' \(U\+0063"),
    "text too long": (
        with_line(json.dumps({"audio_filepath": "clips/0.wav", "text": "ab" * 50})),
        "train.jsonl:3: text too long for its audio: 100 labels and 0 repeats need 100 frames, the model makes 17",
    ),
}
LABELS = {"repeated labels": [" ", "a", "b", "c", "a"], "missing label": [" ", "a", "b"]}


@pytest.mark.parametrize("name", [*BAD_MANIFESTS, *BAD_CONFIGS])
def test_train_names_what_is_wrong_with_its_input(corpus: Path, name: str) -> None:
    change, message = (BAD_MANIFESTS | BAD_CONFIGS)[name]
    data = micro_data(corpus / "train.jsonl", epochs=1)
    if name in LABELS:
        data["tokenizer"] = {"labels": LABELS[name]}
    change(corpus, data)
    write_config(corpus / "config.yaml", data)
    before = files(corpus)
    error = fails("train", corpus / "config.yaml", "--out", corpus / "run")
    assert re.search(message, error), error
    assert {path: content for path, content in files(corpus).items() if path != "run/problems.jsonl"} == before


def test_train_that_cannot_start_leaves_no_folder(corpus: Path) -> None:
    fails("train", corpus / "config.yaml", "data.train=none.jsonl", "--out", corpus / "run")
    assert not (corpus / "run").exists()


@pytest.mark.parametrize("name", list(BAD_MANIFESTS))
def test_evaluate_names_what_is_wrong_with_its_manifest(corpus: Path, exported: Path, name: str) -> None:
    change, message = BAD_MANIFESTS[name]
    change(corpus, {})
    before = files(corpus)
    out, figures = corpus / "out", corpus / "figures.json"
    refuse = ("--empty-references", "refuse")
    error = fails("evaluate", exported, corpus / "train.jsonl", "--out", out, "--json", figures, *refuse)
    assert re.search(message, error), error
    assert files(corpus) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train none.yaml --out new", "config not found: none.yaml"),
        ("train config.yaml training.epochs --out new", "expected KEY=VALUE, found 'training.epochs'"),
        ("train config.yaml training.epoch=2 --out new", "did you mean 'training.epochs'"),
        ("train config.yaml training.min_lr=1 --out new", "min_lr 1.0 is above lr"),
        ("evaluate clips train.jsonl --out new", "clips is no model"),
        ("evaluate none train.jsonl --out new", "model not found: none"),
        ("compare none none", "manifest not found: none"),
        ("compare clips clips", "clips has no hypotheses.jsonl"),
        ("export clips --out new", "clips is no model folder"),
        ("transcribe none clips/0.wav --out new", "model not found: none"),
        ("transcribe EXPORTED empty --out new", "no audio in empty"),
        ("demo --data clips --out new", "not in clips: train.jsonl, valid.jsonl"),
    ],
)
def test_what_is_not_there_or_no_such_thing_is_named(
    corpus: Path, exported: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, message: str
) -> None:
    monkeypatch.chdir(corpus)
    (corpus / "empty").mkdir()
    before = files(corpus)
    assert message in fails(*arguments.replace("EXPORTED", str(exported)).split())
    assert files(corpus) == before


OVERWRITING = {
    "train": ("train config.yaml --out out", "out/best"),
    "export": ("export MODEL --out out", "out/model.onnx"),
    "evaluate --out": ("evaluate EXPORTED train.jsonl --out out", "out/hypotheses.jsonl"),
    "evaluate --json": ("evaluate EXPORTED train.jsonl --json out/figures.json", "out/figures.json"),
    "transcribe": ("transcribe EXPORTED clips/0.wav clips/1.wav --out out", "out/1.txt"),
    "demo": ("demo --data . --out out", "out/config.yaml"),
}


@pytest.mark.parametrize("name", list(OVERWRITING))
def test_nothing_is_overwritten_without_force(
    corpus: Path, micro: Path, exported: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(corpus)
    command, there = OVERWRITING[name]
    (corpus / there).parent.mkdir(parents=True)
    (corpus / there).write_text("earlier")
    before = files(corpus)
    arguments = command.replace("EXPORTED", str(exported)).replace("MODEL", str(micro / "run/best")).split()
    error = fails(*arguments)
    assert "add --force to replace" in error and there.split("/")[0] in error
    assert files(corpus) == before
    if name != "demo":  # half an hour of training
        succeeds(*arguments, "--force")
        assert files(corpus).get(there) != b"earlier"
        assert not [path for path in corpus.rglob("*") if path.name.startswith(".")]  # nothing half-written beside


@pytest.mark.parametrize(
    "command",
    [
        "train config.yaml --out file",
        "export MODEL --out file",
        "export MODEL --out file/below",
        "evaluate EXPORTED train.jsonl --out file",
        "evaluate EXPORTED train.jsonl --json file/below.json",
        "transcribe EXPORTED clips/0.wav --out file",
    ],
)
def test_an_output_below_a_file_is_an_error_of_the_input(
    corpus: Path, micro: Path, exported: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(corpus)
    (corpus / "file").write_text("mine")
    before = files(corpus)
    result = anadil(*command.replace("EXPORTED", str(exported)).replace("MODEL", str(micro / "run/best")).split())
    assert result.exit_code == 1 and "file" in result.stderr
    assert files(corpus) == before


# --- transcribe


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Folder with abc.wav, deep/b ac.flac, notes.txt and, in capitals, CBA.WAV."""
    folder = tmp_path / "recordings"
    (folder / "deep").mkdir(parents=True)
    audio.write(folder / "abc.wav", speak("abc"), 16000)
    audio.write(folder / "CBA.WAV", speak("cba"), 16000)
    soundfile.write(str(folder / "deep/b ac.flac"), speak("b ac"), 16000)
    (folder / "notes.txt").write_text("no recording")
    return folder


def test_one_recording_gives_the_bare_text(exported: Path, recordings: Path) -> None:
    result = succeeds("transcribe", exported, recordings / "abc.wav")
    assert (result.stdout, result.stderr) == ("abc\n", "")


def test_files_and_folders_give_a_line_each_in_order_and_once(exported: Path, recordings: Path) -> None:
    deep, first, capitals = recordings / "deep/b ac.flac", recordings / "abc.wav", recordings / "CBA.WAV"
    result = succeeds("transcribe", exported, deep, recordings)
    assert result.stdout.splitlines() == [f"{deep}\tb ac", f"{capitals}\tcba", f"{first}\tabc"]


def test_a_model_folder_transcribes_too(micro: Path, recordings: Path) -> None:
    assert succeeds("transcribe", micro / "run/best", recordings / "abc.wav").stdout == "abc\n"


def test_json_on_stdout_is_one_object_a_line(exported: Path, recordings: Path) -> None:
    samples = speak("cab ba", 48000)
    for name in ("stereo.wav", "deep/stereo too.wav"):
        soundfile.write(str(recordings / name), np.stack([samples, samples], axis=1), 48000)
    result = succeeds("transcribe", exported, recordings, "--format", "json")
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert {Path(record["audio_filepath"]).name: record["text"] for record in records} == {
        "CBA.WAV": "cba",
        "abc.wav": "abc",
        "b ac.flac": "b ac",
        "stereo.wav": "cab ba",
        "stereo too.wav": "cab ba",
    }
    (stereo,) = (record for record in records if record["audio_filepath"].endswith("stereo.wav"))
    assert set(stereo) == {"audio_filepath", "text", "words", "duration", "language"}
    assert [word["text"] for word in stereo["words"]] == ["cab", "ba"]
    assert stereo["duration"] == 1.26 and stereo["language"] == "en"
    assert result.stderr == "warning: 2 x 2 channels, mixed down to one\n"


def test_results_go_to_stdout_while_a_progress_bar_is_drawn_on_stderr(
    exported: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes stderr for a terminal; `anadil transcribe ... > file` in one
    result = succeeds("transcribe", exported, recordings)
    assert "transcribing" in result.stderr
    assert [line.split("\t")[1] for line in result.stdout.splitlines()] == ["cba", "abc", "b ac"]


@pytest.mark.parametrize(("form", "suffix"), [("text", ".txt"), ("json", ".json")])
def test_out_gets_a_file_a_recording(exported: Path, recordings: Path, tmp_path: Path, form: str, suffix: str) -> None:
    out = tmp_path / "new/out"
    result = succeeds("transcribe", exported, recordings, "--format", form, "--out", out)
    assert result.stdout == ""
    written = {path: content.decode() for path, content in files(out).items()}
    assert set(written) == {f"abc{suffix}", f"CBA{suffix}", f"b ac{suffix}"}
    assert (written["abc.txt"] if form == "text" else json.loads(written["abc.json"])["text"] + "\n") == "abc\n"


def test_names_that_clash_keep_their_suffix(exported: Path, recordings: Path, tmp_path: Path) -> None:
    soundfile.write(str(recordings / "abc.flac"), speak("cab ba"), 16000)
    succeeds("transcribe", exported, recordings / "abc.wav", recordings / "abc.flac", "--out", tmp_path / "out")
    assert files(tmp_path / "out") == {"abc.wav.txt": b"abc\n", "abc.flac.txt": b"cab ba\n"}


def test_names_that_clash_all_the_same_are_refused_before_any_work(
    exported: Path, recordings: Path, tmp_path: Path
) -> None:
    shutil.copy(recordings / "abc.wav", recordings / "deep/abc.wav")
    error = fails("transcribe", exported, recordings, "--out", tmp_path / "out")
    assert "several recordings would be written to" in error and "abc.txt" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("to_files", [False, True])
def test_a_recording_that_cannot_be_read_is_named_and_the_others_are_done(
    exported: Path, recordings: Path, tmp_path: Path, to_files: bool
) -> None:
    (recordings / "bad.wav").write_text("no audio")
    missing, out = recordings / "none.wav", tmp_path / "out"
    options = ("--out", out) if to_files else ()
    result = anadil("transcribe", exported, missing, recordings, *options)
    assert result.exit_code == 1
    assert re.search(r"not readable as audio: .*bad.wav", result.stderr)
    assert f"audio file not found: {missing}" in result.stderr
    assert "2 of 5 recordings could not be read" in result.stderr and "Traceback" not in result.stderr
    if to_files:
        assert files(out) == {"abc.txt": b"abc\n", "CBA.txt": b"cba\n", "b ac.txt": b"b ac\n"}
    else:
        assert [line.split("\t")[1] for line in result.stdout.splitlines()] == ["cba", "abc", "b ac"]


def test_recordings_that_were_cut_off_are_transcribed_and_counted(exported: Path, shared: Path) -> None:
    result = succeeds("transcribe", exported, shared / "speech/damaged", "--format", "json")
    records = [json.loads(line) for line in result.stdout.splitlines()]
    promised = {
        Path(one.audio_filepath).name: one.duration for one in read_manifest(shared / "speech/damaged/manifest.jsonl")
    }
    assert {Path(record["audio_filepath"]).name for record in records} == set(promised)
    assert all(0 < record["duration"] < promised[Path(record["audio_filepath"]).name] for record in records)
    assert result.stderr.count("cut off: the header promises more samples") == 1
    assert "warning: 4 x cut off" in result.stderr
