"""What whole words add to the score of a search over labels: an n-gram of words with unknown words at a price, and hotwords."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from anadil.decoding.beam import Floats, Ints, LabelScorer
from anadil.decoding.transcript import BOUNDARY, joiner
from anadil.errors import AnadilError
from anadil.lm.model import NGramModel
from anadil.text.rules import TextRules

HOTWORD_WEIGHT = 4.0
"""Nats that a hotword adds to the score of a text, if none are given."""
MAX_HOTWORD_WEIGHT = 50.0
MAX_HOTWORDS = 100_000
_MOST_POSITIONS = 1 << 20
"""Positions kept from search to search, at most: 300 MB. A search of 64 utterances meets some ten thousand new ones."""
_BITS = 32  # of a state for the position; the rest is the state of the label scorer
_LOWEST = -200.0  # of a factor's logarithm, so that no mass becomes 0


class WordNGram:
    """An n-gram of words with its weights in a search."""

    def __init__(self, model: NGramModel, weight: float, bonus: float, unknown: float) -> None:
        """A word adds weight * log-prob + bonus; one that the model does not have, `unknown` more. All in nats."""
        self.model, self.weight, self.bonus, self.unknown = model, weight, bonus, unknown

    def score(self, state: int, word: str) -> tuple[float, int]:
        """What a word after `state` adds to the score, and the next state."""
        number = self.model.word_ids.get(word)
        if number is None or number in (self.model.bos, self.model.eos, self.model.unk):
            log_prob, after = self.model.advance_one(state, self.model.unk)
            return self.weight * log_prob + self.bonus + self.unknown, after
        log_prob, after = self.model.advance_one(state, number)
        return self.weight * log_prob + self.bonus, after

    def end(self, state: int) -> float:
        """What the end of the text adds."""
        return self.weight * self.model.advance_one(state, self.model.eos)[0]


class Hotwords:
    """Words and phrases whose texts get a bonus, in nats; a part of it with each of their characters."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        """Texts as the model writes them (`checked_hotwords`), words separated by one space."""
        self.weights = dict(weights)
        self._potential = {"": 0.0}  # of each beginning: the bonus that it has so far
        for phrase, weight in weights.items():
            for n in range(1, len(phrase) + 1):
                part = weight * n / len(phrase)
                known = self._potential.get(phrase[:n], part)
                self._potential[phrase[:n]] = max(known, part) if weight > 0 else min(known, part)

    def _earned(self, text: str) -> float:
        """The weight of the longest hotword that is complete within `text`, which begins a longer one."""
        while text:
            if text in self.weights:
                return self.weights[text]
            text = text.rpartition(BOUNDARY)[0]
        return 0.0

    def _worth(self, begun: str | None) -> float:
        return 0.0 if begun is None else self._potential[begun]

    def after(self, begun: str | None, text: str) -> tuple[str | None, float]:
        """Add a label's text to what is begun (None: a word that begins no hotword). Returns what is begun now, and the bonus."""
        bonus = 0.0
        if begun is not None and begun + text in self._potential and text:
            now: str | None = begun + text
            return now, self._worth(now) - self._worth(begun)
        if text.startswith(BOUNDARY):
            bonus = self.end(begun)
            now, text = "", text[1:]
            if text:
                now = text if text in self._potential else None
            return now, bonus + self._worth(now)
        if begun is None:
            return None, 0.0
        # a later word of the phrase may begin another hotword
        now, earned = None, self._earned_before_word(begun)
        rest = begun + text
        while BOUNDARY in rest:
            rest = rest.partition(BOUNDARY)[2]
            if rest in self._potential:
                now = rest
                break
        return now, earned - self._worth(begun) + self._worth(now)

    def _earned_before_word(self, begun: str) -> float:
        return self._earned(begun.rpartition(BOUNDARY)[0])

    def end(self, begun: str | None) -> float:
        """The bonus if the word ends here: what is begun and not complete loses what it had."""
        return 0.0 if begun is None else self._earned(begun) - self._worth(begun)


