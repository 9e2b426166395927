"""Word confidence: from the probabilities of labels, and of a search's other texts, to the probability that a word is right."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import BaseModel, Field
from rapidfuzz.distance import Levenshtein

from anadil.settings import SECTION

_NEAREST = 1e-4
"""A probability is taken to be at least so far from 0 and 1, so that its logit is finite."""


class ConfidenceMap(BaseModel):
    """P(word is right) = 1 / (1 + exp(-(constant + slope * logit(raw) + posterior_slope * logit(posterior)))).

    Platt 1999, "Probabilistic outputs for support vector machines". No slope is below 0, so a higher raw
    confidence never gives a lower one.
    """

    model_config = SECTION

    constant: float = Field(ge=-50, le=50)
    slope: float = Field(ge=0, le=50)
    posterior_slope: float = Field(0.0, ge=0, le=50)  # 0 for greedy decoding, which has no other texts

    def apply(self, raw: float, posterior: float = 1.0) -> float:
        """Of a word: `raw` is the mean probability of its labels, `posterior` that of the texts that have it (`posteriors`)."""
        x = self.constant + self.slope * logit(raw)
        if self.posterior_slope:
            x += self.posterior_slope * logit(posterior)
        return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def logit(probability: float) -> float:
    """log(p / (1 - p)), finite for 0 and 1 too."""
    p = min(max(probability, _NEAREST), 1 - _NEAREST)
    return math.log(p / (1 - p))


def posteriors(words: Sequence[str], texts: Sequence[Sequence[str]], scores: Sequence[float]) -> list[float]:
    """Of each of the words of a text: the share of the texts that have it at its place, each weighed by exp(score).

    `texts` are those that the search kept, as words, the text itself included.
    """
    highest = max(scores, default=0.0)
    weights = [math.exp(score - highest) for score in scores]
    found = [0.0] * len(words)
    for text, weight in zip(texts, weights, strict=True):
        if text == words:
            found = [one + weight for one in found]
            continue
        for block in Levenshtein.opcodes(words, text):
            if block.tag == "equal":
                for i in range(block.src_start, block.src_end):
                    found[i] += weight
    everything = sum(weights) or 1.0
    return [min(one / everything, 1.0) for one in found]
