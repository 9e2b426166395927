"""What to look for: one expression for all that is not written as it is said, built from a language's data."""

from __future__ import annotations

import re
from collections.abc import Iterable

from anadil.text.invisible import NO_CHARACTERS
from anadil.text.writing import Writing

APOSTROPHES = "'’ʼ"
DASHES = "–—"
WIDE_SPACES = "\u00a0\u202f"  # a narrow or no-break space groups digits where a space does
_ENDINGS = ("com", "org", "net", "edu", "gov", "info", "io")
_DOMAIN = rf"(?:{'|'.join(_ENDINGS)})(?:\.[a-z]{{2}})?"


def longest_first(words: Iterable[str]) -> list[str]:
    """So that an expression prefers km² to km."""
    return sorted(words, key=lambda word: (-len(word), word))


def spellings(abbreviations: dict[str, str]) -> dict[str, str]:
    """Abbreviations as the file writes them and with a capital: a sentence may begin with one."""
    return {key[:1].upper() + key[1:]: said for key, said in abbreviations.items()} | abbreviations


def read_out(signs: Iterable[str], writing: Writing) -> list[str]:
    """The signs that are read, longest first: not those that the rules map or drop."""
    return [sign for sign in longest_first(signs) if sign not in writing.map and sign not in writing.drop]


def thousands(writing: Writing) -> str:
    """The marks that group digits."""
    marks = writing.numbers.thousands
    return marks + WIDE_SPACES if " " in marks else marks


def number(writing: Writing) -> str:
    """A number as the language writes it: sign, thousands, decimals."""
    decimal = writing.numbers.decimal
    grouped = rf"\d{{1,3}}(?:[{re.escape(thousands(writing))}]\d{{3}})+(?!\d)|" if writing.numbers.thousands else ""
    fraction = rf"(?:{re.escape(decimal)}\d+)?" if decimal else ""
    return rf"(?:(?<![\w.,])[-−](?=\d))?(?:{grouped}\d+){fraction}(?![.,:/]?\d)"


def expression(writing: Writing, addresses: bool) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What to look for, and at which characters to look.

    Named groups of the first say what was found: date, time, money, percent, unit, and so on. Its 15 alternatives tried
    at every letter would take ten times as long as tried where the second, one set of characters, finds a start.
    """
    signs = read_out(writing.symbols, writing)
    short = longest_first(spellings(writing.abbreviations))
    ends = [re.escape(key) + (r"(?!\w|[.]\w)" if key[-1].isalnum() else "") for key in short]
    numeric = ["-", "−", "+", "(", "%", *writing.currency, *writing.fractions, *("IVX" * writing.ordinals.roman)]
    parts = [_named(_addresses())] if addresses and writing.web else []
    if writing.digits == "spell":
        parts.append(rf"(?=[\d{_first(numeric)}])(?:{_named(_numerals(writing))})")
    if short:
        parts.append(rf"(?=[{_first(short)}])(?P<abbreviation>(?<![\w.])(?:{'|'.join(ends)}))")
    if signs:
        parts.append(f"(?P<symbol>{_either(signs)})")
    word = r"\w." if addresses else ""
    starts = rf"[\d{word}{_first([*numeric, *short, *signs])}]"
    return re.compile("|".join(parts) or r"(?!)"), re.compile(starts)


def address_trigger() -> re.Pattern[str]:
    """Finds whether a text may hold an address."""
    return re.compile(rf"@|www\.|https?:|\.(?:{'|'.join(_ENDINGS)})")


def _named(parts: dict[str, str]) -> str:
    return "|".join(f"(?P<{kind}>{part})" for kind, part in parts.items() if part)


def _first(words: Iterable[str]) -> str:
    return "".join(sorted({re.escape(word[0]) for word in words}))


def triggers(writing: Writing) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Two quick looks that tell whether a text needs `expression` at all.

    One for digits; one for all else, as literals, from whose first characters Python's compiler makes one set: 2 us a
    sentence together, where a single expression for both takes 36.
    """
    starts = [*read_out(writing.symbols, writing), *writing.fractions, *spellings(writing.abbreviations)]
    if writing.digits == "spell" and writing.ordinals.roman:
        starts += [first + second for first in "IVX" for second in "IVX"]
    if writing.web:
        starts += ["@", "www.", "http", *(f".{ending}" for ending in _ENDINGS)]
    digit = r"\d" if writing.digits == "spell" else ""
    literals = "|".join(map(re.escape, dict.fromkeys(starts)))
    return re.compile(f"[{digit}{NO_CHARACTERS}]"), re.compile(literals or r"(?!)")


