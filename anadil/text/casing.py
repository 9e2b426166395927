"""Lower-casing by the rules of the language."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

Casing = Literal["default", "turkic", "lithuanian", "greek", "irish", "dutch", "none"]
"""The families of Unicode's SpecialCasing.txt, and two spelling conventions that are not in it (irish, dutch).

turkic: I and İ are the capitals of two letters, ı and i; lithuanian: a small i keeps its dot under an accent;
greek: a sigma at the end of a word is ς; irish: n and t before a capital vowel get a hyphen (nAthair, n-athair);
dutch: the ligature ĳ is two letters; none: the script has no case, and letters stay as they are.
"""

_FAMILIES: dict[str, Casing] = {
    **dict.fromkeys(("tr", "tur", "az", "aze", "azj", "crh", "gag", "kk-latn", "kaz-latn", "tt-latn", "tat-latn"), "turkic"),
    **dict.fromkeys(("lt", "lit"), "lithuanian"),
    **dict.fromkeys(("el", "ell", "grc"), "greek"),
    **dict.fromkeys(("ga", "gle"), "irish"),
    **dict.fromkeys(("nl", "nld"), "dutch"),
}  # fmt: skip

_DOT_ABOVE = "\u0307"
_DOTTED_AGAIN = re.compile("i" + _DOT_ABOVE + "+")
_IRISH_PREFIX = re.compile(r"(?<!\w)([nt])(?=[AEIOUÁÉÍÓÚ])")
_FINAL_SIGMA = re.compile(r"(?<=[\w\u0300-\u036f])σ(?!['’\u0300-\u036f]*\w)")
_LITHUANIAN = {"Ì": "i\u0307\u0300", "Í": "i\u0307\u0301", "Ĩ": "i\u0307\u0303"}
_LITHUANIAN_ACCENT = re.compile("([IJĮ])(?=[\u0323-\u0333]*[\u0300\u0301\u0303])")


def casing_family(language: str) -> Casing:
    """The casing family of a language that has no file (BCP-47 or ISO 639-3; script and region follow - or _)."""
    parts = language.replace("_", "-").lower().split("-")
    for candidate in ("-".join(parts[:2]), parts[0]):
        if candidate in _FAMILIES:
            return _FAMILIES[candidate]
    return "default"


def lower(text: str, language: str) -> str:
    """Return NFC text in lower case by the rules of `language`."""
    return lower_by(text, casing_family(language))


def lower_by(text: str, casing: Casing) -> str:
    """Return NFC text in lower case by the rules of a casing family.

    Python's `"İ".lower()` is "i" plus U+0307, which NFC cannot compose, so that no hypothesis could match a reference
    with it. A small i loses this second dot in every language except Lithuanian, whose spelling needs it.
    """
    if casing == "none":
        return text
    text = "".join(lower_letter(letter, casing) for letter in before_lowering(text, casing))
    return unicodedata.normalize("NFC", after_lowering(text, casing))


def before_lowering(text: str, casing: Casing) -> str:
    """Apply the rules that depend on the neighbours of a capital letter; call this before `lower_letter`."""
    if casing == "turkic" and _DOT_ABOVE in text:
        text = text.replace("I" + _DOT_ABOVE, "i")
    elif casing == "irish":
        text = _IRISH_PREFIX.sub(r"\1-", text)
    elif casing == "lithuanian" and not text.isascii():
        text = _LITHUANIAN_ACCENT.sub(lambda match: match[1].lower() + _DOT_ABOVE, text)
    return text


def lower_letter(letter: str, casing: Casing) -> str:
    """One character in lower case, without regard to its neighbours."""
    if casing == "turkic" and letter in "Iİ":
        return "ı" if letter == "I" else "i"
    if casing == "lithuanian" and letter in _LITHUANIAN:
        return _LITHUANIAN[letter]
    return "i" if letter == "İ" else letter.lower()


def after_lowering(text: str, casing: Casing) -> str:
    """Remove the second dot of an i, and write a sigma at the end of a word as ς; call this after `lower_letter`."""
    if _DOT_ABOVE in text and casing != "lithuanian":
        text = _DOTTED_AGAIN.sub("i", text)
    return _FINAL_SIGMA.sub("ς", text) if "σ" in text else text
