"""What lies behind an error rate: what would be forgiven, which groups, which letters and words, how sure the model was."""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from anadil.evaluation.errors import (
    ErrorCounts,
    aligned,
    character_errors,
    confusions,
    finite_or_none,
    grapheme_errors,
    total,
    word_errors,
)
from anadil.evaluation.evaluate import OWN_KEYS, Evaluation, Scored, speakers_of
from anadil.evaluation.intervals import rate_interval
from anadil.manifest import Utterance
from anadil.text.rules import TextRules
from anadil.text.scoring import PARTS, scoring_view
from anadil.text.units import graphemes

MAX_GROUPS = 200
"""Groups of one key in figures and reports: those with the most words; the others are counted."""

_DURATIONS_S, _LENGTHS, _SNRS_DB = (2.0, 5.0, 10.0, 20.0), (2, 4, 8, 16), (10.0, 20.0, 30.0, 40.0)
_N_BINS = 10
_VALUES = range(2, 21)  # a key of `extra` with so many different values makes groups by itself


@dataclass(frozen=True, slots=True)
class Forgiven:
    """Errors that are left when something is forgiven. Words are None where forgiving changes what a word is."""

    name: str  # "case", "punctuation", "tone", "diacritics", "spaces"
    words: ErrorCounts | None
    characters: ErrorCounts
    share_of_words: float | None  # of the word errors, the share that is only this; None: no errors
    share_of_characters: float | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "forgives": self.name,
            "wer": self.words and finite_or_none(self.words.rate),
            "cer": finite_or_none(self.characters.rate),
            "share_of_word_errors": self.share_of_words,
            "share_of_character_errors": self.share_of_characters,
        }


@dataclass(frozen=True, slots=True)
class Group:
    """The utterances that have one value of a key."""

    key: str  # "speaker", "duration", "words", "snr_db", "manifest", "language" or a key of `extra`
    name: str
    n_utterances: int
    audio_s: float
    words: ErrorCounts
    characters: ErrorCounts
    wer_interval: tuple[float, float] | None
    cer_interval: tuple[float, float] | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "name": self.name,
            "n_utterances": self.n_utterances,
            "hours": finite_or_none(self.audio_s / 3600),
            "wer": finite_or_none(self.words.rate),
            "wer_interval": self.wer_interval and list(self.wer_interval),
            "cer": finite_or_none(self.characters.rate),
            "cer_interval": self.cer_interval and list(self.cer_interval),
            "reference_words": self.words.reference,
        }


