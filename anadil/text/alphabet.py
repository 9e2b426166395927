"""Labels from training text, with warnings about those that are rare or look like mistakes."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from anadil.text.changes import alphabet_of, outside_alphabet
from anadil.text.rules import TextRules, describe
from anadil.text.units import Units, count_units

RARE = 5
"""A letter that occurs fewer times than this in the training text cannot be learnt."""


@dataclass(frozen=True)
class Labels:
    """Labels in code-point order, their counts, and what the user should check."""

    labels: tuple[str, ...]
    counts: Counter[str]
    unspelled: Counter[str]  # digits that no rule spells, which are not labels
    orphans: tuple[str, ...]  # combining marks that compose with nothing
    strange: tuple[str, ...]  # characters that are not in the language's alphabet

    @property
    def rare(self) -> Counter[str]:
        """Labels seen too seldom."""
        return rare_labels(self.counts)


def labels_from_text(rules: TextRules, texts: Iterable[str], kind: Units = "char") -> Labels:
    """The characters, grapheme clusters or units of the texts after normalisation.

    Digits that no rule spells are mistakes and do not become labels. The letters of a unit are labels too if they
    also occur outside the unit.
    """
    return labels_from_counts(rules, count_units(kind, rules.language_rules, map(rules.normalizer, texts)))


def labels_from_counts(rules: TextRules, seen: Counter[str]) -> Labels:
    """As `labels_from_text`, for labels that were already counted in normalised texts."""
    counts, unspelled = Counter(seen), Counter[str]()
    if rules.language_rules.digits == "spell":
        for unit in [unit for unit in counts if any(character.isdecimal() for character in unit)]:
            unspelled[unit] = counts.pop(unit)
    orphans, strange = doubtful(rules, "".join(counts))
    return Labels(tuple(sorted(counts)), counts, unspelled, orphans, strange)


def rare_labels(counts: Counter[str]) -> Counter[str]:
    """Labels seen fewer than RARE times, with their counts; the space is none."""
    return Counter({unit: n for unit, n in sorted(counts.items()) if n < RARE and unit != " "})


def label_warnings(groups: Sequence[tuple[TextRules, Labels]]) -> tuple[str, ...]:
    """What a user should look at, in words, for `anadil train` and `anadil tokenizer`; one group per language.

    Whether a label is rare is counted over all languages, which share the labels.
    """
    counts = sum((labels.counts for _, labels in groups), Counter[str]())
    warnings = [warning for rules, labels in groups for warning in _digits(rules, labels.unspelled)]
    warnings += _rare(rare_labels(counts))
    warnings += [w for rules, labels in groups for w in _doubtful(rules, labels.orphans, labels.strange)]
    return tuple(dict.fromkeys(warnings))


def doubtful(rules: TextRules, characters: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Of the characters of normalised texts: marks that compose with no letter, and characters outside the alphabet."""
    seen, alphabet = sorted(set(characters)), alphabet_of(rules)
    orphans = tuple(c for c in seen if unicodedata.category(c)[0] == "M" and c not in alphabet and _is_orphan(c))
    return orphans, tuple(c for c in outside_alphabet(rules, "".join(seen)) if c not in orphans)


def _digits(rules: TextRules, unspelled: Counter[str]) -> Iterable[str]:
    if unspelled:
        listed = ", ".join(f"{digit} x {count:,}" for digit, count in sorted(unspelled.items()))
        yield f"digits that no rule spells do not become labels: {listed}{rules.why_digits(min(unspelled))}"


def _rare(rare: Counter[str]) -> Iterable[str]:
    if rare:
        listed = ", ".join(f"{_named(unit)} x {count}" for unit, count in rare.items())
        yield (
            f"letters that occur fewer than {RARE} times, too few to be learnt: {listed}\n"
            "  next: map or drop them (text.map, text.drop), or add speech that contains them"
        )


def _doubtful(rules: TextRules, orphans: Iterable[str], strange: Iterable[str]) -> Iterable[str]:
    if orphans:
        yield (
            f"combining marks that compose with no letter: {describe(orphans)}\n"
            "  next: check where they come from; text.drop or text.map removes or replaces them"
        )
    if strange:
        yield f"characters that are not in the alphabet of {rules.language_rules.name}: {describe(strange)}"


def _named(unit: str) -> str:
    return describe(unit) if len(unit) == 1 else repr(unit)


def _is_orphan(mark: str) -> bool:
    """Whether a mark must compose with a letter: those of Latin, Greek and Cyrillic, not of Indic, Arabic or Thai."""
    return unicodedata.name(mark, "").startswith("COMBINING")
