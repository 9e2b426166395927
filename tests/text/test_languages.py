"""Every file of languages/: its own pairs, and what holds for any text in any language."""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anadil.errors import AnadilError
from anadil.text.changes import alphabet_of, outside_alphabet
from anadil.text.expansions import RESTORE_MARKS
from anadil.text.invisible import compatible_characters
from anadil.text.language_files import (
    find_language,
    language_codes,
    language_file,
    language_rules_of,
    mistakes,
    nearest_codes,
    require_known,
)
from anadil.text.look_alikes import look_alikes
from anadil.text.normalize import MAX_ROUNDS
from anadil.text.rules import TextRules, TextSettings, text_rules

ROOT = Path(__file__).parents[2]
CODES = [code for code in language_codes() if code != "und"]
RULES = {code: text_rules(code, TextSettings()) for code in [*CODES, "und", "ha", "crh"]}


def pieces(rules: TextRules) -> st.SearchStrategy[str]:
    """Texts of the language's own stumbling blocks, and of anything else."""
    writing = rules.language_rules
    own = [
        *writing.abbreviations, *writing.symbols, *writing.units, *writing.currency, *writing.fractions, *writing.scales,
        *writing.ordinals.suffixes, *writing.alphabet, *"".join(writing.equivalents.values()), *writing.drop,
        *"0123456789٣५๗", *" .,:;'’-–−+%/()@½\u00a0", "II.", "1.234", "15:30", "29.10.1923", "0532 123 45 67", "www.a.com",
        *"iIİıΣσςʼ\u0301\u0307\u0323\u200c\u200d\u0e40\u0e4d\u0e48\u0e32\u0e33\u0d28\u0d4d\u00ad\ufeff\ufdd0аοﬁﻛＡ",
    ]  # fmt: skip
    forms = [*look_alikes(writing.script), *compatible_characters(writing.compatibility)]
    part = st.sampled_from(own) | st.sampled_from(forms or own) | st.characters(exclude_categories=["Cs"])
    return st.lists(part, max_size=12).map("".join)


@pytest.mark.parametrize(
    ("code", "written", "said"), [(c, *pair) for c in [*CODES, "und"] for pair in language_file(c).tests]
)
def test_the_pairs_of_the_file(code: str, written: str, said: str) -> None:
    assert RULES[code].normalize(written) == said


def test_every_file_has_pairs_and_an_alphabet_that_its_rules_leave_alone() -> None:
    for code in CODES:
        rules, writing = RULES[code], language_file(code)
        assert len(writing.tests) >= 1 and writing.code == code and writing.name and writing.native_name
        assert writing.alphabet or writing.whole_scripts
        assert mistakes(rules.language_rules, writing) == []


@pytest.mark.parametrize("code", RULES)
@settings(max_examples=15)
@given(data=st.data())
def test_normalizing_twice_changes_nothing(code: str, data: st.DataObject) -> None:
    rules = RULES[code]
    once = rules.normalize(data.draw(pieces(rules)))
    assert rules.normalize(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert once == " ".join(once.split())


@pytest.mark.parametrize("code", [code for code in CODES if not language_file(code).whole_scripts])
@settings(max_examples=8)
@given(data=st.data())
def test_nothing_outside_the_alphabet_is_left_where_the_rest_is_dropped(code: str, data: st.DataObject) -> None:
    labels = sorted(c for c in alphabet_of(RULES[code]) if RULES[code].normalizer.spelled(c) == c)
    rules = text_rules(code, TextSettings(unknown="drop"), labels)
    said = rules.normalize(data.draw(pieces(rules)))
    assert set(said) <= set(labels)
    assert rules.normalize(said) == said


def test_real_sentences_leave_letters_of_the_alphabet(shared: Path) -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import languages  # type: ignore[import-not-found]

    real = languages.sentences(shared)
    assert len(real) == 41 and set(real) <= set(CODES)
    left = {
        code: {c for sentence in sentences for c in outside_alphabet(RULES[code], RULES[code].normalize(sentence))}
        for code, sentences in real.items()
    }
    known = {"es": {"ː"}, "it": {"ʻ"}}  # a mistyped colon and quotation mark, which are reported
    assert {code: found for code, found in left.items() if found} == known


def test_the_table_in_the_docs_is_up_to_date(shared: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "languages.py"), "--check", "--shared", str(shared)]
    assert subprocess.run(command, cwd=ROOT).returncode == 0, "run: python benchmarks/languages.py"


