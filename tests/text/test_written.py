from __future__ import annotations

import pytest

from anadil.errors import AnadilError
from anadil.text import written as module
from anadil.text.rules import TextSettings, text_rules
from anadil.text.written import Written, as_written, written_words


def pairs(language: str, text: str) -> list[tuple[str, str]]:
    return [(word.text, word.spoken) for word in written_words(text_rules(language, TextSettings()), text)]


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("tr", "Merhaba, DÜNYA!", [("Merhaba,", "merhaba"), ("DÜNYA!", "dünya")]),
        ("tr", "12 kedi", [("12", "on iki"), ("kedi", "kedi")]),
        ("tr", "tam 5 km yürüdü", [("tam", "tam"), ("5 km", "beş kilometre"), ("yürüdü", "yürüdü")]),
        ("tr", "3,50 TL verdi", [("3,50 TL", "üç lira elli kuruş"), ("verdi", "verdi")]),
        ("tr", "Dr. Ali", [("Dr.", "doktor"), ("Ali", "ali")]),
        ("tr", "ev — bark", [("ev —", "ev"), ("bark", "bark")]),
        ("tr", "— ( ev )", [("— ( ev )", "ev")]),
        ("tr", "...", [("...", "")]),
        ("tr", "", []),
        ("en", "He paid $5 million", [("He", "he"), ("paid", "paid"), ("$5 million", "five million dollars")]),
        ("zh", "你好，世界12。", [("你", "你"), ("好，", "好"), ("世", "世"), ("界", "界"), ("12。", "十二")]),
    ],
    ids=str,
)
def test_each_word_knows_how_it_is_spoken(language: str, text: str, expected: list[tuple[str, str]]) -> None:
    assert pairs(language, text) == expected


@pytest.mark.parametrize("language", ["tr", "en", "de", "sw", "th", "zh"])
def test_nothing_is_lost(language: str) -> None:
    text = "On 3/4/2020 at 10:30, “A. B.” paid 1 234 567 – or 12,5 % – of it... www.a.com 5-6 x\n\n  (7) end!"
    rules = text_rules(language, TextSettings())
    words = written_words(rules, text)
    joiner = "" if rules.language_rules.spaces == "none" else " "
    for number, line in enumerate(text.split("\n"), start=1):
        own = [word for word in words if word.line == number]
        assert joiner.join(word.spoken for word in own) == rules.normalize(line)
    assert as_written(words).split() == text.split()


def test_a_very_long_line_is_matched_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "bir 5 km iki 3,50 TL üç dört beş " * 5
    whole = pairs("tr", text)
    monkeypatch.setattr(module, "_LONG_LINE", 4)
    assert pairs("tr", text) == whole


def test_a_language_without_spaces_is_given_back_as_written() -> None:
    text = "你好，hello world 今天12.5号 ok。"
    words = written_words(text_rules("zh", TextSettings()), text)
    assert as_written(words) == text
    assert Written("12.5", "十二点五", 1, is_apart=False) in words


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(AnadilError, match="surrogate"):
        written_words(text_rules("en", TextSettings()), "a \ud800 b")
