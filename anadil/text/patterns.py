"""Regular expressions for what is not written as it is spoken, built from a language's rules.

`expression` finds numbers, dates, units, abbreviations and addresses. `triggers` and `leftovers` are quick looks that
tell whether a text may contain any of them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache

from anadil.text.invisible import NO_CHARACTERS, compatible, compatible_characters
from anadil.text.language_rules import LanguageRules

APOSTROPHES = "'’ʼ"
DASHES = "–—"
HYPHENS = ("-", "\u2010", "\u2011")
_WIDE_SPACES = "\u00a0\u202f"  # no-break spaces, which group digits in languages where a space does
_ENDINGS = ("com", "org", "net", "edu", "gov", "info", "io")
_DOMAIN = rf"(?:{'|'.join(_ENDINGS)})(?:\.[a-z]{{2}})?"

_BEFORE_SHORT, _AFTER_SHORT = r"(?<![\w.])", r"(?!\w|[.]\w)"
"""What must not stand before and after an abbreviation. The second applies only if it ends with a letter."""


def longest_first(words: Iterable[str]) -> list[str]:
    """Words sorted by falling length, so that an expression prefers km² to km."""
    return sorted(words, key=lambda word: (-len(word), word))


def spellings(abbreviations: dict[str, str]) -> dict[str, str]:
    """Abbreviations as the file has them, and with a capital for the beginning of a sentence."""
    return {key[:1].upper() + key[1:]: spoken for key, spoken in abbreviations.items()} | abbreviations


def _spoken(signs: Iterable[str], language_rules: LanguageRules) -> list[str]:
    """The signs that the rules neither map nor drop, longest first."""
    return [sign for sign in longest_first(signs) if sign not in language_rules.map and sign not in language_rules.drop]


def thousands(language_rules: LanguageRules) -> str:
    """The characters that group digits."""
    marks = language_rules.numbers.thousands
    return marks + _WIDE_SPACES if " " in marks else marks


def number(language_rules: LanguageRules) -> str:
    """Expression for a number as the language writes it: sign, thousands, decimals."""
    decimal = language_rules.numbers.decimal
    grouped = (
        rf"\d{{1,3}}(?:[{re.escape(thousands(language_rules))}]\d{{3}})+(?!\d)|"
        if language_rules.numbers.thousands
        else ""
    )
    fraction = rf"(?:{re.escape(decimal)}\d+)?" if decimal else ""
    return rf"(?:(?<![\w.,])[-−](?=\d))?(?:{grouped}\d+){fraction}(?![.,:/]?\d)"


def expression(language_rules: LanguageRules, addresses: bool) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Two expressions: the first matches what is to be spelled out, the second the characters at which it can start.

    The named group of the first tells the kind of match: date, time, money, percent, unit, and so on. Trying its 15
    alternatives only where the second, one set of characters, matches is ten times as fast as at every letter.
    """
    signs = _spoken(language_rules.symbols, language_rules)
    short = longest_first(spellings(language_rules.abbreviations))
    ends = [re.escape(key) + (_AFTER_SHORT if key[-1].isalnum() else "") for key in short]
    roman = "IVX" * language_rules.ordinals.roman
    numeric = [*"-−+(%", *language_rules.currency, *language_rules.fractions, *roman]
    parts = [_named(_addresses())] if addresses and language_rules.web else []
    if language_rules.digits == "spell":
        parts.append(rf"(?=[\d{_first(numeric)}])(?:{_named(_numerals(language_rules))})")
    if short:
        parts.append(rf"(?=[{_first(short)}])(?P<abbreviation>{_BEFORE_SHORT}(?:{'|'.join(ends)}))")
    if signs:
        parts.append(f"(?P<symbol>{_either(signs)})")
    word = r"\w." if addresses else ""
    starts = rf"[\d{word}{_first([*numeric, *short, *signs])}]"
    return re.compile("|".join(parts) or r"(?!)"), re.compile(starts)


def address_trigger() -> re.Pattern[str]:
    """Expression that matches if a text may contain an e-mail or web address."""
    return re.compile(rf"@|www\.|https?:|\.(?:{'|'.join(_ENDINGS)})")


def _named(parts: dict[str, str]) -> str:
    return "|".join(f"(?P<{kind}>{part})" for kind, part in parts.items() if part)


def _first(words: Iterable[str]) -> str:
    return "".join(sorted({re.escape(word[0]) for word in words}))


