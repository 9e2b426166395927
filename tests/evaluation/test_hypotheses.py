from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from anadil.errors import AnadilError
from anadil.evaluation.hypotheses import is_hypotheses, read_hypotheses, score_hypotheses
from anadil.manifest import read_manifest
from tests.support.lines import write_lines


def line(i: int, hypothesis: str | None = None, text: str = "a b", **more: Any) -> dict[str, Any]:
    own = {} if hypothesis is None else {"pred_text": hypothesis}
    return {"audio_filepath": f"{i}.wav", "duration": 1.0, "text": text} | own | more


def test_lines_are_matched_by_utterance_and_not_by_order(tmp_path: Path) -> None:
    manifest = write_lines(tmp_path / "test.jsonl", [line(i, text=f"a {i}") for i in range(3)])
    path = write_lines(tmp_path / "h.jsonl", [line(i, f"a {i}", text="?") for i in (2, 0, 1)])
    found = score_hypotheses(path, read_manifest(manifest), str)
    assert [(one.reference, one.hypothesis) for one in found.scored] == [(f"a {i}", f"a {i}") for i in range(3)]
    assert found.greedy is None and found.n_skipped == 0


def test_ids_win_over_paths_if_every_line_has_one(tmp_path: Path) -> None:
    manifest = write_lines(tmp_path / "test.jsonl", [line(i, id=f"u{i}") for i in range(2)])
    path = write_lines(tmp_path / "h.jsonl", [line(7, "b", id="u1"), line(8, "a", id="u0")])
    found = score_hypotheses(path, read_manifest(manifest), str)
    assert [one.hypothesis for one in found.scored] == ["a", "b"]
    assert [one.utterance.audio_filepath for one in found.scored] == [str(tmp_path / f"{i}.wav") for i in range(2)]


@pytest.mark.parametrize(
    ("hypotheses", "message"),
    [
        ([line(0, "a")], r"test.jsonl:2: no hypothesis in .*h.jsonl[\s\S]*1 of 2 utterances"),
        ([line(i, "a") for i in range(3)], "h.jsonl:3: a hypothesis of an utterance that is not in the manifest"),
        ([line(0, "a"), line(1, "a"), line(1, "b")], "h.jsonl:2: another line has the same utterance"),
        ([line(8, "a"), line(9, "b")], "its hypotheses are of another manifest: none of its 2 utterances"),
        ([line(0, "a"), line(1)], 'h.jsonl:2: no "pred_text"'),
        ([line(0, "a"), line(1, "b", word_confidences=[1.5])], "must be numbers from 0 to 1, found"),
        ([line(0, "a"), line(1, "b", word_confidences=[float("nan")])], "holds NaN or Infinity"),
        ([line(0, "a"), line(1, "b", pred_text_greedy=3)], '"pred_text_greedy" must be a string'),
    ],
)
def test_what_does_not_belong_together_is_one_error(
    tmp_path: Path, hypotheses: list[dict[str, Any]], message: str
) -> None:
    manifest = write_lines(tmp_path / "test.jsonl", [line(0), line(1)])
    path = write_lines(tmp_path / "h.jsonl", hypotheses)
    with pytest.raises(AnadilError, match=message):
        score_hypotheses(path, read_manifest(manifest), str)


def test_a_manifest_that_has_an_utterance_twice_is_an_error(tmp_path: Path) -> None:
    manifest = write_lines(tmp_path / "test.jsonl", [line(0), line(1), line(1)])
    path = write_lines(tmp_path / "h.jsonl", [line(0, "a"), line(1, "a")])
    with pytest.raises(AnadilError, match=r"test.jsonl:2: the manifest has this utterance 2 times"):
        score_hypotheses(path, read_manifest(manifest), str)


def test_empty_references_are_counted_skipped_or_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "h.jsonl", [line(0, "a b"), line(1, "x y", text="")])
    counted, skipped = (score_hypotheses(path, None, str, empty_references=how) for how in ("count", "skip"))  # type: ignore[arg-type]
    assert [one.words.insertions for one in counted.scored] == [0, 2] and counted.n_skipped == 0
    assert len(skipped.scored) == 1 and skipped.n_skipped == 1
    with pytest.raises(AnadilError, match=r"h.jsonl:2: empty text[\s\S]*--empty-references count or skip"):
        score_hypotheses(path, None, str, empty_references="refuse")
    with pytest.raises(AnadilError, match="every reference is empty"):
        score_hypotheses(path, None, lambda text: "", empty_references="skip")


def test_a_text_that_is_too_long_to_align_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anadil.evaluation.evaluate.MAX_UNITS", 100)
    path = write_lines(tmp_path / "h.jsonl", [line(0, "a b"), line(1, "a " * 51)])
    with pytest.raises(AnadilError, match=r"h.jsonl:2: a text of 102 characters[\s\S]*cut it into utterances"):
        score_hypotheses(path, None, str)


def test_the_folder_of_a_run_names_its_hypotheses(tmp_path: Path) -> None:
    with pytest.raises(AnadilError, match=r"has no hypotheses.jsonl"):
        read_hypotheses(tmp_path)
    write_lines(tmp_path / "hypotheses.jsonl", [line(0, "a")])
    assert len(read_hypotheses(tmp_path)) == 1


def test_a_file_of_hypotheses_is_known_by_its_content(tmp_path: Path) -> None:
    assert is_hypotheses(write_lines(tmp_path / "model.nemo", [line(0, "a")]))
    (tmp_path / "h.jsonl").write_bytes(b"PK\x03\x04")
    assert not is_hypotheses(tmp_path / "h.jsonl") and not is_hypotheses(tmp_path)
