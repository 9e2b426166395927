"""Letters of another script that look the same: a Cyrillic а in a Latin word is a letter no model will ever hear."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import regex

_LATIN_CYRILLIC = (
    "aа cс eе iі jј oо pр sѕ xх yу hһ dԁ qԛ wԝ AА BВ CС EЕ HН IІ JЈ KК MМ OО PР SЅ TТ XХ YУ ăӑ ĕӗ äӓ ëё ïї öӧ æӕ əә"
)
_LATIN_GREEK = "oο vν AΑ BΒ EΕ ZΖ HΗ IΙ KΚ MΜ NΝ OΟ PΡ TΤ YΥ XΧ óό"
_CYRILLIC_GREEK = "оο АΑ ВΒ ЕΕ НΗ КΚ МΜ ОΟ РΡ ТΤ ХΧ"
"""Pairs that most fonts draw alike (after Unicode's confusables.txt; only those of a single letter)."""

_WORD = regex.compile(r"[\p{L}\p{M}]+")
_SCRIPTS = {name: regex.compile(rf"\p{{Script={name}}}") for name in ("Latin", "Cyrillic", "Greek")}
_NAMES = {"Latn": "Latin", "Cyrl": "Cyrillic", "Grek": "Greek"}


def look_alikes(script: str) -> dict[str, str]:
    """Letter of another script -> the letter of `script` (ISO 15924) that looks like it; empty for other scripts."""
    own = _NAMES.get(script, "")
    pairs = {
        "Latin": [(latin, other) for latin, other in _pairs(_LATIN_CYRILLIC + " " + _LATIN_GREEK)],
        "Cyrillic": [(b, a) for a, b in _pairs(_LATIN_CYRILLIC)] + [(a, b) for a, b in _pairs(_CYRILLIC_GREEK)],
        "Greek": [(b, a) for a, b in _pairs(_LATIN_GREEK + " " + _CYRILLIC_GREEK)],
    }.get(own, [])
    return {other: letter for letter, other in pairs if other != letter}


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for pair in text.split():
        yield pair[0], pair[1]


@lru_cache(maxsize=4096)
def script_of(character: str) -> str:
    """Latin, Cyrillic or Greek; empty for all others."""
    return next((name for name, pattern in _SCRIPTS.items() if pattern.match(character)), "")


def strange_letters(word: str, script: str, own: frozenset[str]) -> str:
    """Letters of a second script inside a word that has letters of the language's own; `own` are never strange."""
    name = _NAMES.get(script)
    if name is None or word.isascii():
        return ""
    strange = "".join(c for c in word if c not in own and script_of(c) not in ("", name))
    native = any(script_of(c) == name for c in word)
    return strange if strange and native else ""


def mend(text: str, script: str, own: frozenset[str], table: dict[str, str]) -> str:
    """Map look-alikes of another script to the language's letters, inside words that hold letters of both."""

    def word(match: regex.Match[str]) -> str:
        found = match.group()
        strange = strange_letters(found, script, own)
        return "".join(table.get(c, c) if c in strange else c for c in found) if strange else found

    return str(_WORD.sub(word, text))


def mixed_words(text: str, script: str, own: frozenset[str]) -> dict[str, str]:
    """Words with letters of two scripts -> the strange letters, for the report."""
    found = {word: strange_letters(word, script, own) for word in _WORD.findall(text)}
    return {word: strange for word, strange in found.items() if strange}
