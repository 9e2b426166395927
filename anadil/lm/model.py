"""NGramModel: an n-gram model in memory that scores many hypotheses at a time."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anadil.errors import AnadilError
from anadil.lm.arpa import NGrams, read_arpa
from anadil.lm.counts import SPECIAL
from anadil.lm.disk_sort import Array, Block
from anadil.lm.estimate import ZERO

Ints = NDArray[np.integer[Any]]

DENSE_LIMIT = 1 << 24
"""States times words up to which all probabilities are tabulated: 8 bytes each. A character model of order 6 of Mboshi
has 2 million."""


class NGramModel:
    """Natural log-probs of words after contexts.

    A state is the number of a context, the longest that the model has for what was said before. Words are numbers into
    `words`; `word_ids` gives them, `unk` is the one of a word that is not there.
    """

    def __init__(self, ngrams: NGrams) -> None:
        """Raises AnadilError if an n-gram is there twice or lacks its context, or if <s> or </s> is missing."""
        self.order = ngrams.order
        self.words = ngrams.words if SPECIAL[0] in ngrams.words else (*ngrams.words, SPECIAL[0])
        self.word_ids = {word: i for i, word in enumerate(self.words)}
        missing = [word for word in SPECIAL[1:] if word not in self.word_ids]
        if missing:
            raise AnadilError(f"the language model has no 1-gram {' and no '.join(missing)}: not a model of sentences")
        self.unk, self.bos, self.eos = (self.word_ids[word] for word in SPECIAL)
        nodes = _Nodes(self.words, ngrams)
        is_state = nodes.states()
        state_of = np.where(is_state, np.cumsum(is_state) - 1, -1)
        for start, end in nodes.bounds[1:]:  # a node that is no context leads to its longest suffix that is one
            part = state_of[start:end]
            np.copyto(part, state_of[nodes.suffixes[start:end]], where=part < 0)
        self._keys = state_of[nodes.contexts] * len(self.words) + nodes.last_words  # of n-grams, sorted
        self._log_probs = (nodes.log10_probs * math.log(10)).astype(np.float32)
        self._next_states = state_of[1:].astype(np.int32)
        self._backoffs = (nodes.log10_backoffs[is_state] * math.log(10)).astype(np.float32)
        self._suffixes = state_of[nodes.suffixes[is_state]].astype(np.int32)
        self._levels = [
            0,
            *(int(np.count_nonzero(is_state[:end])) for _, end in nodes.bounds),
        ]  # states up to each length
        self.start = int(self._next_states[self.bos])

    @property
    def n_states(self) -> int:
        return len(self._backoffs)

    @property
    def empty(self) -> int:
        """The state without any word before."""
        return 0

    def advance(self, states: Ints, words: Ints) -> tuple[Array, Array]:
        """Natural log-probs float32 (n,) of `words` (n,) after `states` (n,), and the states (n,) after them."""
        if self._table is not None:
            log_probs, next_states = self._table
            return log_probs[states, words], next_states[states, words]
        return self._search(np.asarray(states), np.asarray(words))

    def advance_one(self, state: int, word: int) -> tuple[float, int]:
        """The same for one word after one state: 2 us instead of 20."""
        keys, n_words, total = self._key_view, len(self.words), 0.0
        while True:
            key = state * n_words + word
            at = bisect_left(keys, key)
            if at < len(keys) and keys[at] == key:
                return total + float(self._log_probs[at]), int(self._next_states[at])
            total += float(self._backoffs[state])
            state = int(self._suffixes[state])

    @cached_property
    def _key_view(self) -> memoryview:
        return np.ascontiguousarray(self._keys).data

    def log_probs(self, states: Ints) -> Array:
        """Natural log-probs float32 (n, words) of every word after each of `states` (n,)."""
        if self._table is not None:
            return np.asarray(self._table[0][states])
        n_words = len(self.words)
        found, _ = self.advance(np.repeat(states, n_words), np.tile(np.arange(n_words), len(states)))
        return found.reshape(len(states), n_words)

    def trie(self) -> tuple[Array, Array, Array, Array, Array, Array]:
        """The model as it is stored, for loops that score a label at a time.

        By state: where its n-grams begin (states + 1,), its natural back-off weight, and the state of the next shorter
        context, which is 0 for 0. By n-gram: last word, natural log-prob, next state.
        """
        contexts, words = np.divmod(self._keys, len(self.words))
        bounds = np.concatenate([[0], np.cumsum(np.bincount(contexts, minlength=self.n_states))])
        return bounds, self._backoffs, self._suffixes, words, self._log_probs, self._next_states

    def to_arrays(self) -> dict[str, Array]:
        """The model as arrays, from which `from_arrays` makes it again, 40 times as fast as from an ARPA file."""
        return {
            "words": np.frombuffer("\n".join(self.words).encode(), np.uint8),
            "levels": np.array(self._levels),
            "keys": np.diff(self._keys, prepend=0),
            "log_probs": self._log_probs,
            "next_states": self._next_states,
            "backoffs": self._backoffs,
            "suffixes": self._suffixes,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> NGramModel:
        """The model that `to_arrays` gave. Raises ValueError, which says what is wrong, if the arrays are no such model."""
        kinds = {"words": "u1", "levels": "i8", "keys": "i8", "log_probs": "f4", "next_states": "i4"}
        for name, kind in (kinds | {"backoffs": "f4", "suffixes": "i4"}).items():
            if name not in arrays or arrays[name].ndim != 1 or arrays[name].dtype != np.dtype(f"<{kind}"):
                raise ValueError(f"{name!r} is missing or not one column of {np.dtype(kind)}")
        self = cls.__new__(cls)
        self.words = tuple(arrays["words"].tobytes().decode().split("\n"))
        self.word_ids = {word: i for i, word in enumerate(self.words)}
        if len(self.word_ids) < len(self.words) or not set(SPECIAL) <= self.word_ids.keys():
            raise ValueError(f"the words repeat, or lack one of {', '.join(SPECIAL)}")
        self.unk, self.bos, self.eos = (self.word_ids[word] for word in SPECIAL)
        self._keys = np.cumsum(arrays["keys"])
        self._log_probs, self._next_states = arrays["log_probs"], arrays["next_states"]
        self._backoffs, self._suffixes = arrays["backoffs"], arrays["suffixes"]
        self._levels = arrays["levels"].tolist()
        self.order = len(self._levels) - 2
        self._check()
        self.start = int(self._next_states[self.bos])
        return self

    def _check(self) -> None:
        """Raise ValueError if a look-up could leave the arrays or run for ever."""
        n_states, n_words, n = len(self._backoffs), len(self.words), len(self._keys)
        rules: dict[str, Any] = {
            "the lengths differ": len(self._log_probs) == len(self._next_states) == n
            and len(self._suffixes) == n_states,
            "a state is missing": self.order >= 1
            and n_states >= 1
            and self._levels[0] == 0
            and self._levels[-1] == n_states,
            "the levels fall": all(0 <= a <= b for a, b in pairwise(self._levels)),
        }
        wrong = [what for what, right in rules.items() if not right]
        if not wrong:
            in_order = (
                n >= n_words and (self._keys[:n_words] == np.arange(n_words)).all() and (np.diff(self._keys) > 0).all()
            )
            rules = {
                "the n-grams are not in order": in_order
                and self._keys.min() >= 0
                and self._keys[-1] < n_states * n_words,
                "a state does not exist": ((self._next_states >= 0) & (self._next_states < n_states)).all(),
                "a suffix is no shorter context": self._suffixes[0] == 0
                and ((self._suffixes >= 0) & (self._suffixes <= np.maximum(np.arange(n_states) - 1, 0))).all(),
                "a log-prob is no number": np.isfinite(self._log_probs).all() and np.isfinite(self._backoffs).all(),
                "a log-prob is above 0": (self._log_probs <= 0).all(),
            }
            wrong = [what for what, right in rules.items() if not right]
        if wrong:
            raise ValueError("; ".join(wrong))

    def _search(self, states: Ints, words: Ints) -> tuple[Array, Array]:
        """As `advance`, by binary search for the n-gram, then for shorter ones."""
        total, found = np.zeros(len(states), np.float32), np.zeros(len(states), np.int32)
        rows, states, words = np.arange(len(states)), states.astype(np.int64), words.astype(np.int64)
        while len(rows):
            keys = states * len(self.words) + words
            at = np.searchsorted(self._keys, keys)
            hit = self._keys[np.minimum(at, len(self._keys) - 1)] == keys
            total[rows[hit]] += self._log_probs[at[hit]]
            found[rows[hit]] = self._next_states[at[hit]]
            rows, states, words = rows[~hit], states[~hit], words[~hit]
            total[rows] += self._backoffs[states]
            states = self._suffixes[states].astype(np.int64)
        return total, found

    @cached_property
    def _table(self) -> tuple[Array, Array] | None:
        """Log-probs and next states (states, words), or None if they exceed `DENSE_LIMIT`."""
        n_words = len(self.words)
        if self.n_states * n_words > DENSE_LIMIT:
            return None
        log_probs = np.empty((self.n_states, n_words), np.float32)
        next_states = np.empty((self.n_states, n_words), np.int32)
        states, words = np.divmod(self._keys, n_words)
        for start, end in pairwise(self._levels):  # from short contexts to long ones; a suffix is a shorter context
            if start:
                log_probs[start:end] = log_probs[self._suffixes[start:end]] + self._backoffs[start:end, None]
                next_states[start:end] = next_states[self._suffixes[start:end]]
            part = slice(*np.searchsorted(states, [start, end]))
            log_probs[states[part], words[part]] = self._log_probs[part]
            next_states[states[part], words[part]] = self._next_states[part]
        return log_probs, next_states


def read_model(path: str | Path) -> NGramModel:
    """Read an ARPA file, plain or gzipped. Raises AnadilError if it is missing, truncated or damaged."""
    ngrams = read_arpa(Path(path))
    try:
        return NGramModel(ngrams)
    except AnadilError as error:
        raise AnadilError(f"{path}: {error}\n  next: make the file again: anadil lm build") from None


class _Nodes:
    """All n-grams in one numbering: 0 is the empty one, then order by order, sorted by context and last word.

    `contexts`, `last_words`, `log10_probs` start with node 1; `suffixes` and `log10_backoffs` with node 0.
    """

    def __init__(self, words: tuple[str, ...], ngrams: NGrams) -> None:
        self._words = words
        n_added = len(words) - len(ngrams.words)  # <unk>, if the file lacks it
        _, probs, backoffs = ngrams.orders[0]
        self.contexts = np.zeros(len(words), np.int64)
        self.last_words = np.arange(len(words))
        self.log10_probs = np.concatenate([probs, np.full(n_added, ZERO)])
        self.log10_backoffs = np.concatenate([[0.0], backoffs, np.zeros(n_added)])
        self.suffixes = np.zeros(len(words) + 1, np.int64)
        self._keys = self.last_words.copy()
        self.bounds = [(0, 1), (1, 1 + len(words))]
        for block in ngrams.orders[1:]:
            self._add(block)

    def states(self) -> NDArray[np.bool_]:
        """Whether each node is a context of a longer n-gram, or has a back-off weight."""
        found: NDArray[np.bool_] = self.log10_backoffs != 0
        found[0] = True
        found[self.contexts] = True
        return found

    def _add(self, block: Block) -> None:
        ids, probs, backoffs = block
        contexts = self._find(ids[:, :-1])
        missing = np.flatnonzero(contexts < 0)
        if len(missing):
            raise AnadilError(
                f"the language model lacks the context of {self._text(ids[missing[0]])!r} and of {len(missing) - 1:,} others"
            )
        keys = contexts * len(self._words) + ids[:, -1]
        order = np.argsort(keys, kind="stable")
        keys, ids = keys[order], ids[order]
        twice = np.flatnonzero(keys[1:] == keys[:-1])
        if len(twice):
            raise AnadilError(f"the language model has {self._text(ids[twice[0]])!r} twice")
        contexts = contexts[order]
        suffixes = self._children(self.suffixes[contexts], ids[:, -1])
        self.contexts = np.concatenate([self.contexts, contexts])
        self.last_words = np.concatenate([self.last_words, ids[:, -1].astype(np.int64)])
        self.log10_probs = np.concatenate([self.log10_probs, probs[order]])
        self.log10_backoffs = np.concatenate([self.log10_backoffs, backoffs[order]])
        self.suffixes = np.concatenate([self.suffixes, suffixes])
        self.bounds.append((self.bounds[-1][1], self.bounds[-1][1] + len(keys)))
        self._keys = np.concatenate([self._keys, keys])

    def _children(self, parents: Array, words: Array) -> Array:
        """The nodes (n,) of `words` after the nodes `parents`, or after their longest suffixes that have them.

        A pruned model may lack the next shorter n-gram; after the empty one, every word is there.
        """
        found = self._after(parents, words)
        while len(left := np.flatnonzero(found < 0)):
            parents[left] = self.suffixes[parents[left]]
            found[left] = self._after(parents[left], words[left])
        return found

    def _find(self, ids: Array) -> Array:
        """The nodes (n,) of word sequences (n, k); -1 if there is none."""
        nodes = np.zeros(len(ids), np.int64)
        for column in ids.T:
            nodes = self._after(nodes, column)
        return nodes

    def _after(self, nodes: Array, words: Array) -> Array:
        """The nodes (n,) of `words` after `nodes`; -1 if there is none, and after a node of -1."""
        keys = np.where(nodes < 0, -1, nodes * len(self._words) + words)
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[at] == keys, at + 1, -1)

    def _text(self, ids: Array) -> str:
        return " ".join(self._words[i] for i in ids)