def sign_triggers(language_rules: LanguageRules) -> frozenset[str]:
    """Single characters, besides digits, in whose presence a text may need `expression`."""
    signs = {sign for sign in _spoken(language_rules.symbols, language_rules) if len(sign) == 1}
    return frozenset({*signs, *language_rules.fractions, *("@" * bool(language_rules.web)), *NO_CHARACTERS})


def literal_triggers(language_rules: LanguageRules) -> dict[str, tuple[str, str]]:
    """Longer strings in whose presence a text may need `expression` -> expressions for what precedes and follows them."""
    loose = "".join(map(re.escape, _no_letters_once_clean(language_rules)))
    letter = rf"(?![{loose}])\w" if loose else r"\w"
    literals = {sign: ("", "") for sign in _spoken(language_rules.symbols, language_rules) if len(sign) > 1}
    if language_rules.digits == "spell" and language_rules.ordinals.roman:
        literals |= {f"{a}{b}.": ("", r"(?=\s)") for a in "IVX" for b in "IVX"}
    if language_rules.web:
        literals |= dict.fromkeys(("www.", "http:", "https:", *(f".{ending}" for ending in _ENDINGS)), ("", ""))
    for short in spellings(language_rules.abbreviations):
        literals[short] = (rf"(?<!{letter})(?<!\.)", rf"(?!{letter}|[.]{letter})" if short[-1].isalnum() else "")
    return literals


def _no_letters_once_clean(language_rules: LanguageRules) -> Iterator[str]:
    r"""Characters that match `\w` and that cleaning turns into characters that do not.

    Examples: ʼ becomes an apostrophe, the half-width voiced sound mark U+FF9E becomes a combining mark.
    """
    variants = {variant: own for own, variants in language_rules.equivalents.items() for variant in variants}
    for character in (*variants, *compatible_characters(language_rules.compatibility)):
        clean = "".join(variants.get(c, c) for c in compatible(character, language_rules.compatibility))
        if character.isalnum() and not (clean[:1].isalnum() and clean[-1:].isalnum()):
            yield character


def triggers(language_rules: LanguageRules, also: Iterable[str] = (), without: Collection[str] = ()) -> re.Pattern[str]:
    """Expression that matches if a text may need `expression`.

    `also`: further single characters that are triggers. `without`: literals that `leftovers` looks for instead.

    The search runs one set of characters over the text, which Python compiles to a bit map, and tests the rest only
    where that set matches. So an abbreviation is tested at its dot, which is rare in a sentence, and by the letter before
    the dot, instead of at its first letter. For the 60 abbreviations of Turkish this takes a third of the time.
    """
    alone = {*sign_triggers(language_rules), *also}
    single = (r"\d" if language_rules.digits == "spell" else "") + "".join(map(re.escape, sorted(alone)))
    branches: dict[str, dict[str, list[str]]] = {}
    for literal, (before, after) in literal_triggers(language_rules).items():
        at = next((i for i, character in enumerate(literal) if not character.isalnum() and character != " "), 0)
        if literal not in without and literal[at] not in alone:
            upto, rest = re.escape(literal[: at + 1]), re.escape(literal[at + 1 :])
            by_letter = branches.setdefault(literal[at], {})
            by_letter.setdefault(literal[max(at - 1, 0) : at], []).append(f"(?<={before}{upto}){rest}{after}")
    starts = (_decimals() if language_rules.digits == "spell" else "") + "".join(
        map(re.escape, sorted({*alone, *branches}))
    )
    several = [
        (f"(?<=[{''.join(map(re.escape, by_letter))}]{re.escape(sign)})" if all(by_letter) else "")
        + f"(?:{'|'.join(_after_letter(letter, sign, literals) for letter, literals in by_letter.items())})"
        for sign, by_letter in branches.items()
    ]
    return re.compile(f"[{starts}](?:{'|'.join([f'(?<=[{single}])', *several])})")


def leftovers(
    language_rules: LanguageRules, settled: Collection[str], letters: Iterable[str]
) -> re.Pattern[str] | None:
    """Expression for the `settled` literals in a normalised text with a space before it; None if there are none.

    `settled`: literals that the rules leave unchanged, such as "st" of Estonian. Looking for them before the text has only
    small letters and single spaces would take five times as long. `letters`: those that cannot precede an abbreviation.
    """
    words: list[str] = []
    others: list[str] = []
    for literal, (before, after) in literal_triggers(language_rules).items():
        if literal in settled:
            (words if before else others).append(re.escape(literal) + after)
    beside = "".join(map(re.escape, sorted(filter(str.isalnum, letters))))
    no_letter = f"[^{beside}]" if beside else ""
    parts = [f"{no_letter}(?:{'|'.join(words)})", *others] if words else others
    return re.compile("|".join(parts)) if parts else None


