"""Train, valid and test sets that share no speaker and no sentence, and that stay stable when the corpus grows.

Guarantees, for the same seed, shares and `disjoint`:

1. The order of the lines, the machine and Python's hash seed change nothing.
2. A group is the utterances that are linked by speaker or sentence. Whether it is held out is drawn from the names of its
   speakers (of its sentence, if splits may share speakers). So new utterances move no old one, as long as no old group
   gains a speaker and both results are as drawn (`SplitResult.by_size` is empty). A draw is overruled only where it would
   miss a share by more than half, or make one group most of a set.
3. With `keep`, an earlier split, none of its utterances moves, whatever is added. A new utterance goes to the split of the
   old ones that it is linked to, directly or over other new ones; one that would link two splits is excluded.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from anadil.errors import AnadilError, Problem, summarize
from anadil.manifest import Utterance, measured, probe_all
from anadil.splitting.assign import EXCLUDED, FREE, HELD_OUT, REST, Assignment, Lengths, Stage, hold_out, shared
from anadil.splitting.links import BOTH, SPEAKER, TEXT, Links, absolute_paths, find_links, speaker_name

TRAIN, VALID, TEST, SET_ASIDE = "train", "valid", "test", "set_aside"
NAMES = (TRAIN, VALID, TEST, SET_ASIDE)


@dataclass(frozen=True)
class Plan:
    """The split that is wanted. Shares are of the hours; `disjoint` is what two splits must not share.

    `valid_disjoint` (default: `disjoint`) is for train and valid only. With `test_speakers`, their utterances are the test
    set, and `valid` is a share of the others. `set_aside` excludes the utterances that link two splits.
    """

    valid: float = 0.1
    test: float = 0.1
    disjoint: frozenset[str] = BOTH
    valid_disjoint: frozenset[str] | None = None
    seed: int = 0
    set_aside: bool = False
    test_speakers: tuple[str, ...] = ()
    language: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON: equal for two plans that give the same split."""
        inner = self.disjoint if self.valid_disjoint is None else self.valid_disjoint
        return {name: getattr(self, name) for name in ("valid", "test", "seed", "set_aside", "language")} | {
            "disjoint": sorted(self.disjoint),
            "valid_disjoint": sorted(inner),
            "test_speakers": sorted(self.test_speakers),
        }


@dataclass(frozen=True)
class Leak:
    """What a held-out split shares with others: test with train and valid, valid with train."""

    n_speakers: int
    n_sentences: int
    shared_speakers: int
    shared_sentences: int
    shared_hours: float  # of the held-out split, with a shared sentence


@dataclass(frozen=True)
class SplitFigures:
    """Figures of one split."""

    name: str
    n_utterances: int
    hours: float
    share: float  # of the hours of train, valid and test
    n_speakers: int
    n_sentences: int
    median_s: float


@dataclass(frozen=True)
class SplitResult:
    """The split of each utterance. `by_size` names the splits that are not as drawn."""

    utterances: Sequence[Utterance]
    split_index: np.ndarray  # int8 (utterances,): index in NAMES
    links: Links
    lengths: Lengths
    reasons: Mapping[int, str]  # why an utterance was excluded, by its index
    by_size: tuple[str, ...]
    n_kept: int = 0  # utterances that an earlier split had

    def mask(self, *names: str) -> np.ndarray:
        return np.isin(self.split_index, [NAMES.index(name) for name in names])

    def part(self, name: str) -> list[Utterance]:
        """The utterances of one split, in the order of the input; excluded ones have the reason in `extra`."""
        chosen = np.flatnonzero(self.mask(name)).tolist()
        if name != SET_ASIDE:
            return [self.utterances[i] for i in chosen]
        return [
            replace(self.utterances[i], extra=self.utterances[i].extra | {SET_ASIDE: self.reasons[i]}) for i in chosen
        ]

    def figures(self, name: str) -> SplitFigures:
        chosen, kept = self.mask(name), float(self.lengths[~self.mask(SET_ASIDE)].sum())
        length = float(self.lengths[chosen].sum())
        return SplitFigures(
            name,
            int(chosen.sum()),
            _hours(length),
            0.0 if name == SET_ASIDE or not kept else length / kept,
            len(np.unique(self.links.speaker[chosen])),
            len(np.unique(self.links.sentence[chosen])),
            float(np.median(self.lengths[chosen])) / 1e6 if chosen.any() else 0.0,
        )

    def leak(self, name: str) -> Leak:
        """What a held-out split shares, counted on the result itself."""
        held, rest = self.mask(name), self.mask(*((TRAIN, VALID) if name == TEST else (TRAIN,)))
        assigned = np.where(held, HELD_OUT, np.where(rest, REST, EXCLUDED))
        sentences = shared(self.links.sentence, assigned)
        return Leak(
            len(np.unique(self.links.speaker[held])),
            len(np.unique(self.links.sentence[held])),
            len(shared(self.links.speaker, assigned)),
            len(sentences),
            _hours(float(self.lengths[held & np.isin(self.links.sentence, sentences)].sum())),
        )

    def set_aside_reasons(self) -> Counter[str]:
        return Counter(self.reasons.values())