@dataclass(frozen=True, slots=True)
class Unseen:
    """Reference words that the training texts have, and those that they do not have; how many of each are wrong."""

    seen: int
    seen_wrong: int
    unseen: int
    unseen_wrong: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; a rate is the share of these reference words that are substituted or deleted."""
        return {
            "unseen_words": self.unseen,
            "share": _share(self.unseen, self.seen + self.unseen),
            "wrong_of_unseen": _share(self.unseen_wrong, self.unseen),
            "wrong_of_seen": _share(self.seen_wrong, self.seen),
        }


@dataclass(frozen=True, slots=True)
class ConfidenceBin:
    """Words whose confidence is in one tenth of [0, 1]."""

    low: float
    high: float
    n_words: int
    confidence: float  # mean
    correct: float  # share

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"low": self.low, "high": self.high, "n_words": self.n_words, "confidence": self.confidence,
                "correct": self.correct}  # fmt: skip


@dataclass(frozen=True)
class Analysis:
    """Everything about one way to decode. What takes time is computed when it is asked for."""

    name: str  # "greedy, no LM"
    evaluation: Evaluation
    rules: TextRules
    by: tuple[str, ...] = ()  # keys of `extra` to group by, besides those that are found
    training_words: Collection[str] | None = None

    @cached_property
    def graphemes(self) -> ErrorCounts | None:
        """Errors of grapheme clusters; None if every cluster is one code point, so that they are those of characters."""
        scored = self.evaluation.scored
        used = {character for one in scored for character in one.reference + one.hypothesis}
        # marks, joiners, Hangul jamo, flags: each joins a letter beside it, or itself
        if all(len(graphemes(f"a{one}{one}a")) == 4 for one in used):
            return None
        return total(grapheme_errors(one.reference, one.hypothesis) for one in scored)

    @cached_property
    def forgiven(self) -> tuple[Forgiven, ...]:
        """For each view of the text that changes anything: the errors that are left."""
        return tuple(_forgiven(self.evaluation, self.rules))

    @cached_property
    def groups(self) -> dict[str, tuple[Group, ...]]:
        """Key to groups, for each key with at least two groups, and each of `by`."""
        return grouped(self.evaluation.scored, self.by)

    @cached_property
    def unseen(self) -> Unseen | None:
        """None if the training texts are not known."""
        return None if self.training_words is None else _unseen(self.word_pairs, self.training_words)

    @cached_property
    def word_pairs(self) -> list[list[tuple[str | None, str | None]]]:
        """The alignment of the words of each utterance."""
        return [aligned(one.reference.split(), one.hypothesis.split()) for one in self.evaluation.scored]

    @cached_property
    def confused_words(self) -> Counter[tuple[str, str]]:
        """How often each (reference, hypothesis) occurs; "" is a deletion or an insertion."""
        return Counter((a or "", b or "") for pairs in self.word_pairs for a, b in pairs if a != b)

    @cached_property
    def confused_letters(self) -> Counter[tuple[str, str]]:
        """The same for grapheme clusters; the space between words is one."""
        split: Callable[[str], Sequence[str]] = str if self.graphemes is None else graphemes
        found: list[tuple[str, str]] = []
        for one in self.evaluation.scored:
            if one.reference != one.hypothesis:
                found += confusions(*(split(" ".join(text.split())) for text in (one.reference, one.hypothesis)))
        return Counter(found)

    @cached_property
    def calibration(self) -> tuple[ConfidenceBin, ...]:
        """Confidence against the share of correct words; empty if confidences are not known."""
        sums = [[0, 0.0, 0] for _ in range(_N_BINS)]
        for one, pairs in zip(self.evaluation.scored, self.word_pairs, strict=True):
            if one.confidences:
                hypotheses = [(a, b) for a, b in pairs if b is not None]
                for value, (a, b) in zip(one.confidences, hypotheses, strict=True):
                    own = sums[min(_N_BINS - 1, max(0, int(value * _N_BINS)))]
                    own[0] += 1
                    own[1] += value
                    own[2] += a == b
        return tuple(
            ConfidenceBin(i / _N_BINS, (i + 1) / _N_BINS, int(n), confidence / n, correct / n)
            for i, (n, confidence, correct) in enumerate(sums)
            if n
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: the figures of `Evaluation.to_dict`, and those of this class."""
        figures = self.evaluation.to_dict()
        figures["graphemes"] = self.graphemes.to_dict() if self.graphemes else figures["characters"]
        figures["sentence_error_rate"] = self.evaluation.wrong_sentences / len(self.evaluation.scored)
        figures["forgiven"] = [one.to_dict() for one in self.forgiven]
        figures["unseen"] = self.unseen and self.unseen.to_dict()
        figures["groups"] = {key: [one.to_dict() for one in groups] for key, groups in self.groups.items()}
        figures["calibration"] = [one.to_dict() for one in self.calibration]
        for name, counts in (("words", self.confused_words), ("letters", self.confused_letters)):
            figures[f"confused_{name}"] = [
                {"reference": a, "hypothesis": b, "n": n} for (a, b), n in counts.most_common(30)
            ]
        return figures


def _forgiven(evaluation: Evaluation, rules: TextRules) -> Iterator[Forgiven]:
    used = sorted({character for one in evaluation.scored for character in one.reference + one.hypothesis})
    for part in PARTS:
        if part == "no-tone" and not rules.language_rules.tones:
            continue
        view = scoring_view(rules, part)
        if not any(view(f"a{character}a") != f"a{character}a" for character in used):
            continue  # such as the case of texts that are all lower case
        words: list[ErrorCounts] = []
        characters: list[ErrorCounts] = []
        for one in evaluation.scored:
            reference = view(one.reference)
            hypothesis = reference if one.reference == one.hypothesis else view(one.hypothesis)
            if part != "no-spaces":
                words.append(word_errors(reference, hypothesis))
            characters.append(character_errors(reference, hypothesis))
        same = total(characters).errors == evaluation.characters.errors
        if same and (not words or total(words).errors == evaluation.words.errors):
            continue  # such as capitals that are nowhere wrong
        left = None if part == "no-spaces" else total(words)
        yield Forgiven(
            part.removeprefix("no-"),
            left,
            total(characters),
            None if left is None else _share(evaluation.words.errors - left.errors, evaluation.words.errors),
            _share(evaluation.characters.errors - total(characters).errors, evaluation.characters.errors),
        )


