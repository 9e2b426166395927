"""Errors of a hypothesis against a reference: substitutions, deletions, insertions of words or characters."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rapidfuzz.distance import Levenshtein


@dataclass(frozen=True, slots=True)
class ErrorCounts:
    """Errors of one utterance, or the sum over a corpus; the units are words or characters.

    Add the counts of the utterances, then take `rate`. The mean of the utterances' rates is another number: there a
    short utterance weighs as much as a long one.
    """

    substitutions: int
    deletions: int
    insertions: int
    reference: int  # units in the reference

    @property
    def errors(self) -> int:
        """Substitutions + deletions + insertions."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors / reference units, as a fraction; may exceed 1. With an empty reference: 0, or inf if inserted."""
        if self.reference == 0:
            return math.inf if self.errors else 0.0
        return self.errors / self.reference

    def __add__(self, other: ErrorCounts) -> ErrorCounts:
        return ErrorCounts(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.reference + other.reference,
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: the counts, their sum and the rate (None if infinite, which JSON cannot hold)."""
        return {
            "substitutions": self.substitutions,
            "deletions": self.deletions,
            "insertions": self.insertions,
            "errors": self.errors,
            "reference": self.reference,
            "rate": finite_or_none(self.rate),
        }


def total(counts: Iterable[ErrorCounts]) -> ErrorCounts:
    """Sum over utterances; nothing gives zeros."""
    return sum(counts, start=ErrorCounts(0, 0, 0, 0))


def count_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> ErrorCounts:
    """Count the edits of one cheapest alignment, each edit costing 1 (Levenshtein 1966).

    A unit is an item of the sequence; a str is a sequence of its code points. The number of errors is
    unique. How it splits is not ("a b" against "b a": two substitutions, or a deletion and an
    insertion); here it is the split of rapidfuzz, which jiwer reports too. NIST's sclite, which weighs a
    substitution 4 and the others 3, may split otherwise.
    """
    if isinstance(reference, str) and isinstance(hypothesis, str):
        edits = Levenshtein.editops(reference, hypothesis)
    else:
        # rapidfuzz compares items by hash, in which "" and "\0" are equal; small integers have different hashes
        ids: dict[str, int] = {}
        edits = Levenshtein.editops(*([ids.setdefault(unit, len(ids)) for unit in s] for s in (reference, hypothesis)))
    tags = Counter(edit.tag for edit in edits)
    return ErrorCounts(tags["replace"], tags["delete"], tags["insert"], len(reference))


def word_errors(reference: str, hypothesis: str) -> ErrorCounts:
    """Word errors; words are what `str.split()` finds between runs of white space.

    The caller has normalised both texts by the same rules (NFC among them); nothing is folded here.
    """
    return count_errors(reference.split(), hypothesis.split())


def character_errors(reference: str, hypothesis: str) -> ErrorCounts:
    """Character errors; a character is a Unicode code point, and the space between two words is one.

    White space is stripped at the ends, and each run of it inside counts as one space, so a wrongly joined or
    broken word is one error (NeMo and most of the field count the same). The caller has normalised both texts
    by the same rules: in NFC "é" is one character, in NFD two.
    """
    return count_errors(" ".join(reference.split()), " ".join(hypothesis.split()))


def finite_or_none(value: float) -> float | None:
    """Return the value, or None if it is infinite or NaN, which JSON cannot hold."""
    return value if math.isfinite(value) else None
