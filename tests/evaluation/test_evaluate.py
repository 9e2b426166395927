from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from anadil.evaluation.errors import ErrorCounts
from anadil.evaluation.evaluate import Evaluation, score, write_hypotheses
from anadil.manifest import Utterance, read_manifest


def utterances_of(n: int, n_speakers: int = 0, duration: float | None = 2.0) -> list[Utterance]:
    names = [f"speaker{i % n_speakers}" if n_speakers else None for i in range(n)]
    return [Utterance(f"clips/{i}.wav", duration, "raw", speaker=name) for i, name in enumerate(names)]


def evaluation_of(n: int, n_speakers: int) -> Evaluation:
    """`n` utterances of two words; the first three, and two more of the first of five speakers, have one wrong."""
    hypotheses = ["ana x" if i in (0, 1, 2, 5, 10) else "ana dil" for i in range(n)]
    return score(utterances_of(n, n_speakers), ["ana dil"] * n, hypotheses)


def test_rates_are_of_the_corpus() -> None:
    evaluation = score(utterances_of(2), ["a", "b c d e"], ["x", "b c d e"])
    assert evaluation.words == ErrorCounts(1, 0, 0, 5)
    assert evaluation.wer == 1 / 5  # the mean of the two rates would be 1 / 2
    assert evaluation.cer == 1 / 8
    assert [one.words.rate for one in evaluation.scored] == [1.0, 0.0]


def test_order_and_texts_are_kept() -> None:
    utterances = utterances_of(2)
    first, second = score(utterances, ["a", "b"], ["b", "b"]).scored
    assert (first.utterance, first.reference, first.hypothesis) == (utterances[0], "a", "b")
    assert (second.utterance, second.reference, second.hypothesis) == (utterances[1], "b", "b")


def test_the_scored_reference_is_not_the_manifests_text() -> None:
    assert score([Utterance("1.wav", 1.0, "RAW!")], ["raw"], ["raw"]).wer == 0.0


@pytest.mark.parametrize(("n_references", "n_hypotheses"), [(1, 2), (2, 1), (3, 3)])
def test_lengths_must_match(n_references: int, n_hypotheses: int) -> None:
    with pytest.raises(ValueError, match=f"2 utterances, {n_references} references and {n_hypotheses} hypotheses"):
        score(utterances_of(2), ["a"] * n_references, ["a"] * n_hypotheses)


def test_nothing_to_score_is_not_a_perfect_score() -> None:
    with pytest.raises(ValueError, match="no utterances"):
        score([], [], [])


def test_real_time_factor_is_work_over_audio() -> None:
    evaluation = score(utterances_of(3, duration=2.0), ["a"] * 3, ["a"] * 3, elapsed_s=1.5)
    assert evaluation.audio_s == 6.0
    assert evaluation.real_time_factor == 1 / 4


def test_what_was_not_measured_is_not_a_number() -> None:
    untimed = score(utterances_of(1), ["a"], ["a"])
    assert untimed.real_time_factor is None
    unmeasured = score([*utterances_of(1), Utterance("2.wav")], ["a", "b"], ["a", "b"], elapsed_s=1.0)
    assert math.isnan(unmeasured.audio_s)
    assert unmeasured.real_time_factor is None
    assert unmeasured.to_dict()["hours"] is None


def test_to_dict() -> None:
    evaluation = score(utterances_of(2, duration=1800.0), ["a b c", "d"], ["a x", "d e"], elapsed_s=36.0)
    words = evaluation.words.to_dict()
    assert (words["errors"], words["match_error_rate"], words["information_lost"]) == (3, 3 / 5, 1 - 2 / 4 * (2 / 4))
    summary = evaluation.to_dict()
    assert summary.pop("characters") == evaluation.characters.to_dict()
    assert summary == {
        "n_utterances": 2,
        "hours": 1.0,
        "wer": 3 / 4,
        "wer_interval": None,
        "cer": 5 / 6,
        "cer_interval": None,
        "interval_level": 0.95,
        "interval_resamples": None,
        "n_speakers": None,
        "wrong_sentences": 2,
        "empty_references": 0,
        "words": words,
        "elapsed_s": 36.0,
        "real_time_factor": 1 / 100,
    }


@pytest.mark.parametrize(
    ("n", "n_speakers", "unit"), [(9, 5, None), (30, 0, "utterances"), (30, 4, "utterances"), (30, 5, "speakers")]
)
def test_summary_says_what_the_interval_resamples(n: int, n_speakers: int, unit: str | None) -> None:
    evaluation = evaluation_of(n, n_speakers)
    summary = evaluation.to_dict()
    assert summary["interval_resamples"] == unit
    if unit is None:
        assert evaluation.wer_interval is None and summary["wer_interval"] is None
    else:
        low, high = summary["wer_interval"]
        assert low < evaluation.wer == 5 / 60 < high


def test_speakers_reach_the_interval() -> None:
    """Ten speakers, one of whom is never understood."""
    speakers = [Utterance(f"{i}.wav", 1.0, speaker=f"speaker{i // 10}") for i in range(100)]
    hypotheses = ["x" if i < 10 else "a" for i in range(100)]
    by_speaker = score(speakers, ["a"] * 100, hypotheses)
    by_utterance = score(utterances_of(100), ["a"] * 100, hypotheses)
    assert by_speaker.wer_interval is not None and by_utterance.wer_interval is not None
    assert by_speaker.wer_interval[1] > 1.5 * by_utterance.wer_interval[1]


def test_one_utterance_without_a_speaker_means_utterances() -> None:
    utterances = [*utterances_of(29, n_speakers=10), Utterance("last.wav", 1.0)]
    assert score(utterances, ["a"] * 30, ["a"] * 30).to_dict()["interval_resamples"] == "utterances"


def test_infinite_rates_are_null_in_json(tmp_path: Path) -> None:
    evaluation = score(utterances_of(1), [""], ["a"])
    assert evaluation.wer == math.inf
    summary = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert (summary["wer"], summary["cer"], summary["words"]["rate"]) == (None, None, None)
    write_hypotheses(tmp_path / "hypotheses.jsonl", evaluation.scored)
    line = json.loads((tmp_path / "hypotheses.jsonl").read_text(encoding="utf-8"))
    assert (line["wer"], line["cer"], line["pred_text"]) == (None, None, "a")


def test_hypotheses_are_a_manifest(tmp_path: Path) -> None:
    audio = str(tmp_path / "clips" / "1.wav")
    utterance = Utterance(audio, 2.0, "Ana DİL", 1.5, "ayşe", "tr", {"gender": "f", "pred_text": "of an earlier run"})
    path = tmp_path / "hypotheses.jsonl"
    write_hypotheses(path, score([utterance], ["ana dil"], ["ana dilim"]).scored)
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "audio_filepath": "clips/1.wav",
        "duration": 2.0,
        "text": "ana dil",
        "offset": 1.5,
        "speaker": "ayşe",
        "language": "tr",
        "gender": "f",
        "pred_text": "ana dilim",
        "wer": 1 / 2,
        "cer": 2 / 7,
    }
    (back,) = read_manifest(path)
    assert (back.audio_filepath, back.text, back.extra["pred_text"]) == (audio, "ana dil", "ana dilim")
    assert utterance.extra == {"gender": "f", "pred_text": "of an earlier run"}
