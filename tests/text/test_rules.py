from __future__ import annotations

import json
import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from anadil.errors import AnadilError
from anadil.manifest import Utterance
from anadil.text.changes import changes
from anadil.text.language_rules import PUNCTUATION
from anadil.text.rules import TextRules, TextSettings, rules_from_dict, text_rules
from anadil.training.config import Config
from anadil.training.monitoring.report import Silent
from anadil.training.prepare import resolve
from tests.support.labels import decoded

TURKISH = list(" abcçdefgğhıijklmnoöprsştuüvyz'")
texts = st.text(
    st.sampled_from("aeiIİxq ’,.-Σ\u0301\u0305\u0323\u0307\u200d") | st.characters(exclude_categories=["Cs"])
)


def turkish(**settings: object) -> TextRules:
    return text_rules("tr", TextSettings.model_validate(settings), TURKISH)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  İki \t üç\u00a0\ndört ", "iki üç dört"),
        ("evet,hayır...tamam", "evet hayır tamam"),  # punctuation splits words
        ("“Ne?” dedi.", "ne dedi"),
        ("İstanbul’da", "istanbul'da"),  # the default map
        ("u\u0308c\u0327", "üç"),  # NFC
        ("aяb w", "aяb w"),  # what no rule names stays, to be reported
        ("…!?", ""),
    ],
)
def test_normalize(text: str, expected: str) -> None:
    assert turkish().normalize(text) == expected


@pytest.mark.parametrize(
    ("settings", "text", "expected"),
    [
        ({"lowercase": False}, "İI’da", "İI'da"),
        ({"drop": "\u0301\u200d"}, "x\u0301y k\u200dl", "xy kl"),  # a mark or joiner holds no words apart
        ({"drop": ["-", "€"]}, "a-b€c.", "a b c."),
        ({"map": {"â": "a", "-": "x"}}, "Kâr-zarar’", "karxzarar"),
        ({"map": {"~": "\u0308"}}, "u~", "ü"),
        ({"unknown": "drop"}, "wax q яay", "a ay"),
    ],
)
def test_settings_change_the_text(settings: dict[str, object], text: str, expected: str) -> None:
    assert turkish(**settings).normalize(text) == expected


@pytest.mark.parametrize("language", ["tr", "el", "lt", "yo"])
@pytest.mark.parametrize(
    "settings",
    [
        TextSettings(),
        TextSettings(lowercase=False),
        TextSettings(drop=PUNCTUATION + "\u0305\u0323", map={"’": "'", "ø": "ö", "-": ""}),
        TextSettings(unknown="drop"),
    ],
)
@given(text=texts)
def test_normalizing_twice_changes_nothing(language: str, settings: TextSettings, text: str) -> None:
    rules = text_rules(language, settings, [" ", "a", "i", "x"])
    once = rules.normalize(text)
    assert rules.normalize(once) == once
    assert once == once.strip() and "  " not in once and unicodedata.is_normalized("NFC", once)


@pytest.mark.parametrize(
    ("mapping", "what"),
    [
        ({"a": "b", "b": "c"}, "'b' is mapped again"),
        ({"ab": "c"}, "a single character"),
        ({"": "c"}, "a single character"),
        ({"-": "."}, "'-'"),  # "." is dropped: normalising once more would give another text
        ({"ß": "SS"}, "'ß'"),
    ],
)
def test_a_map_that_does_not_give_the_final_form_is_refused(mapping: dict[str, str], what: str) -> None:
    with pytest.raises((ValidationError, AnadilError), match=what):
        text_rules("de", TextSettings(map=mapping), ["a"])


def test_unknown_characters_are_named() -> None:
    assert turkish().unknown_characters("waxaw") == "wx"
    with pytest.raises(
        AnadilError, match=r"no label for 'w' \(U\+0077 LATIN SMALL LETTER W\), '\\x01' \(U\+0001 unnamed\)"
    ):
        turkish().encode("aw\x01")


def test_labels_keep_their_order_and_the_blank_comes_last() -> None:
    rules = text_rules("und", TextSettings(), ["b", " ", "a"])
    assert rules.encode("ab a") == [2, 0, 1, 2]
    assert rules.blank_id == 3


def test_the_longest_label_is_taken_first() -> None:
    labels = ["s", "c", "h", "ch", "sch", "a"]
    assert text_rules("de", TextSettings(), labels).encode("schachs") == [4, 5, 3, 0]