class WordScorer:
    """A `LabelScorer` that adds words and hotwords to another one.

    A state is the label scorer's, and the number of a position: state of the word n-gram, text of the word so far,
    begun hotword.
    """

    def __init__(
        self, base: LabelScorer, labels: Sequence[str], words: WordNGram | None, hotwords: Hotwords | None
    ) -> None:
        self._base, self._labels, self._words, self._hotwords = base, list(labels), words, hotwords
        self._starts_word = np.array([label.startswith(BOUNDARY) for label in labels])
        self._forget()

    def _forget(self) -> None:
        self._positions: dict[tuple[int, str, str | None], int] = {}
        self._tuples: list[tuple[int, str, str | None]] = []
        self._moves: dict[tuple[int, int], int] = {}
        self._after_word: list[int] = []  # by position: state of the word n-gram if the word ends there
        self._word_factors = np.empty(1024)  # by position: the factor of a label that ends the word
        self._hot_rows: dict[str | None, int] = {}
        self._hot_row_of = np.empty(1024, np.int64)  # by position
        self._hot_factors = np.empty((0, len(self._labels)))  # by begun hotword and label

    def begin(self) -> int:
        if len(self._tuples) > _MOST_POSITIONS:
            self._forget()
        start = self._words.model.start if self._words else 0
        return (self._base.begin() << _BITS) + self._position(start, "", "" if self._hotwords else None)

    def factors(self, states: Ints, labels: Ints) -> Floats:
        positions = states & ((1 << _BITS) - 1)
        found = self._base.factors(states >> _BITS, labels)
        if self._words:
            ends = self._starts_word[labels][:, None, :]
            found = found * np.where(ends, self._word_factors[positions][:, :, None], 1.0)
        if self._hotwords:
            found = found * self._hot_factors[self._hot_row_of[positions][:, :, None], labels[:, None, :]]
        return found

    def next_states(self, states: Ints, labels: Ints) -> Ints:
        base = self._base.next_states(states >> _BITS, labels)
        moves, found = self._moves, []
        for key in zip((states & ((1 << _BITS) - 1)).tolist(), labels.tolist(), strict=True):
            after = moves.get(key)
            if after is None:
                after = moves[key] = self._move(*key)
            found.append(after)
        return (base << _BITS) + np.array(found, np.int64)

    def ends(self, states: Ints) -> Floats:
        found = self._base.ends(states >> _BITS)
        positions = states & ((1 << _BITS) - 1)
        nats = np.zeros(len(states))
        for i, position in enumerate(positions.tolist()):
            _, _, begun = self._tuples[position]
            if self._words:
                nats[i] += self._words.end(self._after_word[position])
            if self._hotwords:
                nats[i] += self._hotwords.end(begun)
        if self._words:
            found = found * self._word_factors[positions]
        ended: Floats = found * np.exp(np.clip(nats, _LOWEST, -_LOWEST))
        return ended

    def _move(self, position: int, label: int) -> int:
        state, word, begun = self._tuples[position]
        text = self._labels[label]
        if self._hotwords:
            begun = self._hotwords.after(begun, text)[0]
        if self._words:
            if text.startswith(BOUNDARY):
                state, word = self._after_word[position], text[1:]
            else:
                word += text
        return self._position(state, word, begun)

    def _position(self, state: int, word: str, begun: str | None) -> int:
        key = state, word, begun
        found = self._positions.get(key)
        if found is not None:
            return found
        number = self._positions[key] = len(self._tuples)
        self._tuples.append(key)
        if number >= len(self._word_factors):
            self._word_factors = np.concatenate([self._word_factors, np.empty(number)])
            self._hot_row_of = np.concatenate([self._hot_row_of, np.empty(number, np.int64)])
        nats, after = self._words.score(state, word) if self._words and word else (0.0, state)
        self._after_word.append(after)
        self._word_factors[number] = math.exp(min(max(nats, _LOWEST), -_LOWEST))
        self._hot_row_of[number] = self._hot_row(begun)
        return number

    def _hot_row(self, begun: str | None) -> int:
        """The row of factors by label after a begun hotword."""
        if self._hotwords is None:
            return 0
        found = self._hot_rows.get(begun)
        if found is None:
            found = self._hot_rows[begun] = len(self._hot_rows)
            if found >= len(self._hot_factors):
                more = np.empty((max(64, found), len(self._labels)))
                self._hot_factors = np.concatenate([self._hot_factors, more])
            nats = np.array([self._hotwords.after(begun, text)[1] for text in self._labels])
            self._hot_factors[found] = np.exp(np.clip(nats, _LOWEST, -_LOWEST))
        return found


def checked_hotwords(given: Iterable[str], rules: TextRules) -> dict[str, float]:
    """Hotwords as the model writes them, with their weights, from lines `word` or `word:weight`; a phrase may have spaces.

    A weight is in nats; one below 0 makes a word rarer. Raises AnadilError that names each word with a character outside
    the model's alphabet, and each bad weight.
    """
    found: dict[str, float] = {}
    problems: list[str] = []
    if not joiner(rules.labels):
        raise AnadilError(
            "hotwords need a model whose labels have a space, and this one has none: its texts have no words\n"
            "  next: transcribe without hotwords"
        )
    for line in given:
        text, colon, number = line.strip().rpartition(":")
        weight = HOTWORD_WEIGHT
        if colon and text:
            try:
                weight = float(number)
            except ValueError:
                text = line.strip()
        else:
            text = line.strip()
        if not text:
            continue
        word = rules.normalize(text)
        unknown = rules.unlabelled(word)
        if not word or unknown:
            why = (
                f"no label for {', '.join(map(repr, dict.fromkeys(unknown)))}"
                if word
                else "the text rules leave nothing of it"
            )
            problems.append(f"{text!r}: {why}")
        elif not abs(weight) <= MAX_HOTWORD_WEIGHT:
            problems.append(
                f"{text!r}: the weight {weight:g} is not from -{MAX_HOTWORD_WEIGHT:g} to {MAX_HOTWORD_WEIGHT:g}"
            )
        else:
            found[word] = weight
    if len(found) > MAX_HOTWORDS:
        problems.append(f"{len(found):,} hotwords; {MAX_HOTWORDS:,} are allowed")
    if problems:
        shown = "\n  ".join(problems[:10]) + (f"\n  and {len(problems) - 10:,} more" if len(problems) > 10 else "")
        raise AnadilError(
            f"hotwords that the model cannot write, or bad weights:\n  {shown}\n  next: correct or remove them"
        )
    return found