def grouped(scored: Sequence[Scored], by: Sequence[str] = ()) -> dict[str, tuple[Group, ...]]:
    """Groups by speaker, duration, words, SNR estimate, manifest and language, and by keys of `extra`.

    A key of `extra` is used if `by` names it, or if it has 2 to 20 different values, none of them a list. Ranges keep their
    order, other groups are sorted from the most errors per word to the fewest.
    """
    found = {}
    for key, name_of in _keys(scored, by).items():
        members: dict[tuple[float, str], list[Scored]] = defaultdict(list)
        for one in scored:
            members[name_of(one)].append(one)
        if len(members) < 2 and key not in by:
            continue
        most = sorted(members.items(), key=lambda item: -sum(one.words.reference for one in item[1]))[:MAX_GROUPS]
        groups = [(order, _group(key, name, own)) for (order, name), own in most]
        groups.sort(key=lambda item: (item[0], -item[1].words.rate, item[1].name))
        found[key] = tuple(group for _, group in groups)
    return found


def _keys(scored: Sequence[Scored], by: Sequence[str]) -> dict[str, Callable[[Scored], tuple[float, str]]]:
    """Key to a function that gives an utterance's group: (order, name)."""
    keys: dict[str, Callable[[Scored], tuple[float, str]]] = {
        "speaker": lambda one: (0, one.utterance.speaker or "not given"),
        "duration": lambda one: _binned(one.utterance.duration, _DURATIONS_S, " s"),
        "words": lambda one: _binned(one.words.reference, _LENGTHS, " words"),
        "snr_db": lambda one: _binned(one.utterance.extra.get("snr_db"), _SNRS_DB, " dB"),
        "manifest": lambda one: (0, Path(one.utterance.source.rpartition(":")[0]).name or "not given"),
        "language": lambda one: (0, one.utterance.language or "not given"),
    }
    values: dict[str, set[str]] = defaultdict(set)
    for one in scored:
        for key, value in one.utterance.extra.items():
            if key not in OWN_KEYS and len(values[key]) <= _VALUES.stop:
                values[key].add(_name(value) if isinstance(value, str | int | float) else "\0" * (len(values[key]) + 1))
    for key in sorted(values):
        few = len(values[key]) in _VALUES and len(values[key]) < len(scored)  # else it is an id or a text
        if key in by or (few and not any("\0" in name for name in values[key])):
            keys.setdefault(key, lambda one, key=key: (0, _name(one.utterance.extra.get(key))))  # type: ignore[misc]
    return keys


def _name(value: object) -> str:
    return "not given" if value is None or value == "" else str(value)[:100]


def _binned(value: object, limits: Sequence[float], unit: str) -> tuple[float, str]:
    """The range of a number: its place among the ranges, and its name."""
    if not isinstance(value, int | float):
        return len(limits) + 1, "not known"
    place = bisect.bisect_right(limits, value)
    if place == 0:
        return 0, f"below {limits[0]:g}{unit}"
    if place == len(limits):
        return place, f"{limits[-1]:g}{unit} and more"
    return place, f"{limits[place - 1]:g} to {limits[place]:g}{unit}"


def _group(key: str, name: str, own: Sequence[Scored]) -> Group:
    utterances: list[Utterance] = [one.utterance for one in own]
    words, characters = [one.words for one in own], [one.characters for one in own]
    speakers = speakers_of(utterances)
    return Group(
        key,
        name,
        len(own),
        sum(one.duration or 0.0 for one in utterances),
        total(words),
        total(characters),
        rate_interval(words, speakers),
        rate_interval(characters, speakers),
    )


def _unseen(aligned_words: Sequence[Sequence[tuple[str | None, str | None]]], training: Collection[str]) -> Unseen:
    counts = [[0, 0], [0, 0]]
    for pairs in aligned_words:
        for reference, hypothesis in pairs:
            if reference is not None:
                counts[reference not in training][reference != hypothesis] += 1
    (right, wrong), (new_right, new_wrong) = counts
    return Unseen(right + wrong, wrong, new_right + new_wrong, new_wrong)


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
