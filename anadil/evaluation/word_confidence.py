"""Calibration of word confidences on validation data: a map to P(word is right), and how far off they are with and without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein

from anadil.decoding.confidence import ConfidenceMap, logit
from anadil.decoding.decoder import Decoded, Decoder
from anadil.decoding.language_model import LanguageModel, LmWeights
from anadil.decoding.transcript import joiner
from anadil.evaluation.card import write_section
from anadil.evaluation.lm_tuning import halves
from anadil.text.rules import TextRules

BINS = 10
"""Of equal width, of the expected calibration error."""
MIN_WORDS = 200
"""With fewer words of the hypotheses no map is fitted, nor if fewer than a tenth of so many are right, or wrong."""

_RIDGE = 1e-3
_STEPS = 50


@dataclass(frozen=True)
class CalibratedWords:
    """A fitted map. The error with it is measured on halves, each with the map that was fitted on the other half."""

    map: ConfidenceMap
    n_words: int
    before: float  # expected calibration error of the raw confidences
    after: float

    def describe(self) -> str:
        return f"expected calibration error {self.before:.3f} -> {self.after:.3f} ({self.n_words:,} words)"


def calibrate_words(
    decoder: Decoder, references: Sequence[str], log_probs: Sequence[np.ndarray]
) -> CalibratedWords | None:
    """Fit a map for `decoder` on log_probs, one (frames, labels + blank) per reference.

    A word is right if an alignment of fewest errors pairs it with the same word. None if there are too few words, if the
    labels have no space, or if the map does not lower the error.
    """
    if not joiner(decoder.rules.labels):
        return None
    decoded = replace(decoder, word_confidence=None, with_posteriors=decoder.lm is not None).decode_many(log_probs)
    whose = np.repeat(np.arange(len(decoded)), [len(one.words) for one in decoded])
    raw = np.array([word.confidence for one in decoded for word in one.words])
    features = np.array([_features(one, i) for one in decoded for i in range(len(one.words))])
    right = np.array([is_right for one in zip(decoded, references, strict=True) for is_right in _right(*one)])
    parts = [np.isin(whose, half) for half in halves(references)]
    if len(raw) < MIN_WORDS or any(
        min(right[part].sum(), (~right[part]).sum()) < MIN_WORDS / 10 / len(parts) for part in parts
    ):
        return None
    tested = np.empty(len(raw))
    for part, other in (parts, parts[::-1]):
        tested[other] = _apply(_fit(features[part], right[part]), features[other])
    before, after = (expected_calibration_error(one, right) for one in (raw, tested))
    if after >= before:
        return None
    constant, slope, *rest = (float(round(one, 4)) for one in _fit(features, right))
    return CalibratedWords(
        ConfidenceMap(constant=constant, slope=slope, posterior_slope=rest[0] if rest else 0.0), len(raw), before, after
    )


def expected_calibration_error(confidences: np.ndarray, right: np.ndarray) -> float:
    """Mean distance of confidence and share of right words, over bins of confidence weighed by their words.

    Naeini et al. 2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning", equation 3.
    """
    if not len(confidences):
        return 0.0
    bins = np.minimum((confidences * BINS).astype(int), BINS - 1)
    error = 0.0
    for one in np.unique(bins):
        own = bins == one
        error += own.mean() * abs(float(confidences[own].mean()) - float(right[own].mean()))
    return float(error)


def _features(decoded: Decoded, i: int) -> list[float]:
    raw = logit(decoded.words[i].confidence)
    return [raw, logit(decoded.posteriors[i])] if decoded.posteriors else [raw]


def _right(decoded: Decoded, reference: str) -> list[bool]:
    """Of each word of the hypothesis whether it is right."""
    found = [False] * len(decoded.words)
    for block in Levenshtein.opcodes(reference.split(), [word.text for word in decoded.words]):
        if block.tag == "equal":
            found[block.dest_start : block.dest_end] = [True] * (block.dest_end - block.dest_start)
    return found


def _fit(features: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Logistic regression by Newton's steps: constant and slopes; a slope below 0 is set to 0 and the others fitted again."""
    used = np.arange(features.shape[1])
    while True:
        x = np.column_stack([np.ones(len(features)), features[:, used]])
        weights = np.zeros(x.shape[1])
        for _ in range(_STEPS):
            p = _sigmoid(x @ weights)
            gradient = x.T @ (p - right) + _RIDGE * weights
            step = np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + _RIDGE * np.eye(len(weights)), gradient)
            weights -= step
            if np.abs(step).max() < 1e-9:
                break
        if (weights[1:] >= 0).all():
            found = np.zeros(features.shape[1] + 1)
            found[0], found[used + 1] = weights[0], weights[1:]
            return found
        used = used[weights[1:] > 0]


def _apply(weights: np.ndarray, features: np.ndarray) -> np.ndarray:
    return _sigmoid(weights[0] + features @ weights[1:])


def _sigmoid(x: np.ndarray) -> np.ndarray:
    found: np.ndarray = 1 / (1 + np.exp(-np.clip(x, -60, 60)))
    return found


@dataclass(frozen=True)
class Calibration:
    """The maps of a model's decoders; None where none was fitted."""

    greedy: CalibratedWords | None
    with_lm: CalibratedWords | None

    def weights(self, weights: LmWeights) -> LmWeights:
        """`weights` with the maps."""
        return weights.model_copy(
            update={
                "greedy_confidence": self.greedy and self.greedy.map,
                "confidence": self.with_lm and self.with_lm.map,
            }
        )

    def describe(self) -> str:
        """One line: the errors before and after; empty if no map was fitted."""
        found = [("greedy", self.greedy), ("with the language model", self.with_lm)]
        return "; ".join(f"{how}: {one.describe()}" for how, one in found if one)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        found = {"greedy": self.greedy, "with_lm": self.with_lm}
        return {
            name: one and {"n_words": one.n_words, "error_before": one.before, "error_after": one.after}
            for name, one in found.items()
        }

    def add_to_card(self, folder: Path) -> None:
        """Write the section about it in the model card of a folder, or remove an earlier one."""
        text = self.describe()
        if text:
            text = (
                "The confidence of a word is the probability that it is right, as fitted on the validation words "
                f"(each half tested with the map of the other half).\n{text[0].upper()}{text[1:]}."
            )
        write_section(folder, "Word confidence", text)


def calibrate(
    rules: TextRules, lm: LanguageModel | None, references: Sequence[str], log_probs: Sequence[np.ndarray]
) -> Calibration:
    """The maps for greedy decoding and for decoding with `lm`, on validation data."""
    found = [
        calibrate_words(Decoder(rules, 1.0, one), references, log_probs) if is_wanted else None  # times are not used
        for one, is_wanted in ((None, True), (lm, lm is not None))
    ]
    return Calibration(*found)
