"""`anadil evaluate` on hypotheses of any system, its reports and figures; `anadil compare`."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anadil import audio
from anadil.manifest import read_manifest
from tests.support.command_line import anadil, fails, files, succeeds
from tests.support.lines import write_lines
from tests.support.micro import TEXTS

DOCS = (Path(__file__).parents[2] / "docs/evaluation.md").read_text(encoding="utf-8")


def lines_of(n: int, wrong: int, **more: Any) -> list[dict[str, Any]]:
    return [
        {"audio_filepath": f"/clips/{i}.wav", "duration": 2.0, "text": "ana dil", "speaker": f"s{i % 12}"}
        | {"pred_text": "ana x" if i < wrong else "ana dil"}
        | more
        for i in range(n)
    ]


@pytest.fixture
def hypotheses(tmp_path: Path) -> Path:
    (tmp_path / "a").mkdir()
    return write_lines(tmp_path / "a/hypotheses.jsonl", lines_of(60, 6))


def test_a_file_of_hypotheses_is_evaluated_without_a_model(hypotheses: Path, tmp_path: Path) -> None:
    result = succeeds("evaluate", hypotheses, "--json", tmp_path / "f.json", "--out", tmp_path / "out")
    figures = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))
    assert (figures["schema_version"], figures["wer"], figures["lm"]) == (1, 6 / 120, None)
    assert (figures["interval_resamples"], figures["n_speakers"]) == ("speakers", 12)
    assert "MER 5.00%, WIL 9.75%, sentences with an error 6 of 60 (10.00%)" in result.stdout
    assert "WER by speaker: s0 10.0% (5)" in result.stdout
    assert len(read_manifest(tmp_path / "out/hypotheses.jsonl")) == 60


def test_references_may_come_from_a_manifest_with_text_rules(tmp_path: Path) -> None:
    manifest = write_lines(tmp_path / "test.jsonl", [{"audio_filepath": "0.wav", "duration": 1, "text": "ANA, İKİ 2!"}])
    other = write_lines(tmp_path / "h.jsonl", [{"audio_filepath": "0.wav", "text": "", "pred_text": "ana iki iki"}])
    succeeds("evaluate", other, manifest, "--lang", "tr", "--json", tmp_path / "f.json")
    assert json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))["wer"] == 0.0
    succeeds("evaluate", other, manifest, "--json", tmp_path / "f.json", "--force")
    assert json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))["wer"] == 1.0


def test_hypotheses_of_another_manifest_are_one_message(hypotheses: Path, tmp_path: Path) -> None:
    other = write_lines(tmp_path / "other.jsonl", [{"audio_filepath": "none.wav", "duration": 1, "text": "ana"}])
    before = files(tmp_path)
    assert "of another manifest" in fails("evaluate", hypotheses, other, "--json", tmp_path / "f.json")
    assert files(tmp_path) == before


def test_silence_in_a_test_set_is_counted_by_default(micro: Path, exported: Path, tmp_path: Path) -> None:
    texts = ["abc", "", "b ac"]
    manifest = write_lines(
        tmp_path / "test.jsonl",
        [{"audio_filepath": str(micro / f"clips/{i}.wav"), "text": text} for i, text in enumerate(texts)],
    )
    result = succeeds("evaluate", exported, manifest, "--json", tmp_path / "f.json", "--out", tmp_path / "out")
    figures = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))
    n = len(TEXTS[1].split())
    assert (figures["empty_references"], figures["words"]["insertions"], figures["words"]["reference"]) == (1, n, 3)
    assert f"1 of 3 references are empty; the {n} words recognised there count as insertions" in result.stderr
    line = read_manifest(tmp_path / "out/hypotheses.jsonl")[0]
    assert set(line.extra) == {"pred_text", "wer", "cer", "word_confidences", "snr_db", "reference_doubt"}
    assert line.extra["reference_doubt"] < 1 and len(line.extra["word_confidences"]) == 1
    skipped = succeeds("evaluate", exported, manifest, "--empty-references", "skip", "--json", tmp_path / "g.json")
    assert "1 utterances with an empty reference were skipped" in skipped.stderr
    assert json.loads((tmp_path / "g.json").read_text(encoding="utf-8"))["n_utterances"] == 2
    assert "empty text" in fails("evaluate", exported, manifest, "--empty-references", "refuse")


def test_the_training_data_of_the_card_are_compared(micro: Path, exported: Path, tmp_path: Path) -> None:
    result = succeeds("evaluate", exported, micro / "train.jsonl", "--json", tmp_path / "f.json")
    assert "8 of 8 test recordings are in the training manifests" in result.stderr
    leakage = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))["leakage"]
    assert (leakage["same_sentences"], leakage["same_recordings"]) == (8, 8)


def test_training_manifests_that_are_gone_are_said(exported: Path, micro: Path, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "model")
    card = tmp_path / "model/README.md"
    card.write_text(
        re.sub(r"h \([^)]*\)", "h (gone.jsonl)", card.read_text(encoding="utf-8"), count=1), encoding="utf-8"
    )
    result = succeeds("evaluate", tmp_path / "model", micro / "train.jsonl")
    assert "not checked whether test sentences or speakers are in the training data: gone.jsonl" in result.stderr
    again = succeeds("evaluate", tmp_path / "model", micro / "train.jsonl", "--train", micro / "train.jsonl")
    assert "8 of 8 test recordings" in again.stderr


def test_the_report_is_written_whole_and_not_overwritten(micro: Path, exported: Path, tmp_path: Path) -> None:
    report = tmp_path / "report"
    result = succeeds("evaluate", exported, micro / "train.jsonl", "--report", report, "--by", "n")
    assert f"report: {report / 'report.html'}" in result.stderr and [one.name for one in report.iterdir()] == [
        "report.html"
    ]
    assert "References in doubt" in (report / "report.html").read_text(encoding="utf-8")
    assert "exists already" in fails("evaluate", exported, micro / "train.jsonl", "--report", report)


# --- several manifests


def test_several_manifests_stand_side_by_side(micro: Path, exported: Path, tmp_path: Path) -> None:
    def manifest(name: str, of: range, wrong: str = "") -> Path:
        lines = [{"audio_filepath": str(micro / f"clips/{i}.wav"), "text": TEXTS[i] + wrong} for i in of]
        return write_lines(tmp_path / f"{name}.jsonl", lines)

    a, b = manifest("a", range(5)), manifest("b", range(4, 8))
    c = manifest("c", range(1, 2), " a")
    outputs = ("--json", tmp_path / "f.json", "--report", tmp_path / "report", "--out", tmp_path / "out")
    result = succeeds("evaluate", exported, a, b, c, *outputs)
    figures = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))
    assert [one["manifest"] for one in figures["by_manifest"]] == [str(a), str(b), str(c)]
    assert [one["n_utterances"] for one in figures["by_manifest"]] == [5, 4, 1]
    assert [one["words"]["errors"] for one in figures["by_manifest"]] == [0, 0, 1]
    assert (figures["n_utterances"], figures["repeated_utterances"]) == (9, 1)
    assert "1 utterances are in more than one manifest" in result.stderr
    assert "1 recordings are in more than one manifest with another text" in result.stderr
    table = result.stdout.split("Each manifest alone")[1]
    assert re.search(r"a\.jsonl +5 +greedy +0\.0% .*\n.*b\.jsonl +4 .*\n.*c\.jsonl +1 +greedy +33\.3% ", table)
    page = (tmp_path / "report/report.html").read_text(encoding="utf-8")
    assert "Each manifest alone" in page and '<option value="2">c.jsonl</option>' in page
    assert len(read_manifest(tmp_path / "out/hypotheses.jsonl")) == 9
    alone = json.loads(succeeds_json("evaluate", exported, b, folder=tmp_path))
    of_time = ("elapsed_s", "real_time_factor")  # only the whole is timed
    own = {key: value for key, value in figures["by_manifest"][1].items() if key not in (*of_time, "manifest")}
    assert own == {key: alone[key] for key in own}
    assert "by_manifest" not in alone and set(figures) - set(alone) == {"by_manifest", "repeated_utterances"}


def succeeds_json(*arguments: Any, folder: Path) -> str:
    succeeds(*arguments, "--json", folder / "alone.json", "--force")
    return (folder / "alone.json").read_text(encoding="utf-8")


def test_both_ways_to_decode_have_a_column(hypotheses: Path, tmp_path: Path) -> None:
    lines = lines_of(60, 6, pred_text_greedy="ana")
    both = write_lines(tmp_path / "both.jsonl", lines)
    a, b = write_lines(tmp_path / "1.jsonl", lines[:40]), write_lines(tmp_path / "2.jsonl", lines[30:])
    result = succeeds("evaluate", both, a, b, "--json", tmp_path / "f.json")
    first, second = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))["by_manifest"]
    assert (first["wer"], first["greedy"]["wer"], second["wer"]) == (6 / 80, 0.5, 0.0)
    assert re.search(r"1\.jsonl +40 +pred_text_greedy +50\.0% .*\n +pred_text +7\.5%", result.stdout)
    assert "10 utterances are in more than one manifest" in result.stderr


def test_every_manifest_that_is_missing_is_named(exported: Path, micro: Path, tmp_path: Path) -> None:
    paths = (tmp_path / "one.jsonl", micro / "train.jsonl", tmp_path / "two.jsonl")
    error = fails("evaluate", exported, *paths, "--json", tmp_path / "f.json")
    assert "one.jsonl is not there" in error and "two.jsonl is not there" in error
    assert not (tmp_path / "f.json").exists()


# --- in noise


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    samples = np.random.default_rng(0).normal(0, 0.1, 5000).astype(np.float32)  # shorter than the clips
    audio.write(tmp_path / "noise.wav", samples, 16000)
    return write_lines(tmp_path / "noise.jsonl", [{"audio_filepath": "noise.wav"}])


def test_a_test_set_in_noise(micro: Path, exported: Path, noise: Path, tmp_path: Path) -> None:
    outputs = ("--json", tmp_path / "f.json", "--report", tmp_path / "report", "--out", tmp_path / "out")
    manifests = (micro / "train.jsonl", micro / "train.jsonl")
    result = succeeds("evaluate", exported, *manifests, "--noise", noise, "--snr", "40,-15", *outputs)
    figures = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))
    easy, hard = figures["in_noise"]
    assert (figures["noise"], easy["snr_db"], hard["snr_db"]) == (str(noise), 40, -15)
    assert figures["cer"] <= easy["cer"] < hard["cer"] and hard["n_utterances"] == 8
    assert hard["cer_minus_clean"] == pytest.approx(hard["cer"] - figures["cer"])
    assert hard["wer_minus_clean_interval"] is None  # too few utterances
    described = set(re.findall(r"`(\w+)`", DOCS))
    assert set(hard) - described == set()
    table = result.stdout.split("In noise, greedy, no LM")[1]
    more = re.escape(f"{100 * hard['wer_minus_clean']:+.1f}")
    assert re.search(rf"-15 dB +WER +{100 * hard['wer']:.1f}% +{more}", table)
    page = (tmp_path / "report/report.html").read_text(encoding="utf-8")
    assert '<section id="noise">' in page and "-15 dB" in page
    in_noise = read_manifest(tmp_path / "out/snr-15/hypotheses.jsonl")
    assert sum(one.extra["cer"] > 0 for one in in_noise) > 2 and (tmp_path / "out/snr40/hypotheses.jsonl").is_file()
    assert "exists already" in fails("evaluate", exported, *manifests, "--out", tmp_path / "out")


def test_noise_that_cannot_be_used_is_one_message(micro: Path, exported: Path, noise: Path, tmp_path: Path) -> None:
    arguments = ("evaluate", exported, micro / "train.jsonl", "--snr", "10", "--json", tmp_path / "f.json", "--noise")
    audio.write(tmp_path / "noise.wav", np.zeros(16000, np.float32), 16000)
    assert "all of them are digital silence" in fails(*arguments, noise)
    noise.write_text("")
    assert "the manifest is empty" in fails(*arguments, noise)
    assert not (tmp_path / "f.json").exists()


def test_silent_speech_is_counted(micro: Path, exported: Path, noise: Path, tmp_path: Path) -> None:
    audio.write(tmp_path / "silent.wav", np.zeros(16000, np.float32), 16000)
    lines = [
        {"audio_filepath": "silent.wav", "text": "a"},
        {"audio_filepath": str(micro / "clips/0.wav"), "text": "abc"},
    ]
    manifest = write_lines(tmp_path / "test.jsonl", lines)
    result = succeeds("evaluate", exported, manifest, "--noise", noise, "--snr", "10", "--json", tmp_path / "f.json")
    assert "1 utterances are digital silence, which has no signal-to-noise ratio" in result.stderr
    assert "1 utterances are digital silence" in " ".join(json.loads((tmp_path / "f.json").read_text())["notes"])


@pytest.mark.parametrize(
    "arguments",
    [
        "evaluate {h} --audio some",
        "evaluate {m} x.jsonl --lang tr",
        "evaluate {m}",
        "evaluate {h} --provider cuda",
        "evaluate {m} x.jsonl --snr 10",
        "evaluate {m} x.jsonl --noise n.jsonl",
        "evaluate {m} x.jsonl --noise n.jsonl --snr loud",
        "evaluate {m} x.jsonl --noise n.jsonl --snr 10,nan",
        "evaluate {m} x.jsonl --noise n.jsonl --snr 99",
        "evaluate {h} --noise n.jsonl --snr 10",
    ],
)
def test_wrong_usage(hypotheses: Path, exported: Path, arguments: str) -> None:
    result = anadil(*arguments.format(h=hypotheses, m=exported).split())
    assert (result.exit_code, result.stdout) == (2, "")


# --- compare


def test_compare_two(hypotheses: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    write_lines(tmp_path / "b/hypotheses.jsonl", lines_of(60, 40)[::-1])
    result = succeeds(
        "compare", tmp_path / "a", tmp_path / "b", "--json", tmp_path / "f.json", "--report", tmp_path / "report"
    )
    figures = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))
    assert figures["words"]["difference"] == pytest.approx((6 - 40) / 120)
    assert figures["words"]["interval"][1] < 0 and figures["mapsswe"]["segments"] == 40
    assert "A is better than B, by 28.33 points of WER" in result.stdout and "MAPSSWE: 40 segments" in result.stdout
    assert "this compares two models, not two methods" in result.stderr
    page = (tmp_path / "report/report.html").read_text(encoding="utf-8")
    assert "A is better than B, by 28.33 points" in page and f"B: {tmp_path / 'b'}" in page


def test_compare_seeds(tmp_path: Path) -> None:
    for system, wrongs in (("a", (5, 6, 7)), ("b", (20, 22, 24))):
        for seed, wrong in enumerate(wrongs):
            (tmp_path / f"{system}-{seed}").mkdir()
            write_lines(tmp_path / f"{system}-{seed}/hypotheses.jsonl", lines_of(60, wrong))
    a, b = (sorted(tmp_path.glob(f"{system}-*")) for system in "ab")
    result = succeeds("compare", *a, "against", *b)
    assert "(mean of 3 runs)" in result.stdout and "A is better than B" in result.stdout
    assert "MAPSSWE" not in result.stdout and "not two methods" not in result.stderr


def test_compare_names_what_does_not_fit(hypotheses: Path, tmp_path: Path) -> None:
    other = write_lines(tmp_path / "other.jsonl", lines_of(59, 3))
    assert "only one of the files has this utterance" in fails("compare", hypotheses, other)


# --- docs/evaluation.md


def test_every_figure_is_described(micro: Path, exported: Path, tmp_path: Path) -> None:
    shutil.copy(micro / "train.jsonl", micro / "again.jsonl")
    succeeds("evaluate", exported, micro / "train.jsonl", micro / "again.jsonl", "--json", tmp_path / "f.json")
    figures = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))
    described = set(re.findall(r"`(\w+)`", DOCS))
    assert set(figures) - described == set() and set(figures["words"]) - described == set()
    assert set(figures["leakage"]) - described == set()


def test_the_commands_of_the_page_run_as_written(
    micro: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(exported, "exported/first")
    shutil.copytree(micro / "clips", "my-speech/clips")
    shutil.copy(micro / "train.jsonl", "my-speech/test.jsonl")
    (block,) = re.findall(r"```bash\n(.*?)```", DOCS, re.DOTALL)
    commands = [shlex.split(line) for line in block.splitlines()]
    assert [command[:2] for command in commands] == [
        ["anadil", "evaluate"],
        ["anadil", "evaluate"],
        ["anadil", "compare"],
    ]
    for command in commands:
        if command[1] == "compare":
            shutil.copytree("results/first", "results/second")
        succeeds(*command[1:])
    assert Path("results/first-report/report.html").is_file() and Path("results/first.json").is_file()
