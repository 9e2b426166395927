"""Errors of a hypothesis against a reference: substitutions, deletions, insertions of words, characters or grapheme clusters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rapidfuzz.distance import Levenshtein

from anadil.text.units import graphemes

MAX_UNITS = 2_000_000
"""Words or characters that one text may have. Memory is bounded (rapidfuzz divides long texts as Hirschberg 1975 does), but
time grows with the square: 100,000 words take 3 s, their 645,000 characters 15 s."""


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
    def hits(self) -> int:
        """Reference units that the hypothesis has."""
        return self.reference - self.substitutions - self.deletions

    @property
    def hypothesis(self) -> int:
        """Units in the hypothesis."""
        return self.reference - self.deletions + self.insertions

    @property
    def match_error_rate(self) -> float:
        """Errors / (hits + errors), MER: the share of the alignment that is wrong, never above 1; 0 if there is nothing."""
        columns = self.hits + self.errors
        return self.errors / columns if columns else 0.0

    @property
    def information_lost(self) -> float:
        """1 - hits / reference * hits / hypothesis, WIL (Morris, Maier and Green 2004), in [0, 1].

        0 if both are empty, 1 if only one of them is.
        """
        if self.reference == 0 or self.hypothesis == 0:
            return float(self.reference != self.hypothesis)
        return 1.0 - self.hits / self.reference * (self.hits / self.hypothesis)

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
            "hypothesis": self.hypothesis,
            "rate": finite_or_none(self.rate),
            "match_error_rate": self.match_error_rate,
            "information_lost": self.information_lost,
        }


def total(counts: Iterable[ErrorCounts]) -> ErrorCounts:
    """Sum over utterances; nothing gives zeros."""
    substitutions = deletions = insertions = reference = 0
    for one in counts:
        substitutions += one.substitutions
        deletions += one.deletions
        insertions += one.insertions
        reference += one.reference
    return ErrorCounts(substitutions, deletions, insertions, reference)


def count_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> ErrorCounts:
    """Count the edits of one cheapest alignment, each edit costing 1 (Levenshtein 1966).

    A unit is an item of the sequence; a str is a sequence of its code points. The number of errors is
    unique. How it splits is not ("a b" against "b a": two substitutions, or a deletion and an
    insertion); here it is the split of rapidfuzz, which jiwer reports too. NIST's sclite, which weighs a
    substitution 4 and the others 3, may split otherwise.
    """
    if reference == hypothesis:
        return ErrorCounts(0, 0, 0, len(reference))
    tags = [edit[0] for edit in Levenshtein.editops(*_comparable(reference, hypothesis)).as_list()]
    deletions = tags.count("delete")
    insertions = deletions + len(hypothesis) - len(reference)
    return ErrorCounts(len(tags) - deletions - insertions, deletions, insertions, len(reference))


def aligned(reference: Sequence[str], hypothesis: Sequence[str]) -> list[tuple[str | None, str | None]]:
    """The alignment that `count_errors` counts: pairs (reference unit, hypothesis unit).

    None for the reference is an insertion, None for the hypothesis a deletion; a pair of two different units is a
    substitution.
    """
    pairs: list[tuple[str | None, str | None]] = []
    for tag, i, i_end, j, j_end in Levenshtein.opcodes(*_comparable(reference, hypothesis)).as_list():
        if tag == "delete":
            pairs += [(unit, None) for unit in reference[i:i_end]]
        elif tag == "insert":
            pairs += [(None, unit) for unit in hypothesis[j:j_end]]
        else:
            pairs += zip(reference[i:i_end], hypothesis[j:j_end], strict=True)
    return pairs


def _comparable(reference: Sequence[str], hypothesis: Sequence[str]) -> tuple[str | Sequence[int], str | Sequence[int]]:
    """What rapidfuzz is given: strings as they are, other units as numbers, as it takes "" and "\0" for equal."""
    if isinstance(reference, str) and isinstance(hypothesis, str):
        return reference, hypothesis
    ids: dict[str, int] = {}
    return [ids.setdefault(unit, len(ids)) for unit in reference], [
        ids.setdefault(unit, len(ids)) for unit in hypothesis
    ]


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


def grapheme_errors(reference: str, hypothesis: str) -> ErrorCounts:
    """Errors of grapheme clusters: a letter with all its marks is one unit, whether it is one code point or three.

    White space counts as in `character_errors`.
    """
    return count_errors(graphemes(" ".join(reference.split())), graphemes(" ".join(hypothesis.split())))


def finite_or_none(value: float) -> float | None:
    """Return the value, or None if it is infinite or NaN, which JSON cannot hold."""
    return value if math.isfinite(value) else None