@pytest.mark.parametrize(
    ("language", "words"),
    [  # a popular normaliser turns the marks in these into spaces
        ("hi", ["हिन्दी", "मूर्ख", "क्या"]),
        ("yo", ["ẹ̀kọ́", "Yorùbá", "ọmọ́"]),
        ("bm", ["kɔ̀nɔ́", "Bamanankan", "fɛ̀"]),
        ("ml", ["മലയാളം", "കേരളത്തിൽ"]),
        ("ta", ["தமிழ்"]),
        ("my", ["မြန်မာ"]),
    ],
)
def test_words_with_marks_stay_whole(language: str, words: list[str]) -> None:
    rules = text_rules(language, TextSettings())
    for word in words:
        assert rules.normalize(word) == unicodedata.normalize("NFC", word.lower())


@pytest.mark.parametrize(
    ("language", "written", "said"),
    [
        ("th", "\u0e19\u0e4d\u0e49\u0e32", "\u0e19\u0e49\u0e33"),  # water: nikhahit, tone, aa
        ("th", "\u0e19\u0e33\u0e49", "\u0e19\u0e49\u0e33"),
        ("th", "\u0e40\u0e40\u0e21\u0e48", "\u0e41\u0e21\u0e48"),  # mother, with two sara e
        ("lo", "\u0e99\u0ecd\u0ec9\u0eb2", "\u0e99\u0ec9\u0eb3"),
        ("ml", "\u0d05\u0d35\u0d28\u0d4d\u200d", "\u0d05\u0d35\u0d7b"),  # he: chillu n as before Unicode 5.1
        ("ml", "\u0d28\u0d4d\u200b\u200d", "\u0d7b"),
        ("ml", "\u0d05\u0d35\u0d28\u0d4d", "\u0d05\u0d35\u0d28\u0d4d"),
        ("bn", "\u09b9\u09a0\u09be\u09a4\u09cd\u200d", "\u09b9\u09a0\u09be\u09ce"),  # suddenly: khanda ta
    ],
)
def test_two_spellings_that_look_the_same_become_one(language: str, written: str, said: str) -> None:
    assert text_rules(language, TextSettings()).normalize(written) == said


@pytest.mark.parametrize(
    ("language", "written", "said"),
    [
        ("km", "\u1797\u17b6\u179f\u17b6\u200b\u1781\u17d2\u1798\u17c2", "\u1797\u17b6\u179f\u17b6 \u1781\u17d2\u1798\u17c2"),
        ("my", "\u1019\u103c\u1014\u103a\u200b\u1019\u102c", "\u1019\u103c\u1014\u103a \u1019\u102c"),
        ("th", "\u0e44\u0e17\u0e22\u200b\u200b\u0e14\u0e35", "\u0e44\u0e17\u0e22 \u0e14\u0e35"),
        ("lo", "\u0ea5\u0eb2\u0ea7\u200b\u0e94\u0eb5", "\u0ea5\u0eb2\u0ea7 \u0e94\u0eb5"),
        ("jv-Java", "\ua997\ua9ae\u200b\ua9a4\ua9b6", "\ua997\ua9ae \ua9a4\ua9b6"),
        ("und", "\u1794\u200babc", "\u1794 abc"),  # one neighbour is enough
        ("km", "\u200b\u1794\u200b", "\u1794"),
        ("th", "\u0e52\u200b\u0e51", "\u0e22\u0e35\u0e48\u0e2a\u0e34\u0e1a\u0e40\u0e2d\u0e47\u0e14"),  # not within a number
        ("en", "news\u200bpaper", "newspaper"),  # where a line may be broken
        ("zh", "\u4e2d\u200b\u6587", "\u4e2d\u6587"),
        ("ja", "\u65e5\u200b\u672c", "\u65e5\u672c"),
        ("km", "25", "\u1798\u17d2\u1797\u17c3 \u1794\u17d2\u179a\u17b6\u17c6"),  # CLDR's own zero-width spaces
        ("th", "25", "\u0e22\u0e35\u0e48\u0e2a\u0e34\u0e1a\u0e2b\u0e49\u0e32"),
    ],
)  # fmt: skip
def test_a_zero_width_space_separates_words_of_scripts_without_spaces(language: str, written: str, said: str) -> None:
    rules = text_rules(language, TextSettings())
    assert rules.normalize(written) == said == rules.normalize(said)


