"""The transforms of audio in their order, each applied or not as chance has it, the same on any number of threads.

What happens to an utterance follows from (seed, turn, index) alone: one stream of random numbers says which transforms
are applied, and each of these has a stream of its own, so that turning one on or off changes no other.
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
from anadil.data.augment.steps import STEPS, TIME_STEPS, Done, Rng, Step, draw_rate, steps, within_range
from anadil.data.augment.stretch import stretched_length

STREAMS = {name: number for number, name in enumerate(STEPS, start=1)}

AT_ONCE = 256  # utterances whose chances are drawn together


def stream(seed: int, turn: int, index: int, number: int) -> Rng:
    """Random numbers of utterance `index` in a turn (epoch or copy): one of STREAMS. Number 0 decides for blocks of them.

    Philox (Salmon et al. 2011) counts from any place, so that no seed has to be hashed for each: half the time.
    """
    bits = np.random.Philox(_UNSEEDED)  # type: ignore[arg-type]
    start = _start(seed, turn)
    place = np.array([0, 0, number, index], dtype=np.uint64)
    bits.state = start | {"state": {"counter": place, "key": start["state"]["key"]}}  # type: ignore[assignment]
    return np.random.Generator(bits)


class _Unseeded(ISeedSequence):
    """For generators whose state is set at once."""

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> np.ndarray:
        return np.zeros(n_words, dtype=dtype)


_UNSEEDED = _Unseeded()


@functools.lru_cache(maxsize=64)
def _start(seed: int, turn: int) -> dict[str, Any]:
    """State of a generator that has drawn nothing yet."""
    return dict(np.random.Philox(np.random.SeedSequence((seed, turn))).state)


def apply(
    chain: Sequence[Step], samples: np.ndarray, rate: int, seed: int, turn: int, index: int, leave: Sequence[str] = ()
) -> tuple[np.ndarray, list[Done]]:
    """Run samples through the chain, without the steps named in `leave`; the outcome and what was done, in order."""
    history: list[Done] = []
    for step in applied(chain, seed, turn, index):
        if step.name not in leave:
            done: Done = {"transform": step.name}
            samples = step.change(samples, rate, stream(seed, turn, index, STREAMS[step.name]), done)
            samples = within_range(samples, done)
            history.append(done)
    return samples, history


def applied(chain: Sequence[Step], seed: int, turn: int, index: int) -> list[Step]:
    """The steps that chance has chosen for an utterance."""
    chances = _chances(seed, turn, index // AT_ONCE)[index % AT_ONCE].tolist()
    return [step for step in chain if chances[STREAMS[step.name] - 1] < step.probability]


@functools.lru_cache(maxsize=1024)
def _chances(seed: int, turn: int, block: int) -> np.ndarray:
    """Of utterances from `block` * AT_ONCE on, (AT_ONCE, steps): a stream takes as long to set up as to draw all these."""
    return stream(seed, turn, block, 0).random((AT_ONCE, len(STEPS)), dtype=np.float32)


def time_rate(chain: Sequence[Step], settings: AugmentSettings, seed: int, turn: int, index: int) -> list[float]:
    """The factors of speed that `apply` will draw for an utterance, one for each step in TIME_STEPS that is applied."""
    return [
        draw_rate(getattr(settings, step.name).rate, stream(seed, turn, index, STREAMS[step.name]))
        for step in applied([step for step in chain if step.name in TIME_STEPS], seed, turn, index)
    ]


class Augmenter:
    """The chain for a training set: knows how long each utterance will be, and counts what it did."""

    def __init__(
        self,
        settings: AugmentSettings,
        sample_rate: int,
        seed: int,
        durations: Sequence[float],
        may_last: Callable[[int, float], bool],
    ) -> None:
        """`durations` in seconds; `may_last(index, seconds)`: whether an utterance may become that long or short.

        Raises AnadilError if a recording that `settings` name cannot be used.
        """
        self.settings = settings
        self.sample_rate = sample_rate
        self.seed = seed
        self.chain = steps(settings, sample_rate)
        self.counts: Counter[str] = Counter()
        self._durations = durations
        self._may_last = may_last
        self._in_time = any(step.name in TIME_STEPS for step in self.chain)
        self._lock = Lock()

    def durations(self, epoch: int) -> Sequence[float]:
        """Seconds of each utterance as it will be heard in `epoch`."""
        if not self._in_time:
            return self._durations
        return [self._planned(epoch, index)[0] for index in range(len(self._durations))]

    def __call__(self, samples: np.ndarray, index: int, epoch: int) -> np.ndarray:
        """Utterance `index` as it is heard in `epoch`; called from any thread, in any order."""
        if not self.chain:
            return samples
        keeps_time = self._in_time and not self._planned(epoch, index)[1]
        leave = TIME_STEPS if keeps_time else ()
        changed, history = apply(self.chain, samples, self.sample_rate, self.seed, epoch, index, leave)
        with self._lock:
            self.counts["utterances"] += 1
            self.counts["kept at their own speed, as text or limits of length leave no room"] += keeps_time
            self.counts.update(note for done in history for note in _notes(done))
        return changed

    def report(self) -> str:
        """What was done so far, in one line."""
        counts = {name: count for name, count in self.counts.items() if count and name != "utterances"}
        order = {name: place for place, name in enumerate(STEPS)}
        listed = sorted(counts, key=lambda name: (order.get(name, len(order)), name))
        return f"augmented {self.counts['utterances']:,} utterances: " + (
            ", ".join(f"{name} {counts[name]:,}" for name in listed) or "nothing drawn"
        )

    def _planned(self, epoch: int, index: int) -> tuple[float, bool]:
        """Seconds in `epoch`, and whether the speeds that were drawn may be used."""
        seconds = before = self._durations[index]
        for rate in time_rate(self.chain, self.settings, self.seed, epoch, index):
            seconds = stretched_length(round(seconds * self.sample_rate), rate) / self.sample_rate
        if seconds != before and not self._may_last(index, seconds):
            return before, False
        return seconds, True


def _notes(done: Done) -> list[str]:
    """What to count of a transform."""
    name = done["transform"]
    if "skipped" in done:
        return [f"{name} skipped: {done['skipped']}"]
    return [name, f"scaled down to [-1, 1] after {name}"] if "scaled_db" in done else [name]
