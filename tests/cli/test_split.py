from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from anadil.manifest import Utterance, read_manifest, read_manifests, write_manifest
from tests.support.command_line import anadil, fails, files, succeeds

SETS = ("train", "valid", "test")


def corpus(path: Path, speakers: range, n_each: int = 4) -> Path:
    write_manifest(
        path,
        [
            Utterance(f"/c/{s}-{t}.wav", 2.0 + t, f"cümle {s} {t}", speaker=f"s{s}")
            for s in speakers
            for t in range(n_each)
        ],
    )
    return path


def where(out: Path) -> dict[str, str]:
    return {
        u.audio_filepath: name
        for name in (*SETS, "set_aside")
        if (out / f"{name}.jsonl").is_file()
        for u in read_manifest(out / f"{name}.jsonl")
    }


def test_a_split_is_written_and_reported(tmp_path: Path) -> None:
    out = tmp_path / "splits"
    result = succeeds("split", corpus(tmp_path / "all.jsonl", range(100)), "--out", out)
    assert sorted(path.name for path in out.iterdir()) == ["split.json", "test.jsonl", "train.jsonl", "valid.jsonl"]
    assert len(where(out)) == 400
    rows = {
        row[0]: row[1:] for row in map(str.split, result.stdout.splitlines()) if row and row[0] in SETS and len(row) > 6
    }
    for name in SETS:
        inside = read_manifest(out / f"{name}.jsonl")
        hours = sum(u.duration or 0 for u in inside) / 3600
        assert rows[name][0] == str(len(inside)) and rows[name][3] == str(len({u.speaker for u in inside}))
        assert float(rows[name][1]) == pytest.approx(hours, abs=6e-4)
    assert re.search(r"test: 0 of \d+ speakers and 0 of \d+ sentences", result.stdout)
    assert f"next: anadil check {out}/train.jsonl {out}/valid.jsonl {out}/test.jsonl" in result.stdout
    assert f"data.train={out}/train.jsonl data.valid={out}/valid.jsonl" in result.stdout


def test_the_same_command_on_more_speech_moves_nothing(tmp_path: Path) -> None:
    few, more, out = (
        corpus(tmp_path / "few.jsonl", range(5)),
        corpus(tmp_path / "more.jsonl", range(40)),
        tmp_path / "s",
    )
    succeeds("split", few, "--out", out)
    before, again = where(out), files(out)
    assert "exists already\n  next: add --force" in fails("split", few, "--out", out)
    succeeds("split", few, "--out", out, "--force")
    assert files(out) == again
    result = succeeds("split", more, "--out", out, "--force")
    assert "20 utterances stay where they were, 140 are new" in result.stderr
    assert {clip: where(out)[clip] for clip in before} == before
    assert len(where(out)) == 160
    # the same by --keep, from elsewhere
    succeeds("split", more, "--keep", out, "--out", tmp_path / "t")
    assert where(tmp_path / "t") == where(out)
    # another seed is another split
    succeeds("split", more, "--out", out, "--force", "--seed", 1)
    assert where(out) != where(tmp_path / "t")


def test_files_of_an_earlier_split_do_not_stay_among_those_of_a_new_one(tmp_path: Path) -> None:
    source, out = corpus(tmp_path / "all.jsonl", range(40)), tmp_path / "s"
    succeeds("split", source, "--out", out)
    (out / "notes.txt").write_text("mine")
    succeeds("split", source, "--out", out, "--valid", 0, "--force")
    assert sorted(files(out)) == ["notes.txt", "split.json", "test.jsonl", "train.jsonl"]


def test_an_input_is_never_replaced(tmp_path: Path) -> None:
    source = corpus(tmp_path / "train.jsonl", range(40))
    before = files(tmp_path)
    assert "is an input and cannot be replaced" in fails("split", source, "--out", tmp_path, "--force")
    assert files(tmp_path) == before


def test_an_impossible_split_writes_nothing(tmp_path: Path) -> None:
    source = tmp_path / "all.jsonl"
    write_manifest(
        source, [Utterance(f"/c/{s}-{t}.wav", 3.0, f"{t}", speaker=f"{s}") for s in range(30) for t in range(9)]
    )
    error = fails("split", source, "--out", tmp_path / "s")
    assert re.findall(r"^    (--\S+(?: \w+)?) ", error, re.MULTILINE) == [
        "--set-aside", "--disjoint speaker", "--disjoint text"
    ]  # fmt: skip
    assert not (tmp_path / "s").exists()
    result = succeeds("split", source, "--out", tmp_path / "s", "--set-aside")
    left = read_manifest(tmp_path / "s/set_aside.jsonl")
    assert f"set_aside {len(left)}" in re.sub(" +", " ", result.stdout)
    assert all("its speaker is in" in u.extra["set_aside"] for u in left)
    for option in ("speaker", "text"):
        result = succeeds("split", source, "--out", tmp_path / option, "--disjoint", option)
        table = re.search(r"test: (\d+) of (\d+) speakers and (\d+) of (\d+) sentences", result.stdout)
        assert table and (table[1] == "0") == (option == "speaker") and (table[3] == "0") == (option == "text")


