from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from anadil.errors import AnadilError
from anadil.evaluation.evaluate import compare, evaluation_of
from anadil.evaluation.several import read_together
from tests.support.lines import write_lines


def line(name: int, text: str = "ana dil", **more: Any) -> dict[str, Any]:
    return {"audio_filepath": f"/clips/{name}.wav", "duration": 2.0, "text": text} | more


def test_an_utterance_of_two_manifests_is_there_once(tmp_path: Path) -> None:
    a = write_lines(tmp_path / "a.jsonl", [line(0), line(1)])
    b = write_lines(tmp_path / "b.jsonl", [line(1), line(2), line(1, offset=3.0)])
    together = read_together([a, b, a])
    assert [one.source for one in together.utterances] == [f"{a}:1", f"{a}:2", f"{b}:2", f"{b}:3"]
    assert together.lines == {a: (f"{a}:1", f"{a}:2"), b: (f"{a}:2", f"{b}:2", f"{b}:3")}
    assert (together.n_repeated, together.n_other_text) == (1, 0)
    (note,) = together.notes()
    assert note.startswith("1 utterances are in more than one manifest")


def test_another_text_of_the_same_recording_counts_and_is_said(tmp_path: Path) -> None:
    a, b = write_lines(tmp_path / "a.jsonl", [line(0)]), write_lines(tmp_path / "b.jsonl", [line(0, "ana")])
    together = read_together([a, b])
    assert len(together.utterances) == 2 and (together.n_repeated, together.n_other_text) == (0, 1)
    assert "another text" in together.notes()[0]


def test_lines_doubled_in_one_manifest_stay(tmp_path: Path) -> None:
    together = read_together([write_lines(tmp_path / "a.jsonl", [line(0), line(0)])])
    assert len(together.utterances) == 2 and together.notes() == []


def test_each_manifest_has_the_figures_that_it_has_alone(tmp_path: Path) -> None:
    a = write_lines(tmp_path / "a.jsonl", [line(i) for i in range(12)])
    b = write_lines(tmp_path / "b.jsonl", [line(i) for i in range(6, 30)])
    together = read_together([a, b])
    utterances = together.utterances
    hypotheses = ["ana" if i % 5 == 0 else "ana dil" for i in range(30)]
    scored = compare(utterances, [one.text for one in utterances], hypotheses)
    parts = together.parts(evaluation_of(scored))
    assert [part.evaluation for part in parts] == [evaluation_of(scored[:12]), evaluation_of(scored[6:])]
    assert parts[0].to_dict()["wer"] == 3 / 24 and parts[1].to_dict()["n_utterances"] == 24
    left = together.parts(evaluation_of(scored[12:]))  # those of A were skipped
    assert left[0].evaluation is None and left[0].to_dict() == {"manifest": str(a), "n_utterances": 0}


def test_every_manifest_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    good, bad = write_lines(tmp_path / "a.jsonl", [line(0)]), tmp_path / "bad.jsonl"
    bad.write_text("{}\n")
    with pytest.raises(AnadilError) as caught:
        read_together([tmp_path / "none.jsonl", good, bad])
    message = str(caught.value)
    assert "none.jsonl is not there" in message and "bad.jsonl:1" in message


def test_names_are_those_of_the_files_where_they_differ(tmp_path: Path) -> None:
    paths = [tmp_path / "a/test.jsonl", tmp_path / "b/test.jsonl", tmp_path / "b/other.jsonl"]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        write_lines(path, [line(0)])
    assert list(read_together(paths[1:]).names.values()) == ["test.jsonl", "other.jsonl"]
    assert list(read_together(paths).names.values()) == list(map(str, paths))
