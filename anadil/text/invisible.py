"""Characters that are invisible or that exist only for fonts, and their plain forms. This is the first step of cleaning."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

INVISIBLE = frozenset(
    map(
        chr,
        [
            0x00AD,  # soft hyphen
            0x034F,  # combining grapheme joiner
            0x061C,  # Arabic letter mark
            0x200B,  # zero-width space
            *range(0x200E, 0x2010),  # left-to-right and right-to-left marks
            *range(0x202A, 0x202F),  # embeddings and overrides
            *range(0x2060, 0x2065),  # word joiner, invisible operators
            *range(0x2066, 0x206A),  # isolates
            *range(0xFE00, 0xFE10),  # variation selectors
            0xFEFF,  # byte-order mark
        ],
    )
)
"""Dropped in every language, and counted. U+200C and U+200D are not among them: Persian and Hindi need them."""

JOINERS = "\u200c\u200d"
"""The zero-width non-joiner separates the parts of a word in Persian; both joiners select letter forms in Hindi."""

NO_CHARACTERS = "".join(map(chr, range(0xFDD0, 0xFDF0)))
"""Code points that Unicode never assigns. They are dropped from any input, so that expansions.py can use them itself."""

_COMPATIBILITY = {
    "arabic": re.compile(r"[\uFB50-\uFDCF\uFDF0-\uFDFC\uFE70-\uFEFC]"),  # presentation forms of Arabic letters
    "wide": re.compile(r"[\uFF01-\uFFDC\u3000]"),  # full-width Latin, half-width kana
    "ligatures": re.compile(r"[\uFB00-\uFB06\u0132\u0133\u01C4-\u01CC\u01F1-\u01F3]"),  # ﬁ, ĳ, ǆ
}
"""Ranges that NFKC makes plain, if the language's rules name them. NFKC on all text would turn x² into x2."""


def compatible(character: str, ranges: tuple[str, ...]) -> str:
    """The plain form (NFKC) of a character in one of the named ranges; any other character is returned as it is."""
    if any(_COMPATIBILITY[name].match(character) for name in ranges):
        return unicodedata.normalize("NFKC", character)
    return character


@lru_cache(maxsize=8)
def compatible_characters(ranges: tuple[str, ...]) -> tuple[str, ...]:
    """Every character of the named ranges that has a plain form."""
    patterns = [_COMPATIBILITY[name] for name in ranges]
    candidates = map(chr, range(0x0132, 0xFFDD))  # from the first to the last character of all ranges
    return tuple(c for c in candidates if any(p.match(c) for p in patterns) and unicodedata.normalize("NFKC", c) != c)


def ascii_digit(character: str) -> str:
    """The ASCII digit for a decimal digit of any script (Devanagari, Thai, full-width); else the character as it is."""
    value = unicodedata.decimal(character, None)
    return character if value is None else str(value)
