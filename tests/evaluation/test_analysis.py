from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

import pytest

from anadil.evaluation.analysis import Analysis, Unseen, grouped
from anadil.evaluation.evaluate import compare, evaluation_of
from anadil.manifest import Utterance
from anadil.text.rules import TextSettings, text_rules

RULES = text_rules("und", TextSettings())


def analysis(references: Sequence[str], hypotheses: Sequence[str], language: str = "und", **more: Any) -> Analysis:
    utterances = [Utterance(f"{i}.wav", 1.0) for i in range(len(references))]
    rules = text_rules(language, TextSettings())
    confidences = more.pop("confidences", None)
    return Analysis("greedy", evaluation_of(compare(utterances, references, hypotheses, confidences)), rules, **more)


def forgiven(found: Analysis) -> dict[str, tuple[float | None, float | None]]:
    return {one.name: (one.share_of_words, one.share_of_characters) for one in found.forgiven}


def test_shares_of_errors_that_are_only_a_mark_a_capital_or_a_space() -> None:
    """Words: 5 errors (a capital, a comma, a mark, and two for a space); characters: 4."""
    found = analysis(["Ana dil", "bu, su", "bé o", "ana dil"], ["ana dil", "bu su", "be o", "anadil"])
    assert (found.evaluation.words.errors, found.evaluation.characters.errors) == (5, 4)
    assert forgiven(found) == {
        "case": (1 / 5, 1 / 4),
        "punctuation": (1 / 5, 1 / 4),
        "diacritics": (1 / 5, 1 / 4),
        "spaces": (None, 1 / 4),
    }
    assert [one.words for one in found.forgiven if one.name == "spaces"] == [None]


def test_views_that_change_nothing_are_left_out() -> None:
    assert forgiven(analysis(["ana"], ["anb"])) == {}
    assert forgiven(analysis(["é a"], ["é b"])) == {}  # the mark is right wherever it occurs


def test_tone_is_forgiven_where_the_rules_name_tone_marks() -> None:
    found = analysis(["bána lá"], ["bana la"], "mdw")
    assert forgiven(found)["tone"] == (1.0, 1.0)
    assert "tone" not in forgiven(analysis(["bána lá"], ["bana la"]))


@pytest.mark.parametrize("text", ["कि", "ไม่ดี".replace("่", ""), "สุข"])
def test_vowel_signs_are_no_diacritics(text: str) -> None:
    without = "".join(one for one in text if unicodedata.category(one) not in ("Mn", "Mc"))
    assert without != text
    assert forgiven(analysis([text], [without])) == {}


def test_graphemes_are_counted_where_a_letter_has_several_code_points() -> None:
    assert analysis(["é"], ["e"]).graphemes is None
    found = analysis(["mɔ\u0300"], ["m"]).graphemes
    assert found is not None and (found.deletions, found.reference) == (1, 2)


def test_groups_are_found_and_ordered() -> None:
    utterances = [
        Utterance("a.wav", 1.0, "", 0.0, "ayşe", "tr", {"gender": "f", "snr_db": 12.0}, "x/one.jsonl:1"),
        Utterance("b.wav", 7.0, "", 0.0, "ali", "tr", {"gender": "m", "snr_db": 35.0, "n": [1]}, "x/one.jsonl:2"),
        Utterance("c.wav", 30.0, "", 0.0, None, "tr", {"snr_db": 45.0}, "x/two.jsonl:1"),
    ]
    scored = compare(utterances, ["a b c d", "a", "a b"], ["a b c x", "x", "a b"])
    found = {
        key: [(one.name, one.words.errors, one.words.reference) for one in own] for key, own in grouped(scored).items()
    }
    assert found == {
        "speaker": [("ali", 1, 1), ("ayşe", 1, 4), ("not given", 0, 2)],
        "duration": [("below 2 s", 1, 4), ("5 to 10 s", 1, 1), ("20 s and more", 0, 2)],
        "words": [("below 2 words", 1, 1), ("2 to 4 words", 0, 2), ("4 to 8 words", 1, 4)],
        "snr_db": [("10 to 20 dB", 1, 4), ("30 to 40 dB", 1, 1), ("40 dB and more", 0, 2)],
        "manifest": [("one.jsonl", 2, 5), ("two.jsonl", 0, 2)],
        "gender": [("m", 1, 1), ("f", 1, 4), ("not given", 0, 2)],
    }


def test_a_key_that_is_asked_for_makes_groups_whatever_its_values() -> None:
    utterances = [Utterance(f"{i}.wav", 1.0, extra={"village": f"v{i}", "one": 1}) for i in range(40)]
    scored = compare(utterances, ["a"] * 40, ["a"] * 40)
    assert grouped(scored) == {}
    assert len(grouped(scored, ["village"])["village"]) == 40
    assert [one.name for one in grouped(scored, ["one"])["one"]] == ["1"]


def test_a_key_with_another_value_for_each_utterance_makes_no_groups() -> None:
    utterances = [Utterance(f"{i}.wav", 1.0, extra={"raw_text": f"Text {i}."}) for i in range(12)]
    assert grouped(compare(utterances, ["a"] * 12, ["a"] * 12)) == {}


def test_words_that_training_never_had() -> None:
    found = analysis(["a b c", "d e"], ["a x c", "d"], training_words={"a", "b", "d"})
    assert found.unseen == Unseen(seen=3, seen_wrong=1, unseen=2, unseen_wrong=1)
    assert found.unseen.to_dict() == {
        "unseen_words": 2,
        "share": 2 / 5,
        "wrong_of_unseen": 1 / 2,
        "wrong_of_seen": 1 / 3,
    }
    assert analysis(["a"], ["a"]).unseen is None


def test_confusions_are_counted() -> None:
    found = analysis(["ana dil", "ana"], ["ama dil", "ama x"])
    assert found.confused_words == {("ana", "ama"): 2, ("", "x"): 1}
    assert found.confused_letters == {("n", "m"): 2, ("", " "): 1, ("", "x"): 1}


def test_calibration_is_by_word_and_not_by_order() -> None:
    """The hypothesis "b x" has confidences of its two words; "a", which is deleted before them, has none."""
    found = analysis(["a b c", "d"], ["b x", "d"], confidences=[(0.95, 0.25), (0.99,)])
    assert [(one.low, one.n_words, one.correct) for one in found.calibration] == [(0.2, 1, 0.0), (0.9, 2, 1.0)]
    assert found.calibration[1].confidence == pytest.approx(0.97)
    assert analysis(["a b"], ["a b"], confidences=[(0.5,)]).calibration == ()  # one figure for two words: not known


def test_the_figures_are_json() -> None:
    import json

    found = analysis(["Ana dil", ""], ["ana", "x"], training_words={"ana"})
    figures = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert figures["sentence_error_rate"] == 1.0 and figures["empty_references"] == 1
    assert figures["forgiven"][0]["forgives"] == "case" and figures["graphemes"] == figures["characters"]
    assert figures["confused_words"][0]["n"] == 1 and figures["unseen"]["unseen_words"] == 2
