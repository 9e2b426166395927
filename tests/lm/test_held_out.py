"""Scores of held-out text are those of KenLM's query; the order is the one that predicts it best."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from anadil.errors import AnadilError
from anadil.lm import model as model_module
from anadil.lm.counts import count_ngrams, encode
from anadil.lm.disk_sort import Store
from anadil.lm.estimate import Pruning, check_thresholds, estimate
from anadil.lm.held_out import choose_order, highest_order, model_for, score_text, token_log_probs
from anadil.lm.model import NGramModel, read_model


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def model_of(
    sentences: list[str], order: int, tokens: set[str] | None = None, prune: tuple[int, ...] = ()
) -> NGramModel:
    with Store(1 << 30) as store:
        counts = count_ngrams(encode(sentences, store), order, store)
        return model_for(estimate(counts, store, order, Pruning(check_thresholds(prune, order))), tokens)


def test_every_word_is_scored_as_by_kenlm(shared: Path) -> None:
    lines = lines_of(shared / "reference/lm/order3.query.txt")
    queried = [re.findall(r"(\S+)=\d+ \d+ (\S+)", line) for line in lines if "Total:" in line]
    model = read_model(shared / "reference/lm/order3.arpa.gz")
    scores = token_log_probs(model, [[word for word, _ in sentence[:-1]] for sentence in queried])
    assert len(scores) == 277
    for sentence, found in zip(queried, scores, strict=True):
        assert found / math.log(10) == pytest.approx([float(score) for _, score in sentence], abs=1e-5)


@pytest.mark.parametrize("filtered", [False, True])
def test_perplexities_are_kenlms(shared: Path, filtered: bool) -> None:
    reference = shared / "reference/lm"
    expected = [float(line.split()[-1]) for line in lines_of(reference / "order3.query.txt")[-4:]]
    valid = lines_of(reference / "valid.txt")
    tokens = {token for line in valid for token in line.split()} if filtered else None
    found = score_text(model_of(lines_of(reference / "text.txt"), 3, tokens), valid)
    assert [found.perplexity, found.known_perplexity] == pytest.approx(expected[:2], abs=1e-3)
    assert [found.n_unknown, found.n_tokens, found.n_sentences] == [*expected[2:], 277]
    assert found.unknown_share == 297 / 1696
    assert [cost.word for cost in found.costs[:3]] == ["</s>", "ngá", "wa"]
    assert sum(cost.bits for cost in found.costs) == pytest.approx(math.log2(found.perplexity) * 1973)


def test_the_table_and_the_search_agree(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = read_model(shared / "reference/lm/char6.arpa.gz")
    rng = np.random.default_rng(0)
    states, words = rng.integers(0, model.n_states, 20_000), rng.integers(0, len(model.words), 20_000)
    score, after = model.advance(states, words)
    all_scores = model.log_probs(states[:50])
    del model.__dict__["_table"]
    monkeypatch.setattr(model_module, "DENSE_LIMIT", 0)
    assert model.log_probs(states[:50]) == pytest.approx(all_scores, abs=1e-5)
    searched, after_search = model.advance(states, words)
    assert (after == after_search).all() and searched == pytest.approx(score, abs=1e-5)


def test_a_state_is_the_longest_context_that_matters() -> None:
    model = model_of(["a b c", "b c a"], 3)
    ids = {word: np.array([i]) for word, i in model.word_ids.items()}

    def after(*words: str) -> int:
        state = np.array([model.empty])
        for word in words:
            state = model.advance(state, ids[word])[1]
        return int(state[0])

    assert after("<s>") == model.start
    assert after("b") == after("<unk>", "b")
    assert after("a", "b") == after("c", "a", "b") != after("b")
    assert after("<unk>") == model.empty


def test_the_order_with_the_lowest_entropy_is_chosen(shared: Path) -> None:
    train, valid = (lines_of(shared / f"reference/lm/{name}.txt") for name in ("text", "valid"))
    with Store(1 << 30) as store:
        counts = count_ngrams(encode(train, store), 10, store)
        order, entropies = choose_order(counts, valid, store)
    single = {k: score_text(model_of(train, k), valid).entropy for k in (1, order, order + 1)}
    assert {k: entropies[k] for k in single} == pytest.approx(single, abs=1e-6)  # the shared counts are as good
    assert entropies[order] == min(entropies.values()) and max(entropies) == order + 2 < 10


def test_the_highest_order_has_one_ngram() -> None:
    assert [highest_order(n) for n in (1, 5, 8, 100)] == [3, 7, 10, 10]
    assert model_of(["a b"], 4).order == 4


def test_held_out_text_that_is_empty_is_refused() -> None:
    with pytest.raises(AnadilError, match="no held-out text"):
        score_text(model_of(["a"], 1), [])
