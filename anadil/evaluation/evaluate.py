"""Score hypotheses against references: one Evaluation that holds every measure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from anadil.errors import AnadilError, Problem, summarize
from anadil.evaluation.errors import MAX_UNITS, ErrorCounts, character_errors, finite_or_none, total, word_errors
from anadil.evaluation.intervals import MIN_GROUPS, n_distinct, rate_interval
from anadil.manifest import Utterance, write_manifest

INTERVAL_LEVEL = 0.95
"""How often a reported interval is to hold the true rate."""

EmptyReferences = Literal["count", "skip", "refuse"]
"""What becomes of utterances whose reference has no words: silence, or noise, in a test set."""

OWN_KEYS = ("pred_text", "pred_text_greedy", "wer", "cer", "word_confidences", "snr_db", "reference_doubt")
"""Keys that `write_hypotheses` and recognition add to a line."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One utterance, the two texts that were compared, and their errors."""

    utterance: Utterance
    reference: str
    hypothesis: str
    words: ErrorCounts
    characters: ErrorCounts
    confidences: tuple[float, ...] = ()  # of the words of the hypothesis, in [0, 1]; empty if not known


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scored utterances and their sums; rates are fractions of the corpus, not means over utterances."""

    scored: tuple[Scored, ...]
    words: ErrorCounts
    characters: ErrorCounts
    wer_interval: tuple[float, float] | None  # None: too few utterances
    cer_interval: tuple[float, float] | None
    audio_s: float  # seconds of audio; nan if an utterance's duration is not known
    elapsed_s: float  # seconds the recognition took; 0 if it was not timed
    n_speakers: int | None = None  # None: not every utterance names one

    @property
    def wer(self) -> float:
        """Word error rate, a fraction: errors of all utterances / reference words of all utterances."""
        return self.words.rate

    @property
    def cer(self) -> float:
        """Character error rate, a fraction; spaces count as characters."""
        return self.characters.rate

    @property
    def wrong_sentences(self) -> int:
        """Utterances with at least one word error."""
        return sum(one.words.errors > 0 for one in self.scored)

    @property
    def n_empty(self) -> int:
        """Utterances with an empty reference; each word of their hypotheses is an insertion."""
        return sum(one.words.reference == 0 for one in self.scored)

    @property
    def resamples(self) -> str:
        """What the intervals are over: "speakers" or "utterances"."""
        return "speakers" if self.n_speakers is not None and self.n_speakers >= MIN_GROUPS else "utterances"

    @property
    def real_time_factor(self) -> float | None:
        """Seconds of work per second of audio (below 1: faster than speech); None if either is not known."""
        return self.elapsed_s / self.audio_s if self.elapsed_s > 0 and self.audio_s > 0 else None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready summary, without the utterances. Infinite and unknown values are None."""
        intervals = self.wer_interval, self.cer_interval
        return {
            "n_utterances": len(self.scored),
            "hours": finite_or_none(self.audio_s / 3600),
            "wer": finite_or_none(self.wer),
            "wer_interval": self.wer_interval and list(self.wer_interval),
            "cer": finite_or_none(self.cer),
            "cer_interval": self.cer_interval and list(self.cer_interval),
            "interval_level": INTERVAL_LEVEL,
            "interval_resamples": None if intervals == (None, None) else self.resamples,
            "n_speakers": self.n_speakers,
            "wrong_sentences": self.wrong_sentences,
            "empty_references": self.n_empty,
            "words": self.words.to_dict(),
            "characters": self.characters.to_dict(),
            "elapsed_s": self.elapsed_s or None,
            "real_time_factor": self.real_time_factor,
        }


def compare(
    utterances: Sequence[Utterance],
    references: Sequence[str],
    hypotheses: Sequence[str],
    confidences: Sequence[Sequence[float]] | None = None,
) -> tuple[Scored, ...]:
    """Count the errors of each hypothesis against its reference, both normalised by the caller by the same rules.

    `confidences`: of the words of each hypothesis; where their number is not that of the words they are left out.
    Raises ValueError if the first three differ in length, and AnadilError for a text of more than MAX_UNITS characters.
    """
    if not len(utterances) == len(references) == len(hypotheses):
        raise ValueError(
            f"{len(utterances)} utterances, {len(references)} references and {len(hypotheses)} hypotheses; "
            "one of each is needed for every utterance"
        )
    _refuse_long(utterances, references, hypotheses)
    known = confidences or [()] * len(utterances)
    scored = []
    for utterance, reference, hypothesis, own in zip(utterances, references, hypotheses, known, strict=True):
        words = word_errors(reference, hypothesis)
        fits = tuple(own) if len(own) == words.hypothesis else ()
        scored.append(Scored(utterance, reference, hypothesis, words, character_errors(reference, hypothesis), fits))
    return tuple(scored)