def _after_letter(letter: str, sign: str, literals: list[str]) -> str:
    either = "|".join(literals)
    return f"(?<={re.escape(letter + sign)})(?:{either})" if len(literals) > 1 else either


@lru_cache(maxsize=1)
def _decimals() -> str:
    r"""The characters of \d as a set that compiles to a bit map.

    A bit map has 65,536 code points. Above them the set is too large; the rest of `triggers` tests those matches again.
    """
    return "".join(filter(str.isdecimal, map(chr, range(0x10000)))) + "\U00010400-\U0001ffff"


def _addresses() -> dict[str, str]:
    host = r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*?"
    path = r"(?:/[^\s\"”»]*[\w/])?"
    return {
        "email": r"(?<![\w.+-])[\w.+-]+@\w[\w-]*(?:\.\w[\w-]*)+",
        "url": rf"(?:https?://|www\.)[^\s<>\"”»]*[\w/]|(?<![\w.@-]){host}\.{_DOMAIN}\b{path}",
    }


def _numerals(language_rules: LanguageRules) -> dict[str, str]:
    amount = number(language_rules)
    quantity = rf"{amount}(?:(?:-|\s?[{DASHES}]\s?){amount})?"
    currencies = _either(_spoken(language_rules.currency, language_rules))
    scale = rf"(?:\s(?:{_either(language_rules.scales)})(?!\w))?" if language_rules.scales else ""
    units = _either(_spoken(language_rules.units, language_rules))
    marks = re.escape(language_rules.time.marks) if language_rules.time else ""
    after = (
        rf"(?:\s?(?:{_either(language_rules.time.after)})(?!\w))?"
        if language_rules.time and language_rules.time.after
        else ""
    )
    return {
        "date": (
            r"(?<![\d.])(?:\d{1,2}(?P<mark>[./-])\d{1,2}(?P=mark)\d{4}|\d{4}-\d{2}-\d{2})(?!\d|[.,]\d)"
            if language_rules.date
            else ""
        ),
        "money": (
            rf"(?:{currencies})\s?{quantity}{scale}|{quantity}{scale}\s?(?:{currencies})(?!\w)" if currencies else ""
        ),
        "percent": rf"%\s?{quantity}|{quantity}\s?%"
        if language_rules.percent and "%" not in language_rules.drop
        else "",
        "unit": rf"{quantity}\s?(?:{units})(?![\w²³/])" if units else "",
        "time": (rf"(?<![\d:.,])\d{{1,2}}[{marks}]\d{{2}}(?:[{marks}]\d{{2}})?(?!\d|[.,:]\d){after}" if marks else ""),
        "phone": r"(?<![\w.,+])\+?(?:\(\d{2,4}\)|\d{1,4})(?:[ -]\(\d{2,4}\))?(?:[ -]\d{2,4}){2,}(?!\d|[.,]\d)",
        "ordinal": _ordinal(language_rules),
        "fraction": rf"(?:\d+\s?)?[{re.escape(''.join(language_rules.fractions))}]" if language_rules.fractions else "",
        "quantity": quantity,
        "composite": r"\d+(?:[.,:/]\d+)*",
    }


def _ordinal(language_rules: LanguageRules) -> str:
    ordinals, forms = language_rules.ordinals, []
    if ordinals.suffixes:
        grouped = (
            rf"\d{{1,3}}(?:[{re.escape(thousands(language_rules))}]\d{{3}})+|"
            if language_rules.numbers.thousands
            else ""
        )
        forms.append(rf"(?:{grouped}\d{{1,9}})[{APOSTROPHES}.]?(?:{_either(ordinals.suffixes)})(?!\w)")
    if ordinals.ruleset and ordinals.dot != "no":
        forms.append(r"(?<![\d.,])\d{1,4}\.(?=\s*[^\W\d_A-ZÀ-ÖØ-ÞČĎĚĞİŁŇŘŚŠŞŤŮŹŻŽ])")
    if ordinals.ruleset and ordinals.dot == "any":  # German nouns have capitals; a year more often ends a sentence
        forms.append(r"(?<![\d.,])\d{1,2}\.(?=\s+[^\W\d_])")
    if ordinals.ruleset and ordinals.roman:
        forms.append(r"(?<![\w.])(?=[IVX]{2,6}\.)X{0,3}(?:IX|IV|V?I{0,3})\.(?=\s+[^\W\d_])")
    return "|".join(forms)


def _either(words: Iterable[str]) -> str:
    return "|".join(map(re.escape, longest_first(words)))
