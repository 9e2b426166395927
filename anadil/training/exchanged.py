"""Whether a recogniser is right but for an exchange of letters: its labels are in another order than its weights."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

ROUNDS = 5
MOST_UTTERANCES = 300
REACH = 3  # letters to either side
MIN_CHARACTERS = 30
LEAST_BAD = 0.5
SHARPLY = 0.5
"""The exchange must halve the errors at least: a one-to-one exchange cannot do that to what is merely bad."""


@dataclass(frozen=True)
class Exchange:
    """`letters`: what was heard to what was meant, only those that differ. CER as fractions."""

    letters: dict[str, str]
    cer: float
    cer_exchanged: float


def find_exchange(references: Sequence[str], hypotheses: Sequence[str]) -> Exchange | None:
    """The one-to-one exchange of letters that makes bad hypotheses right, or None.

    First, letters that stand at about the same place of their texts more often than chance has it make an exchange;
    then those that a cheapest alignment of the exchanged hypotheses puts together, again and again.
    """
    pairs = [pair for pair in zip(references, hypotheses, strict=True) if all(pair)][:MOST_UTTERANCES]
    n_characters = sum(len(reference) for reference, _ in pairs)
    if n_characters < MIN_CHARACTERS:
        return None
    before = _errors(pairs) / n_characters
    if before < LEAST_BAD:
        return None
    best: tuple[float, dict[str, str]] = (before, {})
    letters = _one_to_one(_by_place(pairs))
    for _ in range(ROUNDS):
        rate = _errors([(meant, _exchanged(heard, letters)) for meant, heard in pairs]) / n_characters
        if rate < best[0]:
            best = (rate, letters)
        letters = _one_to_one(_by_alignment(pairs, letters))
    moved = {heard: meant for heard, meant in best[1].items() if heard != meant}
    return Exchange(moved, before, best[0]) if best[0] <= SHARPLY * before and len(moved) > 1 else None


def _errors(pairs: Sequence[tuple[str, str]]) -> int:
    return sum(Levenshtein.distance(meant, heard) for meant, heard in pairs)


def _exchanged(text: str, letters: dict[str, str]) -> str:
    return "".join(letters.get(letter, letter) for letter in text)


def _by_place(pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], float]:
    """How much oftener than by chance a letter is heard where another one is meant, places told as shares of the text."""
    together: dict[tuple[str, str], float] = defaultdict(float)
    heard_total: dict[str, float] = defaultdict(float)
    meant_total: dict[str, float] = defaultdict(float)
    for meant, heard in pairs:
        for j, letter in enumerate(heard):
            centre = (j + 0.5) / len(heard) * len(meant) - 0.5
            for i in range(max(0, round(centre) - REACH), min(len(meant), round(centre) + REACH + 1)):
                weight = math.exp(-((i - centre) ** 2))
                together[letter, meant[i]] += weight
                heard_total[letter] += weight
                meant_total[meant[i]] += weight
    total = sum(heard_total.values())
    return {
        (heard, meant): weight - heard_total[heard] * meant_total[meant] / total
        for (heard, meant), weight in together.items()
    }


def _by_alignment(pairs: Sequence[tuple[str, str]], letters: dict[str, str]) -> dict[tuple[str, str], float]:
    counts: Counter[tuple[str, str]] = Counter()
    for meant, heard in pairs:
        for edit in Levenshtein.opcodes(meant, _exchanged(heard, letters)):
            if edit.tag in ("equal", "replace"):
                there, here = heard[edit.dest_start : edit.dest_end], meant[edit.src_start : edit.src_end]
                counts.update(zip(there, here, strict=False))
    return dict(counts)


def _one_to_one(scores: dict[tuple[str, str], float]) -> dict[str, str]:
    """The pairs of the highest scores, each letter once on either side."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for heard, meant in sorted(scores, key=lambda pair: (-scores[pair], pair)):
        if heard not in found and meant not in taken:
            found[heard] = meant
            taken.add(meant)
    return found
