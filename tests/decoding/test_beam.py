"""The beam search against all paths, written out; its words, times and limits."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anadil.decoding import beam
from anadil.decoding.beam import beam_search, search_many
from anadil.decoding.ctc import align, best_path, ctc_log_prob
from anadil.decoding.decoder import Decoder
from anadil.decoding.label_lm import LabelLM
from anadil.decoding.language_model import LanguageModel, LmWeights
from anadil.lm.counts import count_ngrams, encode
from anadil.lm.disk_sort import Store
from anadil.lm.estimate import Pruning, estimate
from anadil.lm.held_out import model_for, token_log_probs
from anadil.lm.model import NGramModel
from anadil.text.rules import TextSettings, text_rules

LABELS = (" ", "a", "b")
EXHAUSTIVE: dict[str, Any] = {"beam": 1000, "margin": math.inf, "dropped": math.inf}


def ngram(texts: list[str], order: int = 3) -> NGramModel:
    with Store(1 << 30) as store:
        counts = count_ngrams(encode([" ".join(text.replace(" ", "▁")) for text in texts], store), order, store)
        return model_for(estimate(counts, store, order, Pruning((0,) * order)))


NGRAM = ngram(["ab ab", "a ba", "b ab a", "abb"])
WEIGHTS = LmWeights(lm_weight=0.7, label_bonus=0.4)
LM = LanguageModel(LABELS, WEIGHTS, NGRAM)


def drawn(n_frames: int, seed: int, sharpness: float = 2.0) -> np.ndarray:
    logits = sharpness * np.random.default_rng(seed).standard_normal((n_frames, len(LABELS) + 1))
    log_probs: np.ndarray = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    return log_probs


def written_out(log_probs: np.ndarray, lm: LanguageModel | None) -> dict[tuple[int, ...], float]:
    """The score of every text: all paths, summed; then what the LM adds, from its own scores of whole sentences."""
    n_frames, n_columns = log_probs.shape
    found: defaultdict[tuple[int, ...], float] = defaultdict(lambda: -math.inf)
    for path in itertools.product(range(n_columns), repeat=n_frames):
        text = tuple(label for label, _ in itertools.groupby(path) if label != n_columns - 1)
        score = sum(log_probs[frame, label] for frame, label in enumerate(path))
        found[text] = float(np.logaddexp(found[text], score))
    if lm is not None:
        for text in found:
            (scores,) = token_log_probs(NGRAM, [[LABELS[i].replace(" ", "▁") for i in text]])
            found[text] += lm.weights.lm_weight * float(scores.sum()) + lm.weights.label_bonus * len(text)
    return dict(found)


@settings(max_examples=30)
@given(st.integers(0, 5), st.integers(0, 10_000), st.booleans())
def test_a_wide_beam_is_the_sum_over_all_paths(n_frames: int, seed: int, with_lm: bool) -> None:
    log_probs, lm = drawn(n_frames, seed), LM if with_lm else None
    expected = written_out(log_probs, lm)
    found = beam_search(log_probs, 3, lm.scorer if lm else None, **EXHAUSTIVE)
    assert {one.labels: one.score for one in found} == pytest.approx(expected, abs=1e-5)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


@settings(max_examples=30)
@given(st.integers(1, 60), st.integers(0, 10_000))
def test_the_best_text_is_no_less_likely_than_the_greedy_one(n_frames: int, seed: int) -> None:
    log_probs = drawn(n_frames, seed)
    greedy = [token.id for token in best_path(log_probs, 3)]
    best = beam_search(log_probs, 3, beam=500, margin=math.inf, dropped=math.inf)[0].labels
    assert ctc_log_prob(log_probs, best, 3) >= ctc_log_prob(log_probs, greedy, 3) - 1e-9


def test_the_language_model_corrects_a_letter() -> None:
    lm = LanguageModel(LABELS, LmWeights(lm_weight=1.0), ngram(["aba", "aba b", "aba a"], 4))
    probs = np.full((5, 4), 0.02)
    for frame, label in enumerate((1, 3, 2, 3)):
        probs[frame, label] = 0.94
    probs[4] = (0.02, 0.40, 0.56, 0.02)  # "b" is a little likelier than "a"
    rules = text_rules("en", TextSettings(), LABELS)
    assert Decoder(rules, 0.02).decode(np.log(probs)).text == "abb"
    found = Decoder(rules, 0.02, lm).decode(np.log(probs), offset_s=1.0)
    assert [found.text] == Decoder(rules, 0.02, lm).texts([np.log(probs)]) == ["aba"]
    assert [(token.start, token.end) for token in found.tokens] == [(0, 1), (2, 3), (4, 5)]
    assert found.tokens[2].confidence == pytest.approx(0.40)
    (word,) = found.words
    assert (word.start, word.end) == pytest.approx((1.0, 1.1))


def test_n_best_are_different_texts_with_falling_scores() -> None:
    rules = text_rules("en", TextSettings(), LABELS)
    for lm in (LM, None):
        decoded = Decoder(rules, 0.02, lm, n_best=5).decode(drawn(8, seed=1))
        found = decoded.alternatives
        assert len({one.text for one in found}) == 5 and found[0].text == decoded.text
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert Decoder(rules, 0.02, LM).decode(drawn(8, seed=1)).alternatives == ()


def test_what_is_found_does_not_depend_on_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [drawn(n, seed=n) for n in (0, 1, 40, 7, 7, 23, 60, 2)]
    alone = [beam_search(one, 3, LM.scorer) for one in many]
    assert search_many(many, 3, LM.scorer) == alone
    monkeypatch.setattr(beam, "_TOGETHER", 3)
    assert search_many(many, 3, LM.scorer) == alone
    rules = text_rules("en", TextSettings(), LABELS)
    decoder = Decoder(rules, 0.02, LM)
    assert decoder.decode_many(many) == [decoder.decode(one) for one in many]
    assert decoder.texts(many) == [decoder.decode(one).text for one in many]


@settings(max_examples=50)
@given(st.integers(1, 40), st.integers(0, 10_000))
def test_the_alignment_of_the_greedy_text_is_the_best_path(n_frames: int, seed: int) -> None:
    log_probs = drawn(n_frames, seed)
    expected = best_path(log_probs, 3)
    found = align(log_probs, [token.id for token in expected], 3)
    assert [(one.id, one.start, one.end) for one in found] == [(one.id, one.start, one.end) for one in expected]
    assert [one.confidence for one in found] == pytest.approx([one.confidence for one in expected])


def test_labels_that_do_not_fit_have_no_alignment() -> None:
    with pytest.raises(ValueError, match="3 labels have no path through 3 frames"):
        align(drawn(3, seed=0), [1, 1, 2], 3)


def test_a_long_recording_is_decoded_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    spelled = [1, 3, 2, 3, 0, 3] * 20
    log_probs = np.log(np.full((120, 4), 0.02))
    log_probs[np.arange(120), spelled] = math.log(0.94)
    rules = text_rules("en", TextSettings(), LABELS)
    whole = Decoder(rules, 0.02, LM).decode(log_probs)
    monkeypatch.setattr(beam, "_CHUNK_FRAMES", 17)
    (best, *_) = beam_search(log_probs, 3, LM.scorer)
    assert len(best.cuts) >= 7 and best.cuts[0][0] <= 17
    assert all(spelled[frame - 1] == 3 for frame, _ in best.cuts)
    assert Decoder(rules, 0.02, LM).decode(log_probs) == whole
    assert best.score == pytest.approx(beam_search(log_probs, 3, LM.scorer)[0].score)


def test_a_frame_costs_no_more_than_beam_times_labels() -> None:
    """2,000 labels that are equally likely: 12 of them are tried, the likeliest."""
    log_probs = np.full((30, 2001), math.log(1 / 2001))
    log_probs[:, 1234] += 0.1
    frames = beam._frames(log_probs, 6.0, 12)
    assert frames.labels.shape == frames.probs.shape == (30, 12) and (frames.labels == 1234).any(axis=1).all()
    assert beam_search(log_probs[:5], 2000, beam=4)[0].labels


def test_a_wide_beam_searches_fewer_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Utterances x prefixes x prefixes stay bounded."""
    sizes: list[int] = []
    search = beam._Search

    def noted(frames: Any, *rest: Any) -> Any:
        sizes.append(len(frames))
        return search(frames, *rest)

    monkeypatch.setattr(beam, "_Search", noted)
    many = [drawn(4, seed) for seed in range(5)]
    search_many(many, 3, beam=1024)
    search_many(many, 3, beam=16)
    assert sizes == [2, 2, 1, 5]


@pytest.mark.parametrize(
    ("log_probs", "blank", "message"),
    [
        (np.zeros(4), 3, "must be"),
        (np.zeros((2, 4)), 0, "last column"),
        (np.array([[0.0, 0.0], [math.nan, 0.0]]), 1, "NaN, first in frame 1"),
    ],
)
def test_what_is_no_log_probs_is_refused(log_probs: np.ndarray, blank: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        beam_search(log_probs, blank)


def test_a_model_that_rules_out_everything_does_not_stop_the_search() -> None:
    strict = LabelLM(NGRAM, LABELS, 10.0, -20.0)
    log_probs = np.full((40, 4), -np.inf)
    log_probs[np.arange(40), [1, 2] * 20] = 0.0  # no blank anywhere
    assert beam_search(log_probs, 3, strict)
