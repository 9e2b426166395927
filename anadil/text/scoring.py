"""The form of a text that is scored: the normalised text, or that without case, punctuation, tone, diacritics or spaces."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence

from anadil.errors import AnadilError
from anadil.text.casing import lower_by
from anadil.text.rules import TextRules

View = Callable[[str], str]
"""Turns a normalised text into the form that is scored."""
PLAIN = "plain"
PARTS = ("no-case", "no-punctuation", "no-tone", "no-diacritics", "no-spaces")

_NO_DIACRITICS = frozenset({0, 9, 103, 118, 129, 130, 132})
"""Canonical combining classes of marks that are no diacritics: vowel signs and viramas of Indic scripts, Thai, Lao, Tibetan."""


def scoring_view(rules: TextRules, name: str = PLAIN) -> View:
    """The view of a name: "plain", or one or more of PARTS, joined by commas.

    Use the same view for references and hypotheses. no-diacritics removes accents, points and tone marks that Unicode writes
    as combining marks, and keeps vowel signs of Indic scripts; ø and ı have none and stay. After no-spaces a text is one
    word. Raises AnadilError for a name that does not exist, and for no-tone in a language whose rules name no tone marks.
    """
    parts = [] if name == PLAIN else name.split(",")
    wrong = [part for part in parts if part not in PARTS]
    if wrong:
        raise AnadilError(
            f"unknown scoring {', '.join(map(repr, wrong))}\n"
            f"  next: --scoring {PLAIN}, or one or more of {', '.join(PARTS)} joined by commas"
        )
    tones = frozenset(rules.language_rules.tones)
    if "no-tone" in parts and not tones:
        raise AnadilError(
            f"the rules of {rules.language_rules.name or rules.language} name no tone marks, so no-tone cannot be used\n"
            '  next: train with a text.rules file that has  tones: ["\\u0301", ...]'
        )
    return lambda text: _scored(text, rules, parts, tones)


def _scored(text: str, rules: TextRules, parts: Sequence[str], tones: frozenset[str]) -> str:
    if "no-case" in parts:
        text = lower_by(unicodedata.normalize("NFC", text), rules.language_rules.casing)
    if "no-punctuation" in parts:
        text = "".join(_without_punctuation(character) for character in text)
    if "no-tone" in parts:
        decomposed = unicodedata.normalize("NFD", text)
        text = unicodedata.normalize("NFC", "".join(character for character in decomposed if character not in tones))
    if "no-diacritics" in parts:
        decomposed = unicodedata.normalize("NFD", text)
        text = unicodedata.normalize(
            "NFC", "".join(one for one in decomposed if unicodedata.combining(one) in _NO_DIACRITICS)
        )
    return ("" if "no-spaces" in parts else " ").join(text.split())


def _without_punctuation(character: str) -> str:
    """Nothing for an apostrophe, which joins the parts of a word; a space for other punctuation."""
    if character == "'":
        return ""
    return " " if unicodedata.category(character)[0] == "P" else character
