"""Weights of a language model in the beam search, chosen on validation data; and whether it helps at all."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anadil.decoding.beam import BEAM
from anadil.decoding.decoder import Decoder
from anadil.decoding.label_lm import LabelLM
from anadil.decoding.language_model import LanguageModel, LmWeights
from anadil.decoding.word_lm import WordNGram
from anadil.evaluation.card import write_section
from anadil.evaluation.errors import ErrorCounts, total
from anadil.evaluation.evaluate import Scored, compare
from anadil.evaluation.intervals import rate_interval
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

_WORD_WEIGHTS = (0.1, 0.2, 0.3, 0.5)
_WORD_RATIOS = (0.5, 0.9, 1.3)
"""Word bonus per nat that a word costs with the word model's weight."""
_UNKNOWN = (-3.0, -2.0, -1.0, 0.0, 1.0)
_SHARES = (0.8, 1.2)
"""Factors of the weights of the model of labels beside the one of words."""


@dataclass(frozen=True)
class Tuned:
    """Weights, and what each half of the validation data gains with the weights that the other half chose."""

    weights: LmWeights
    before: tuple[Scored, ...]  # greedy, or with the language model of labels that a model of words is added to
    with_lm: tuple[Scored, ...]  # each half with the weights that the other half chose: chosen and tested apart
    tried: tuple[tuple[LmWeights, float, float], ...]  # weights, CER and WER on all of the data
    speakers: tuple[str, ...] | None
    was: str = "greedy"  # how `before` was decoded

    @property
    def rates(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """CER and WER, before and with the LM."""
        before, with_lm = (
            (total(one.characters for one in scored).rate, total(one.words for one in scored).rate)
            for scored in (self.before, self.with_lm)
        )
        return before, with_lm

    @property
    def cer_gain(self) -> tuple[float, float] | None:
        """95 % interval of CER with the LM minus CER without (below 0: better), paired."""
        return self._gain([one.characters for one in self.before], [one.characters for one in self.with_lm])

    @property
    def wer_gain(self) -> tuple[float, float] | None:
        """The same for WER."""
        return self._gain([one.words for one in self.before], [one.words for one in self.with_lm])

    def _gain(self, greedy: Sequence[ErrorCounts], with_lm: Sequence[ErrorCounts]) -> tuple[float, float] | None:
        differences = [
            ErrorCounts(b.errors - a.errors, 0, 0, a.reference) for a, b in zip(greedy, with_lm, strict=True)
        ]
        return rate_interval(differences, self.speakers, of_rate=False)

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
            "n_utterances": len(self.before),
            self.was: {"cer": cer, "wer": wer},
            "with_lm": {"cer": lm_cer, "wer": lm_wer},
            "cer_difference_interval": self.cer_gain and list(self.cer_gain),
            "wer_difference_interval": self.wer_gain and list(self.wer_gain),
            "tried": [
                w.model_dump(exclude={"format", "version", "beam"}) | {"cer": cer, "wer": wer}
                for w, cer, wer in self.tried
            ],
        }


def _interval(interval: tuple[float, float] | None) -> str:
    return f"{100 * interval[0]:+.2f} to {100 * interval[1]:+.2f} points" if interval else "unknown: too few utterances"


@dataclass(frozen=True)
class TuningData:
    """Validation speech as a network has heard it, to be decoded with one set of weights after another."""

    rules: TextRules
    utterances: Sequence[Utterance]
    references: Sequence[str]  # normalised by the rules
    log_probs: Sequence[np.ndarray]  # (frames, labels + blank) of each utterance
    beam: int = BEAM


