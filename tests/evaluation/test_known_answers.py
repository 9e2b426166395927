"""Random pairs scored by Anadil, jiwer and kaldialign, in every measure that they share; cases aligned by hand as sclite does."""

from __future__ import annotations

import random

import jiwer
import kaldialign
import pytest

from anadil.evaluation.errors import ErrorCounts, character_errors, total, word_errors

N = 10_000
WORDS = ["a", "b", "ab", "ba", "çok", "nyɔ\u0301", "मेरा", "لغة", "x", "yy"]


def pairs() -> list[tuple[str, str]]:
    rng = random.Random(0)
    found = []
    for _ in range(N):
        reference = [rng.choice(WORDS) for _ in range(rng.randint(1, 9))]
        hypothesis = [rng.choice(WORDS) if rng.random() < 0.3 else word for word in reference if rng.random() > 0.15]
        hypothesis += [rng.choice(WORDS) for _ in range(rng.choice([0, 0, 0, 1, 3]))]
        found.append((" ".join(reference), " ".join(hypothesis)))
    return found


PAIRS = pairs()


def test_words_are_those_of_jiwer() -> None:
    ours = [word_errors(*pair) for pair in PAIRS]
    theirs = jiwer.process_words([a for a, _ in PAIRS], [b for _, b in PAIRS])
    summed = total(ours)
    assert (summed.hits, summed.substitutions, summed.deletions, summed.insertions) == (
        theirs.hits,
        theirs.substitutions,
        theirs.deletions,
        theirs.insertions,
    )
    assert (summed.rate, summed.match_error_rate) == (theirs.wer, theirs.mer)
    assert summed.information_lost == pytest.approx(theirs.wil, rel=1e-12)
    for (reference, hypothesis), own in list(zip(PAIRS, ours, strict=True))[:1000]:
        one = jiwer.process_words(reference, hypothesis)
        assert (one.substitutions, one.deletions, one.insertions) == (own.substitutions, own.deletions, own.insertions)
        assert (own.rate, own.match_error_rate) == (one.wer, one.mer)
        assert own.information_lost == pytest.approx(one.wil, rel=1e-12)


def test_characters_are_those_of_jiwer() -> None:
    summed = total(character_errors(*pair) for pair in PAIRS)
    theirs = jiwer.process_characters([a for a, _ in PAIRS], [b for _, b in PAIRS])
    assert (summed.substitutions, summed.deletions, summed.insertions, summed.rate) == (
        theirs.substitutions,
        theirs.deletions,
        theirs.insertions,
        theirs.cer,
    )


def test_errors_are_those_of_kaldialign() -> None:
    for reference, hypothesis in PAIRS:
        own = word_errors(reference, hypothesis)
        theirs = kaldialign.edit_distance(reference.split(), hypothesis.split())
        assert (own.errors, own.reference, own.rate) == (theirs["total"], theirs["ref_len"], theirs["err_rate"])
        # which of the cheapest alignments is taken may differ: two substitutions, or a deletion and an insertion
        assert own.deletions - own.insertions == theirs["del"] - theirs["ins"]


@pytest.mark.parametrize(
    ("reference", "hypothesis", "counts"),
    [
        ("the cat sat on the mat", "the cat sat on the mat", ErrorCounts(0, 0, 0, 6)),
        ("the cat sat on the mat", "the cat sit on mat", ErrorCounts(1, 1, 0, 6)),
        ("the cat sat", "the the cat sat down", ErrorCounts(0, 0, 2, 3)),
        ("one two three four five", "three four five", ErrorCounts(0, 2, 0, 5)),
        ("one two three", "six seven eight", ErrorCounts(3, 0, 0, 3)),
        ("ten four", "tenfour", ErrorCounts(1, 1, 0, 2)),
        ("hello", "", ErrorCounts(0, 1, 0, 1)),
        ("", "hello there", ErrorCounts(0, 0, 2, 0)),
    ],
)
def test_cases_that_sclite_aligns_the_same(reference: str, hypothesis: str, counts: ErrorCounts) -> None:
    """By hand with sclite's weights (substitution 4, insertion and deletion 3): the cheapest alignment is ours."""
    assert word_errors(reference, hypothesis) == counts
    theirs = kaldialign.edit_distance(reference.split(), hypothesis.split(), sclite_mode=True)
    assert (theirs["sub"], theirs["del"], theirs["ins"]) == (counts.substitutions, counts.deletions, counts.insertions)
