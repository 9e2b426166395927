"""Decoder: from a model's log-probs to tokens, words with times, text and confidence. The one way from log-probs to words."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from anadil.decoding.beam import BEAM, Hypothesis, LabelScorer, Unscored, search_many
from anadil.decoding.confidence import ConfidenceMap, posteriors
from anadil.decoding.ctc import Token, align_many, best_path, sequence_confidence
from anadil.decoding.language_model import LanguageModel
from anadil.decoding.transcript import Alternative, Word, joiner, word_texts, words_from_tokens
from anadil.decoding.word_lm import Hotwords, WordScorer
from anadil.text.rules import TextRules

Pauses = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Decoded:
    """The hypothesis for one stretch of audio."""

    tokens: tuple[Token, ...]
    words: tuple[Word, ...]
    joiner: str = " "  # between two words
    alternatives: tuple[Alternative, ...] = ()  # the best texts, if the decoder was asked for them
    posteriors: tuple[float, ...] = ()  # of each word: share of the search's texts that have it; only if asked for

    @property
    def text(self) -> str:
        """The words, joined."""
        return self.joiner.join(word.text for word in self.words)


@dataclass(frozen=True)
class Decoder:
    """Decoding with the labels of `rules`: greedy (best path), or with `lm` a beam search.

    `frame_s` is the step of the log-probs in seconds. With `n_best` (so many texts) or `hotwords` (`checked_hotwords`) there is a
    search without an LM too. Its time grows linearly with the frames (`search_many`). `word_confidence` makes the confidence of
    a word the probability that it is right.
    """

    rules: TextRules
    frame_s: float
    lm: LanguageModel | None = None
    n_best: int = 0
    hotwords: Mapping[str, float] | None = None  # as the model writes them, and their weights in nats
    word_confidence: ConfidenceMap | None = None  # None: the mean probability of a word's labels
    with_posteriors: bool = False

    def decode(self, log_probs: np.ndarray, offset_s: float = 0.0, pauses: Pauses = ()) -> Decoded:
        """`decode_many` of one stretch."""
        return self.decode_many([log_probs], [offset_s], [pauses])[0]

    def decode_many(
        self, log_probs: Sequence[np.ndarray], offsets_s: Sequence[float] = (), pauses: Sequence[Pauses] = ()
    ) -> list[Decoded]:
        """Decode each of log_probs (frames, labels + blank), natural logarithms; its first frame starts at its offset, in s.

        A pause (start, end), in seconds too, is a boundary between words. The text of a beam search gets its times and
        confidences from its likeliest path, as the best path has them. With an LM many at a time take a fifth of the time of
        one by one, and what is found is the same. Raises ValueError as `best_path` does.
        """
        offsets_s, pauses = offsets_s or [0.0] * len(log_probs), pauses or [()] * len(log_probs)
        blank = self.rules.blank_id
        alternatives: list[tuple[Alternative, ...]] = [()] * len(log_probs)
        found: list[list[Hypothesis]] = []
        if self.is_greedy:
            tokens = [best_path(one, blank) for one in log_probs]
        else:
            found = self._search(log_probs)
            tokens = _timed(log_probs, [one[0] for one in found], blank)
            if self.n_best:
                alternatives = [self._alternatives(one) for one in found]
        joined = joiner(self.rules.labels)
        decoded = [
            Decoded(tuple(own), words_from_tokens(own, self.rules.labels, self.frame_s, at_s, cut), joined, others)
            for own, others, at_s, cut in zip(tokens, alternatives, offsets_s, pauses, strict=True)
        ]
        if self.with_posteriors or self.word_confidence:
            decoded = [self._with_confidence(one, found[i] if found else ()) for i, one in enumerate(decoded)]
        if self.n_best:  # the words of the best text may be cut at pauses
            decoded = [
                replace(one, alternatives=(replace(one.alternatives[0], text=one.text), *one.alternatives[1:]))
                for one in decoded
            ]
        return decoded

    def texts(self, log_probs: Sequence[np.ndarray]) -> list[str]:
        """The texts alone of log_probs, one (frames, labels + blank) each: without the times, which `decode_many` finds too."""
        if self.is_greedy:
            return [one.text for one in self.decode_many(log_probs)]
        return [self._text(one[0]) for one in self._search(log_probs)]

    def _with_confidence(self, one: Decoded, found: Sequence[Hypothesis]) -> Decoded:
        """With the posteriors of the words, if there was a search, and with their mapped confidences."""
        shares = self._posteriors(one.words, found) if found else ()
        words = one.words
        if self.word_confidence:
            words = tuple(
                replace(word, confidence=self.word_confidence.apply(word.confidence, share))
                for word, share in zip(words, shares or [1.0] * len(words), strict=True)
            )
        return replace(one, words=words, posteriors=shares)

    @property
    def is_greedy(self) -> bool:
        """Whether it takes the best path, without a search."""
        return self.lm is None and not self.n_best and not self.hotwords

    @cached_property
    def _scorer(self) -> LabelScorer:
        if not self.hotwords:
            return self.lm.scorer if self.lm else Unscored()
        hotwords = Hotwords(self.hotwords)
        return self.lm.scorer_with(hotwords) if self.lm else WordScorer(Unscored(), self.rules.labels, None, hotwords)

    def _search(self, log_probs: Sequence[np.ndarray]) -> list[list[Hypothesis]]:
        beam = max(self.n_best, self.lm.weights.beam if self.lm else BEAM)
        return search_many(log_probs, self.rules.blank_id, self._scorer, beam)

    def _alternatives(self, found: Sequence[Hypothesis]) -> tuple[Alternative, ...]:
        """The `n_best` different texts of a search, the best first."""
        scores: dict[str, float] = {}
        for one in found:
            scores.setdefault(self._text(one), one.score)
        return tuple(itertools.islice(itertools.starmap(Alternative, scores.items()), self.n_best))

    def _posteriors(self, words: Sequence[Word], found: Sequence[Hypothesis]) -> tuple[float, ...]:
        """The posterior of each word; the parts of a word that pauses cut have that of the whole."""
        whole = self._words(found[0])
        shares = posteriors(whole, [self._words(each) for each in found], [each.score for each in found])
        own: list[float] = []
        parts = iter(words)
        for text, share in zip(whole, shares, strict=True):
            so_far = ""
            while len(so_far) < len(text):
                so_far += next(parts).text
                own.append(share)
        return tuple(own)

    def _words(self, one: Hypothesis) -> list[str]:
        return word_texts(one.labels, self.rules.labels)

    def _text(self, one: Hypothesis) -> str:
        return joiner(self.rules.labels).join(self._words(one))

    def confidence(self, log_probs: np.ndarray, decoded: Decoded) -> float:
        """Probability of `decoded` over all its alignments, per label, in [0, 1]; 0 for an empty hypothesis."""
        if not decoded.words:
            return 0.0
        return sequence_confidence(log_probs, [token.id for token in decoded.tokens], self.rules.blank_id)


def _timed(log_probs: Sequence[np.ndarray], found: Sequence[Hypothesis], blank: int) -> list[list[Token]]:
    """The tokens of hypotheses on their likeliest paths, between the places where the search settled."""
    parts: list[np.ndarray] = []
    labels: list[tuple[int, ...]] = []
    whose: list[tuple[int, int]] = []  # utterance and first frame of each part
    for i, (one, hypothesis) in enumerate(zip(log_probs, found, strict=True)):
        ends = [(0, 0), *hypothesis.cuts, (len(one), len(hypothesis.labels))]
        for (start, first), (end, last) in itertools.pairwise(ends):
            parts.append(one[start:end])
            labels.append(hypothesis.labels[first:last])
            whose.append((i, start))
    tokens: list[list[Token]] = [[] for _ in log_probs]
    for (i, start), own in zip(whose, align_many(parts, labels, blank), strict=True):
        tokens[i] += [replace(one, start=one.start + start, end=one.end + start) for one in own] if start else own
    return tokens