@pytest.mark.parametrize(
    "arguments",
    [
        "--test 1.5",
        "--valid -0.1",
        "--valid 0.5 --test 0.5",
        "--valid 0 --test 0",
        "--disjoint sentence",
        "--valid-disjoint ''",
        "--set-aside --disjoint text",
    ],
)
def test_wrong_usage_is_refused(tmp_path: Path, arguments: str) -> None:
    source = corpus(tmp_path / "all.jsonl", range(9))
    result = anadil("split", source, "--out", tmp_path / "s", *(a.strip("'") for a in arguments.split()))
    assert (result.exit_code, result.stdout) == (2, "")
    assert not (tmp_path / "s").exists()


def test_what_is_missing_is_named(tmp_path: Path, write_wav: Callable[..., Path]) -> None:
    source = corpus(tmp_path / "all.jsonl", range(9))
    assert "no split in" in fails("split", source, "--out", tmp_path / "s", "--keep", tmp_path)
    assert "not both" in fails(
        "split", source, "--out", tmp_path / "s", "--keep", _split(source, tmp_path / "k"), "--test-speaker", "s1"
    )
    write_manifest(tmp_path / "m.jsonl", [Utterance(str(tmp_path / "gone.wav"), text="a")])
    assert f'{tmp_path}/m.jsonl:1: no "duration", and audio file not found' in fails(
        "split", tmp_path / "m.jsonl", "--out", tmp_path / "s"
    )
    write_manifest(tmp_path / "m.jsonl", [Utterance(str(write_wav(f"{i}.wav", 0.2)), text=f"{i}") for i in range(12)])
    result = succeeds("split", tmp_path / "m.jsonl", "--out", tmp_path / "s")
    assert "measured 12 utterances that had no duration" in result.stderr
    assert "12 of 12 utterances have no speaker: each recording counts as a speaker of its own" in result.stderr
    assert {u.duration for u in read_manifests([tmp_path / f"s/{name}.jsonl" for name in SETS])} == {0.2}


def _split(source: Path, out: Path) -> Path:
    succeeds("split", source, "--out", out)
    return out


@pytest.mark.parametrize("language", ["tr", "de", "rw", "zh-CN", "ar"])
def test_common_voice(tmp_path: Path, shared: Path, language: str) -> None:
    folder = shared / "speech/common_voice" / language
    with open(folder / "validated.tsv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    seconds = None if language == "tr" else 4.0  # the Turkish clips are there to be measured
    lines = [
        Utterance(str(folder / "clips" / r["path"]), seconds, r["sentence"], 0.0, r["client_id"], language)
        for r in rows
    ]
    write_manifest(tmp_path / "validated.jsonl", lines)
    succeeds("split", tmp_path / "validated.jsonl", "--out", tmp_path / "s")
    made = {name: read_manifest(tmp_path / f"s/{name}.jsonl") for name in SETS}
    assert sum(map(len, made.values())) == len(rows)
    for which in (lambda u: u.speaker, lambda u: u.text):
        seen = [{which(u) for u in made[name]} for name in SETS]
        assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    hours = {name: sum(u.duration or 0 for u in made[name]) for name in SETS}
    for name in ("valid", "test"):
        assert 0.05 <= hours[name] / sum(hours.values()) <= 0.15
    assert json.loads((tmp_path / "s/split.json").read_text())["options"]["seed"] == 0


def test_what_a_model_wrote_is_refused(tmp_path: Path) -> None:
    speech = corpus(tmp_path / "all.jsonl", range(6))
    line = speech.read_text(encoding="utf-8").splitlines()[3]
    speech.write_text(speech.read_text(encoding="utf-8") + line[:-1] + ', "pseudo_label": true}\n', encoding="utf-8")
    error = fails("split", str(speech), "--out", str(tmp_path / "s"))
    assert "all.jsonl:25: pseudo_label" in error and "give valid and test texts that people wrote" in error
    assert not (tmp_path / "s").exists()
