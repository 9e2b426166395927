"""Decoder: from a model's log-probs to tokens, words with times, text and confidence. The one way from log-probs to words."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from anadil.decoding.alignment import align
from anadil.decoding.beam import BEAM, Hypothesis, beam_search
from anadil.decoding.ctc import Token, best_path, sequence_confidence
from anadil.decoding.label_lm import LabelLM
from anadil.decoding.transcript import Word, joiner, words_from_tokens
from anadil.text.rules import TextRules


@dataclass(frozen=True, slots=True)
class Decoded:
    """The hypothesis for one stretch of audio."""

    tokens: tuple[Token, ...]
    words: tuple[Word, ...]
    joiner: str = " "  # between two words

    @property
    def text(self) -> str:
        """The words, joined."""
        return self.joiner.join(word.text for word in self.words)


@dataclass(frozen=True, slots=True)
class Decoder:
    """Decoding with the labels of `rules`: greedy (best path), or with `lm` a beam search.

    `frame_s` is the step of the log-probs in seconds. With an LM the time grows linearly with the frames, and the memory is
    bounded (`beam_search`).
    """

    rules: TextRules
    frame_s: float
    lm: LabelLM | None = None

    def decode(
        self, log_probs: np.ndarray, offset_s: float = 0.0, pauses: Sequence[tuple[float, float]] = ()
    ) -> Decoded:
        """Decode log_probs (frames, labels + blank), natural logarithms; the first frame starts at `offset_s` seconds.

        A pause (start, end), in seconds too, is a boundary between words. The text of a beam search gets its times and
        confidences from its likeliest path, as the best path has them. Raises ValueError as `best_path` does.
        """
        blank = self.rules.blank_id
        tokens = (
            best_path(log_probs, blank) if self.lm is None else _timed(log_probs, self._search(log_probs)[0], blank)
        )
        words = words_from_tokens(tokens, self.rules.labels, self.frame_s, offset_s, pauses)
        return Decoded(tuple(tokens), words, joiner(self.rules.labels))

    def n_best(self, log_probs: np.ndarray, n: int = 10) -> list[tuple[str, float]]:
        """Up to `n` different texts and their scores, the best first; without an LM by their probability alone.

        A score is the natural logarithm of the text's probability, plus, for each label, the LM's weight times its log-prob
        and the bonus.
        """
        found: dict[str, float] = {}
        for one in self._search(log_probs, at_least=n):
            found.setdefault(self._text(one), one.score)
        return list(found.items())[:n]

    def text(self, log_probs: np.ndarray) -> str:
        """The text alone of log_probs (frames, labels + blank): with an LM faster than `decode`, which finds the times too."""
        return self.decode(log_probs).text if self.lm is None else self._text(self._search(log_probs)[0])

    def _search(self, log_probs: np.ndarray, at_least: int = 1) -> list[Hypothesis]:
        beam = max(at_least, self.lm.weights.beam if self.lm else BEAM)
        return beam_search(log_probs, self.rules.blank_id, self.lm, beam)

    def _text(self, one: Hypothesis) -> str:
        tokens = [Token(label, 0, 0, 0.0) for label in one.labels]
        words = words_from_tokens(tokens, self.rules.labels, self.frame_s)
        return Decoded((), words, joiner(self.rules.labels)).text

    def confidence(self, log_probs: np.ndarray, decoded: Decoded) -> float:
        """Probability of `decoded` over all its alignments, per label, in [0, 1]; 0 for an empty hypothesis."""
        if not decoded.words:
            return 0.0
        return sequence_confidence(log_probs, [token.id for token in decoded.tokens], self.rules.blank_id)


def _timed(log_probs: np.ndarray, found: Hypothesis, blank: int) -> list[Token]:
    """The tokens of a hypothesis on its likeliest path, between the places where the search settled."""
    tokens: list[Token] = []
    ends = [(0, 0), *found.cuts, (len(log_probs), len(found.labels))]
    for (start, first), (end, last) in itertools.pairwise(ends):
        part = align(log_probs[start:end], found.labels[first:last], blank)
        tokens += [replace(token, start=token.start + start, end=token.end + start) for token in part]
    return tokens
