"""Interpolated modified Kneser-Ney: probabilities and back-off weights from n-gram counts.

Chen and Goodman 1998, "An Empirical Study of Smoothing Techniques for Language Modeling", section 3; the treatment of <s>,
<unk> and pruning is that of Heafield et al. 2013, "Scalable Modified Kneser-Ney Language Model Estimation", as KenLM's
`lmplz --discount_fallback` does it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from anadil.errors import AnadilError
from anadil.lm.counts import BOS, UNK, Counts, Progress
from anadil.lm.disk_sort import Array, Block, Reader, Sorter, Spool, Store, Window, new_group, whole_groups

FALLBACK = (0.5, 1.0, 1.5)
"""Discounts where the counts of counts give none, as `lmplz --discount_fallback` has them."""

ZERO = -99.0
"""log10 of a probability or back-off weight of zero in an ARPA file."""


@dataclass(frozen=True)
class Discounts:
    """What is subtracted from adjusted counts of 1, 2, and 3 or more; `problem` says why they are `FALLBACK`."""

    amounts: tuple[float, float, float]
    problem: str = ""

    def of(self, counts: Array) -> Array:
        """The discounts (n,) of counts (n,)."""
        return np.array([0.0, *self.amounts])[np.minimum(counts, 3)]


@dataclass(frozen=True)
class Pruning:
    """Which n-grams are left out: those seen `thresholds[k - 1]` times or fewer, and those with words that are not `allowed`."""

    thresholds: tuple[int, ...]  # one per order
    allowed: Array | None = None  # bool (words,); None: all are

    def kept(self, k: int, ngrams: Array, true: Array) -> Array:
        """Whether n-grams (n, k) with these true counts stay; unigrams <unk>, <s> and </s> always do."""
        kept = true > self.thresholds[k - 1]
        if self.allowed is not None:
            kept &= self.allowed[ngrams].all(axis=1)
        if k == 1:
            kept[:3] = True
        return kept


@dataclass
class Estimate:
    """An estimated model; `blocks(k)` reads its n-grams."""

    counts: Counts
    order: int
    pruning: Pruning
    discounts: list[Discounts]  # by order, from 1
    n_ngrams: list[int]  # of each order, those that stay
    _probabilities: list[Spool]
    _backoffs: list[Spool]

    def blocks(self, k: int) -> Iterator[Block]:
        """The n-grams of order `k` in the order of their suffixes: word ids (n, k), log10 probabilities, log10 back-offs.

        The highest order has back-offs of 0. <s>, which is never predicted, has a probability of 1.
        """
        probabilities = Reader(self._probabilities[k - 1].blocks())
        backoffs = Reader(self._backoffs[k - 1].blocks()) if k < self.order else None
        for ngrams, _, _, true in _rows(self.counts, k):
            (p,) = probabilities.take(len(true))
            b = np.ones(len(true)) if backoffs is None else backoffs.take(len(true))[0]
            kept = self.pruning.kept(k, ngrams, true)
            yield ngrams[kept], _log10(p[kept]), _log10(b[kept])

    def free(self) -> None:
        """Give the memory and disk of the probabilities back; the counts stay."""
        for spool in (*self._probabilities, *self._backoffs):
            spool.free()


def check_thresholds(prune: Sequence[int], order: int) -> tuple[int, ...]:
    """One threshold per order; the last one given holds for all higher orders. Empty: nothing is pruned.

    Raises AnadilError if there are too many, one is negative, or they decrease.
    """
    listed = " ".join(map(str, prune))
    if len(prune) > order:
        raise AnadilError(f"--prune {listed}: {len(prune)} thresholds for a model of order {order}\n  next: give fewer")
    if any(one < 0 for one in prune) or list(prune) != sorted(prune):
        raise AnadilError(
            f"--prune {listed}: thresholds must not be negative or decrease, since an n-gram needs its parts\n"
            "  next: for example --prune 0 0 1"
        )
    return (*prune, *[prune[-1] if prune else 0] * (order - len(prune)))


def estimate(
    counts: Counts, store: Store, order: int, pruning: Pruning, on_progress: Progress = lambda *_: None
) -> Estimate:
    """Estimate a model of `order`, at most that of the counts."""
    discounts, n_ngrams = [], []
    at_end = True  # whether the last row of order k - 1 is the end of the last row of order k
    for k in range(1, order + 1):
        of_counts, kept, last = np.zeros(6, np.int64), 0, (0, 0, 0)
        for ngrams, suffix_rows, adjusted, true in _rows(counts, k):
            count = true if k == order else adjusted
            of_counts += np.bincount(np.minimum(count[count > 0], 5), minlength=6)
            kept += int(np.count_nonzero(pruning.kept(k, ngrams, true)))
            last = int(suffix_rows[-1]), int(adjusted[-1]), int(true[-1])
        at_end = at_end and (k == 1 or last[0] == _n_rows(counts, k - 1) - 1)
        if (
            k < order and at_end
        ):  # lmplz counts the last n-gram of each order by its true count; so that all discounts agree
            of_counts[min(last[1], 5)] -= 1
            of_counts[min(last[2], 5)] += 1
        discounts.append(_discounts(of_counts, k))
        n_ngrams.append(kept)
    found = Estimate(counts, order, pruning, discounts, n_ngrams, [Spool(store)], [])
    found._probabilities[0].append(_unigrams(counts, order, pruning, discounts[0], n_ngrams[0]))
    prefixes: Spool | None = None
    for k in range(2, order + 1):
        prefixes = _add_order(found, k, prefixes, store)
        on_progress("estimating", k - 1, order - 1)
    if prefixes is not None:
        prefixes.free()
    return found


def _rows(counts: Counts, k: int) -> Iterator[Block]:
    """The rows of order `k`: n-grams (n, k), rows without the first word, adjusted counts, true counts."""
    if k > 1:
        yield from counts.tables[k - 2].blocks()
        return
    words, adjusted, true = counts.unigrams
    yield words[:, None], np.zeros(len(words), np.int64), adjusted, true


def _discounts(n: Array, k: int) -> Discounts:
    """Equation 26 of Chen and Goodman; `n[j]` n-grams of order `k` have an adjusted count of j, from 1 to 4."""
    for j in (1, 2, 3):
        if not n[j]:
            return Discounts(FALLBACK, f"no {k}-gram has an adjusted count of {j}")
    y = n[1] / (n[1] + 2 * n[2])
    amounts = tuple(float(j - (j + 1) * y * n[j + 1] / n[j]) for j in (1, 2, 3))
    for j, amount in enumerate(amounts, start=1):
        if not 0 <= amount <= j:
            return Discounts(
                FALLBACK, f"the discount for {k}-grams with an adjusted count of {j} would be {amount:.2f}"
            )
    return Discounts((amounts[0], amounts[1], amounts[2]))


def _unigrams(counts: Counts, order: int, pruning: Pruning, discounts: Discounts, n_kept: int) -> Array:
    """Probabilities by word id, interpolated with the uniform distribution over all tokens but <s>."""
    words, adjusted, true = counts.unigrams
    count = true if order == 1 else adjusted
    kept = pruning.kept(1, words[:, None], true)
    used = np.where(kept, count, 0)
    total = count.sum()
    left = (discounts.of(used).sum() + (count - used).sum()) / total
    found: Array = np.maximum(used - discounts.of(used), 0) / total + left / (n_kept - 1)
    found[BOS] = 1.0
    assert used[UNK] == 0
    return found


def _add_order(found: Estimate, k: int, prefixes: Spool | None, store: Store) -> Spool:
    """Add the probabilities of order `k` and the back-offs of `k - 1`; returns the row of each n-gram's context.

    `prefixes`: what the call for `k - 1` returned, which is used up.
    """
    counts, n_words = found.counts, len(found.counts.words)
    by_context = Sorter(store, 1)
    window = None if prefixes is None else Window(prefixes.blocks())
    row = 0
    for ngrams, suffix_rows, adjusted, true in _rows(counts, k):
        count = true if k == found.order else adjusted
        context = ngrams[:, 0].astype(np.uint64)
        if window is not None:  # the context without its first word, and that word
            context += window.at(suffix_rows).astype(np.uint64) * np.uint64(n_words)
        rows = np.arange(row, row + len(count), dtype=np.uint64)
        by_context.add(context, rows, count, found.pruning.kept(k, ngrams, true))
        row += len(count)
    if prefixes is not None:
        prefixes.free()
    by_row, backoffs = Sorter(store, 1), _Backoffs(Spool(store), _n_rows(counts, k - 1))
    finder = _Finder(counts, k - 1)
    for context, rows, count, kept in whole_groups(by_context.blocks()):
        starts = np.flatnonzero(new_group([context]))
        sizes = np.diff(starts, append=len(context))
        discounts, total = found.discounts[k - 1], np.add.reduceat(count, starts)
        used = np.where(kept, count, 0)
        free = total - np.add.reduceat(used, starts).astype(float)  # all that pruned n-grams had
        for amount, is_counted in zip(discounts.amounts, (used == 1, used == 2, used > 2), strict=True):
            free += amount * np.add.reduceat(is_counted.astype(np.int64), starts)  # integers: the order is no matter
        free /= total
        context_rows = finder.rows(context[starts])
        backoffs.add(context_rows, free)
        own = (count - discounts.of(count)) / np.repeat(total, sizes)
        by_row.add(rows, own, np.repeat(free, sizes), np.repeat(context_rows, sizes))
    found._backoffs.append(backoffs.end())
    probabilities, contexts = Spool(store), Spool(store)
    lower, sorted_rows = Window(found._probabilities[k - 2].blocks()), Reader(by_row.blocks())
    for _, suffix_rows, _, true in _rows(counts, k):
        _, own, free, context_rows = sorted_rows.take(len(true))
        probabilities.append(own + free * lower.at(suffix_rows))
        if k < found.order:
            contexts.append(context_rows)
    found._probabilities.append(probabilities)
    return contexts


def _n_rows(counts: Counts, k: int) -> int:
    return len(counts.words) if k == 1 else counts.tables[k - 2].n_rows


class _Finder:
    """Finds the rows of contexts in the table of order `k`; the contexts must be sorted, from one call to the next too."""

    def __init__(self, counts: Counts, k: int) -> None:
        self._n_words = np.uint64(len(counts.words))
        self._blocks = _rows(counts, k) if k > 1 else None
        self._start, self._keys = 0, np.empty(0, np.uint64)

    def rows(self, contexts: Array) -> Array:
        """The rows (n,) of `contexts` (n,), each the row without the first word times the number of words, plus that word."""
        if self._blocks is None:
            return contexts.astype(np.int64)
        behind = int(np.searchsorted(self._keys, contexts[0]))
        self._start, parts = self._start + behind, [self._keys[behind:]]
        while not len(parts[-1]) or parts[-1][-1] < contexts[-1]:
            ngrams, suffix_rows, _, _ = next(self._blocks)
            parts.append(suffix_rows.astype(np.uint64) * self._n_words + ngrams[:, 0])
        self._keys = np.concatenate(parts)
        found = np.searchsorted(self._keys, contexts)
        assert (self._keys[found] == contexts).all()
        return self._start + found


class _Backoffs:
    """Back-off weights of a table's rows, in order; a row that is no context has 1."""

    def __init__(self, spool: Spool, n_rows: int) -> None:
        self._spool, self._n_rows = spool, n_rows

    def add(self, rows: Array, weights: Array) -> None:
        """Set the weights of sorted rows, which follow those of the call before."""
        done = self._spool.n_rows
        block = np.ones(int(rows[-1]) + 1 - done)
        block[rows - done] = weights
        self._spool.append(block)

    def end(self) -> Spool:
        """The weights of all rows."""
        self._spool.append(np.ones(self._n_rows - self._spool.n_rows))
        return self._spool


def _log10(values: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.clip(np.log10(values), ZERO, 0.0)
