"""Estimation: lmplz's own results, probabilities that sum to 1, and the same result however little memory there is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anadil.errors import AnadilError
from anadil.lm import disk_sort
from anadil.lm.arpa import NGrams, read_arpa
from anadil.lm.counts import count_ngrams, encode
from anadil.lm.disk_sort import Store
from anadil.lm.estimate import FALLBACK, Pruning, check_thresholds, estimate
from anadil.lm.held_out import model_for
from anadil.lm.texts import SPACE

Table = dict[str, tuple[float, float]]


def characters(text: str) -> str:
    return " ".join(text.replace(" ", SPACE))


def table(
    sentences: Sequence[str],
    order: int,
    prune: Sequence[int] = (),
    memory: int = 1 << 30,
    allowed: set[str] | None = None,
) -> Table:
    """log10 probability and back-off by n-gram."""
    with Store(memory) as store:
        counts = count_ngrams(encode(sentences, store), order, store)
        words = None if allowed is None else np.array([word in allowed or i < 3 for i, word in enumerate(counts.words)])
        found = estimate(counts, store, order, Pruning(check_thresholds(prune, order), words))
        rows = {
            " ".join(counts.words[i] for i in ngram): (p, b)
            for k in range(1, order + 1)
            for ngrams, probabilities, backoffs in found.blocks(k)
            for ngram, p, b in zip(ngrams.tolist(), probabilities.tolist(), backoffs.tolist(), strict=True)
        }
        assert sum(found.n_ngrams) == len(rows)
        if memory < 1 << 20:
            assert store.spilled
        return rows


def as_table(ngrams: NGrams) -> Table:
    return {
        " ".join(ngrams.words[i] for i in row): (p, b)
        for ids, probabilities, backoffs in ngrams.orders
        for row, p, b in zip(ids.tolist(), probabilities.tolist(), backoffs.tolist(), strict=True)
    }


@pytest.mark.parametrize(("name", "order", "of_characters"), [("order3", 3, False), ("char6", 6, True)])
def test_every_ngram_is_lmplzs(shared: Path, name: str, order: int, of_characters: bool) -> None:
    lines = (shared / "reference/lm/text.txt").read_text(encoding="utf-8").splitlines()
    ours = table([characters(line) for line in lines] if of_characters else lines, order)
    theirs = as_table(read_arpa(shared / f"reference/lm/{name}.arpa.gz"))
    assert ours.keys() == theirs.keys()
    difference = np.abs(np.array(list(ours.values())) - np.array([theirs[ngram] for ngram in ours]))
    assert difference.max() < 1e-5  # lmplz computes in float32


def test_discounts_and_probabilities_by_hand() -> None:
    """One sentence of one word, worked out by hand: fallback discounts, as no count of 2 or 3 occurs."""
    rows = {ngram: 10**p for ngram, (p, _) in table(["a"], 2).items()}
    backoffs = {ngram: 10**b for ngram, (_, b) in table(["a"], 2).items()}
    unigram = 0.5 / 2 + 0.5 / 3  # half of each count of 1 is kept; the rest is spread over <unk>, </s> and a
    assert rows == pytest.approx(
        {
            "<unk>": 0.5 / 3,
            "<s>": 1,
            "</s>": unigram,
            "a": unigram,
            "<s> a": 0.5 + 0.5 * unigram,
            "a </s>": 0.5 + 0.5 * unigram,
        }
    )
    assert backoffs == pytest.approx({"<unk>": 1, "<s>": 0.5, "</s>": 1, "a": 0.5, "<s> a": 1, "a </s>": 1})


def test_discounts_follow_chen_and_goodman() -> None:
    sentences = ["a"] * 1 + ["b"] * 1 + ["c"] * 1 + ["d"] * 2 + ["e"] * 2 + ["f"] * 3 + ["g"] * 4
    with Store(1 << 30) as store:
        found = estimate(count_ngrams(encode(sentences, store), 1, store), store, 1, Pruning((0,)))
    y = 3 / (3 + 2 * 2)
    assert found.discounts[0].amounts == pytest.approx((1 - 2 * y * 2 / 3, 2 - 3 * y * 1 / 2, 3 - 4 * y * 1 / 1))
    with Store(1 << 30) as store:
        found = estimate(count_ngrams(encode(["a a"], store), 1, store), store, 1, Pruning((0,)))
    assert (found.discounts[0].amounts, found.discounts[0].problem) == (
        FALLBACK,
        "no 1-gram has an adjusted count of 3",
    )


corpora = st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=7).map(" ".join), min_size=1, max_size=30)
thresholds = st.lists(st.integers(0, 2), max_size=3).map(sorted)


@settings(max_examples=60)
@given(corpora, st.integers(1, 5), thresholds, st.sampled_from([None, {"a", "b", "c"}, set()]))
def test_probabilities_of_each_context_sum_to_1(
    sentences: list[str], order: int, prune: list[int], allowed: set[str] | None
) -> None:
    with Store(1 << 30) as store:
        counts = count_ngrams(encode(sentences, store), order, store)
        words = None if allowed is None else np.array([word in allowed or i < 3 for i, word in enumerate(counts.words)])
        model = model_for(estimate(counts, store, order, Pruning(check_thresholds(prune[:order], order), words)))
    probabilities = np.exp(model.log_probs(np.arange(model.n_states)).astype(float))
    probabilities[:, model.bos] = 0  # is never predicted
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(model.n_states), abs=1e-5)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_sorting_on_disk_changes_nothing(order: int) -> None:
    rng = np.random.default_rng(order)
    sentences = [" ".join(map(str, rng.zipf(1.5, rng.integers(1, 9)) % 40)) for _ in range(100)]
    prune = (0, 1)[:order]
    assert table(sentences, order, prune, memory=1 << 12) == table(sentences, order, prune)


def test_wide_ngrams_and_more_runs_than_are_merged_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_sort, "_FAN_IN", 3)
    rng = np.random.default_rng(0)
    sentences = [" ".join(map(str, rng.integers(0, 2000, 12))) for _ in range(60)]
    assert table(sentences, 7, memory=1 << 14) == table(sentences, 7)  # 7 words of 11 bits are two columns


def test_pruned_ngrams_are_those_seen_too_seldom() -> None:
    sentences = ["a b c"] * 3 + ["a b d"] * 2 + ["x y z"] + ["e f g"] * 4
    kept = table(sentences, 3, (0, 1, 2))
    assert {ngram for ngram in kept if ngram.count(" ") == 2} == {
        *("<s> a b", "a b c", "b c </s>", "<s> e f", "e f g", "f g </s>")
    }
    assert "x" in kept and "x y" not in kept and "b d" in kept
    discount = 3 - 4 * (3 / (3 + 2 * 2)) * (3 / 2)  # of "a b c"; "a b d" is pruned, and all of its count backs off
    assert kept["a b"][1] == pytest.approx(math.log10((discount + 2) / 5))


def test_words_that_are_left_out_are_in_no_ngram() -> None:
    kept = table(["a b c", "b c", "c"], 3, allowed={"a", "b"})
    assert {word for ngram in kept for word in ngram.split()} == {"<unk>", "<s>", "</s>", "a", "b"}


@pytest.mark.parametrize(("prune", "message"), [((2, 1), "decrease"), ((-1,), "negative"), ((0, 0, 0), "3 thresholds")])
def test_thresholds_that_cannot_hold_are_refused(prune: tuple[int, ...], message: str) -> None:
    with pytest.raises(AnadilError, match=message):
        check_thresholds(prune, 2)


@pytest.mark.parametrize("token", ["<s>", "</s>", "<unk>"])
def test_special_tokens_in_the_text_are_refused(token: str) -> None:
    with Store(1 << 30) as store, pytest.raises(AnadilError, match=f"contains the token {token}"):
        encode(["a b", f"a {token}"], store)
