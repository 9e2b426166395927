"""An n-gram model of a recogniser's labels as the scorer of a beam search."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from anadil.decoding.beam import Floats, Ints
from anadil.errors import AnadilError
from anadil.lm.counts import SPECIAL
from anadil.lm.model import NGramModel
from anadil.lm.texts import SPACE
from anadil.text.units import is_sign

_NUMBERS_KEPT = 1 << 22  # in the rows of a model: 64 MB
_LOWEST = -200.0  # of a factor's logarithm, so that no mass becomes 0
_SMALLEST = math.exp(_LOWEST)
_NONE, _WANTED = -1, -2  # instead of a row


class LabelLM:
    """Scores labels for `search_many`. A word of the n-gram model is one label, with ▁ for a space in it."""

    def __init__(self, model: NGramModel, labels: Sequence[str], weight: float, bonus: float) -> None:
        """A label adds weight * log-prob + bonus, in nats. Raises AnadilError if the model is none of these labels."""
        check_alphabet(model, labels)
        self.model = model
        # a row of factors has a last column for the end of the text; several labels may be <unk>
        words = [model.word_ids.get(token, model.unk) for token in label_tokens(labels)]
        self._rows = _Rows(model, np.array([*words, model.eos]), weight, bonus)

    def begin(self) -> int:
        return self.model.start

    def factors(self, states: Ints, labels: Ints) -> Floats:
        """exp(weight * log-prob + bonus): (utterances, prefixes, m) of labels (utterances, m) after states."""
        rows = self._rows.of(states)[:, :, None]
        found: Floats = self._rows.factors[rows, labels[:, None, :]]
        return found

    def next_states(self, states: Ints, labels: Ints) -> Ints:
        rows = self._rows.of(states)
        found: Ints = self._rows.next_states[rows, labels]
        return found

    def ends(self, states: Ints) -> Floats:
        """exp(weight * log-prob of the sentence's end), without a bonus."""
        rows = self._rows.of(states)
        found: Floats = self._rows.factors[rows, -1]
        return found


class _Rows:
    """Factors and next states of all labels after a state, made when the state is first met.

    A row is that of the next shorter context times the back-off weight, with the state's own n-grams in place.
    """

    def __init__(self, model: NGramModel, words: np.ndarray, weight: float, bonus: float) -> None:
        self._empty, self._suffixes = model.empty, model.trie()[2]
        bounds, backoffs, _, ngram_words, log_probs, next_states = model.trie()
        order = np.argsort(words, kind="stable")
        ends = np.searchsorted(words[order], np.arange(len(model.words) + 1))
        n_labels = np.diff(ends)[ngram_words]  # of each n-gram; its last word may be several labels, or none
        ngrams = np.repeat(np.arange(len(ngram_words)), n_labels)
        within = np.arange(len(ngrams)) - np.repeat(np.cumsum(n_labels) - n_labels, n_labels)
        self._labels = order[ends[ngram_words[ngrams]] + within]
        self._own = _exp(weight * log_probs[ngrams].astype(np.float64) + bonus)
        self._own[self._labels == len(words) - 1] *= math.exp(-bonus)  # the end has no bonus
        self._own_next = next_states[ngrams].astype(np.int64)
        self._bounds = np.concatenate([[0], np.cumsum(n_labels)])[bounds]
        self._backoffs = _exp(weight * backoffs.astype(np.float64))
        self._most = max(_NUMBERS_KEPT // len(words), 1)
        self._row_of = np.empty(model.n_states, np.int64)
        self.factors, self.next_states = np.empty((64, len(words))), np.empty((64, len(words)), np.int64)
        self._forget()

    def of(self, states: Ints) -> Ints:
        """The rows of states, of any shape."""
        found: Ints = self._row_of[states]
        if found.min(initial=0) < 0:
            if self._n > self._most:
                self._forget()
            self._make(np.unique(states[self._row_of[states] < 0]))
            found = self._row_of[states]
        return found

    def _make(self, states: Ints) -> None:
        """Make the rows of different states that have none, and those of their shorter contexts before."""
        wanted = [states]
        self._row_of[states] = _WANTED
        while len(states):
            shorter = self._suffixes[states]
            states = np.unique(shorter[self._row_of[shorter] == _NONE])
            self._row_of[states] = _WANTED
            wanted.append(states)
        states = np.concatenate(wanted)
        while len(states):  # mostly once: the rows of all shorter contexts are there
            is_next = self._row_of[self._suffixes[states]] >= 0
            self._make_rows(states[is_next])
            states = states[~is_next]

    def _make_rows(self, states: Ints) -> None:
        """Make the rows of states; those of their shorter contexts are there."""
        rows = np.arange(self._n, self._n + len(states))
        self._n += len(states)
        if self._n > len(self.factors):
            n_more = max(self._n, len(self.factors))
            self.factors = np.concatenate([self.factors, np.empty((n_more, self.factors.shape[1]))])
            self.next_states = np.concatenate([self.next_states, np.empty((n_more, self.factors.shape[1]), np.int64)])
        shorter = self._row_of[self._suffixes[states]]
        self.factors[rows] = self.factors[shorter] * self._backoffs[states, None]
        self.next_states[rows] = self.next_states[shorter]
        self._row_of[states] = rows
        self._own_ngrams(states, rows)

    def _own_ngrams(self, states: Ints, rows: Ints) -> None:
        """Put the states' own n-grams into their rows."""
        n_own = self._bounds[states + 1] - self._bounds[states]
        own = np.arange(n_own.sum()) + np.repeat(self._bounds[states] - np.cumsum(n_own) + n_own, n_own)
        at = np.repeat(rows, n_own), self._labels[own]
        self.factors[at], self.next_states[at] = self._own[own], self._own_next[own]

    def _forget(self) -> None:
        """Drop all rows but that of the empty context, which has no shorter one."""
        empty = np.array([self._empty])
        self._row_of[:], self._n = _NONE, 1
        self._row_of[empty] = 0
        self.factors[0], self.next_states[0] = _SMALLEST, self._empty
        self._own_ngrams(empty, np.zeros(1, np.int64))


def _exp(exponents: np.ndarray) -> Floats:
    found: Floats = np.exp(np.clip(exponents, _LOWEST, -_LOWEST))
    return found


def label_tokens(labels: Sequence[str]) -> list[str]:
    """The LM's token of each label. Raises AnadilError if two labels have the same, or one has white space."""
    tokens = [label.replace(" ", SPACE) for label in labels]
    if len(set(tokens)) < len(tokens) or any(token.split() != [token] for token in tokens):
        raise AnadilError(
            f"a language model writes a space as {SPACE} (U+2581) and separates labels by white space; this model has a label "
            "with that sign, or with other white space\n"
            "  next: decode without a language model (--no-lm)"
        )
    return tokens


def check_alphabet(model: NGramModel, labels: Sequence[str]) -> list[str]:
    """The labels that the LM has never seen. Raises AnadilError if it is an LM of other tokens.

    At least half of its words must be labels: of an LM of words, or of another script, hardly any are. And if most labels
    are longer than a character, some of its words must be. Signs of imported models, such as <unk>, do not count.
    """
    tokens = [token for token in label_tokens(labels) if not is_sign(token)]
    words = set(model.words) - set(SPECIAL)
    shared = words & set(tokens)
    are_long = 2 * sum(len(token) > 1 for token in tokens) > len(tokens)
    if 2 * len(shared) < len(words) or not shared or (are_long and all(len(word) == 1 for word in words)):
        raise AnadilError(
            f"the language model is not one of this model's labels: {len(shared):,} of its {len(words):,} words "
            f"({_some(words)}) are among the {len(tokens):,} labels ({_some(tokens)})\n"
            "  next: make one of the labels: anadil lm build TEXT --model MODEL --unit char (or --unit subword)"
        )
    return [token for token in tokens if token not in words]


def _some(words: Sequence[str] | set[str]) -> str:
    shown = sorted(words)[:5] if isinstance(words, set) else list(words[:5])
    return ", ".join(map(repr, shown)) + (", ..." if len(words) > 5 else "")
