"""What the training loop asks of its caller: to decode and score a validation set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from anadil.text.rules import TextRules


@dataclass(frozen=True, slots=True)
class Judgement:
    """Corpus-level error rates of a validation set, and the hypotheses behind them."""

    cer: float
    wer: float
    hypotheses: list[str]


class Judge(Protocol):
    """Decodes log-probs (frames, labels + blank) of each utterance and scores them; given by the caller."""

    def __call__(self, log_probs: Sequence[np.ndarray], rules: TextRules, references: Sequence[str]) -> Judgement: ...


def cer_by_language(
    judge: Judge,
    log_probs: Sequence[np.ndarray],
    rules: TextRules,
    references: Sequence[str],
    languages: Sequence[str],
) -> dict[str, float]:
    """CER of the utterances of each language, by name; nothing if `languages` (of each utterance) is empty."""
    rates = {}
    for language in sorted(set(languages)):
        spoken = [i for i, name in enumerate(languages) if name == language]
        rates[language] = judge([log_probs[i] for i in spoken], rules, [references[i] for i in spoken]).cer
    return rates