class _Trials:
    """Decodings of validation data with several weights."""

    def __init__(
        self,
        data: TuningData,
        model_with: Callable[[LmWeights], LanguageModel],
        words_first: bool,
        on_attempt: Callable[[int], None],
    ) -> None:
        self._data, self._model_with, self._on_attempt = data, model_with, on_attempt
        self._words_first = words_first
        self.found: dict[LmWeights, tuple[Scored, ...]] = {}

    def decode(self, lm: LanguageModel | None) -> tuple[Scored, ...]:
        texts = Decoder(self._data.rules, 1.0, lm).texts(self._data.log_probs)  # times are not used
        return compare(self._data.utterances, self._data.references, texts)

    def attempt(self, weights: LmWeights) -> None:
        if weights not in self.found:
            self.found[weights] = self.decode(self._model_with(weights))
            self._on_attempt(len(self.found))

    def best(self, indices: Sequence[int] | None = None) -> LmWeights:
        some = range(len(self._data.references)) if indices is None else indices

        def rates(weights: LmWeights) -> tuple[float, float]:
            cer, wer = _rates(self.found[weights], some)
            return (wer, cer) if self._words_first else (cer, wer)

        return min(self.found, key=rates)

    def tuned(self, before: tuple[Scored, ...], was: str) -> Tuned:
        """The best weights, and each half of the data with those that are best on the other half."""
        parts = halves(self._data.references)
        tested: list[Scored] = [*before]
        for half, other_half in (parts, parts[::-1]):
            chosen = self.found[self.best(other_half)]
            for i in half:
                tested[i] = chosen[i]
        speakers = [one.speaker for one in self._data.utterances if one.speaker]
        everything = range(len(self._data.references))
        return Tuned(
            self.best(),
            before,
            tuple(tested),
            tuple((weights, *_rates(scored, everything)) for weights, scored in self.found.items()),
            tuple(speakers) if len(speakers) == len(self._data.utterances) else None,
            was,
        )


