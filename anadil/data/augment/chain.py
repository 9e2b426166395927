"""Apply the transforms of audio in order, each with its probability; the result does not depend on the threads.

What is applied to an utterance depends only on (seed, turn, index). One stream of random numbers decides which transforms
are applied. Each transform has a stream of its own, so that turning one on or off changes no other.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

import numpy as np
from numpy.random.bit_generator import ISeedSequence

from anadil.data.augment.settings import AugmentSettings
from anadil.data.augment.silence import Scene, compose, draw_scene
from anadil.data.augment.steps import STEPS, TIME_STEPS, Record, Rng, Step, draw_rate, steps, within_range
from anadil.data.augment.stretch import stretched_length

STREAMS = {name: number for number, name in enumerate(STEPS, start=1)}
_SCENES, _FILLINGS = len(STEPS) + 1, len(STEPS) + 2  # streams of the section silence

BLOCK = 256  # utterances whose probabilities are drawn together


def stream(seed: int, turn: int, index: int, number: int) -> Rng:
    """Random numbers of utterance `index` in a turn (epoch or copy): stream `number` of STREAMS, or 0 for `_chances`.

    Philox (Salmon et al. 2011) starts at any counter, so that no seed has to be hashed for each: half the time.
    """
    bits = np.random.Philox(_UNSEEDED)  # type: ignore[arg-type]
    start = _start(seed, turn)
    counter = np.array([0, 0, number, index], dtype=np.uint64)
    bits.state = start | {"state": {"counter": counter, "key": start["state"]["key"]}}  # type: ignore[assignment]
    return np.random.Generator(bits)


class _Unseeded(ISeedSequence):
    """A seed for generators whose state is set right after."""

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> np.ndarray:
        return np.zeros(n_words, dtype=dtype)


_UNSEEDED = _Unseeded()


@functools.lru_cache(maxsize=64)
def _start(seed: int, turn: int) -> dict[str, Any]:
    """State of a generator before the first number."""
    return dict(np.random.Philox(np.random.SeedSequence((seed, turn))).state)


def apply(
    chain: Sequence[Step], samples: np.ndarray, rate: int, seed: int, turn: int, index: int, skip: Sequence[str] = ()
) -> tuple[np.ndarray, list[Record]]:
    """Apply the chain without the steps named in `skip`. Returns the samples and the record of each step, in order."""
    history: list[Record] = []
    for step in applied(chain, seed, turn, index):
        if step.name not in skip:
            record: Record = {"transform": step.name}
            samples = step.change(samples, rate, stream(seed, turn, index, STREAMS[step.name]), record)
            samples = within_range(samples, record)
            history.append(record)
    return samples, history


def applied(chain: Sequence[Step], seed: int, turn: int, index: int) -> list[Step]:
    """The steps of the chain that are applied to an utterance."""
    chances = _chances(seed, turn, index // BLOCK)[index % BLOCK].tolist()
    return [step for step in chain if chances[STREAMS[step.name] - 1] < step.probability]


@functools.lru_cache(maxsize=1024)
def _chances(seed: int, turn: int, block: int) -> np.ndarray:
    """(BLOCK, steps) in [0, 1) of the utterances from `block` * BLOCK on: to set up a stream takes as long as to draw these."""
    return stream(seed, turn, block, 0).random((BLOCK, len(STEPS)), dtype=np.float32)


def _time_rates(chain: Sequence[Step], settings: AugmentSettings, seed: int, turn: int, index: int) -> list[float]:
    """The rates that `apply` will draw for an utterance: one for each step in TIME_STEPS that is applied."""
    return [
        draw_rate(getattr(settings, step.name).rate, stream(seed, turn, index, STREAMS[step.name]))
        for step in applied([step for step in chain if step.name in TIME_STEPS], seed, turn, index)
    ]


class Augmenter:
    """Augmentation of a training set. It computes the duration of each augmented utterance, and counts what was applied."""

    def __init__(
        self,
        settings: AugmentSettings,
        sample_rate: int,
        seed: int,
        durations: Sequence[float],
        is_allowed: Callable[[Sequence[int], float], bool],
        alike: Sequence[str] = (),
        boundary: Sequence[int] = (),
    ) -> None:
        """`durations` in seconds; `is_allowed(indices, seconds)`: whether these utterances together may last so long.

        Utterances of the same name in `alike` (one for each) may be joined; `boundary` are the labels between two texts.
        Raises AnadilError if a recording that `settings` name cannot be used.
        """
        self.settings = settings
        self.sample_rate = sample_rate
        self.seed = seed
        self.chain = steps(settings, sample_rate)
        self.counts: Counter[str] = Counter()
        self.silence_is_on = True
        """Whether the section silence acts in this epoch."""
        self._durations = durations
        self._is_allowed = is_allowed
        self._boundary = tuple(boundary)
        self._changes_time = any(step.name in TIME_STEPS for step in self.chain)
        self._lock = Lock()
        self._partners: dict[str, list[int]] = {}
        for index, name in enumerate(alike):
            self._partners.setdefault(name, []).append(index)
        self._alike = alike

    @property
    def is_on(self) -> bool:
        """Whether any utterance may be changed."""
        return bool(self.chain) or self.settings.silence is not None

    def durations(self, epoch: int) -> Sequence[float]:
        """Seconds of each augmented utterance in `epoch`."""
        if not self._changes_time and self.settings.silence is None:
            return self._durations
        return [self._planned(epoch, index)[0] for index in range(len(self._durations))]

    def scene(self, index: int, epoch: int) -> Scene | None:
        """What the section silence makes of utterance `index` in `epoch`; None if it stays as it is."""
        settings = self.settings.silence
        if settings is None or not self.silence_is_on:
            return None
        partners = self._partners[self._alike[index]] if self._alike else ()
        scene = draw_scene(settings, index, partners, stream(self.seed, epoch, index, _SCENES))
        if scene is None or not scene.has_speech:
            return scene
        together = (index,) if scene.partner is None else (index, scene.partner)
        return scene if self._is_allowed(together, scene.seconds(self._durations)) else None

    def labels(self, of: Callable[[int], Sequence[int]], index: int, epoch: int) -> Sequence[int]:
        """The labels of utterance `index` as augmented; `of` gives those of each utterance as it is."""
        scene = self.scene(index, epoch)
        if scene is None:
            return of(index)
        if not scene.has_speech:
            return ()
        return of(index) if scene.partner is None else (*of(index), *self._boundary, *of(scene.partner))

    def __call__(self, read: Callable[[int], np.ndarray], index: int, epoch: int) -> np.ndarray:
        """Utterance `index`, augmented for `epoch`; `read` gives the samples of each. Threads may call it in any order."""
        samples = read(index)
        if not self.is_on:
            return samples
        scene = self.scene(index, epoch)
        if scene is not None:
            assert self.settings.silence is not None
            partner = None if scene.partner is None else read(scene.partner)
            fillings = stream(self.seed, epoch, index, _FILLINGS)
            samples = compose(scene, samples, partner, self.sample_rate, self.settings.silence, fillings)
        keeps_time = self._changes_time and not self._planned(epoch, index)[1]
        skip = TIME_STEPS if keeps_time else ()
        changed, history = apply(self.chain, samples, self.sample_rate, self.seed, epoch, index, skip)
        with self._lock:
            self.counts["utterances"] += 1
            self.counts["kept at their own speed, as text or limits of length leave no room"] += keeps_time
            if scene is not None:
                self.counts[scene.kind] += 1
            self.counts.update(note for record in history for note in _notes(record))
        return changed

    def report(self) -> str:
        """The counts so far, in one line."""
        counts = {name: count for name, count in self.counts.items() if count and name != "utterances"}
        order = {name: position for position, name in enumerate(STEPS)}
        listed = sorted(counts, key=lambda name: (order.get(name, len(order)), name))
        return f"augmented {self.counts['utterances']:,} utterances: " + (
            ", ".join(f"{name} {counts[name]:,}" for name in listed) or "nothing drawn"
        )

    def _planned(self, epoch: int, index: int) -> tuple[float, bool]:
        """Seconds in `epoch`, and whether the rates that were drawn may be used."""
        scene = self.scene(index, epoch)
        seconds = before = self._durations[index] if scene is None else scene.seconds(self._durations)
        if not self._changes_time:
            return seconds, True
        for rate in _time_rates(self.chain, self.settings, self.seed, epoch, index):
            seconds = stretched_length(round(seconds * self.sample_rate), rate) / self.sample_rate
        together = (index,) if scene is None or scene.partner is None else (index, scene.partner)
        if seconds != before and not self._is_allowed(together, seconds):
            return before, False
        return seconds, True


def _notes(record: Record) -> list[str]:
    """What to count of a record."""
    name = record["transform"]
    if "skipped" in record:
        return [f"{name} skipped: {record['skipped']}"]
    return [name, f"scaled down to [-1, 1] after {name}"] if "scaled_db" in record else [name]
