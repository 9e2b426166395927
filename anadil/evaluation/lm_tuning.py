"""Weights of a language model in the beam search, chosen on validation data; and whether it helps at all."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from anadil.decoding.beam import BEAM
from anadil.decoding.decoder import Decoder
from anadil.decoding.label_lm import LabelLM, LmWeights
from anadil.evaluation.errors import ErrorCounts, total
from anadil.evaluation.evaluate import Scored, compare
from anadil.evaluation.intervals import bootstrap_interval
from anadil.lm.model import NGramModel
from anadil.manifest import Utterance
from anadil.text.rules import TextRules

MAX_SECONDS, MAX_UTTERANCES = 1200.0, 500
"""Validation speech that weights are tuned on, at most."""
MIN_UTTERANCES = 20
"""Fewer cannot show that a language model helps."""

_WEIGHTS = (0.25, 0.5, 0.75, 1.0, 1.25)
_RATIOS = (0.7, 1.0, 2.0, 2.8)
_FIRST_RATIO = 1.4
"""Label bonus per nat that a label costs with the LM's weight. On Mboshi and on the demo 1.3 to 1.6 are best."""
_CLOSE_SHARE = 0.8


@dataclass(frozen=True)
class Tuned:
    """Weights, and what each half of the validation data gains with the weights that the other half chose."""

    weights: LmWeights
    greedy: tuple[Scored, ...]
    with_lm: tuple[Scored, ...]  # each half with the weights that the other half chose: chosen and tested apart
    tried: tuple[tuple[LmWeights, float, float], ...]  # weights, CER and WER on all of the data
    speakers: tuple[str, ...] | None

    @property
    def rates(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """CER and WER, greedy and with the LM."""
        greedy, with_lm = (
            (total(one.characters for one in scored).rate, total(one.words for one in scored).rate)
            for scored in (self.greedy, self.with_lm)
        )
        return greedy, with_lm

    @property
    def cer_gain(self) -> tuple[float, float] | None:
        """95 % interval of CER with the LM minus CER without (below 0: better), by a paired bootstrap."""
        return self._gain([one.characters for one in self.greedy], [one.characters for one in self.with_lm])

    @property
    def wer_gain(self) -> tuple[float, float] | None:
        """The same for WER."""
        return self._gain([one.words for one in self.greedy], [one.words for one in self.with_lm])

    def _gain(self, greedy: Sequence[ErrorCounts], with_lm: Sequence[ErrorCounts]) -> tuple[float, float] | None:
        differences = [
            ErrorCounts(b.errors - a.errors, 0, 0, a.reference) for a, b in zip(greedy, with_lm, strict=True)
        ]
        return bootstrap_interval(differences, self.speakers)

    @property
    def helps(self) -> bool:
        """Whether one rate is lower beyond chance (the whole interval below 0), and the other no higher."""
        (cer, wer), (lm_cer, lm_wer) = self.rates
        lower_cer = self.cer_gain is not None and self.cer_gain[1] < 0
        lower_wer = self.wer_gain is not None and self.wer_gain[1] < 0
        return (lower_cer and lm_wer <= wer) or (lower_wer and lm_cer <= cer)

    def describe(self) -> str:
        """One line: the rates without and with the LM, and the intervals of the differences."""
        (cer, wer), (lm_cer, lm_wer) = self.rates
        return (
            f"CER {cer:.2%} -> {lm_cer:.2%} (difference {_interval(self.cer_gain)}), "
            f"WER {wer:.2%} -> {lm_wer:.2%} (difference {_interval(self.wer_gain)})"
        )

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON-ready data; rates are fractions."""
        (cer, wer), (lm_cer, lm_wer) = self.rates
        return {
            "weights": self.weights.model_dump(),
            "helps": self.helps,
            "n_utterances": len(self.greedy),
            "greedy": {"cer": cer, "wer": wer},
            "with_lm": {"cer": lm_cer, "wer": lm_wer},
            "cer_difference_interval": self.cer_gain and list(self.cer_gain),
            "wer_difference_interval": self.wer_gain and list(self.wer_gain),
            "tried": [
                {"lm_weight": w.lm_weight, "label_bonus": w.label_bonus, "cer": cer, "wer": wer}
                for w, cer, wer in self.tried
            ],
        }


def _interval(interval: tuple[float, float] | None) -> str:
    return f"{100 * interval[0]:+.2f} to {100 * interval[1]:+.2f} points" if interval else "unknown: too few utterances"


def tune(
    model: NGramModel,
    rules: TextRules,
    utterances: Sequence[Utterance],
    references: Sequence[str],
    log_probs: Sequence[np.ndarray],
    beam: int = BEAM,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Tuned:
    """Choose weight and bonus by the CER of log_probs, one (frames, labels + blank) per utterance; WER breaks ties.

    First the weight with the bonus in a fixed ratio to it, then the ratio, then the weight once more: 11 or 12 decodings. Which
    weights are tried is found on all of the data; each half is then scored with those of them that are best on the other
    half. Utterances of one text are in the same half.
    Raises AnadilError if the LM is not one of the labels of `rules`.
    """
    lm = LabelLM(model, rules.labels, LmWeights(lm_weight=1.0))
    nats = _nats_per_label(lm, rules, references)
    n_steps = len(_WEIGHTS) + len(_RATIOS) + 2
    frame_s = 1.0  # times are not used
    greedy = compare(utterances, references, [Decoder(rules, frame_s).decode(one).text for one in log_probs])
    found: dict[tuple[float, float], tuple[Scored, ...]] = {}

    def attempt(weight: float, ratio: float) -> None:
        key = round(weight, 4), round(ratio, 4)
        if key in found or not 0 < weight <= 10:
            return
        decoder = Decoder(rules, frame_s, lm.with_weights(_weights(*key, nats, beam)))
        found[key] = compare(utterances, references, [decoder.text(one) for one in log_probs])
        on_progress(len(found), n_steps)

    def best(indices: Sequence[int]) -> tuple[float, float]:
        return min(found, key=lambda key: _rates(found[key], indices))

    everything = range(len(utterances))
    for weight in _WEIGHTS:
        attempt(weight, _FIRST_RATIO)
    weight, _ = best(everything)
    for ratio in _RATIOS:
        attempt(weight, ratio)
    weight, ratio = best(everything)
    for other in (weight - 0.12, weight + 0.12 if weight < _WEIGHTS[-1] else weight + 0.4):
        attempt(other, ratio)
    on_progress(n_steps, n_steps)
    halves = _halves(references)
    tested: list[Scored] = [*greedy]
    for half, other_half in (halves, halves[::-1]):
        chosen = found[best(other_half)]
        for i in half:
            tested[i] = chosen[i]
    speakers = [one.speaker for one in utterances if one.speaker]
    return Tuned(
        _weights(*best(everything), nats, beam),
        greedy,
        tuple(tested),
        tuple((_weights(*key, nats, beam), *_rates(scored, everything)) for key, scored in found.items()),
        tuple(speakers) if len(speakers) == len(utterances) else None,
    )


def _weights(weight: float, ratio: float, nats: float, beam: int) -> LmWeights:
    return LmWeights(lm_weight=weight, label_bonus=round(weight * ratio * nats, 3), beam=beam)


def _rates(scored: Sequence[Scored], indices: Sequence[int]) -> tuple[float, float]:
    """CER and WER of some of the utterances."""
    return total(scored[i].characters for i in indices).rate, total(scored[i].words for i in indices).rate


def _nats_per_label(lm: LabelLM, rules: TextRules, references: Sequence[str]) -> float:
    """What a label of the references costs under the LM on average; those with characters without a label do not count."""
    nats, n_labels = 0.0, 0
    for reference in references:
        if rules.unlabelled(reference):
            continue
        state = lm.start
        labels = rules.encode(reference)
        for label in labels:
            factors, states, _ = lm.after(state)
            nats -= float(np.log(factors[label]))
            state = states[label]
        n_labels += len(labels)
    return min(nats / n_labels, 5.0) if n_labels else 1.5


def _halves(references: Sequence[str]) -> tuple[list[int], list[int]]:
    """Indices of two halves that share no text."""
    texts = sorted(set(references))
    random.Random(0).shuffle(texts)
    first = set(texts[: len(texts) // 2])
    return [i for i, text in enumerate(references) if text in first], [
        i for i, text in enumerate(references) if text not in first
    ]


def choose_utterances(durations: Sequence[float], seed: int = 0) -> list[int]:
    """Indices, sorted, of at most MAX_UTTERANCES with at most MAX_SECONDS in all, drawn at random."""
    order = list(range(len(durations)))
    random.Random(seed).shuffle(order)
    seconds = 0.0
    chosen: list[int] = []
    for i in order[:MAX_UTTERANCES]:
        if seconds + durations[i] <= MAX_SECONDS:
            seconds += durations[i]
            chosen.append(i)
    return sorted(chosen)


@dataclass(frozen=True)
class Closeness:
    """How many validation sentences are in the training text, or nearly: such ones flatter a language model."""

    n: int
    n_same: int
    n_close: int  # those included whose word 3-grams are in the training text, four of five or more

    def warning(self) -> str:
        """In words, if a tenth of the sentences or more are close; else empty."""
        if not self.n or self.n_close < 0.1 * self.n:
            return ""
        return (
            f"{self.n_close:,} of {self.n:,} validation sentences are in the training text or nearly so ({self.n_same:,} word "
            "for word): they flatter the language model, which helps less on other text\n"
            "  next: anadil split keeps sentences apart (--disjoint text)"
        )


def closeness(training: Iterable[str], validation: Sequence[str]) -> Closeness:
    """Compare normalised sentences. One of fewer than four words counts as close if it is in the training text."""
    sentences = set(training)
    trigrams = {gram for sentence in sentences for gram in _trigrams(sentence)}
    n_same = sum(one in sentences for one in validation)
    n_close = 0
    for one in validation:
        own = _trigrams(one)
        n_close += one in sentences or (
            len(own) > 1 and sum(gram in trigrams for gram in own) >= _CLOSE_SHARE * len(own)
        )
    return Closeness(len(validation), n_same, n_close)


def _trigrams(sentence: str) -> list[tuple[str, ...]]:
    words = sentence.split()
    return [tuple(words[i : i + 3]) for i in range(len(words) - 2)]
