"""What a test set shares with the training data: sentences, near-duplicates, speakers, recordings."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anadil.evaluation.errors import ErrorCounts, total
from anadil.evaluation.evaluate import Scored
from anadil.manifest import Utterance

CLOSE_SHARE = 0.8
"""A sentence is nearly one of the training texts if so many of its word 3-grams are in them (as in lm_tuning.closeness)."""


@dataclass(frozen=True)
class Leakage:
    """What of a test set is in the training data. An utterance may count several times."""

    n: int
    same_text: int
    close_text: int  # those included whose word 3-grams are in the training texts, four of five or more
    same_recording: int
    shared_speakers: tuple[str, ...]
    n_speakers: int
    words_of_new_texts: ErrorCounts  # of the utterances whose sentence is neither there nor nearly
    words_of_known_texts: ErrorCounts

    def warnings(self) -> list[str]:
        """In words, what makes the error rate too good."""
        found = []
        if self.same_recording:
            found.append(
                f"{self.same_recording:,} of {self.n:,} test recordings are in the training manifests: their error rate says "
                "nothing about new speech"
            )
        if self.close_text:
            known, new = self.words_of_known_texts, self.words_of_new_texts
            rates = f"; WER on these {known.rate:.1%}, on the others {new.rate:.1%}" if new.reference else ""
            found.append(
                f"{self.close_text:,} of {self.n:,} test sentences are in the training texts or nearly so ({self.same_text:,} "
                f"word for word){rates}"
            )
        if self.shared_speakers:
            names = ", ".join(self.shared_speakers[:5]) + ", ..." * (len(self.shared_speakers) > 5)
            found.append(
                f"{len(self.shared_speakers):,} of {self.n_speakers:,} test speakers are in the training manifests ({names}): "
                "speakers who are not will have more errors"
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "same_sentences": self.same_text,
            "close_sentences": self.close_text,
            "same_recordings": self.same_recording,
            "shared_speakers": list(self.shared_speakers),
            "words_of_known_sentences": self.words_of_known_texts.to_dict(),
            "words_of_new_sentences": self.words_of_new_texts.to_dict(),
        }


def find_leakage(scored: Sequence[Scored], training: Sequence[Utterance], normalize: Callable[[str], str]) -> Leakage:
    """Compare scored utterances with the training utterances, whose texts `normalize` brings into the form of references.

    A sentence of fewer than four words is near only if it is the same. Empty references are no sentence.
    """
    texts = {normalize(one.text) for one in training}
    trigrams = {gram for text in texts for gram in _trigrams(text)}
    recordings = {(os.path.realpath(one.audio_filepath), round(one.offset, 2)) for one in training}
    trained = {one.speaker for one in training if one.speaker}
    speakers = {one.utterance.speaker for one in scored if one.utterance.speaker}
    same = 0
    known: list[ErrorCounts] = []
    new: list[ErrorCounts] = []
    for one in scored:
        own = _trigrams(one.reference)
        is_same = bool(one.reference) and one.reference in texts
        same += is_same
        close = len(own) > 1 and sum(gram in trigrams for gram in own) >= CLOSE_SHARE * len(own)
        (known if is_same or close else new).append(one.words)
    n_recordings = sum(
        (os.path.realpath(one.utterance.audio_filepath), round(one.utterance.offset, 2)) in recordings for one in scored
    )
    shared = tuple(sorted(trained & speakers))
    return Leakage(len(scored), same, len(known), n_recordings, shared, len(speakers), total(new), total(known))


def listed_training_manifests(model: Path) -> list[Path]:
    """The training manifests that a model's card (README.md) names, as they were written; empty without a card."""
    try:
        card = (model / "README.md").read_text(encoding="utf-8")[:100_000]
    except (OSError, UnicodeDecodeError):
        return []
    row = re.search(r"^\| training speech \| [\d.]+ h \(([^|\n]*)\)", card, re.MULTILINE)
    return [Path(name) for name in row[1].split(", ")] if row else []


def _trigrams(sentence: str) -> list[tuple[str, ...]]:
    words = sentence.split()
    return [tuple(words[i : i + 3]) for i in range(len(words) - 2)]
