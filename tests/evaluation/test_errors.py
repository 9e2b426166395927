from __future__ import annotations

import json
import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anadil.evaluation.errors import (
    ErrorCounts,
    aligned,
    character_errors,
    count_errors,
    grapheme_errors,
    total,
    word_errors,
)

units = st.lists(st.sampled_from(["a", "b", "c", "", "\0", "ab"]), max_size=12)
texts = st.text(alphabet="ab é\t\n\u00a0", max_size=20)


def distance(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Levenshtein distance by the textbook table, one row at a time."""
    row = list(range(len(hypothesis) + 1))
    for i, wanted in enumerate(reference, start=1):
        previous, row = row, [i]
        for j, found in enumerate(hypothesis, start=1):
            row.append(min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (wanted != found)))
    return row[-1]


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("bu bir deneme", "bu bir deneme", ErrorCounts(0, 0, 0, 3)),
        ("bu bir deneme", "bu iki deneme", ErrorCounts(1, 0, 0, 3)),
        ("bu bir deneme", "bu deneme", ErrorCounts(0, 1, 0, 3)),
        ("bu bir deneme", "bu bir uzun deneme", ErrorCounts(0, 0, 1, 3)),
        ("a b c d e", "x a c d z", ErrorCounts(1, 1, 1, 5)),
        ("bu bir deneme", "", ErrorCounts(0, 3, 0, 3)),
        ("", "bu bir", ErrorCounts(0, 0, 2, 0)),
        ("", "", ErrorCounts(0, 0, 0, 0)),
    ],
)
def test_word_errors_known(reference: str, hypothesis: str, expected: ErrorCounts) -> None:
    assert word_errors(reference, hypothesis) == expected


def test_a_wrong_suffix_is_one_word_but_few_characters() -> None:
    reference, hypothesis = "evlerimizden geldik", "evlerimizde geldik"
    assert word_errors(reference, hypothesis).rate == 1 / 2
    assert character_errors(reference, hypothesis).rate == 1 / 19  # 12 + 1 + 6 characters


def test_kitten_is_sitting() -> None:
    assert character_errors("kitten", "sitting") == ErrorCounts(2, 0, 1, 6)


def test_a_joined_word_is_one_character_error() -> None:
    assert character_errors("bir gün", "birgün") == ErrorCounts(0, 1, 0, 7)
    assert word_errors("bir gün", "birgün").errors == 2


def test_white_space_at_the_ends_or_doubled_is_no_error() -> None:
    assert character_errors(" bir \t gün\n", "bir gün") == ErrorCounts(0, 0, 0, 7)
    assert word_errors(" bir \t gün\n", "bir gün") == ErrorCounts(0, 0, 0, 2)


def test_nothing_is_folded() -> None:
    assert character_errors("İstanbul", "istanbul").errors == 1
    assert character_errors("\u00e9", "e\u0301") == ErrorCounts(1, 0, 1, 1)  # NFC against NFD: the caller's duty


def test_astral_letters_are_one_character() -> None:
    assert character_errors("𞤀𞤁𞤂", "𞤀𞤁𞤃") == ErrorCounts(1, 0, 0, 3)  # Adlam


def test_one_letter_words_are_words() -> None:
    assert word_errors("o", "a") == ErrorCounts(1, 0, 0, 1)


def test_units_that_rapidfuzz_takes_for_equal_are_not() -> None:
    assert count_errors([""], ["\0"]) == ErrorCounts(1, 0, 0, 1)


def test_rate_of_an_empty_reference() -> None:
    assert ErrorCounts(0, 0, 0, 0).rate == 0.0
    assert ErrorCounts(0, 0, 3, 0).rate == math.inf


def test_corpus_rate_is_the_sum_and_not_the_mean() -> None:
    short, long = word_errors("a", "b"), word_errors("a b c d e f g h i", "a b c d e f g h i")
    assert (short + long).rate == 1 / 10
    assert (short.rate + long.rate) / 2 == 1 / 2


def test_total_of_nothing_is_zero() -> None:
    assert total([]) == ErrorCounts(0, 0, 0, 0)
    assert total([ErrorCounts(1, 2, 3, 4), ErrorCounts(10, 20, 30, 40)]) == ErrorCounts(11, 22, 33, 44)


def test_rates_of_one_alignment() -> None:
    """a b c d against a x c d e: three hits, one substitution, one insertion."""
    counts = count_errors(["a", "b", "c", "d"], ["a", "x", "c", "d", "e"])
    assert counts == ErrorCounts(1, 0, 1, 4)
    assert (counts.hits, counts.hypothesis, counts.errors) == (3, 5, 2)
    assert (counts.rate, counts.match_error_rate) == (2 / 4, 2 / 5)
    assert counts.information_lost == 1 - 3 / 4 * (3 / 5)


def test_empty_texts_have_rates() -> None:
    inserted, deleted, nothing = ErrorCounts(0, 0, 2, 0), ErrorCounts(0, 2, 0, 2), ErrorCounts(0, 0, 0, 0)
    assert [one.match_error_rate for one in (inserted, deleted, nothing)] == [1.0, 1.0, 0.0]
    assert [one.information_lost for one in (inserted, deleted, nothing)] == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("reference", "hypothesis", "pairs"),
    [
        ("a b", "a b", [("a", "a"), ("b", "b")]),
        ("ana", "ama x", [("ana", "ama"), (None, "x")]),
        ("ana", "x ama", [(None, "x"), ("ana", "ama")]),
        ("say ana dil x", "say dal x", [("say", "say"), ("ana", None), ("dil", "dal"), ("x", "x")]),
        ("one two three", "ane x thre y", [("one", "ane"), ("two", "x"), ("three", "thre"), (None, "y")]),
        ("", "x", [(None, "x")]),
        ("x", "", [("x", None)]),
        ("", "", []),
    ],
)
def test_similar_words_are_aligned(reference: str, hypothesis: str, pairs: list[tuple[str | None, str | None]]) -> None:
    assert aligned(reference.split(), hypothesis.split()) == pairs


@given(units, units)
def test_the_alignment_is_what_is_counted(reference: list[str], hypothesis: list[str]) -> None:
    pairs = aligned(reference, hypothesis)
    assert [a for a, _ in pairs if a is not None] == reference and [b for _, b in pairs if b is not None] == hypothesis
    substitutions = sum(a != b for a, b in pairs if a is not None and b is not None)
    deletions, insertions = sum(b is None for _, b in pairs), sum(a is None for a, _ in pairs)
    assert ErrorCounts(substitutions, deletions, insertions, len(reference)) == count_errors(reference, hypothesis)


def test_a_letter_with_its_marks_is_one_grapheme() -> None:
    """mɔ̀ against mɔ́: no code point of its own for o-open with an accent; one letter of two is wrong, one of three code points."""
    assert grapheme_errors("mɔ\u0300", "mɔ\u0301") == ErrorCounts(1, 0, 0, 2)
    assert character_errors("mɔ\u0300", "mɔ\u0301") == ErrorCounts(1, 0, 0, 3)
    assert grapheme_errors("mɔ\u0300", "m") == ErrorCounts(0, 1, 0, 2)
    assert character_errors("mɔ\u0300", "m") == ErrorCounts(0, 2, 0, 3)


def test_to_dict() -> None:
    assert ErrorCounts(2, 2, 1, 14).to_dict() == {
        "substitutions": 2,
        "deletions": 2,
        "insertions": 1,
        "errors": 5,
        "reference": 14,
        "hypothesis": 13,
        "rate": 5 / 14,
        "match_error_rate": 5 / 15,
        "information_lost": 1 - 10 / 14 * (10 / 13),
    }
    assert json.loads(json.dumps(ErrorCounts(0, 0, 1, 0).to_dict(), allow_nan=False))["rate"] is None


@given(units, units)
def test_counts_agree_with_the_textbook(reference: list[str], hypothesis: list[str]) -> None:
    counts = count_errors(reference, hypothesis)
    assert counts.errors == distance(reference, hypothesis)
    assert counts.reference == len(reference)
    assert counts.reference - counts.deletions + counts.insertions == len(hypothesis)
    assert min(counts.substitutions, counts.deletions, counts.insertions) >= 0


@given(texts, texts)
def test_a_text_and_its_list_of_characters_count_the_same(reference: str, hypothesis: str) -> None:
    assert count_errors(reference, hypothesis) == count_errors(list(reference), list(hypothesis))
    assert count_errors(reference, hypothesis) == count_errors(reference, list(hypothesis))


@given(texts, texts)
def test_texts_agree_with_the_textbook(reference: str, hypothesis: str) -> None:
    assert word_errors(reference, hypothesis).errors == distance(reference.split(), hypothesis.split())
    tidy_reference, tidy_hypothesis = " ".join(reference.split()), " ".join(hypothesis.split())
    assert character_errors(reference, hypothesis).errors == distance(tidy_reference, tidy_hypothesis)
