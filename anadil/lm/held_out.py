"""How well an n-gram model predicts text that it was not made from; the order is chosen by it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from anadil.errors import AnadilError
from anadil.lm.arpa import NGrams
from anadil.lm.counts import MAX_ORDER, SPECIAL, Counts, Progress
from anadil.lm.disk_sort import Array, Block, Store
from anadil.lm.estimate import Estimate, Pruning, check_thresholds, estimate
from anadil.lm.model import NGramModel

_SENTENCES_AT_ONCE = 1 << 12
_PATIENCE = 2
"""Orders without an improvement after which no higher order is tried."""


@dataclass(frozen=True)
class WordCost:
    """All occurrences of one word in held-out text: their number, and -log2 of their probabilities, summed."""

    word: str
    count: int
    bits: float
    is_known: bool


@dataclass(frozen=True)
class HeldOut:
    """Scores of held-out text. The ends of sentences count as tokens, as in KenLM's `query`."""

    n_sentences: int
    n_tokens: int
    n_unknown: int
    bits: float  # -log2 of the probability of the text
    unknown_bits: float  # the part of unknown tokens
    costs: tuple[WordCost, ...]  # the most expensive first

    @property
    def perplexity(self) -> float:
        """Perplexity with unknown tokens, which have the probability of <unk>."""
        return 2 ** (self.bits / self.n_tokens)

    @property
    def known_perplexity(self) -> float:
        """Perplexity without unknown tokens."""
        return 2 ** ((self.bits - self.unknown_bits) / (self.n_tokens - self.n_unknown))

    @property
    def entropy(self) -> float:
        """Bits per token, unknown tokens included."""
        return self.bits / self.n_tokens

    @property
    def unknown_share(self) -> float:
        """Share of unknown tokens among the tokens that are no ends of sentences (OOV rate)."""
        return self.n_unknown / (self.n_tokens - self.n_sentences)


def token_log_probs(model: NGramModel, sentences: Sequence[Sequence[str]]) -> list[Array]:
    """Natural log-probs of the tokens of each sentence, and of its end: float32 (tokens + 1,)."""
    lengths = np.array([len(sentence) for sentence in sentences], np.int64)
    order = np.argsort(-lengths, kind="stable")
    ids = np.full((len(sentences), int(lengths.max(initial=0)) + 1), model.eos, np.int64)
    for row, i in enumerate(order):
        ids[row, : lengths[i]] = [model.word_ids.get(token, model.unk) for token in sentences[i]]
    found = np.zeros(ids.shape, np.float32)
    states = np.full(len(sentences), model.start)
    for step in range(ids.shape[1]):  # the sentences that go on are the first ones
        n = int(np.count_nonzero(lengths >= step))
        found[:n, step], states = model.advance(states[:n], ids[:n, step])
    scores: list[Array] = [np.empty(0)] * len(sentences)
    for row, i in enumerate(order):
        scores[i] = found[row, : lengths[i] + 1]
    return scores


def score_text(model: NGramModel, sentences: Iterable[str]) -> HeldOut:
    """Score sentences of tokens with spaces between them. Raises AnadilError if there is none."""
    split = [sentence.split() for sentence in sentences]
    if not split:
        raise AnadilError("there is no held-out text: every line is blank or was left out\n  next: check --valid")
    counts: dict[str, int] = {}
    bits: dict[str, float] = {}
    for start in range(0, len(split), _SENTENCES_AT_ONCE):
        part = split[start : start + _SENTENCES_AT_ONCE]
        for sentence, scores in zip(part, token_log_probs(model, part), strict=True):
            for token, score in zip(
                (*sentence, SPECIAL[2]), (scores.astype(float) / -math.log(2)).tolist(), strict=True
            ):
                counts[token] = counts.get(token, 0) + 1
                bits[token] = bits.get(token, 0.0) + score
    costs = [WordCost(token, n, bits[token], token in model.word_ids) for token, n in counts.items()]
    unknown = [cost for cost in costs if not cost.is_known]
    return HeldOut(
        len(split),
        sum(counts.values()),
        sum(cost.count for cost in unknown),
        math.fsum(bits.values()),
        math.fsum(cost.bits for cost in unknown),
        tuple(sorted(costs, key=lambda cost: (-cost.bits, cost.word))),
    )


def model_for(found: Estimate, tokens: set[str] | None = None) -> NGramModel:
    """The model in memory; with `tokens`, only the n-grams of these, which score texts of these as the whole does."""
    words = found.counts.words
    wanted = np.ones(len(words), bool)
    if tokens is not None:
        wanted = np.fromiter((word in tokens for word in words), bool, len(words))
    wanted[: len(SPECIAL)] = True
    orders = [_joined(_only(found.blocks(k), wanted), k) for k in range(1, found.order + 1)]
    ids = orders[0][0][:, 0]
    number = np.zeros(len(words), np.uint32)
    number[ids] = np.arange(len(ids))
    return NGramModel(NGrams(tuple(words[i] for i in ids), tuple((number[n], p, b) for n, p, b in orders)))


def choose_order(
    counts: Counts,
    valid: Sequence[str],
    store: Store,
    prune: Sequence[int] = (),
    allowed: Array | None = None,
    on_progress: Progress = lambda *_: None,
) -> tuple[int, dict[int, float]]:
    """The order with the lowest entropy on held-out sentences, and the entropies (bits per token) of all that were tried.

    All orders share `counts`, whose order is the highest that is tried. The search ends two orders after the best one.
    """
    tokens = {token for sentence in valid for token in sentence.split()}
    entropies: dict[int, float] = {}
    for order in range(1, counts.order + 1):
        thresholds = check_thresholds(prune[:order], order)
        found = estimate(counts, store, order, Pruning(thresholds, allowed))
        entropies[order] = score_text(model_for(found, tokens), valid).entropy
        found.free()
        on_progress("choosing the order", order, counts.order)
        best = min(entropies, key=entropies.__getitem__)
        if order - best >= _PATIENCE:
            break
    on_progress("choosing the order", counts.order, counts.order)
    return best, entropies


def highest_order(longest: int) -> int:
    """The highest order that a text supports whose longest sentence has so many tokens: with its <s> and </s>, one n-gram."""
    return min(longest + 2, MAX_ORDER)


def _only(blocks: Iterable[Block], wanted: Array) -> Iterator[Block]:
    for ngrams, probabilities, backoffs in blocks:
        kept = wanted[ngrams].all(axis=1)
        yield ngrams[kept], probabilities[kept], backoffs[kept]


def _joined(blocks: Iterable[Block], k: int) -> Block:
    parts = [*blocks, (np.empty((0, k), np.uint32), np.empty(0), np.empty(0))]
    ngrams, probabilities, backoffs = map(np.concatenate, zip(*parts, strict=True))
    return ngrams, probabilities, backoffs
