"""What a label may be, besides a character: a grapheme cluster, or a unit of several letters from the alphabet (mb, ng)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Literal

from anadil.text.language_rules import LanguageRules

Units = Literal["char", "grapheme", "units"]

_SIGN = re.compile(r"<[^<>\s]+>")


def is_sign(label: str) -> bool:
    """Whether a label is no text: <unk>, <s>, </s> of models from elsewhere. It keeps its place, and no text has it."""
    return _SIGN.fullmatch(label) is not None


def graphemes(text: str) -> list[str]:
    """Extended grapheme clusters (Unicode UAX 29): what a reader takes for one letter, with all its marks."""
    import regex

    return [str(cluster) for cluster in regex.findall(r"\X", text)]


def splitter(kind: Units, language_rules: LanguageRules) -> Callable[[str], Iterable[str]]:
    """How texts are cut into labels of a kind."""
    if kind == "grapheme":
        return graphemes
    several = sorted(
        (letter for letter in language_rules.alphabet if len(letter) > 1), key=lambda unit: (-len(unit), unit)
    )
    if kind == "char" or not several:
        return list
    pattern = re.compile("|".join([*map(re.escape, several), "(?s:.)"]))
    return pattern.findall


def count_units(kind: Units, language_rules: LanguageRules, texts: Iterable[str]) -> Counter[str]:
    """How often each label of a kind occurs in normalised texts."""
    split = splitter(kind, language_rules)
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(split(text))
    return counts
