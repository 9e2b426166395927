"""What the rules did to a text: every character that went or became another, every number that was spelled, counted."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from anadil.text.casing import lower_letter
from anadil.text.look_alikes import mixed_words
from anadil.text.rules import TextRules

EXAMPLE_LENGTH = 60


@dataclass
class Changes:
    """Counts over `n_texts` texts. `examples` has the first text of each character, pair or word that is counted."""

    n_texts: int = 0
    n_changed: int = 0
    removed: Counter[str] = field(default_factory=Counter)  # character
    mapped: Counter[tuple[str, str]] = field(default_factory=Counter)  # character, what it became; not its small letter
    said: Counter[tuple[str, str]] = field(default_factory=Counter)  # what was written, the words
    unspelled: Counter[str] = field(default_factory=Counter)  # digits that are left, because no rule spells them
    outside: Counter[str] = field(default_factory=Counter)  # characters left that are not in the language's alphabet
    mixed: Counter[str] = field(default_factory=Counter)  # words with letters of two scripts
    examples: dict[str, str] = field(default_factory=dict)

    def touched(self) -> Counter[str]:
        """How often each character was removed or became another."""
        counts = Counter(self.removed)
        for (source, _), count in self.mapped.items():
            counts[source] += count
        return counts

    def listed(self) -> list[tuple[str, str, int]]:
        """(what was written, what became of it, times), the most frequent first."""
        rows = [(c, "(removed)", n) for c, n in self.removed.items()]
        rows += [(source, final, n) for (source, final), n in self.mapped.items()]
        rows += [(source, words, n) for (source, words), n in self.said.items()]
        rows += [(c, "(left: not in the alphabet)", n) for c, n in self.outside.items()]
        rows += [(word, "(letters of two scripts)", n) for word, n in self.mixed.items()]
        return sorted(rows, key=lambda row: (-row[2], row[0], row[1]))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "texts": self.n_texts,
            "changed": self.n_changed,
            "removed": dict(self.removed.most_common()),
            "mapped": [[*pair, count] for pair, count in self.mapped.most_common()],
            "said": [[*pair, count] for pair, count in self.said.most_common()],
            "unspelled": dict(self.unspelled.most_common()),
            "outside": dict(self.outside.most_common()),
            "mixed": dict(self.mixed.most_common()),
            "examples": self.examples,
        }


def changes(rules: TextRules, texts: Iterable[str]) -> Changes:
    """Normalise every text and count what that did."""
    found = Changes()
    for text in texts:
        record(found, rules, text)
    return found


def alphabet_of(rules: TextRules) -> frozenset[str]:
    """Every character that a normalised text of the language may hold; empty if its file names no alphabet."""
    letters = rules.normalizer.letters
    writing = rules.writing
    if not letters and not writing.whole_scripts:
        return frozenset()
    marks = "'" * (writing.apostrophe in ("keep", "inside")) + "-" * (writing.hyphen in ("keep", "inside"))
    joiners = "\u200c\u200d" if writing.joiners == "keep" else ""
    return letters | frozenset(" " + writing.keep + marks + joiners)


def outside_alphabet(rules: TextRules, text: str) -> str:
    """Characters of a normalised text that its language's alphabet has not, each occurrence."""
    allowed = alphabet_of(rules)
    if not allowed:
        return ""
    return "".join(c for c in text if c not in allowed and not _in_scripts(c, rules.writing.whole_scripts))


def _in_scripts(character: str, scripts: tuple[str, ...]) -> bool:
    import regex

    return any(regex.match(rf"\p{{Script={script}}}", character) for script in scripts)


def record(found: Changes, rules: TextRules, text: str) -> str:
    """Normalise one text, add what that did to `found`, and return the normalised text."""
    normalizer = rules.normalizer
    said: list[tuple[str, str]] = []
    text = unicodedata.normalize("NFC", text)
    normal = spelled = normalizer(text, lambda source, words: said.append((source, words)))
    found.n_texts += 1
    found.n_changed += normal != text
    written = text
    for source, _ in said:
        written = written.replace(source, " ", 1)
    for character, count in Counter(written).items():
        _add_character(found, rules, character, count, text)
    for mark in normalizer.inside:  # those at the edges of words
        lost = written.translate(normalizer.cleaning).count(mark) - normal.count(mark)
        if lost > 0:
            found.removed[mark] += lost
            found.examples.setdefault(mark, _shortened(text))
    for pair in said:
        found.said[pair] += 1
        found.examples.setdefault(pair[0], _shortened(text))
    for word in mixed_words(text, rules.writing.script, normalizer.letters):
        found.mixed[word] += 1
    for character in outside_alphabet(rules, normal):
        found.outside[character] += 1
        found.examples.setdefault(character, _shortened(text))
    if rules.writing.digits == "spell":
        found.unspelled.update(character for character in normal if character.isdecimal())
    if rules.unknown == "drop" and rules.labels:
        normal = rules.normalize(text)
        for character in rules.unlabelled(spelled):
            found.removed[character] += 1
            found.examples.setdefault(character, _shortened(text))
    return normal


def _add_character(found: Changes, rules: TextRules, character: str, count: int, text: str) -> None:
    final = rules.normalizer.table[ord(character)]
    small = lower_letter(character, rules.writing.casing) if rules.writing.lowercase else character
    if final == small or character.isspace() or unicodedata.normalize("NFC", final) == small:
        return
    if final.strip():
        found.mapped[character, final] += count
    else:
        found.removed[character] += count
    found.examples.setdefault(character, _shortened(text))


def _shortened(text: str) -> str:
    return text if len(text) <= EXAMPLE_LENGTH else text[: EXAMPLE_LENGTH - 1] + "…"
