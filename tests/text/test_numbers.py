"""Numbers to words: known answers, what is left alone, and what is refused."""

from __future__ import annotations

import pytest

from anadil.errors import AnadilError
from anadil.text.numbers import spell_integers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", "sıfır"),
        ("1923'te", "bin dokuz yüz yirmi üç'te"),
        ("Saat 9’da 100 kişi geldi.", "Saat dokuz’da yüz kişi geldi."),
        ("1000 1001 1100", "bin bin bir bin yüz"),
        ("1000000", "bir milyon"),
        ("9999999", "dokuz milyon dokuz yüz doksan dokuz bin dokuz yüz doksan dokuz"),
        ("3G", "üç G"),
        ("B2", "B iki"),
        ("A4x", "A dört x"),
        ("(7)", "(yedi)"),
        ("0532", "sıfır beş üç iki"),
        ("00", "sıfır sıfır"),
        ("1" * 16, " ".join(["bir"] * 16)),
        ("sayı yok", "sayı yok"),
        ("", ""),
    ],
)
def test_turkish(text: str, expected: str) -> None:
    assert spell_integers(text, "tr") == expected


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("en", "one thousand nine hundred twenty-three"),
        ("sw", "elfu moja, mia tisa na ishirini na tatu"),
        ("zu", "inkulungwane namakhulu ayisishiyagalolunye namashumi amabili nantathu"),
        ("pt-BR", "mil novecentos e vinte e três"),
        ("tr-TR", "bin dokuz yüz yirmi üç"),
        ("br-FR", "mil nav c'hant tri warn-ugent"),  # from here on by the rules of the language's file
        ("rw", "igihumbi na magana icyenda na makumyabiri na gatatu"),
        ("ka", "ათას ცხრაას ოცდასამი"),
    ],
)
def test_other_languages(language: str, expected: str) -> None:
    assert spell_integers("1923", language) == expected


def test_soft_hyphens_are_taken_out() -> None:
    assert spell_integers("1923", "de") == "eintausendneunhundertdreiundzwanzig"


def test_fifteen_digits_are_still_a_number() -> None:
    assert spell_integers("999999999999999", "tr").startswith("dokuz yüz doksan dokuz trilyon")


def test_a_letter_with_a_combining_mark_counts_as_a_letter() -> None:
    assert spell_integers("s\u03273", "tr") == "s\u0327 üç"


def test_other_digits_are_left_alone() -> None:
    assert spell_integers("٣ ½ x²", "tr") == "٣ ½ x²"


def test_a_language_without_rules_is_refused_only_when_there_is_a_digit() -> None:
    assert spell_integers("lisan yok", "xx") == "lisan yok"
    with pytest.raises(AnadilError, match=r"'xx'.*\n.*87 languages: af, .*\n  next: write the numbers as words"):
        spell_integers("3 kişi", "xx")


def test_a_number_past_the_rules_is_refused() -> None:
    with pytest.raises(AnadilError, match="1000000000000 cannot be spelled out"):
        spell_integers("1000000000000", "su")
