"""Splitting text into labels: characters, grapheme clusters, or the alphabet's units of several letters (mb, ng)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Literal

from anadil.text.language_rules import LanguageRules

Units = Literal["char", "grapheme", "units"]

_SIGN = re.compile(r"<[^<>\s]+>")


def is_sign(label: str) -> bool:
    """Whether a label is a special token such as <unk>, <s> or </s> of an imported model, which occurs in no text."""
    return _SIGN.fullmatch(label) is not None


def graphemes(text: str) -> list[str]:
    """The extended grapheme clusters of a text (Unicode UAX 29): each letter with all its marks."""
    import regex

    return [str(cluster) for cluster in regex.findall(r"\X", text)]


def _splitter(kind: Units, language_rules: LanguageRules) -> Callable[[str], Iterable[str]]:
    """The function that splits a text into labels of a kind; of two units that begin alike, the longer one is taken."""
    if kind == "grapheme":
        return graphemes
    units = sorted(
        (letter for letter in language_rules.alphabet if len(letter) > 1), key=lambda unit: (-len(unit), unit)
    )
    if kind == "char" or not units:
        return list
    pattern = re.compile("|".join([*map(re.escape, units), "(?s:.)"]))
    return pattern.findall


def count_units(kind: Units, language_rules: LanguageRules, texts: Iterable[str]) -> Counter[str]:
    """How often each label of a kind occurs in normalised texts."""
    split = _splitter(kind, language_rules)
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(split(text))
    return counts