def _addresses() -> dict[str, str]:
    host = r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*?"
    path = r"(?:/[^\s\"”»]*[\w/])?"
    return {
        "email": r"(?<![\w.+-])[\w.+-]+@\w[\w-]*(?:\.\w[\w-]*)+",
        "url": rf"(?:https?://|www\.)[^\s<>\"”»]*[\w/]|(?<![\w.@-]){host}\.{_DOMAIN}\b{path}",
    }


def _numerals(writing: Writing) -> dict[str, str]:
    one = number(writing)
    quantity = rf"{one}(?:(?:-|\s?[{DASHES}]\s?){one})?"
    currencies = _either(read_out(writing.currency, writing))
    scale = rf"(?:\s(?:{_either(writing.scales)})(?!\w))?" if writing.scales else ""
    units = _either(read_out(writing.units, writing))
    marks = re.escape(writing.time.marks) if writing.time else ""
    after = rf"(?:\s?(?:{_either(writing.time.after)})(?!\w))?" if writing.time and writing.time.after else ""
    return {
        "date": (
            r"(?<![\d.])(?:\d{1,2}(?P<mark>[./-])\d{1,2}(?P=mark)\d{4}|\d{4}-\d{2}-\d{2})(?!\d|[.,]\d)"
            if writing.date
            else ""
        ),
        "money": (
            rf"(?:{currencies})\s?{quantity}{scale}|{quantity}{scale}\s?(?:{currencies})(?!\w)" if currencies else ""
        ),
        "percent": rf"%\s?{quantity}|{quantity}\s?%" if writing.percent and "%" not in writing.drop else "",
        "unit": rf"{quantity}\s?(?:{units})(?![\w²³/])" if units else "",
        "time": (rf"(?<![\d:.,])\d{{1,2}}[{marks}]\d{{2}}(?:[{marks}]\d{{2}})?(?!\d|[.,:]\d){after}" if marks else ""),
        "phone": r"(?<![\w.,+])\+?(?:\(\d{2,4}\)|\d{1,4})(?:[ -]\(\d{2,4}\))?(?:[ -]\d{2,4}){2,}(?!\d|[.,]\d)",
        "ordinal": _ordinal(writing),
        "fraction": rf"(?:\d+\s?)?[{re.escape(''.join(writing.fractions))}]" if writing.fractions else "",
        "quantity": quantity,
        "composite": r"\d+(?:[.,:/]\d+)*",
    }


def _ordinal(writing: Writing) -> str:
    ordinals, forms = writing.ordinals, []
    if ordinals.suffixes:
        grouped = rf"\d{{1,3}}(?:[{re.escape(thousands(writing))}]\d{{3}})+|" if writing.numbers.thousands else ""
        forms.append(rf"(?:{grouped}\d{{1,9}})[{APOSTROPHES}.]?(?:{_either(ordinals.suffixes)})(?!\w)")
    if ordinals.ruleset and ordinals.dot != "no":
        forms.append(r"(?<![\d.,])\d{1,4}\.(?=\s*[^\W\d_A-ZÀ-ÖØ-ÞČĎĚĞİŁŇŘŚŠŞŤŮŹŻŽ])")
    if (
        ordinals.ruleset and ordinals.dot == "any"
    ):  # German writes nouns with a capital; a year ends a sentence more often
        forms.append(r"(?<![\d.,])\d{1,2}\.(?=\s+[^\W\d_])")
    if ordinals.ruleset and ordinals.roman:
        forms.append(r"(?<![\w.])(?=[IVX]{2,6}\.)X{0,3}(?:IX|IV|V?I{0,3})\.(?=\s+[^\W\d_])")
    return "|".join(forms)


def _either(words: Iterable[str]) -> str:
    return "|".join(map(re.escape, longest_first(words)))
