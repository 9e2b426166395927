"""One bad line each, and a near miss that must not be reported."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anadil.doctor.examine import Model
from anadil.doctor.text import characters_of, look_alikes
from anadil.errors import AnadilError
from anadil.text.alphabet import labels_from_text
from anadil.text.look_alikes import script_of
from anadil.text.rules import TextRules, TextSettings, text_rules
from tests.support.diagnoses import diagnose, diagnose_texts, kinds_in


def lines(*texts: str, **fields: Any) -> list[dict[str, Any]]:
    return [{"audio_filepath": f"{i}.wav", "text": text} | fields for i, text in enumerate(texts)]


CASES = [
    ("empty-text", " ", "a", "und"),
    ("empty-text", "?!", "a?!", "und"),
    ("not-nfc", "e\u0301t\u00e9", "\u00e9t\u00e9", "fr"),
    ("not-nfc", "\u0958", "\u0915\u093c", "hi"),  # qa, which NFC writes as ka and nukta
    ("stray-mark", "i\u0307stanbul", "i\u0307sigijo", ("tr", "lt")),  # Lithuanian keeps the dot
    ("stray-mark", "b\u0323 \u0323a", "b\u0323a", "und"),
    ("stray-mark", "\u0301a", "a\u0301\u0323", "und"),
    ("stray-mark", "\u0915\u093f\u093f", "\u0915\u093f", "hi"),
    ("stray-mark", "\u201c\u093f", "\u0930\u200d\u094d\u092f", "hi"),  # after a joiner is after a letter
    ("orphan-mark", "aq\u0307a", "a\u1e57a", ("tr", "und")),  # q has no dot to compose with, p has
    ("outside-alphabet", "aжa", "qâ", "tr"),
    ("outside-alphabet", "a\u02d0", "ğ", ("es", "tr")),  # a mistyped colon
    ("symbols", "saat 5", "saat 5", ("fy", "tr")),  # there are number rules for Turkish, none for Frisian
    ("symbols", "\u0665 \u0643\u062a\u0628", "\u0665 \u0643\u062a\u0628", ("und", "ar")),
    ("symbols", "50%", "50%", ("und", "tr")),
    ("symbols", "a/b", "a-b", "und"),
    ("symbols", "ok \U0001f600", "ok", "und"),
    ("symbols", "a\ufffdb", "a\u02bcb", "und"),
    ("symbols", "a\u2603b", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "fa"),  # Persian's ZWNJ is meant
    ("symbols", "2\u4e07", "\u4e00\u4e07\u3007\u4e00", ("und", "zh")),
    ("symbols", "a+b", "col\u00b7lega", ("und", "ca")),
]


@pytest.mark.parametrize(("kind", "bad", "near_miss", "language"), CASES)
def test_a_bad_text_is_reported_and_a_similar_good_one_is_not(
    tmp_path: Path, kind: str, bad: str, near_miss: str, language: str | tuple[str, str]
) -> None:
    first, second = language if isinstance(language, tuple) else (language, language)
    report = diagnose(tmp_path, lines("abc", bad), first, decode_audio=False)
    beside = {"not-nfc", "outside-alphabet", "orphan-mark"} - {kind}  # "abc" is not Hindi
    wrong = {name: n for name, n in kinds_in(report).items() if name not in beside}
    assert wrong == {kind: 1}, report.findings
    finding = next(one for one in report.findings if one.kind.name == kind)
    assert finding.where == f"{tmp_path / 'train.jsonl'}:2"
    near = kinds_in(diagnose(tmp_path, lines("abc", near_miss), second, decode_audio=False))
    assert set(near) <= beside - {"not-nfc" if kind != "stray-mark" else ""}


def test_symbols_that_have_labels_are_not_reported(tmp_path: Path) -> None:
    model = Model(16000, lambda n: n // 640, labels_from_training=False)
    texts = lines("ma+ a", "ma/ a", duration=2.0)
    assert kinds_in(diagnose(tmp_path, texts, decode_audio=False)) == {"symbols": 2}
    assert kinds_in(diagnose(tmp_path, texts, "und", [" ", *"am+/"], model, decode_audio=False)) == {}


def test_the_doctor_and_label_warnings_agree(tmp_path: Path) -> None:
    """One derivation: what `labels: auto` warns of is found, with its number and its lines."""
    texts = ["abc"] * 6 + ["ж q\u0307 7 kişi", "жжжж abc", "x"]
    report = diagnose(tmp_path, lines(*texts), "tr", decode_audio=False)
    labels = labels_from_text(text_rules("tr", TextSettings()), texts)
    reported = {kind.name: {one.what.split("'")[1]: one.value for one in some} for kind, some in report.by_kind()}
    assert set(reported["rare-character"]) == set(labels.rare) and "x" in labels.rare and "ж" not in labels.rare
    assert reported["orphan-mark"] == {"\u0307": 1} and labels.orphans == ("\u0307",)
    assert reported["outside-alphabet"] == {"ж": 5} and labels.strange == ("ж",)
    (outside,) = [one for one in report.findings if one.kind.name == "outside-alphabet"]
    assert [line.rsplit(":", 1)[1] for line in outside.lines] == ["7", "8"]


@pytest.mark.parametrize("at_once", [1, 3, 5000])
def test_characters_are_rare_below_five_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr("anadil.doctor.text._TEXTS_AT_ONCE", at_once)
    report = diagnose(tmp_path, lines("abq", "Qab", "abab x", "xxxxab"), decode_audio=False)
    rare = [one for one in report.findings if one.kind.name == "rare-character"]
    assert [(one.value, one.lines) for one in rare] == [(2, (f"{tmp_path}/train.jsonl:1", f"{tmp_path}/train.jsonl:2"))]
    assert "'q' (U+0071 LATIN SMALL LETTER Q) occurs 2 times" in rare[0].what


def test_a_rare_character_that_the_rules_make_of_another_is_reported(tmp_path: Path) -> None:
    report = diagnose(tmp_path, lines("aaaaa", "a\u2019a"), decode_audio=False)
    (rare,) = [one for one in report.findings if one.kind.name == "rare-character"]
    assert rare.where.endswith(":2") and "'\"'\"" not in rare.what


def suspects(*texts: str) -> tuple[dict[tuple[str, str], int], set[str]]:
    words = {word for text in texts for word in text.split()}
    characters = Counter("".join(texts).replace(" ", ""))
    mistakes, meant = look_alikes(texts, characters, words.__contains__)
    return dict(Counter((one.word, one.letter + one.twin) for one in mistakes)), meant


LATIN = "mama yapa kama epe oxa cece " * 30
CYRILLIC = "мама сама как оса тор вера о а с нос " * 30


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ((LATIN, "mаma"), {("mаma", "аa"): 1}),  # Cyrillic а
        ((LATIN, "kαma ορα"), {("kαma", "αa"): 1}),  # a Greek word beside it is Greek
        ((CYRILLIC, "caма"), {("caма", "cс"): 1, ("caма", "aа"): 1}),
        ((CYRILLIC, "a c o"), {("a", "aа"): 1, ("c", "cс"): 1, ("o", "oо"): 1}),  # typed as Latin, words in Cyrillic
        ((CYRILLIC, "cop ace"), {}),  # foreign words that no Cyrillic word looks like
        ((CYRILLIC, "smsка cdшник tvшник atmка"), {}),  # letters and an ending
        ((LATIN * 2, CYRILLIC, "mаma"), {("mаma", "аa"): 1}),  # a text of two scripts
        ((LATIN, CYRILLIC), {}),
        ((LATIN, "kána kаna ká\u0301na"), {("kаna", "аa"): 1}),
        ((LATIN, "mа\u0301ma"), {("mа\u0301ma", "аa"): 1}),  # Cyrillic а with an accent
        (("ərik " * 60, "ǝrik"), {("ǝrik", "ǝə"): 1}),
        (("şiş " * 60, "ș"), {("ș", "șş"): 1}),
        (("şiş " * 60, "șiș " * 20), {}),
        (("یک " * 60, "يك"), {("يك", "يی"): 1, ("يك", "كک"): 1}),
    ],
)
def test_look_alikes(texts: tuple[str, ...], expected: dict[tuple[str, str], int]) -> None:
    assert suspects(*texts) == (expected, set())


def test_a_frequent_second_script_is_intended(shared: Path) -> None:
    """Mboshi's ω and ε; a Latin letter typed in every tenth word is not, as the words are there without it too."""
    assert suspects("sωndω bεlε nω ekεya yε abia obele enda wana " * 30) == ({}, {"ω", "ε"})
    mistyped = "мама мaма вера веpа нос " * 3 + "мама вера нос " * 9
    assert suspects(mistyped) == ({("мaма", "aа"): 3, ("веpа", "pр"): 3}, set())
    report = diagnose_texts(shared / "speech/mboshi/train.jsonl")
    assert "look-alike" not in kinds_in(report) and set(report.intended) == set("ωεέ")