@pytest.mark.parametrize(
    ("code", "found"),
    [("tr", "tr"), ("tr-TR", "tr"), ("TR_tr", "tr"), ("tur", "tr"), ("zh-TW", "zh-Hant"), ("zh-CN", "zh"), ("sv-SE", "sv"),
     ("pa-IN", "pa"), ("pa-PK", None), ("rm-sursilv", "rm-sursilv"), ("fy-NL", "fy"), ("ga-IE", "ga"), ("ha", None),
     ("xyz", None), ("../../etc/passwd", None), ("", None)],
)  # fmt: skip
def test_which_file_serves_a_language(code: str, found: str | None) -> None:
    assert find_language(code) == found


@pytest.mark.parametrize("code", ["ha", "mdw", "qaa", "und", "tt-Latn", "sr_Latn"])
def test_a_language_without_a_file_has_the_generic_rules(code: str) -> None:
    require_known(code)
    assert language_rules_of(code).drop


@pytest.mark.parametrize(
    ("code", "near"), [("turkish", "tr"), ("xx", ""), ("tr&", "tr"), ("german", "de"), ("../tr", "tr")]
)
def test_a_language_that_does_not_exist_is_refused_with_the_nearest(code: str, near: str) -> None:
    with pytest.raises(AnadilError, match=rf"unknown language '{code}'\n  the nearest that have rules: .*\n  next: "):
        text_rules(code, TextSettings())
    assert not near or near in [found for found, _ in nearest_codes(code)]


def test_generic_rules_know_the_casing_of_a_language_without_a_file() -> None:
    assert RULES["crh"].normalize("İŞIQ") == "işıq"
    assert text_rules("tt-Latn", TextSettings()).normalize("I") == "ı"
    assert text_rules("kk-Latn", TextSettings()).normalize("I İ") == "ı i"


def slowly(rules: TextRules, text: str) -> str:
    """Every step on every text, until nothing changes: what the quick looks of Normalizer must not alter."""
    normalizer, text = rules.normalizer, unicodedata.normalize("NFC", text)
    for _ in range(MAX_ROUNDS):
        before = text
        text = normalizer.spelled(normalizer.expander.expand(normalizer.clean(text)))
        text = normalizer.finish(text)[0].translate(RESTORE_MARKS)
        if text == before:
            break
    return text


@pytest.mark.parametrize("code", RULES)
@settings(max_examples=15)
@given(data=st.data())
def test_what_is_looked_for_quickly_is_found(code: str, data: st.DataObject) -> None:
    text = data.draw(pieces(RULES[code]))
    assert RULES[code].normalize(text) == slowly(RULES[code], text)


@pytest.mark.parametrize(
    ("code", "written", "said"),
    [  # each was missed once: the quick looks saw no Greek word, no look-alike, no end of a word
        ("el", "\u00b5H", "\u03bc\u03b7"),  # micro sign, Latin H
        ("el", "\u0390\uff21", "\u0390\u03b1"),  # full-width Latin A after a Greek letter
        ("fr", "Dr\uff9e", "docteur \u3099"),  # the half-width voiced sound mark is a letter to Python
    ],
)
def test_what_was_not_found_once(code: str, written: str, said: str) -> None:
    assert RULES[code].normalize(written) == slowly(RULES[code], written) == said