def test_a_label_may_begin_a_word() -> None:
    rules = text_rules("he", TextSettings(), [" ken", " lo", "x"])
    assert rules.encode("ken lox ken") == [0, 1, 2, 0]
    assert decoded(rules, [0, 1, 2, 0]) == "ken lox ken"
    assert rules.unknown_characters("x") == " "  # no label begins a word with it
    assert rules.encode("") == []


@pytest.mark.parametrize("more", [[], [" s", " ch"]])
@given(pieces=st.lists(st.sampled_from([" ", "a", "s", "c", "h", "ch", "sch", "q\u0301"])))
def test_decode_is_the_reverse_of_encode(more: list[str], pieces: list[str]) -> None:
    rules = text_rules("und", TextSettings(), ["h", " ", "ch", "s", "sch", "a", "c", "q\u0301", *more])
    text = rules.normalize("".join(pieces))
    ids = rules.encode(text)
    assert decoded(rules, ids) == text
    assert rules.unknown_characters(text) == ""


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        (["a", "b", "a"], "repeat: 'a'"),
        (["a", ""], "an empty label"),
        (["a", "B"], "change or drop.*: 'B'"),
        (["a", "."], "change or drop.*: '\\.'"),
        (["a", "’"], "change or drop.*: '’'"),
        (["a", "b "], "change or drop.*: 'b '"),
        (["a", "  "], "change or drop.*: '  '"),
        (["a", "e\u0301"], "change or drop"),  # NFC composes it
        (["a", "7"], r"digits, which the rules spell out \('7'\); text.digits=keep"),
        (["a", "a", "", "I"], "repeat: 'a'; an empty label; .*: 'I'"),
    ],
)
def test_labels_that_no_text_could_hold_are_refused(labels: list[str], what: str) -> None:
    with pytest.raises(AnadilError, match=f"tokenizer.labels: .*{what}"):
        text_rules("tr", TextSettings(), labels)


def test_capital_labels_are_for_rules_that_keep_capitals() -> None:
    assert text_rules("tr", TextSettings(lowercase=False), ["I", "i"]).encode("iI") == [1, 0]


def test_changes_are_counted() -> None:
    found = changes(turkish(unknown="drop"), ["W’a’, b.", "w?"])
    assert found.touched() == Counter({"’": 2, "'": 1, ",": 1, ".": 1, "?": 1, "w": 2})
    assert changes(turkish(), ["W’a"]).mapped == Counter({("’", "'"): 1})


@pytest.mark.parametrize("settings", [{}, {"lowercase": False, "map": {"ø": "ö"}, "drop": "-", "unknown": "drop"}])
def test_saved_rules_are_the_same_rules(settings: dict[str, object]) -> None:
    rules = turkish(**settings)
    saved = json.loads(json.dumps(rules.to_dict()))
    assert rules_from_dict(saved, TURKISH) == rules
    assert rules_from_dict(saved, TURKISH).normalize("İø-w’.") == rules.normalize("İø-w’.")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"version": 5}, "version 5, this Anadil reads 1 to 4\n  next: update Anadil"),
        ({"version": None}, "version None"),
        ({"drop": None}, "drop"),
        ({"map": {"ab": "c"}}, "a single character"),
    ],
)
def test_rules_that_cannot_be_read_are_refused(change: dict[str, object], what: str) -> None:
    with pytest.raises(AnadilError, match=what):
        rules_from_dict(turkish().to_dict() | change, TURKISH)


def test_automatic_labels_are_the_characters_of_the_text_by_code_point() -> None:
    config = Config.model_validate({"language": "tr", "data": {"train": "t.jsonl"}})
    train = [Utterance("a.wav", text=text) for text in ("Zor, İş!", "ılık", "ε\u0301")]
    for utterances in (train, train[::-1]):
        resolved = resolve(config, utterances, [], Silent())
        assert resolved.labels_from_training
        assert resolved.config.tokenizer.labels == [" ", "i", "k", "l", "o", "r", "z", "ı", "ş", "έ"]
        again = resolve(resolved.config, [], [], Silent())  # explicit labels stay
        assert again.config == resolved.config and not again.labels_from_training
    with pytest.raises(AnadilError, match="found no text"):
        resolve(config, [Utterance("a.wav", text="...")], [], Silent())