def assign_splits(
    utterances: Sequence[Utterance],
    plan: Plan,
    links: Links | None = None,
    keep: Mapping[str, Sequence[Utterance]] | None = None,
) -> SplitResult:
    """Hold out test, then valid from the rest. Every utterance needs a duration (see `measure`).

    A split can fall short of its share, or be empty, where the links leave no choice: `tradeoffs.split` reports it.
    Raises AnadilError for an unknown test speaker, and for a `keep` that is not what `plan` asks for.
    """
    links = links or find_links(utterances, plan.language)
    lengths = np.round(np.array([one.duration or 0.0 for one in utterances], dtype=np.float64) * 1e6)
    split_index = np.full(len(utterances), NAMES.index(TRAIN), dtype=np.int8)
    earlier = _earlier(utterances, keep or {})
    reasons: dict[int, str] = {}
    by_size: list[str] = []
    for name in (TEST, VALID):
        chosen = np.flatnonzero(split_index == NAMES.index(TRAIN))
        if not len(chosen):
            break
        stage, pinned = _make_stage(name, plan, links, utterances, earlier)
        chosen_links, pinned = links.take(chosen), pinned[chosen]
        if not stage.set_aside and keep:
            _require_disjoint(chosen_links, pinned, stage, name)
        result = hold_out(chosen_links, lengths[chosen], stage, pinned)
        split_index[chosen[result.assigned == HELD_OUT]] = NAMES.index(name)
        split_index[chosen[result.assigned == EXCLUDED]] = NAMES.index(SET_ASIDE)
        reasons |= {int(chosen[i]): reason for i, reason in _reasons(chosen_links, result.assigned, name).items()}
        by_size += [name] if result.by_size else []
    return SplitResult(utterances, split_index, links, lengths, reasons, tuple(by_size), int((earlier >= 0).sum()))


