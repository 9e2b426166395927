"""What tuning says: whether a model helps, on halves that share no sentence, and which sentences flatter it."""

from __future__ import annotations

import pytest

from anadil.decoding.language_model import LmWeights
from anadil.evaluation import lm_tuning
from anadil.evaluation.evaluate import compare
from anadil.evaluation.lm_tuning import Tuned, choose_utterances, closeness
from anadil.manifest import Utterance

N = 40


def tuned(greedy: list[str], with_lm: list[str], references: list[str]) -> Tuned:
    utterances = [Utterance("1.wav", 1.0, text) for text in references]
    weights = LmWeights(lm_weight=1.0)
    return Tuned(weights, compare(utterances, references, greedy), compare(utterances, references, with_lm), (), None)


def test_a_gain_must_be_beyond_chance_in_one_rate_and_cost_nothing_in_the_other() -> None:
    right, wrong = ["ab cd"] * N, ["ab ce"] * N
    better = tuned(wrong, right, right)
    assert better.helps and better.rates == ((0.2, 0.5), (0.0, 0.0))
    assert (
        better.wer_gain == (-0.5, -0.5)
        and "WER 50.00% -> 0.00% (difference -50.00 to -50.00 points)" in better.describe()
    )
    assert not tuned(right, wrong, right).helps
    assert not tuned(wrong, wrong, right).helps
    assert not tuned(["ab ce", *right[1:]], right, right).helps  # one utterance of 40: chance
    assert not tuned(wrong[:9], right[:9], right[:9]).helps  # no interval
    fewer_words = tuned(["ab ce", "ab cd"] * 20, ["ab cd", "vwxyz"] * 20, right)
    assert fewer_words.rates[1][0] > fewer_words.rates[0][0] and not fewer_words.helps


def test_halves_share_no_sentence() -> None:
    references = [f"text {i % 13}" for i in range(60)]
    first, second = lm_tuning.halves(references)
    assert sorted(first + second) == list(range(60))
    assert not {references[i] for i in first} & {references[i] for i in second}
    assert first and second


def test_twenty_minutes_at_most_are_tuned_on() -> None:
    chosen = choose_utterances([10.0] * 1000)
    assert len(chosen) == 120 and chosen == sorted(set(chosen)) and chosen != list(range(120))
    assert len(choose_utterances([0.5] * 1000)) == 500
    assert choose_utterances([3.0] * 5) == [0, 1, 2, 3, 4]


def test_sentences_close_to_the_training_text_are_counted() -> None:
    training = ["a b c d e f g h", "x y"]
    found = closeness(training, ["a b c d e f g h", "a b c d e f g z", "x y", "x z", "p q r s"])
    assert (found.n, found.n_same, found.n_close) == (5, 2, 3)
    assert "3 of 5 validation sentences" in found.warning() and "2 word for word" in found.warning()
    assert closeness(training, ["p q r s"] * 20 + ["x y"]).warning() == ""


@pytest.mark.parametrize("validation", [[], ["one"]])
def test_nothing_to_compare(validation: list[str]) -> None:
    assert closeness([], validation).warning() == ""
