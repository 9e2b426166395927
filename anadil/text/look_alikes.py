"""Letters of another script that look the same, such as a Cyrillic а in a Latin word: a label with no sound of its own."""

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
    """Letter of another script -> the letter of `script` that looks like it.

    `script` is an ISO 15924 code; the result is empty unless it is Latn, Cyrl or Grek.
    """
    pairs = {
        "Latin": [(latin, other) for latin, other in _pairs(_LATIN_CYRILLIC + " " + _LATIN_GREEK)],
        "Cyrillic": [(b, a) for a, b in _pairs(_LATIN_CYRILLIC)] + [(a, b) for a, b in _pairs(_CYRILLIC_GREEK)],
        "Greek": [(b, a) for a, b in _pairs(_LATIN_GREEK + " " + _CYRILLIC_GREEK)],
    }.get(_NAMES.get(script, ""), [])
    return {other: letter for letter, other in pairs if other != letter}


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for pair in text.split():
        yield pair[0], pair[1]


@lru_cache(maxsize=4096)
def script_of(character: str) -> str:
    """Latin, Cyrillic or Greek; empty for all others."""
    return next((name for name, pattern in _SCRIPTS.items() if pattern.match(character)), "")


def _foreign_letters(word: str, script: str, own: frozenset[str]) -> str:
    """The letters of other scripts in a word that also has letters of `script`; the letters in `own` do not count."""
    name = _NAMES.get(script)
    if name is None or word.isascii():
        return ""
    foreign = "".join(c for c in word if c not in own and script_of(c) not in ("", name))
    return foreign if any(script_of(c) == name for c in word) else ""


def map_look_alikes(text: str, script: str, own: frozenset[str], table: dict[str, str]) -> str:
    """Map look-alikes of other scripts by `table`, in words that have letters of both scripts."""

    def mapped(match: regex.Match[str]) -> str:
        word = match.group()
        foreign = _foreign_letters(word, script, own)
        return "".join(table.get(c, c) if c in foreign else c for c in word) if foreign else word

    return str(_WORD.sub(mapped, text))


def mixed_words(text: str, script: str, own: frozenset[str]) -> dict[str, str]:
    """Words with letters of two scripts -> their letters of the other script, for the report."""
    words = {word: _foreign_letters(word, script, own) for word in _WORD.findall(text)}
    return {word: foreign for word, foreign in words.items() if foreign}
