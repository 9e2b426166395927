"""Digits to words by CLDR's spell-out rules (unicode-rbnf): a recogniser learns what was said, not how it is typed."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

from anadil.errors import AnadilError

if TYPE_CHECKING:
    from unicode_rbnf import RbnfEngine

MAX_DIGITS = 15  # a longer run is no quantity but a code; the rules of most languages end near here too
_DIGITS = re.compile("[0-9]+")


def spell_integers(text: str, language: str) -> str:
    """Replace each run of ASCII digits in `text` by its words in `language` ("tr", "pt_PT", "sr-Latn").

    A suffix behind an apostrophe stays ("1923'te" -> "bin dokuz yüz yirmi üç'te"); a letter that touches the
    digits gets a space ("3G" -> "üç G"). A run that starts with 0 and one of more than 15 digits are read
    digit by digit. Only whole numbers are understood: write decimals, dates and thousands out before.
    The source of the rules: Unicode CLDR, rule-based number format, "spellout-numbering".

    Raises AnadilError if there is a digit in `text` and CLDR has no rules for `language` or for this number.
    """

    def words(match: re.Match[str]) -> str:
        before = " " if match.start() and _is_letter(text[match.start() - 1]) else ""
        after = " " if match.end() < len(text) and _is_letter(text[match.end()]) else ""
        return before + _spell(match.group(), language) + after

    return _DIGITS.sub(words, text)


def _is_letter(character: str) -> bool:
    return unicodedata.category(character)[0] in "LM"


@lru_cache(maxsize=4096)
def _spell(digits: str, language: str) -> str:
    one_by_one = (len(digits) > 1 and digits[0] == "0") or len(digits) > MAX_DIGITS
    if one_by_one:
        return " ".join(_spell(digit, language) for digit in digits)
    from unicode_rbnf.engine import RbnfError

    try:
        return _engine(language).format_number(int(digits)).text  # unicode-rbnf takes CLDR's soft hyphens out
    except RbnfError:
        raise AnadilError(
            f"the number {digits} cannot be spelled out: CLDR's rules for {language!r} do not reach that far\n"
            "  next: write the number as words in the text"
        ) from None


@lru_cache(maxsize=16)
def _engine(language: str) -> RbnfEngine:
    from unicode_rbnf import RbnfEngine  # 0.08 s, and most texts have no digits

    known = RbnfEngine.get_supported_languages()
    code = language.replace("-", "_")
    for candidate in (code, code.split("_")[0]):  # "tr-TR" is spelled as "tr"
        if candidate in known:
            return RbnfEngine.for_language(candidate)
    raise AnadilError(
        f"no rules to spell numbers out in language {language!r}\n"
        f"  CLDR has them for {len(known)} languages: {', '.join(known[:8])}, ...\n"
        "  next: write the numbers as words in the text"
    )
