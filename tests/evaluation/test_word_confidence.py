"""Calibrated confidences: the error of known distributions, the fitted map, posteriors, and when no map is made."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from anadil.decoding.confidence import ConfidenceMap, posteriors
from anadil.decoding.decoder import Decoder
from anadil.decoding.language_model import LanguageModel, LmWeights
from anadil.evaluation import word_confidence
from anadil.evaluation.word_confidence import calibrate, calibrate_words, expected_calibration_error
from anadil.lm.counts import count_ngrams, encode
from anadil.lm.disk_sort import Store
from anadil.lm.estimate import Pruning, estimate
from anadil.lm.held_out import model_for
from anadil.text.rules import TextSettings, text_rules

LABELS = (" ", "a", "b", "c")
RULES = text_rules("en", TextSettings(), LABELS)
DECODER = Decoder(RULES, 0.02)


def spoken(n: int, seed: int = 0) -> tuple[list[str], list[np.ndarray]]:
    """Texts of two words of three letters, and log-probs whose letters are wrong as often as an overconfident model says not."""
    rng = np.random.default_rng(seed)
    references, found = [], []
    for _ in range(n):
        letters = rng.integers(1, 4, 6)
        probs = []
        for i, letter in enumerate(letters):
            sure = rng.uniform(0.4, 1.0)
            heard = letter if rng.random() < sure else 1 + (letter % 3)
            row = np.full(5, (1 - sure**0.25) / 4)
            row[heard] = sure**0.25  # too sure of itself
            blank = np.full(5, 0.001)
            blank[0 if i == 2 else 4] = 0.996
            probs += [row, blank]
        references.append("".join(LABELS[i] for i in letters[:3]) + " " + "".join(LABELS[i] for i in letters[3:]))
        found.append(np.log(np.array(probs)))
    return references, found


def test_the_error_of_known_confidences() -> None:
    right = np.array([True, True, False, True])
    assert expected_calibration_error(np.array([1.0, 1.0, 0.0, 1.0]), right) == 0
    assert expected_calibration_error(np.full(4, 0.95), right) == pytest.approx(0.2)
    mixed = np.array([0.95, 0.95, 0.95, 0.15])  # bins: 0.95 against 2/3, 0.15 against 1
    assert expected_calibration_error(mixed, right) == pytest.approx(3 / 4 * (0.95 - 2 / 3) + 1 / 4 * 0.85)
    assert expected_calibration_error(np.array([]), np.array([], bool)) == 0


def test_the_map_is_tested_on_other_utterances_and_lowers_the_error() -> None:
    references, log_probs = spoken(300)
    found = calibrate_words(DECODER, references, log_probs)
    assert found is not None and found.after < 0.1 < 0.25 < found.before and found.n_words >= 600
    later, unseen = spoken(300, seed=1)
    decoded = replace(DECODER, word_confidence=found.map).decode_many(unseen)
    right, confidences = [], []
    for one, text in zip(decoded, later, strict=True):
        for word, own in zip(one.words, text.split(), strict=True):
            right.append(word.text == own)
            confidences.append(word.confidence)
    assert expected_calibration_error(np.array(confidences), np.array(right)) < 0.1


def test_with_a_language_model_posteriors_count_too() -> None:
    references, log_probs = spoken(150)
    with Store(1 << 30) as store:
        texts = [" ".join(text.replace(" ", "▁")) for text in references]
        model = model_for(estimate(count_ngrams(encode(texts, store), 3, store), store, 3, Pruning((0,) * 3)))
    lm = LanguageModel(LABELS, LmWeights(lm_weight=0.5), model)
    found = calibrate(RULES, lm, references, log_probs)
    assert found.with_lm is not None and found.with_lm.map.posterior_slope > 0
    assert "greedy: " in found.describe() and "with the language model: " in found.describe()
    assert found.weights(lm.weights).confidence == found.with_lm.map


def test_no_map_where_words_are_few_all_right_or_not_words() -> None:
    references, log_probs = spoken(300)
    assert calibrate_words(DECODER, references[:40], log_probs[:40]) is None
    right = [one.text for one in DECODER.decode_many(log_probs)]
    assert calibrate_words(DECODER, right, log_probs) is None
    thai = text_rules("th", TextSettings(), ("ก", "ข", "ค", "ง"), check=False)
    assert calibrate_words(Decoder(thai, 0.02), references, log_probs) is None
    assert calibrate(thai, None, references, log_probs).describe() == ""


def test_a_map_that_does_not_lower_the_error_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    references, log_probs = spoken(300)
    monkeypatch.setattr(word_confidence, "_apply", lambda weights, features: np.zeros(len(features)))
    monkeypatch.setattr(word_confidence, "expected_calibration_error", lambda a, b: float(not a.any()))
    assert calibrate_words(DECODER, references, log_probs) is None


def test_a_slope_is_never_below_0() -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((500, 2))
    right = rng.random(500) < 1 / (1 + np.exp(-(features[:, 0] - 2 * features[:, 1])))
    constant, one, other = word_confidence._fit(features, right)
    assert one > 0.3 and other == 0 and abs(constant) < 1
    alone = word_confidence._fit(features[:, :1], right)
    assert [constant, one] == pytest.approx(alone)


def test_the_map_rises_and_has_known_values() -> None:
    found = ConfidenceMap(constant=-1.0, slope=2.0, posterior_slope=0.5)
    assert found.apply(0.5, 0.5) == pytest.approx(1 / (1 + math.e))
    values = [found.apply(raw, 0.7) for raw in (0.0, 0.2, 0.5, 0.9, 1.0)]
    assert values == sorted(values) and values[0] > 0 and values[-1] < 1
    assert ConfidenceMap(constant=0, slope=1).apply(0.3) == pytest.approx(0.3)


def test_posteriors_are_shares_of_the_texts_that_have_a_word() -> None:
    texts = [["a", "b", "c"], ["a", "x", "c"], ["b", "c"]]
    found = posteriors(texts[0], texts, [math.log(0.5), math.log(0.3), math.log(0.2)])
    assert found == pytest.approx([0.8, 0.7, 1.0])
    assert posteriors(["a"], [["a"]], [-800.0]) == [1.0] and posteriors([], [[]], [0.0]) == []


def test_parts_of_a_word_that_a_pause_cuts_share_its_posterior() -> None:
    _, (log_probs, *_) = spoken(1)
    decoder = Decoder(RULES, 0.02, n_best=8, with_posteriors=True)
    whole = decoder.decode(log_probs)
    cut = decoder.decode(log_probs, pauses=[(0.01, 0.06)])
    assert len(cut.words) == len(whole.words) + 1
    assert cut.posteriors == (whole.posteriors[0], *whole.posteriors)
    assert cut.alternatives[0].text == cut.text
