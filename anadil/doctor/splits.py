"""Recordings, sentences and speakers that two splits share, and duplicates within one split."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anadil.doctor import findings as kinds
from anadil.doctor.audio import SILENT_DB, MeasuredUtterance
from anadil.doctor.findings import Finding, Severity, make_finding
from anadil.doctor.text import Texts, utterances_with
from anadil.manifest import Utterance
from anadil.text.rules import RulesByLanguage, describe

TRAIN, VALID, TEST = "train", "valid", "test"
_WORDS = {
    TRAIN: {"train", "training"},
    VALID: {"valid", "validation", "val", "dev", "development"},
    TEST: {"test", "testing", "eval", "evaluation"},
}


@dataclass(frozen=True)
class SplitData:
    """One part of a corpus: the utterances of its manifests."""

    name: str
    utterances: Sequence[Utterance]
    texts: Texts
    measured: Sequence[MeasuredUtterance] = ()  # in the order of the utterances; empty if the audio was not decoded


def splits_of(manifests: Sequence[Path], train: Sequence[str] = (), valid: Sequence[str] = ()) -> list[str]:
    """The split of each manifest: from `train` and `valid` (paths of a config), else from its file name.

    If none is for training, the first manifest without a split is. Each other one is a split of its own.
    """
    known = {Path(path).resolve(): name for name, paths in ((TRAIN, train), (VALID, valid)) for path in paths}
    names = [known.get(path.resolve()) or _split_from_name(path) for path in manifests]
    if TRAIN not in names and None in names:
        names[names.index(None)] = TRAIN
    return [name or str(path) for name, path in zip(names, manifests, strict=True)]


def _split_from_name(path: Path) -> str | None:
    words = set("".join(c if c.isalnum() else " " for c in path.name.removesuffix(".jsonl").lower()).split())
    matching = [split for split, known in _WORDS.items() if words & known]
    return matching[0] if len(matching) == 1 else None


def within(split: SplitData) -> Iterator[Finding]:
    """Sentences and recordings that occur more than once in a split."""
    hashes = np.array(split.texts.hashes)
    for indices in _groups(hashes):
        holders = [split.utterances[i] for i in indices]
        speakers = {one.speaker for one in holders} - {None}
        by = f" by {len(speakers):,} speaker{'s' if len(speakers) > 1 else ''}" if speakers else ""
        message = f"occurs {len(holders):,} times{by}, first in {holders[0].source}: {holders[0].text!r}"
        yield make_finding(kinds.DUPLICATE_TEXT, holders[1:], message, len(holders))
    for copies in _recordings(split).values():
        first = split.utterances[copies[0]]
        for i in copies[1:]:
            same_text = hashes[i] == hashes[copies[0]]
            message = f"the same samples as {first.source}" + ("" if same_text else f", whose text is {first.text!r}")
            severity = None if same_text else Severity.SPOILS  # one of the two texts is wrong
            yield make_finding(kinds.DUPLICATE_AUDIO, split.measured[i].utterance, message, len(copies), severity)


def between(splits: Sequence[SplitData], rules: RulesByLanguage, labels: Collection[str] = ()) -> Iterator[Finding]:
    """What two splits share, reported at the later one; and characters that the training text does not have.

    `labels`: those that a config lists, if it does. A character without one is left to label_findings; a character with
    one does not stop training.
    """
    for k, later in enumerate(splits):
        for earlier in splits[:k]:
            yield from _shared_audio(earlier, later)
            yield from _shared_texts(earlier, later)
            yield from _shared_speakers(earlier, later)
    train_split = next((split for split in splits if split.name == TRAIN), None)
    for split in splits:
        if train_split and split is not train_split:
            new = set(split.texts.characters) - set(train_split.texts.characters)
            stops = split.name != TEST and not labels
            yield from _unseen(split, new & set(labels) if labels else new, rules, None if stops else Severity.LOOK)


def _shared_audio(earlier: SplitData, later: SplitData) -> Iterator[Finding]:
    known = _recordings(earlier)
    for digest, indices in _recordings(later).items():
        for i in indices if digest in known else ():
            first = earlier.utterances[known[digest][0]].source
            message = f"the same samples as {first} in {earlier.name}"
            yield make_finding(kinds.SHARED_AUDIO, later.measured[i].utterance, message, len(known[digest]))


def _shared_texts(earlier: SplitData, later: SplitData) -> Iterator[Finding]:
    shared = set(np.intersect1d(earlier.texts.hashes, later.texts.hashes).tolist()) - {0}
    n_earlier = Counter(value for value in earlier.texts.hashes if value in shared)
    holders: dict[int, list[Utterance]] = defaultdict(list)
    for i, value in enumerate(later.texts.hashes):
        if value in shared:
            holders[value].append(later.utterances[i])
    for value, sharing in holders.items():
        n = n_earlier[value]
        message = f"{len(sharing):,} times in {later.name}, {n:,} times in {earlier.name}: {sharing[0].text!r}"
        yield make_finding(kinds.SHARED_TEXT, sharing, message, n + len(sharing))


def _shared_speakers(earlier: SplitData, later: SplitData) -> Iterator[Finding]:
    before, here = _by_speaker(earlier), _by_speaker(later)
    for speaker in here.keys() & before.keys():
        utterances, n = here[speaker], len(before[speaker])
        message = f"{speaker!r} has {len(utterances):,} utterances in {later.name} and {n:,} in {earlier.name}"
        yield make_finding(kinds.SHARED_SPEAKER, utterances, message, len(utterances))


def _unseen(split: SplitData, new: set[str], rules: RulesByLanguage, severity: Severity | None) -> Iterator[Finding]:
    for character, holders in utterances_with(split.utterances, new, rules).items():
        n = split.texts.characters[character]
        message = f"{describe(character)} occurs {n:,} times here and never in training: {holders[0].text!r}"
        yield make_finding(kinds.UNSEEN_CHARACTER, holders, message, n, severity)


def _groups(hashes: np.ndarray) -> Iterator[list[int]]:
    """Indices of equal texts, for each text that occurs at least twice."""
    order = np.argsort(hashes, kind="stable")
    ends = np.flatnonzero(np.diff(hashes[order])) + 1
    starts, ends = np.concatenate([[0], ends]), np.concatenate([ends, [len(order)]])
    for start, end in zip(starts[ends - starts > 1], ends[ends - starts > 1], strict=True):
        if hashes[order[start]] != 0:
            yield order[start:end].tolist()


def _recordings(split: SplitData) -> dict[bytes, list[int]]:
    """Indices of the utterances by the digest of their samples, without silence, which is always equal."""
    by_digest: dict[bytes, list[int]] = defaultdict(list)
    for i, one in enumerate(split.measured):
        if one.measurement and one.measurement.duration > 0 and one.measurement.level_db >= SILENT_DB:
            by_digest[one.measurement.digest].append(i)
    return by_digest


def _by_speaker(split: SplitData) -> dict[str, list[Utterance]]:
    speakers: dict[str, list[Utterance]] = defaultdict(list)
    for one in split.utterances:
        if one.speaker:
            speakers[one.speaker].append(one)
    return speakers
