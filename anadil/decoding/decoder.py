"""Decoder: from a model's log-probs to tokens, words with times, text and confidence. The one way from log-probs to words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anadil.decoding.ctc import Token, best_path, sequence_confidence
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
    """Greedy (best path) decoding with the labels of `rules`; `frame_s` is the step of the log-probs in seconds."""

    rules: TextRules
    frame_s: float

    def decode(
        self, log_probs: np.ndarray, offset_s: float = 0.0, pauses: Sequence[tuple[float, float]] = ()
    ) -> Decoded:
        """Decode log_probs (frames, labels + blank), natural logarithms; the first frame starts at `offset_s` seconds.

        A pause (start, end), in seconds too, is a boundary between words. Raises ValueError as `best_path` does.
        """
        tokens = best_path(log_probs, self.rules.blank_id)
        words = words_from_tokens(tokens, self.rules.labels, self.frame_s, offset_s, pauses)
        return Decoded(tuple(tokens), words, joiner(self.rules.labels))

    def confidence(self, log_probs: np.ndarray, decoded: Decoded) -> float:
        """Probability of `decoded` over all its alignments, per label, in [0, 1]; 0 for an empty hypothesis."""
        if not decoded.words:
            return 0.0
        return sequence_confidence(log_probs, [token.id for token in decoded.tokens], self.rules.blank_id)