def measure(
    utterances: Sequence[Utterance], on_progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[list[Utterance], int]:
    """The utterances with missing durations filled in from the audio, and how many there were.

    Raises AnadilError naming each utterance whose audio cannot be measured.
    """
    missing = [i for i, one in enumerate(utterances) if one.duration is None]
    filled, problems = list(utterances), []
    infos = probe_all((utterances[i] for i in missing), on_progress)
    for i in missing:
        one = utterances[i]
        try:
            filled[i] = measured(one, infos[one.audio_filepath])
        except AnadilError as error:
            problems.append(Problem(one.source or one.audio_filepath, f'no "duration", and {error}'))
    if problems:
        step = "put the audio where the manifest says, remove these lines, or fill in durations (anadil import does)"
        raise AnadilError(summarize(problems, "utterances", len(utterances), step))
    if utterances and not any(one.duration for one in filled):
        raise AnadilError('every "duration" is 0: the manifest has no audio\n  next: check what wrote the manifest')
    return filled, len(missing)


def _make_stage(
    name: str, plan: Plan, links: Links, utterances: Sequence[Utterance], earlier: np.ndarray
) -> tuple[Stage, Assignment]:
    """How to hold out one split, and the earlier assignments that stay."""
    same_draw = plan.valid_disjoint in (None, plan.disjoint)
    if name == VALID:
        before = 0.0 if plan.test_speakers else plan.test
        salt, earlier_share = (f"{plan.seed}", before) if same_draw else (f"{plan.seed} {name}", 0.0)
        disjoint = plan.valid_disjoint or plan.disjoint
        stage = Stage(plan.valid / (1 - before), disjoint, salt, plan.set_aside, earlier=earlier_share)
    else:
        stage = Stage(plan.test, plan.disjoint, f"{plan.seed}", plan.set_aside, later=plan.valid if same_draw else 0.0)
        if plan.test_speakers:
            speakers = np.unique(links.speaker[_spoken_by(plan.test_speakers, utterances)])
            chosen = np.where(np.isin(links.speaker, speakers), HELD_OUT, REST)
            return replace(stage, share=0.0), chosen.astype(np.int8)
    pinned = np.where(earlier < 0, FREE, np.where(earlier == NAMES.index(name), HELD_OUT, REST))
    return stage, pinned.astype(np.int8)


def _spoken_by(speakers: Sequence[str], utterances: Sequence[Utterance]) -> np.ndarray:
    known = {speaker_name(one) for one in utterances} - {""}
    wanted = {speaker_name(Utterance("", speaker=speaker)) for speaker in speakers}
    for speaker in sorted(wanted):
        if speaker not in known:
            near = difflib.get_close_matches(speaker, sorted(known), n=5, cutoff=0.0)
            listed = ", ".join(map(repr, near)) + (f" and {len(known) - len(near):,} more" if len(known) > 5 else "")
            raise AnadilError(
                f"no utterance has the speaker {speaker!r}\n  next: --test-speaker with one of: {listed or '(none is given)'}"
            )
    return np.array([speaker_name(one) in wanted for one in utterances])


def _earlier(utterances: Sequence[Utterance], keep: Mapping[str, Sequence[Utterance]]) -> np.ndarray:
    """Index in NAMES of each utterance in the earlier split, -1 for new ones. File and offset identify a clip."""
    index_of: dict[tuple[str, float], int] = {}
    for name, old in keep.items():
        for one, path in zip(old, absolute_paths(old), strict=True):
            clip = (path, one.offset)
            if index_of.setdefault(clip, NAMES.index(name)) != NAMES.index(name):
                raise AnadilError(
                    f"{one.source}: this clip is also in {NAMES[index_of[clip]]}.jsonl\n  next: correct the split to keep"
                )
    if not index_of:
        return np.full(len(utterances), -1)
    paths = absolute_paths(utterances)
    earlier = np.array([index_of.get((path, one.offset), -1) for one, path in zip(utterances, paths, strict=True)])
    if (earlier < 0).all():
        raise AnadilError(
            "none of the utterances is in the split to keep: a clip is identified by its audio file and its offset\n"
            "  next: check that --keep and the manifests name the same files"
        )
    return earlier


def _require_disjoint(links: Links, pinned: Assignment, stage: Stage, name: str) -> None:
    n_speakers = len(shared(links.speaker, pinned)) if SPEAKER in stage.disjoint else 0
    n_sentences = len(shared(links.sentence, pinned)) if TEXT in stage.disjoint else 0
    if n_speakers or n_sentences:
        option = "--disjoint text" if n_speakers else "--disjoint speaker, or --set-aside to omit these from training"
        raise AnadilError(
            f"the split to keep has {n_speakers:,} speakers and {n_sentences:,} sentences in {name} that are also in the "
            f"splits that {name} is held out from\n  next: keep it with {option}, or make a new split in another --out"
        )


def _reasons(links: Links, assigned: Assignment, name: str) -> dict[int, str]:
    others = "train" if name == VALID else "train or valid"
    excluded = np.flatnonzero(assigned == EXCLUDED)
    held = np.isin(links.speaker[excluded], links.speaker[assigned == HELD_OUT])
    return {
        i: f"its speaker is in {name}, its sentence in {others}" if is_held else
        f"its speaker is in {others}, its sentence in {name}"
        for i, is_held in zip(excluded.tolist(), held.tolist(), strict=True)
    }  # fmt: skip


def _hours(length: float) -> float:
    return length / 3.6e9
