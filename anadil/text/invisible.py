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
"""Dropped in every language, and counted. U+200C and U+200D are not among them: Persian and Hindi need them.

A zero-width space beside a letter of a script that is written without spaces leaves a space (`separate_words`).
"""

ZERO_WIDTH_SPACE = "\u200b"
_NO_SPACES = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f"  # Myanmar
    "\u1780-\u17ff\u19e0-\u19ff"  # Khmer
    "\u1950-\u19df"  # Tai Le, New Tai Lue
    "\u1a00-\u1aaf"  # Buginese, Tai Tham
    "\u1b00-\u1bff"  # Balinese, Sundanese, Batak
    "\ua930-\ua9df"  # Rejang, Javanese
    "\uaa00-\uaa5f\uaa80-\uaadf"  # Cham, Tai Viet
    "\U00011700-\U0001174f\U00011f00-\U00011f5f"  # Ahom, Kawi
)
"""Scripts of South East Asia that need no space between words (Unicode Standard Annex 14: classes SA, AK, AP and AS).

In these a zero-width space is where one word ends and the next begins. Elsewhere it is where a line may be broken, which
may be within a word (a web address, a long German word), and within a number it is nothing.
"""
_WORD_BOUNDARY = re.compile(
    rf"(?:(?<=[{_NO_SPACES}])|(?={ZERO_WIDTH_SPACE}+[{_NO_SPACES}]))(?!(?<=\d){ZERO_WIDTH_SPACE}+\d){ZERO_WIDTH_SPACE}+"
)

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


def separate_words(text: str) -> str:
    """The text with a space for each zero-width space that separates words of Thai, Lao, Khmer, Burmese, Javanese, ..."""
    return _WORD_BOUNDARY.sub(" ", text) if ZERO_WIDTH_SPACE in text else text


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
