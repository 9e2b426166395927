"""Counts n-grams: sentences of tokens to one table per order, sorted on disk where memory is short."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from anadil.errors import AnadilError
from anadil.lm.disk_sort import Array, Block, Sorter, Spool, Store, new_group

MAX_ORDER = 10
UNK, BOS, EOS = 0, 1, 2
SPECIAL = ("<unk>", "<s>", "</s>")
"""The first three ids of every vocabulary: unknown token, start and end of a sentence."""

Progress = Callable[[str, float, float], None]
"""Called with a stage, how much of it is done, and the whole."""

_SENTENCES_AT_ONCE, _CHARACTERS_AT_ONCE = 1 << 14, 1 << 22
_SEEDS = ("\0<unk>", "\0<s>", "\0")
"""Stand for the special tokens while sentences are encoded; no token contains a zero character."""


@dataclass(frozen=True)
class Corpus:
    """Sentences as token ids, each ended by `EOS`. `token_ids` has blocks of whole sentences, one column uint32."""

    words: list[str]  # by id, special tokens included; a word's id tells when it was first seen
    token_ids: Spool
    n_sentences: int
    longest: int  # tokens of the longest sentence, without its end

    @property
    def n_tokens(self) -> int:
        """Tokens without the ends of sentences."""
        return self.token_ids.n_rows - self.n_sentences


@dataclass
class Counts:
    """N-gram counts of all orders from 1 to `order`.

    `unigrams` (3 columns by word id): word, adjusted count, true count. `tables[k]`, for order k + 2, sorted by last
    word, then the word before, and so on: words (n, k + 2) uint32, row of the n-gram without its first word in the
    table before, adjusted count, true count (int64).

    The adjusted count of an n-gram is the number of different words before it, or its true count if it starts with <s>
    (Kneser and Ney 1995; Heafield et al. 2013, "Scalable Modified Kneser-Ney Language Model Estimation", section 3).
    The tables of a model of a lower order are the first ones of these.
    """

    words: list[str]
    unigrams: Block
    tables: list[Spool]
    n_sentences: int
    n_tokens: int

    @property
    def order(self) -> int:
        return len(self.tables) + 1


def encode(sentences: Iterable[str], store: Store, explain_nothing: Callable[[], object] = lambda: None) -> Corpus:
    """Number the tokens of sentences, which whitespace separates. A blank sentence is left out.

    Raises AnadilError for a token with the name of a special one, and if there is no sentence; `explain_nothing` is
    called first, and may raise an error that says more.
    """
    ids: defaultdict[str, int] = defaultdict()
    ids.default_factory = ids.__len__  # a new token gets the next id
    for name in _SEEDS:
        ids[name]
    corpus, n_sentences, longest = Spool(store), 0, 0
    for batch in _batches(sentences):
        text = " \0 ".join(batch)
        if text.count("\0") != len(batch) - 1:
            raise AnadilError("the text contains zero bytes: it is no text\n  next: check the files")
        tokens = [*text.split(), "\0"]
        block = np.fromiter(map(ids.__getitem__, tokens), np.uint32, len(tokens))
        ends = np.flatnonzero(block == EOS)
        lengths = np.diff(ends, prepend=-1) - 1
        if not lengths.all():
            keep = np.ones(len(block), bool)
            keep[ends[lengths == 0]] = False
            block = block[keep]
        n_sentences += int(np.count_nonzero(lengths))
        longest = max(longest, int(lengths.max()))
        corpus.append(block)
    for name in SPECIAL:
        if name in ids:
            raise AnadilError(
                f"the text contains the token {name}, which has a meaning of its own in a language model\n"
                "  next: remove it from the text"
            )
    if not n_sentences:
        explain_nothing()
        raise AnadilError("there is no text to count: every line is blank\n  next: check the files")
    return Corpus([*SPECIAL, *list(ids)[3:]], corpus, n_sentences, longest)


def _batches(sentences: Iterable[str]) -> Iterator[list[str]]:
    batch, size = [], 0
    for sentence in sentences:
        batch.append(sentence)
        size += len(sentence)
        if len(batch) >= _SENTENCES_AT_ONCE or size >= _CHARACTERS_AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def count_ngrams(corpus: Corpus, order: int, store: Store, on_progress: Progress = lambda *_: None) -> Counts:
    """Count all n-grams up to `order`. The result is the same whatever the memory of `store` is."""
    packing = _Packing(order, max(2, (len(corpus.words) - 1).bit_length()))
    sorter = Sorter(store, packing.n_columns, combine=True)
    total, done = corpus.token_ids.n_rows, 0
    for (block,) in _joined_blocks(corpus.token_ids, store.block_rows):
        keys = packing.pack(block)
        sorter.add(*keys, np.ones(len(block), np.int64))
        done += len(block)
        on_progress("counting n-grams", done, total)
    tables = _Tables(packing, len(corpus.words), store)
    for *keys, counts in sorter.blocks():
        tables.add(keys, counts)
    return Counts(corpus.words, tables.unigrams(), tables.end(), corpus.n_sentences, corpus.n_tokens)


def _joined_blocks(spool: Spool, n_rows: int) -> Iterator[Block]:
    """Blocks of at least `n_rows` rows, except the last; each of whole sentences."""
    parts: list[Array] = []
    for (column,) in spool.blocks():
        parts.append(column)
        if sum(map(len, parts)) >= n_rows:
            yield (np.concatenate(parts),)
            parts = []
    if parts:
        yield (np.concatenate(parts),)


@dataclass(frozen=True)
class _Packing:
    """N-grams as uint64 columns; the last word is in the highest bits of the first column, so that suffixes sort together."""

    order: int
    bits: int  # of a word

    @property
    def per_column(self) -> int:
        return 64 // self.bits

    @property
    def n_columns(self) -> int:
        return -(-self.order // self.per_column)

    def place(self, back: int) -> tuple[int, int]:
        """Column and shift of the word that is `back` words before the last."""
        column, inside = divmod(back, self.per_column)
        in_column = min(self.per_column, self.order - column * self.per_column)
        return column, self.bits * (in_column - 1 - inside)

    def pack(self, token_ids: Array) -> list[Array]:
        """One n-gram per token of whole sentences: the token and those before it, <s> before the start."""
        n = len(token_ids)
        rows = np.arange(n)
        is_start = np.empty(n, bool)
        is_start[0] = True
        is_start[1:] = token_ids[:-1] == EOS
        position = rows - np.maximum.accumulate(np.where(is_start, rows, 0))
        columns = [np.zeros(n, np.uint64) for _ in range(self.n_columns)]
        for back in range(self.order):
            column, shift = self.place(back)
            word = np.full(n, BOS, np.uint64)
            if back < n:
                np.copyto(word[back:], token_ids[: n - back], where=position[back:] >= back)
            word <<= np.uint64(shift)
            columns[column] |= word
        return columns

    def word(self, columns: list[Array], back: int) -> Array:
        """The word `back` words before the last of each n-gram, uint32."""
        column, shift = self.place(back)
        return ((columns[column] >> np.uint64(shift)) & np.uint64((1 << self.bits) - 1)).astype(np.uint32)

    def suffix(self, columns: list[Array], k: int) -> list[Array]:
        """Columns that are equal for n-grams that have the last `k` words in common."""
        column, shift = self.place(k - 1)
        return [*columns[:column], columns[column] >> np.uint64(shift)]


class _Tables:
    """Tables of all orders from the sorted n-grams of the highest order, block by block."""

    def __init__(self, packing: _Packing, n_words: int, store: Store) -> None:
        self._packing, self._order = packing, packing.order
        self._tables = [Spool(store) for _ in range(2, self._order + 1)]
        self._n_rows = [0] * (self._order + 1)  # by order, also those whose last row is still open
        self._open: list[Block | None] = [None] * (self._order + 1)  # the last row, whose counts may still grow
        self._adjusted, self._true = np.zeros(n_words, np.int64), np.zeros(n_words, np.int64)
        self._last: list[Array] | None = None

    def add(self, keys: list[Array], counts: Array) -> None:
        """Add a block of different n-grams, sorted."""
        starts = [self._starts(keys, k) for k in range(1, self._order + 1)]
        words = [self._packing.word(keys, back) for back in range(self._order)]
        suffix_rows = words[0].astype(np.int64)
        for k in range(1, self._order + 1):
            first = np.flatnonzero(starts[k - 1])
            segments = first if len(first) and first[0] == 0 else np.concatenate([[0], first])
            true = np.add.reduceat(counts, segments)
            adjusted = true if k == self._order else np.add.reduceat(starts[k].astype(np.int64), segments)
            if k == 1:
                at = words[0][segments]
                self._true[at] += true
                self._adjusted[at] += adjusted
                continue
            n_before = len(segments) - len(first)  # 1 if the first segment goes on with the open row
            ngrams = np.stack([words[back][first] for back in reversed(range(k))], axis=1)
            real = (words[k - 1][first] != BOS) | (words[k - 2][first] != BOS)  # not <s> <s> w
            self._emit(k, (ngrams, suffix_rows[first], adjusted, true, real), n_before)
            if k < self._order:  # rows of this order's table, for the next
                included = np.zeros(len(counts), np.int64)
                included[first] = real
                suffix_rows = np.cumsum(included) + (self._n_rows[k] - 1)
                self._n_rows[k] += int(np.count_nonzero(real))
        self._last = [key[-1:].copy() for key in keys]

    def unigrams(self) -> Block:
        """Word ids, adjusted and true counts. <unk> and <s> have none."""
        return np.arange(len(self._true), dtype=np.uint32), self._adjusted, self._true

    def end(self) -> list[Spool]:
        """Close the last rows and return the tables."""
        for k in range(2, self._order + 1):
            self._close(k)
        return self._tables

    def _starts(self, keys: list[Array], k: int) -> Array:
        """Whether the last `k` words of each row differ from those of the row before."""
        suffixes = self._packing.suffix(keys, k)
        new = new_group(suffixes)
        if self._last is not None:
            before = self._packing.suffix(self._last, k)
            new[0] = any(int(now[0]) != int(then[0]) for now, then in zip(suffixes, before, strict=True))
        return new

    def _emit(self, k: int, block: Block, n_before: int) -> None:
        ngrams, suffix_rows, adjusted, true, real = block
        if n_before:
            held = self._open[k]
            assert held is not None
            held[2][:] += adjusted[0]
            held[3][:] += true[0]
            adjusted, true = adjusted[1:], true[1:]
        if not len(ngrams):
            return
        self._close(k)
        rows: Block = (ngrams, suffix_rows, adjusted, true, real)
        self._open[k] = tuple(column[-1:].copy() for column in rows)
        self._write(k, tuple(column[:-1] for column in rows))

    def _close(self, k: int) -> None:
        held, self._open[k] = self._open[k], None
        if held is not None:
            self._write(k, held)

    def _write(self, k: int, rows: Block) -> None:
        ngrams, suffix_rows, adjusted, true, real = rows
        adjusted = np.where(ngrams[:, 0] == BOS, true, adjusted)
        columns = (ngrams, suffix_rows, adjusted, true)
        self._tables[k - 2].append(*(columns if real.all() else (column[real] for column in columns)))