def tune(
    model: NGramModel,
    data: TuningData,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Tuned:
    """Choose weight and bonus of a model of labels by the CER on validation data.

    WER breaks ties. First the weight with the bonus in a fixed ratio to it, then the ratio, then the weight once more: 11 or 12
    decodings. Which weights are tried is found on all of the data; each half is then scored with those of them that are best on
    the other half. Utterances of one text are in the same half.
    Raises AnadilError if the LM is not one of the labels of the data's rules.
    """
    labels = tuple(data.rules.labels)
    nats = _nats_per_label(model, data.rules, data.references)
    n_steps = len(_WEIGHTS) + len(_RATIOS) + 2
    trials = _Trials(
        data,
        lambda weights: LanguageModel(labels, weights, model),
        False,
        lambda done: on_progress(done, n_steps),
    )
    ratio_of: dict[LmWeights, float] = {}

    def attempt(weight: float, ratio: float) -> None:
        if 0 < weight <= 10:
            bonus = round(weight * ratio * nats, 3)
            weights = LmWeights(lm_weight=round(weight, 4), label_bonus=bonus, beam=data.beam)
            ratio_of.setdefault(weights, ratio)
            trials.attempt(weights)

    for weight in _WEIGHTS:
        attempt(weight, _FIRST_RATIO)
    weight = trials.best().lm_weight
    for ratio in _RATIOS:
        attempt(weight, ratio)
    weight, ratio = trials.best().lm_weight, ratio_of[trials.best()]
    for other in (weight - 0.12, weight + 0.12 if weight < _WEIGHTS[-1] else weight + 0.4):
        attempt(other, ratio)
    on_progress(n_steps, n_steps)
    return trials.tuned(trials.decode(None), "greedy")


def tune_words(
    present: LanguageModel | None,
    words: NGramModel,
    data: TuningData,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Tuned:
    """Choose the weights of a model of words, alone or beside the model of labels in `present`, by WER; CER breaks ties.

    One after the other: the weight, the price of an unknown word, the weights of the model of labels, the bonus per word;
    each with the best of the others so far, 13 or so decodings. Compared is with `present`, or with greedy decoding.
    Raises AnadilError if the words are not spelled with the labels of the data's rules.
    """
    labels = None if present is None else present.labels
    alphabet = tuple(data.rules.labels)
    first = LmWeights(lm_weight=0, word_weight=_WORD_WEIGHTS[0], beam=data.beam)
    if present is not None and labels is not None:
        own = present.weights
        first = first.model_copy(update={"lm_weight": own.lm_weight, "label_bonus": own.label_bonus})
        present = LanguageModel(alphabet, own.model_copy(update={"word_weight": 0.0, "beam": data.beam}), labels)
    else:
        present = None
    nats = _nats_per_word(words, data.references)
    n_steps = len(_WORD_WEIGHTS) + len(_UNKNOWN) - 1 + len(_WORD_RATIOS) - 1 + (len(_SHARES) if present else 0)
    trials = _Trials(
        data,
        lambda weights: LanguageModel(alphabet, weights, labels, words),
        True,
        lambda done: on_progress(done, n_steps),
    )

    def attempt(base: LmWeights, **changes: float) -> None:
        trials.attempt(LmWeights.model_validate(base.model_dump() | {k: round(v, 4) for k, v in changes.items()}))

    for weight in _WORD_WEIGHTS if present else tuple(2 * weight for weight in _WORD_WEIGHTS):
        attempt(first, word_weight=weight, word_bonus=weight * _WORD_RATIOS[1] * nats, unknown_word=-1.0)
    best = trials.best()
    for price in _UNKNOWN:
        attempt(best, unknown_word=price)
    best = trials.best()
    for share in _SHARES if present else ():
        attempt(best, lm_weight=best.lm_weight * share, label_bonus=best.label_bonus * share)
    best = trials.best()
    for ratio in _WORD_RATIOS:
        attempt(best, word_bonus=best.word_weight * ratio * nats)
    on_progress(n_steps, n_steps)
    return trials.tuned(trials.decode(present), "before" if present else "greedy")


def _rates(scored: Sequence[Scored], indices: Sequence[int]) -> tuple[float, float]:
    """CER and WER of some of the utterances."""
    return total(scored[i].characters for i in indices).rate, total(scored[i].words for i in indices).rate


def _nats_per_label(model: NGramModel, rules: TextRules, references: Sequence[str]) -> float:
    """What a label of the references costs on average; those with characters without a label do not count."""
    scorer = LabelLM(model, rules.labels, 1.0, 0.0)
    nats, n_labels = 0.0, 0
    for reference in references:
        if rules.unlabelled(reference):
            continue
        state = np.array([[scorer.begin()]])
        labels = rules.encode(reference)
        for label in labels:
            one = np.array([[label]])
            nats -= math.log(scorer.factors(state, one)[0, 0, 0])
            state = scorer.next_states(state[0], one[0])[None]
        n_labels += len(labels)
    return min(nats / n_labels, 5.0) if n_labels else 1.5


def _nats_per_word(model: NGramModel, references: Sequence[str]) -> float:
    """What a word of the references costs on average."""
    words = WordNGram(model, 1.0, 0.0, 0.0)
    nats, n_words = 0.0, 0
    for reference in references:
        state = model.start
        for word in reference.split():
            score, state = words.score(state, word)
            nats, n_words = nats - score, n_words + 1
    return min(nats / n_words, 20.0) if n_words else 5.0


def halves(references: Sequence[str]) -> tuple[list[int], list[int]]:
    """Indices of two halves that share no text."""
    texts = sorted(set(references))
    random.Random(0).shuffle(texts)
    first = set(texts[: len(texts) // 2])
    return [i for i, text in enumerate(references) if text in first], [
        i for i, text in enumerate(references) if text not in first
    ]


def add_to_card(folder: Path, what: str, tuned: Tuned, note: str = "") -> None:
    """Write the section about the language model in the model card of a folder."""
    before = "greedy decoding" if tuned.was == "greedy" else "decoding without the model of words"
    text = (
        f"{what[0].upper()}{what[1:]}. Of the validation utterances each half was decoded with the weights that the other half "
        f"chose.\nFrom {before} to decoding with it: {tuned.describe()}.\n\n{note}"
    )
    write_section(folder, "Language model", text)


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
