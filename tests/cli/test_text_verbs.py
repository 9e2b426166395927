"""`anadil normalize` and `anadil tokenizer`, and `anadil evaluate --scoring`."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from typer.testing import Result

from anadil.manifest import read_manifest
from tests.support.command_line import anadil as run
from tests.support.lines import write_lines

RECORDS = [
    {"audio_filepath": "a.wav", "duration": 1.5, "text": "İstanbul’da 5 km, Dr. Ali!", "speaker": "x", "mine": [1]},
    {"audio_filepath": "b.wav", "text": "%20’si"},
]


def anadil(*arguments: object, cwd: Path) -> Result:
    with contextlib.chdir(cwd):
        return run(*arguments)


def test_normalize_writes_a_manifest_and_reports_its_changes(tmp_path: Path) -> None:
    write_lines(tmp_path / "m.jsonl", RECORDS)
    done = anadil("normalize", "m.jsonl", "--lang", "tr", "--out", "new/n.jsonl", "--json", "c.json", cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    assert "text rules: Turkish (languages/tr.yaml)" in done.stderr and "2 texts, 2 changed" in done.stderr
    assert "beş kilometre" in done.stdout and "(removed)" in done.stdout
    first, second = read_manifest(tmp_path / "new/n.jsonl")
    assert (first.text, second.text) == ("istanbul'da beş kilometre doktor ali", "yüzde yirmi'si")
    assert (first.duration, first.speaker, first.extra) == (1.5, "x", {"mine": [1]})
    assert Path(first.audio_filepath).resolve() == (tmp_path / "a.wav").resolve()
    counts = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))
    assert counts["removed"] == {",": 1, "!": 1} and counts["texts"] == 2
    again = anadil("normalize", "m.jsonl", "--lang", "tr", "--out", "new/n.jsonl", cwd=tmp_path)
    assert again.exit_code == 1 and "new/n.jsonl exists already" in again.stderr


def test_normalize_lines(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes("\ufeffBir 5.\r\n\r\nİki\n".encode())
    done = anadil("normalize", "t.txt", "--lines", "--lang", "tr", "--out", "n.txt", cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "n.txt").read_text(encoding="utf-8") == "bir beş\n\niki\n"


def test_what_cannot_be_normalised_is_listed_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(b"wa 5\nnga\n\xff\n...\n")
    command = ("normalize", "t.txt", "--lines", "--lang", "mdw", "--out", "n.txt")
    done = anadil(*command, cwd=tmp_path)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "error: t.txt:1: a number that no rule spells in 'wa 5'" in done.stderr
    assert "t.txt:3: not UTF-8 at byte 0" in done.stderr and "t.txt:4: nothing is left of the text '...'" in done.stderr
    assert "3 of 4 texts cannot be used" in done.stderr
    assert not (tmp_path / "n.txt").exists()
    assert anadil(*command, "--skip-bad", cwd=tmp_path).exit_code == 0
    assert (tmp_path / "n.txt").read_text(encoding="utf-8") == "nga\n"


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ("normalize m.jsonl --lang turkce --out n.jsonl", "unknown language 'turkce'\n  the nearest that have rules: tr"),
        ("normalize m.jsonl --lang tr --out m.jsonl --force", "m.jsonl is the input"),
        ("normalize m.jsonl --lang tr --rules none.yaml --out n.jsonl", "none.yaml"),
        ("normalize none.txt --lines --lang tr --out n.txt", "file not found: none.txt"),
        ("tokenizer m.jsonl --lang und --kind unigram --out tok", "there is no text that can be used\ndigits that no"),
        ("tokenizer m.jsonl --lang tr --kind bpe --size 5000 --out tok", "5000 subwords are too many"),
        ("tokenizer m.jsonl --kind char --out tok", "one language is needed, but the key"),
        ("tokenizer m.jsonl --kind char --out m.jsonl", "m.jsonl exists already"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_message(tmp_path: Path, arguments: str, what: str) -> None:
    write_lines(tmp_path / "m.jsonl", RECORDS)
    done = anadil(*arguments.split(), cwd=tmp_path)
    assert (done.exit_code, done.stdout) == (1, "")
    assert what in done.stderr and "next: " in done.stderr and "Traceback" not in done.stderr


def test_tokenizer_prints_labels_and_writes_a_folder(tmp_path: Path) -> None:
    write_lines(tmp_path / "m.jsonl", [{"audio_filepath": "a.wav", "text": "Nga ndzoo ngá", "language": "mdw"}])
    done = anadil("tokenizer", "m.jsonl", "--kind", "units", "--out", "tok", cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines() == [" \t2", "ng\t2", "o\t2", "a\t1", "ndz\t1", "á\t1"]
    assert "fewer than 5 times" in done.stderr
    assert {path.name for path in (tmp_path / "tok").iterdir()} == {"tokenizer.yaml"}


def test_the_scoring_is_named_in_the_result(micro: Path, exported: Path, tmp_path: Path) -> None:
    command = ("evaluate", exported, micro / "train.jsonl", "--json", "f.json", "--scoring")
    done = anadil(*command, "no-case,no-punctuation", cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    assert "scoring no-case,no-punctuation" in " ".join(done.stdout.split())
    assert json.loads((tmp_path / "f.json").read_text())["scoring"] == "no-case,no-punctuation"
    refused = anadil(*command, "no-tone", "--force", cwd=tmp_path)
    assert refused.exit_code == 1 and "name no tone marks" in refused.stderr
