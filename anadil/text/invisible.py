"""Characters that nobody sees, or that only a font needs: what each becomes before anything else is looked at."""

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
"""Dropped in every language, and counted. Not U+200C and U+200D: they part words in Persian and form letters in Hindi."""

JOINERS = "\u200c\u200d"

NO_CHARACTERS = "".join(map(chr, range(0xFDD0, 0xFDF0)))
"""Code points that Unicode never assigns: dropped where they come in, and borrowed by expansions.py."""

COMPATIBILITY = {
    "arabic": re.compile(r"[\uFB50-\uFDCF\uFDF0-\uFDFC\uFE70-\uFEFC]"),  # presentation forms of Arabic letters
    "wide": re.compile(r"[\uFF01-\uFFDC\u3000]"),  # full-width Latin, half-width kana
    "ligatures": re.compile(r"[\uFB00-\uFB06\u0132\u0133\u01C4-\u01CC\u01F1-\u01F3]"),  # ﬁ, ĳ, ǆ
}
"""NFKC is applied to these alone, where a language's rules name them: it would turn x² into x2."""


def compatible(character: str, ranges: tuple[str, ...]) -> str:
    """The plain form of a character in one of the named ranges, else the character."""
    if any(COMPATIBILITY[name].match(character) for name in ranges):
        return unicodedata.normalize("NFKC", character)
    return character


@lru_cache(maxsize=8)
def compatible_characters(ranges: tuple[str, ...]) -> tuple[str, ...]:
    """Every character of the named ranges that has a plain form."""
    within = [COMPATIBILITY[name] for name in ranges]
    every = map(chr, range(0x0132, 0xFFDD))
    return tuple(c for c in every if any(one.match(c) for one in within) and unicodedata.normalize("NFKC", c) != c)


def ascii_digit(character: str) -> str:
    """'7' for a seven of any script (Arabic-Indic, Devanagari, Thai, full-width), else the character."""
    value = unicodedata.decimal(character, None)
    return character if value is None else str(value)
