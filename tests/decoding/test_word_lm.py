"""Word n-grams and hotwords in the search: scores against sums written out, unknown words, phrases, and what is refused."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anadil.decoding import word_lm
from anadil.decoding.beam import Unscored, beam_search
from anadil.decoding.decoder import Decoder
from anadil.decoding.language_model import (
    LABELS as LABELS_FILE,
)
from anadil.decoding.language_model import (
    SETTINGS,
    WORDS,
    LanguageModel,
    LmWeights,
    kind_of,
    read_language_model,
    save_language_model,
)
from anadil.decoding.word_lm import Hotwords, WordNGram, WordScorer, checked_hotwords
from anadil.errors import AnadilError
from anadil.lm.counts import count_ngrams, encode
from anadil.lm.disk_sort import Store
from anadil.lm.estimate import Pruning, estimate
from anadil.lm.held_out import model_for, token_log_probs
from anadil.lm.model import NGramModel
from anadil.text.rules import TextSettings, text_rules

LABELS = (" ", "a", "b")
RULES = text_rules("en", TextSettings(), LABELS)
EXHAUSTIVE: dict[str, Any] = {"beam": 1000, "margin": math.inf, "dropped": math.inf}


def ngram(sentences: list[str], order: int) -> NGramModel:
    with Store(1 << 30) as store:
        counts = count_ngrams(encode(sentences, store), order, store)
        return model_for(estimate(counts, store, order, Pruning((0,) * order)))


CHARACTERS = ngram([" ".join(text.replace(" ", "▁")) for text in ("ab ab", "a ba", "b ab a", "abb")], 3)
TEXTS = ["ab ab", "a ba", "ab a", "ba ab a"]
WORD_MODEL = ngram(TEXTS, 2)
MIXED = LmWeights(lm_weight=0.7, label_bonus=0.4, word_weight=0.5, word_bonus=1.1, unknown_word=-0.9)


def drawn(n_frames: int, seed: int) -> np.ndarray:
    logits = 2 * np.random.default_rng(seed).standard_normal((n_frames, 4))
    log_probs: np.ndarray = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    return log_probs


def added(text: str, weights: LmWeights, hotwords: dict[str, float]) -> float:
    """What the language model and the hotwords add, from scores of whole sentences."""
    total = 0.0
    if weights.lm_weight:
        (scores,) = token_log_probs(CHARACTERS, [list(text.replace(" ", "▁"))])
        total += weights.lm_weight * float(scores.sum()) + weights.label_bonus * len(text)
    words = text.split()
    if weights.word_weight:
        (scores,) = token_log_probs(WORD_MODEL, [words])
        total += weights.word_weight * float(scores.sum()) + weights.word_bonus * len(words)
        total += weights.unknown_word * sum(word not in WORD_MODEL.word_ids for word in words)
    return total + sum(hotwords.get(word, 0.0) for word in words)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["mixed", "words", "hotwords", "all"])
def test_scores_are_those_of_all_paths_and_of_whole_sentences(kind: str, seed: int) -> None:
    log_probs = drawn(5, seed)
    weights = MIXED if kind in ("mixed", "all") else MIXED.model_copy(update={"lm_weight": 0.0})
    hotwords = {"ab": 2.0, "bb": -1.5} if kind in ("hotwords", "all") else {}
    if kind == "hotwords":
        scorer: Any = WordScorer(Unscored(), LABELS, None, Hotwords(hotwords))
        weights = LmWeights()
    else:
        model = LanguageModel(LABELS, weights, CHARACTERS if weights.lm_weight else None, WORD_MODEL)
        scorer = model.scorer_with(Hotwords(hotwords)) if hotwords else model.scorer
    expected: defaultdict[tuple[int, ...], float] = defaultdict(lambda: -math.inf)
    for path in itertools.product(range(4), repeat=5):
        text = tuple(label for label, _ in itertools.groupby(path) if label != 3)
        score = sum(log_probs[frame, label] for frame, label in enumerate(path))
        expected[text] = float(np.logaddexp(expected[text], score))
    for labels in expected:
        expected[labels] += added("".join(LABELS[i] for i in labels), weights, hotwords)
    found = beam_search(log_probs, 3, scorer, **EXHAUSTIVE)
    assert {one.labels: one.score for one in found} == pytest.approx(dict(expected), abs=1e-4)


def spelled(text: str, prob: float = 0.8) -> np.ndarray:
    """Log-probs (frames, 4) that spell a text, a blank after each label."""
    columns = [column for letter in text for column in (LABELS.index(letter), 3)]
    probs = np.full((len(columns), 4), (1 - prob) / 3)
    probs[np.arange(len(columns)), columns] = prob
    found: np.ndarray = np.log(probs)
    return found


def test_a_known_word_is_preferred_and_an_unknown_one_is_possible() -> None:
    weights = LmWeights(word_weight=1.0, unknown_word=-3.0)
    model = LanguageModel(LABELS, weights, words=ngram(["ba ab"] * 5, 2))
    unsure = spelled("ba aa")
    unsure[8, 1:3] = math.log(0.45)  # the last letter may be a "b"
    assert Decoder(RULES, 0.02, model).texts([unsure]) == ["ba ab"]
    assert Decoder(RULES, 0.02, model).texts([spelled("ba aa", 0.999)]) == ["ba aa"]


def test_hotwords_win_where_the_audio_allows_and_phrases_count_as_one() -> None:
    unsure = spelled("ab ba")
    unsure[8, 1:3] = math.log(0.4), math.log(0.45)
    assert Decoder(RULES, 0.02).decode(unsure).text == "ab bb"
    for hotword in ("ba", "ab ba"):
        assert Decoder(RULES, 0.02, hotwords={hotword: 3.0}).decode(unsure).text == "ab ba"
    begun, _ = Hotwords({"bab": 3.0}).after("", "ba")
    assert begun == "ba" and Hotwords({"bab": 3.0}).end(begun) == -2.0  # begun, not complete
    assert Decoder(RULES, 0.02, hotwords={"ba": 3.0}).decode(spelled("ab bb", 0.999)).text == "ab bb"
    words = Decoder(RULES, 0.02, hotwords={"ba": 3.0}).decode(unsure).words
    assert [round(time, 2) for word in words for time in (word.start, word.end)] == [0.0, 0.06, 0.12, 0.18]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("new york", 5.0),
        ("new", 1.0),
        ("new yo", 1.0),
        ("newer", 0.0),
        ("a new york", 5.0),
        ("new new york", 6.0),
        ("new york city", 9.0),
        ("new york cit", 5.0),
        ("new yorker", 1.0),
        ("city hall", 0.0),
        ("new city", 1.0),
        ("new york new york", 10.0),
        ("  new  york", 1.0),
    ],
)
def test_a_text_earns_its_longest_hotwords_whatever_the_labels(text: str, expected: float) -> None:
    hotwords = Hotwords({"new york": 5.0, "new": 1.0, "new york city": 9.0})
    for pieces in (list(text), [text[i : i + 2] for i in range(0, len(text), 2)]):
        if any(" " in piece[1:] for piece in pieces):
            continue  # labels have a space at their start only
        begun: str | None = ""
        bonus = 0.0
        for piece in pieces:
            begun, more = hotwords.after(begun, piece)
            bonus += more
        assert bonus + hotwords.end(begun) == pytest.approx(expected), pieces


def test_hotwords_are_normalised_and_what_cannot_be_written_is_named() -> None:
    assert checked_hotwords(["AB", "b:7.5", " ab  ba :-2", ""], RULES) == {"ab": 4.0, "b": 7.5, "ab ba": -2.0}
    with pytest.raises(
        AnadilError, match=r"(?s)'xa': no label for 'x'.*'a': the weight 99 is not.*'!': the text rules.*next: "
    ):
        checked_hotwords(["xa:2", "a:99", "!", "b"], RULES)
    with pytest.raises(AnadilError, match="nan is not from"):
        checked_hotwords(["a:nan"], RULES)
    with pytest.raises(AnadilError, match="no words"):
        checked_hotwords(["ab"], text_rules("th", TextSettings(), ("ก", "ข"), check=False))


def test_many_searches_forget_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    model = LanguageModel(LABELS, MIXED, CHARACTERS, WORD_MODEL)
    expected = [beam_search(drawn(20, seed), 3, model.scorer_with(None)) for seed in range(4)]
    monkeypatch.setattr(word_lm, "_MOST_POSITIONS", 3)
    scorer = model.scorer_with(None)
    assert [beam_search(drawn(20, seed), 3, scorer) for seed in range(4)] == expected


def test_a_word_that_is_a_sign_of_the_model_is_unknown() -> None:
    words = WordNGram(WORD_MODEL, 1.0, 0.0, -5.0)
    for sign in ("</s>", "<s>", "<unk>", "bbb"):
        assert words.score(WORD_MODEL.start, sign) == words.score(WORD_MODEL.start, "qqq")


@pytest.mark.parametrize("order", [1, 2, 3])
def test_one_word_is_scored_as_many_are(order: int) -> None:
    model = ngram(TEXTS, order)
    for state in range(model.n_states):
        words = np.arange(len(model.words))
        log_probs, states = model.advance(np.full(len(words), state), words)
        for word in words.tolist():
            log_prob, after = model.advance_one(state, word)
            assert log_prob == pytest.approx(log_probs[word], abs=1e-5) and after == states[word]


def test_a_folder_holds_both_models(tmp_path: Path) -> None:
    save_language_model(tmp_path, LanguageModel(LABELS, MIXED, CHARACTERS, WORD_MODEL))
    again = read_language_model(tmp_path, LABELS)
    assert again is not None and again.weights == MIXED and again.words is not None and again.labels is not None
    assert again.words.words == WORD_MODEL.words and "2-gram of words" in again.describe()
    assert again.to_dict()["word_order"] == 2
    (tmp_path / WORDS).unlink()
    with pytest.raises(AnadilError, match=r"words\.npz is missing"):
        read_language_model(tmp_path, LABELS)
    (tmp_path / SETTINGS).write_text('{"greedy_confidence": {"constant": 0, "slope": 1}}')
    assert read_language_model(tmp_path, LABELS) is None and (tmp_path / LABELS_FILE).exists()


def test_what_a_model_is_and_why_it_fits_not() -> None:
    assert kind_of(CHARACTERS, LABELS) == "labels" and kind_of(WORD_MODEL, LABELS) == "words"
    foreign = ngram(["kitabu kizuri", "watoto wazuri"], 2)
    with pytest.raises(
        AnadilError, match=r"(?s)not one of this model's labels.*\nand .*not one of words.*'kitabu'.*next: "
    ):
        kind_of(foreign, LABELS)
    with pytest.raises(AnadilError, match="not one of this model's labels"):
        kind_of(ngram(["x y z", "y z"], 2), LABELS)
    with pytest.raises(AnadilError, match=r"(?s)not one of this model's labels.*needs labels with a space"):
        kind_of(WORD_MODEL, ("ก", "ข"))
    with pytest.raises(AnadilError, match="its texts have no words"):
        LanguageModel(("a", "b"), MIXED.model_copy(update={"lm_weight": 0.0}), words=WORD_MODEL)
    with pytest.raises(AnadilError, match="words.npz the weight 0.5, but it is not there"):
        LanguageModel(LABELS, MIXED, CHARACTERS)
