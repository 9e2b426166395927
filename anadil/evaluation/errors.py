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


MAX_BLOCK = 10_000
"""Pairs that are looked at, at most, to find the most similar words of a stretch without a correct one."""


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
    """An alignment with the counts of `count_errors`: pairs (reference unit, hypothesis unit).

    None for the reference is an insertion, None for the hypothesis a deletion; a pair of two different units is a
    substitution. Between two correct units, of the cheapest alignments the one is taken that substitutes the most similar
    words: "ana" against "ama x" is one substituted word and an insertion after it, not before it.
    """
    if reference == hypothesis:
        return list(zip(reference, hypothesis, strict=True))
    pairs: list[tuple[str | None, str | None]] = []
    place, other = 0, 0
    for block in Levenshtein.opcodes(*_comparable(reference, hypothesis)):
        if block.tag == "equal":
            pairs += _wrong_pairs(reference[place : block.src_start], hypothesis[other : block.dest_start])
            place, other = block.src_end, block.dest_end
            pairs += [(unit, unit) for unit in reference[block.src_start : place]]
    return pairs + _wrong_pairs(reference[place:], hypothesis[other:])


def confusions(reference: Sequence[str], hypothesis: Sequence[str]) -> list[tuple[str, str]]:
    """The wrong pairs (reference unit, hypothesis unit) of the alignment that `count_errors` counts; "" for none."""
    return [
        (
            reference[edit.src_pos] if edit.tag != "insert" else "",
            hypothesis[edit.dest_pos] if edit.tag != "delete" else "",
        )
        for edit in Levenshtein.editops(*_comparable(reference, hypothesis))
    ]


def _wrong_pairs(reference: Sequence[str], hypothesis: Sequence[str]) -> list[tuple[str | None, str | None]]:
    """Align units none of which is correct: as many substitutions as there can be, of the most similar units."""
    short, long = sorted((reference, hypothesis), key=len)
    n, extra = len(short), len(long) - len(short)
    if not extra or not n or n * extra > MAX_BLOCK:
        partners: list[int] = list(range(n))
    else:
        partners = _partners(short, long)
    pairs: list[tuple[str | None, str | None]] = []
    done = 0
    for unit, partner in zip((*short, None), (*partners, len(long)), strict=True):
        pairs += [(None, one) for one in long[done:partner]]
        if unit is not None:
            pairs.append((unit, long[partner]))
        done = partner + 1
    return pairs if short is reference else [(b, a) for a, b in pairs]


def _partners(short: Sequence[str], long: Sequence[str]) -> list[int]:
    """For each unit of the shorter sequence the place of its partner, in order, so that their similarity is largest."""
    n, extra = len(short), len(long) - len(short)
    # best[k]: similarity of the units so far with k units of the longer sequence left out before the present one
    best, chosen = [0.0] * (extra + 1), []
    for i, unit in enumerate(short):
        own = [best[k] + Levenshtein.normalized_similarity(unit, long[i + k]) for k in range(extra + 1)]
        came = [0] * (extra + 1)
        for k in range(1, extra + 1):
            came[k] = came[k - 1] if own[came[k - 1]] >= own[k] else k
        best = [own[came[k]] for k in range(extra + 1)]
        chosen.append(came)
    partners, k = [0] * n, extra
    for i in range(n - 1, -1, -1):
        k = chosen[i][k]
        partners[i] = i + k
    return partners


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
