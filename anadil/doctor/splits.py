"""What the splits share, and must not: recordings, sentences, speakers; and what is there twice in one of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anadil.doctor import findings as kinds
from anadil.doctor.audio import SILENT_DB, Heard
from anadil.doctor.findings import Finding, Severity, found
from anadil.doctor.text import Texts, holding
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
    heard: Sequence[Heard] = ()  # in the order of the utterances; empty if the audio was left alone


def splits_of(manifests: Sequence[Path], train: Sequence[str] = (), valid: Sequence[str] = ()) -> list[str]:
    """The split of each manifest: as `train` and `valid` (paths of a config) say, else by its name, else the first
    is for training and each other one is a split of its own."""
    known = {Path(path).resolve(): name for name, paths in ((TRAIN, train), (VALID, valid)) for path in paths}
    names = [known.get(path.resolve()) or _by_name(path) for path in manifests]
    if TRAIN not in names and None in names:
        names[names.index(None)] = TRAIN
    return [name or str(path) for name, path in zip(names, manifests, strict=True)]


def _by_name(path: Path) -> str | None:
    words = set("".join(c if c.isalnum() else " " for c in path.name.removesuffix(".jsonl").lower()).split())
    fitting = [split for split, known in _WORDS.items() if words & known]
    return fitting[0] if len(fitting) == 1 else None


def within(split: SplitData) -> Iterator[Finding]:
    """Sentences and recordings that a split has more than once."""
    hashes = np.array(split.texts.hashes)
    for indices in _groups(hashes):
        holders = [split.utterances[i] for i in indices]
        speakers = {one.speaker for one in holders} - {None}
        by = f" by {len(speakers):,} speaker{'s' if len(speakers) > 1 else ''}" if speakers else ""
        what = f"said {len(holders):,} times{by}, first in {holders[0].source}: {holders[0].text!r}"
        yield found(kinds.DUPLICATE_TEXT, holders[1:], what, len(holders))
    for copies in _recordings(split).values():
        first = split.utterances[copies[0]]
        for i in copies[1:]:
            same_text = hashes[i] == hashes[copies[0]]
            what = f"the same samples as {first.source}" + ("" if same_text else f", which says {first.text!r}")
            severity = None if same_text else Severity.SPOILS  # one of the two texts is wrong
            yield found(kinds.DUPLICATE_AUDIO, split.heard[i].utterance, what, len(copies), severity)


def between(splits: Sequence[SplitData], rules: RulesByLanguage, labels: Collection[str] = ()) -> Iterator[Finding]:
    """What two splits share, told at the later one; and which characters training never has.

    `labels` that a config lists: a character without one is told by label_findings, one with one does not stop training.
    """
    for k, later in enumerate(splits):
        for earlier in splits[:k]:
            yield from _shared_audio(earlier, later)
            yield from _shared_texts(earlier, later)
            yield from _shared_speakers(earlier, later)
    trained = next((split for split in splits if split.name == TRAIN), None)
    for split in splits:
        if trained and split is not trained:
            new = set(split.texts.characters) - set(trained.texts.characters)
            stops = split.name != TEST and not labels
            yield from _unseen(split, new & set(labels) if labels else new, rules, None if stops else Severity.LOOK)


def _shared_audio(earlier: SplitData, later: SplitData) -> Iterator[Finding]:
    there = _recordings(earlier)
    for digest, indices in _recordings(later).items():
        for i in indices if digest in there else ():
            first = earlier.utterances[there[digest][0]].source
            what = f"the same samples as {first} in {earlier.name}"
            yield found(kinds.SHARED_AUDIO, later.heard[i].utterance, what, len(there[digest]))


def _shared_texts(earlier: SplitData, later: SplitData) -> Iterator[Finding]:
    shared = set(np.intersect1d(earlier.texts.hashes, later.texts.hashes).tolist()) - {0}
    n_earlier = Counter(value for value in earlier.texts.hashes if value in shared)
    holders: dict[int, list[Utterance]] = defaultdict(list)
    for i, value in enumerate(later.texts.hashes):
        if value in shared:
            holders[value].append(later.utterances[i])
    for value, sharing in holders.items():
        n = n_earlier[value]
        what = f"{len(sharing):,} times in {later.name}, {n:,} times in {earlier.name}: {sharing[0].text!r}"
        yield found(kinds.SHARED_TEXT, sharing, what, n + len(sharing))


def _shared_speakers(earlier: SplitData, later: SplitData) -> Iterator[Finding]:
    there, here = _by_speaker(earlier), _by_speaker(later)
    for speaker in here.keys() & there.keys():
        mine, n = here[speaker], len(there[speaker])
        what = f"{speaker!r} has {len(mine):,} utterances in {later.name} and {n:,} in {earlier.name}"
        yield found(kinds.SHARED_SPEAKER, mine, what, len(mine))


def _unseen(split: SplitData, new: set[str], rules: RulesByLanguage, severity: Severity | None) -> Iterator[Finding]:
    for character, holders in holding(split.utterances, new, rules).items():
        n = split.texts.characters[character]
        what = f"{describe(character)} is there {n:,} times, in training never: {holders[0].text!r}"
        yield found(kinds.UNSEEN_CHARACTER, holders, what, n, severity)


def _groups(hashes: np.ndarray) -> Iterator[list[int]]:
    """Indices of texts that are equal, two at least."""
    order = np.argsort(hashes, kind="stable")
    ends = np.flatnonzero(np.diff(hashes[order])) + 1
    starts, ends = np.concatenate([[0], ends]), np.concatenate([ends, [len(order)]])
    for start, end in zip(starts[ends - starts > 1], ends[ends - starts > 1], strict=True):
        if hashes[order[start]] != 0:
            yield order[start:end].tolist()


def _recordings(split: SplitData) -> dict[bytes, list[int]]:
    """Indices of the utterances by what is heard in them; silence, which is like any other, is left out."""
    found_in: dict[bytes, list[int]] = defaultdict(list)
    for i, one in enumerate(split.heard):
        if one.sound and one.sound.duration > 0 and one.sound.level_db >= SILENT_DB:
            found_in[one.sound.digest].append(i)
    return found_in


def _by_speaker(split: SplitData) -> dict[str, list[Utterance]]:
    speakers: dict[str, list[Utterance]] = defaultdict(list)
    for one in split.utterances:
        if one.speaker:
            speakers[one.speaker].append(one)
    return speakers