def _refuse_long(utterances: Sequence[Utterance], *texts: Sequence[str]) -> None:
    problems = [
        Problem(utterance.source or utterance.audio_filepath, f"a text of {max(map(len, own)):,} characters")
        for utterance, *own in zip(utterances, *texts, strict=True)
        if max(map(len, own)) > MAX_UNITS
    ]
    if problems:
        step = f"cut it into utterances: the time of an alignment grows with the square, and {MAX_UNITS:,} is the limit"
        raise AnadilError(summarize(problems, "utterances", len(utterances), step))


def score(
    utterances: Sequence[Utterance],
    references: Sequence[str],
    hypotheses: Sequence[str],
    elapsed_s: float = 0.0,
    confidences: Sequence[Sequence[float]] | None = None,
) -> Evaluation:
    """Compare each hypothesis with its reference, both normalised by the caller by the same rules.

    The 95 % intervals are over speakers if every utterance names one and there are at least 5; else over
    utterances. `elapsed_s`: seconds the recognition took, 0 if it was not timed.
    Raises ValueError if the three differ in length, or there is nothing to score (no error rate is 0 then).
    """
    if not utterances:
        raise ValueError("no utterances to score: an error rate needs at least one")
    return evaluation_of(compare(utterances, references, hypotheses, confidences), elapsed_s)


def evaluation_of(scored: Sequence[Scored], elapsed_s: float = 0.0) -> Evaluation:
    """Sum scored utterances, at least one; see `score`."""
    utterances = [one.utterance for one in scored]
    words, characters = [one.words for one in scored], [one.characters for one in scored]
    speakers = speakers_of(utterances)
    return Evaluation(
        scored=tuple(scored),
        words=total(words),
        characters=total(characters),
        wer_interval=rate_interval(words, speakers, level=INTERVAL_LEVEL),
        cer_interval=rate_interval(characters, speakers, level=INTERVAL_LEVEL),
        audio_s=math.fsum(math.nan if one.duration is None else one.duration for one in utterances),
        elapsed_s=elapsed_s,
        n_speakers=None if speakers is None else n_distinct(speakers),
    )


def write_hypotheses(path: Path, scored: Sequence[Scored], greedy: Sequence[Scored] | None = None) -> None:
    """Write JSONL, whole or not at all: a manifest whose `text` is the reference as it was scored.

    Each line adds NeMo's `pred_text` (the hypothesis), `wer` and `cer` (fractions of that utterance; null if
    its reference is empty and the hypothesis is not), replacing keys of these names from an earlier run. `greedy`: the
    same utterances decoded without a language model, for `pred_text_greedy`. `word_confidences` has one figure per word.
    Raises AnadilError if the file cannot be written.
    """
    texts = [None] * len(scored) if greedy is None else [one.hypothesis for one in greedy]
    write_manifest(path, (_with_hypothesis(one, text) for one, text in zip(scored, texts, strict=True)))


def _with_hypothesis(one: Scored, greedy: str | None) -> Utterance:
    rates = {"wer": finite_or_none(one.words.rate), "cer": finite_or_none(one.characters.rate)}
    extra = {key: value for key, value in one.utterance.extra.items() if key not in _OF_A_HYPOTHESIS}
    extra |= {"pred_text": one.hypothesis} | rates | ({} if greedy is None else {"pred_text_greedy": greedy})
    if one.confidences:
        extra["word_confidences"] = [round(value, 4) for value in one.confidences]
    return dataclasses.replace(one.utterance, text=one.reference, extra=extra)


_OF_A_HYPOTHESIS = ("pred_text_greedy", "word_confidences")


def speakers_of(utterances: Sequence[Utterance]) -> list[str] | None:
    """The speaker of each utterance, or None if one of them does not name it."""
    speakers = [utterance.speaker for utterance in utterances if utterance.speaker]
    return speakers if len(speakers) == len(utterances) else None
