"""Two spellings of one syllable that look the same and that NFC leaves apart: which is meant.

Thai and Lao: sara am typed as nikhahit and sara aa, or before its tone mark, and sara ae as two sara e (WTT 2.0, the Thai
input standard, has one order). Malayalam and Bengali: a chillu, or khanda ta, as it was written before Unicode 5.1 and 4.1
gave it a character of its own (The Unicode Standard, chapter 12).
"""

from __future__ import annotations

import re
from functools import partial

_CHILLU = {
    "\u0d23": "\u0d7a",
    "\u0d28": "\u0d7b",
    "\u0d30": "\u0d7c",
    "\u0d32": "\u0d7d",
    "\u0d33": "\u0d7e",
    "\u0d15": "\u0d7f",
}
_RULES: dict[str, list[tuple[str, str]]] = {
    "Thai": [
        ("\u0e40\u0e40", "\u0e41"),
        ("\u0e4d([\u0e48-\u0e4b]?)\u0e32|([\u0e48-\u0e4b])\u0e4d\u0e32|\u0e33([\u0e48-\u0e4b])", "\u0e33"),
    ],
    "Laoo": [
        ("\u0ec0\u0ec0", "\u0ec1"),
        ("\u0ecd([\u0ec8-\u0ecb]?)\u0eb2|([\u0ec8-\u0ecb])\u0ecd\u0eb2|\u0eb3([\u0ec8-\u0ecb])", "\u0eb3"),
    ],
    "Mlym": [(f"{letter}\u0d4d\u200d", chillu) for letter, chillu in _CHILLU.items()],
    "Beng": [("\u09a4\u09cd\u200d", "\u09ce")],
}
_CHARACTERISTIC = re.compile("[\u200d\u0e33\u0e40\u0e4d\u0eb3\u0ec0\u0ecd]")


class Sequences:
    """For one script, or for all of them where the language's rules name none."""

    def __init__(self, script: str) -> None:
        rules = _RULES.get(script, []) if script else [rule for some in _RULES.values() for rule in some]
        self._rules = [(re.compile(pattern), final) for pattern, final in rules]

    def mend(self, text: str) -> str:
        """The text with each of these syllables in its one spelling; marks that were in between come first."""
        if not self._rules or _CHARACTERISTIC.search(text) is None:
            return text
        for pattern, final in self._rules:
            text = pattern.sub(partial(_mended, final), text)
        return text


def _mended(final: str, match: re.Match[str]) -> str:
    return "".join(filter(None, match.groups())) + final