def test_look_alikes_are_reported_line_by_line(tmp_path: Path) -> None:
    report = diagnose(tmp_path, lines(LATIN, "MАMA ha", "mаma"), decode_audio=False)
    alike = [one for one in report.findings if one.kind.name == "look-alike"]
    assert sorted(one.where[-1] for one in alike) == ["2", "3"]
    assert "'а' (U+0430 CYRILLIC SMALL LETTER A) in 'mаma': 2 of it, " in alike[0].what


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_characters_are_counted(text: str) -> None:
    assert characters_of(text) == Counter(text)


def test_scripts() -> None:
    assert [script_of(c) for c in "aωая1'ʼا"] == ["Latin", "Greek", "Cyrillic", "Cyrillic", "", "", "", ""]


def test_lines_that_are_not_utterances_are_findings(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"audio_filepath": "a.wav", "text": "a"}\n{"audio"\n[]\n', encoding="utf-8")
    report = diagnose_texts(path)
    assert report.spoiled and kinds_in(report) == {"broken-line": 2}
    assert [one.where for one in report.findings if one.kind.name == "broken-line"] == [f"{path}:2", f"{path}:3"]


def test_a_manifest_without_a_good_line_is_still_reported(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("{\n[]\n", encoding="utf-8")
    report = diagnose_texts(tmp_path / "train.jsonl")
    assert kinds_in(report) == {"broken-line": 2} and report.seconds == 0


def test_digits_that_no_rule_spells_have_no_label(tmp_path: Path) -> None:
    """`labels: auto` makes no labels of them, so training would refuse the text: the doctor must report it with a fix."""
    model = Model(16000, lambda n: n // 640, labels_from_training=True)
    labels = labels_from_text(text_rules("fy", TextSettings()), ["fiif hûzen", "5 hûzen"]).labels
    report = diagnose(tmp_path, lines("fiif hûzen", "5 hûzen", duration=2.0), "fy", labels, model, decode_audio=False)
    assert kinds_in(report) == {"no-label": 1, "symbols": 1} and report.spoiled
    (reported,) = [one for one in report.findings if one.kind.name == "no-label"]
    assert (
        reported.where.endswith(":2")
        and "'5' (U+0035 DIGIT FIVE)" in reported.what
        and "numbers.rules" in reported.what
    )


def test_a_text_that_the_rules_cannot_read_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def normalize(self: TextRules, text: str) -> str:
        if "9" in text:
            raise AnadilError("the number 9 cannot be spelled out")
        return text

    monkeypatch.setattr(TextRules, "normalize", normalize)
    model = Model(16000, lambda n: n // 640, labels_from_training=True)
    report = diagnose(tmp_path, lines("ab", "b 9", duration=2.0), "und", [" ", "a", "b"], model, decode_audio=False)
    assert kinds_in(report) == {"symbols": 1} and report.spoiled
