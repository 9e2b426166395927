"""Score hypotheses against references: one Evaluation that holds every measure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anadil.evaluation.errors import ErrorCounts, character_errors, finite_or_none, total, word_errors
from anadil.evaluation.intervals import MIN_GROUPS, bootstrap_interval, n_distinct
from anadil.manifest import Utterance, write_manifest

INTERVAL_LEVEL = 0.95
"""Share of the resampled rates that a reported interval holds."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One utterance, the two texts that were compared, and their errors."""

    utterance: Utterance
    reference: str
    hypothesis: str
    words: ErrorCounts
    characters: ErrorCounts


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

    @property
    def wer(self) -> float:
        """Word error rate, a fraction: errors of all utterances / reference words of all utterances."""
        return self.words.rate

    @property
    def cer(self) -> float:
        """Character error rate, a fraction; spaces count as characters."""
        return self.characters.rate

    @property
    def real_time_factor(self) -> float | None:
        """Seconds of work per second of audio (below 1: faster than speech); None if either is not known."""
        return self.elapsed_s / self.audio_s if self.elapsed_s > 0 and self.audio_s > 0 else None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready summary, without the utterances. Infinite and unknown values are None."""
        intervals = self.wer_interval, self.cer_interval
        unit = "utterances" if _speakers([one.utterance for one in self.scored]) is None else "speakers"
        return {
            "n_utterances": len(self.scored),
            "hours": finite_or_none(self.audio_s / 3600),
            "wer": finite_or_none(self.wer),
            "wer_interval": self.wer_interval and list(self.wer_interval),
            "cer": finite_or_none(self.cer),
            "cer_interval": self.cer_interval and list(self.cer_interval),
            "interval_level": INTERVAL_LEVEL,
            "interval_resamples": None if intervals == (None, None) else unit,
            "words": self.words.to_dict(),
            "characters": self.characters.to_dict(),
            "elapsed_s": self.elapsed_s or None,
            "real_time_factor": self.real_time_factor,
        }


def compare(
    utterances: Sequence[Utterance], references: Sequence[str], hypotheses: Sequence[str]
) -> tuple[Scored, ...]:
    """Count the errors of each hypothesis against its reference, both normalised by the caller by the same rules.

    Raises ValueError if the three differ in length.
    """
    if not len(utterances) == len(references) == len(hypotheses):
        raise ValueError(
            f"{len(utterances)} utterances, {len(references)} references and {len(hypotheses)} hypotheses; "
            "one of each is needed for every utterance"
        )
    return tuple(
        Scored(
            utterance,
            reference,
            hypothesis,
            word_errors(reference, hypothesis),
            character_errors(reference, hypothesis),
        )
        for utterance, reference, hypothesis in zip(utterances, references, hypotheses, strict=True)
    )


def score(
    utterances: Sequence[Utterance], references: Sequence[str], hypotheses: Sequence[str], elapsed_s: float = 0.0
) -> Evaluation:
    """Compare each hypothesis with its reference, both normalised by the caller by the same rules.

    The 95 % intervals resample speakers if every utterance names one and there are at least 5; else
    utterances. `elapsed_s`: seconds the recognition took, 0 if it was not timed.
    Raises ValueError if the three differ in length, or there is nothing to score (no error rate is 0 then).
    """
    if not utterances:
        raise ValueError("no utterances to score: an error rate needs at least one")
    scored = compare(utterances, references, hypotheses)
    words, characters = [one.words for one in scored], [one.characters for one in scored]
    speakers = _speakers(utterances)
    return Evaluation(
        scored=scored,
        words=total(words),
        characters=total(characters),
        wer_interval=bootstrap_interval(words, speakers, level=INTERVAL_LEVEL),
        cer_interval=bootstrap_interval(characters, speakers, level=INTERVAL_LEVEL),
        audio_s=math.fsum(math.nan if one.duration is None else one.duration for one in utterances),
        elapsed_s=elapsed_s,
    )


def write_hypotheses(path: Path, scored: Sequence[Scored], greedy: Sequence[Scored] | None = None) -> None:
    """Write JSONL, whole or not at all: a manifest whose `text` is the reference as it was scored.

    Each line adds NeMo's `pred_text` (the hypothesis), `wer` and `cer` (fractions of that utterance; null if
    its reference is empty and the hypothesis is not), replacing keys of these names from an earlier run. `greedy`: the
    same utterances decoded without a language model, for `pred_text_greedy`.
    Raises AnadilError if the file cannot be written.
    """
    texts = [None] * len(scored) if greedy is None else [one.hypothesis for one in greedy]
    write_manifest(path, (_with_hypothesis(one, text) for one, text in zip(scored, texts, strict=True)))


def _with_hypothesis(one: Scored, greedy: str | None) -> Utterance:
    rates = {"wer": finite_or_none(one.words.rate), "cer": finite_or_none(one.characters.rate)}
    extra = {key: value for key, value in one.utterance.extra.items() if key != "pred_text_greedy"}
    extra |= {"pred_text": one.hypothesis} | rates | ({} if greedy is None else {"pred_text_greedy": greedy})
    return dataclasses.replace(one.utterance, text=one.reference, extra=extra)


def _speakers(utterances: Sequence[Utterance]) -> list[str] | None:
    """Speaker of each utterance if the intervals can resample speakers, else None."""
    speakers = [utterance.speaker for utterance in utterances if utterance.speaker]
    return speakers if len(speakers) == len(utterances) and n_distinct(speakers) >= MIN_GROUPS else None
