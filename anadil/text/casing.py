"""Lower-casing that is right for the language."""

from __future__ import annotations

import re
import unicodedata

_DOTLESS_I = frozenset({"tr", "tur", "az", "aze", "azj", "crh", "gag"})
"""Turkish, Azeri, Crimean Tatar, Gagauz: I and İ are capitals of two letters, ı and i (Unicode SpecialCasing.txt)."""

_DOT_ABOVE = "\u0307"


def lower(text: str, language: str) -> str:
    """Lower-case NFC text by the rules of `language` (BCP-47 or ISO 639-3; its first subtag decides).

    Python's `"İ".lower()` is "i" plus U+0307, which NFC cannot compose: every reference holding it could never
    be matched. A small i loses that second dot in every language but Lithuanian, which writes it on purpose.
    """
    primary = language.replace("_", "-").split("-")[0].lower()
    if primary in _DOTLESS_I:
        text = text.replace("I" + _DOT_ABOVE, "i").replace("İ", "i").replace("I", "ı")
    text = text.lower()
    if primary not in ("lt", "lit"):
        text = re.sub("i" + _DOT_ABOVE + "+", "i", text)
    return unicodedata.normalize("NFC", text)
