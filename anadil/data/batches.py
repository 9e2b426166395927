"""Batches of utterances of similar length, bounded in padded seconds. Threads decode and augment them in advance."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from anadil.data.cache import DiskCache
from anadil.data.examples import Example
from anadil.errors import AnadilError
from anadil.manifest import Utterance, read_audio

_AHEAD = 4
"""Batches decoded in advance: enough to hide a slow file, without much memory."""

_LENGTH_JITTER = 0.05
"""Utterances are sorted by duration times 1 +- this, so that batches differ between epochs."""

PADDED_TO_S = 0.16
"""The length of a batch is a multiple of this. With arbitrary lengths, the C library's allocator collects free blocks that
fit no later batch: a run of hours took twice the memory, and a sixth of its time to search them (docs/LOG.md)."""


class Augmentation(Protocol):
    """Changes the examples of an epoch. Both methods take what gives the samples or the labels of each example as it is."""

    def __call__(self, read: Callable[[int], np.ndarray], index: int, epoch: int) -> np.ndarray: ...

    def labels(self, of: Callable[[int], Sequence[int]], index: int, epoch: int) -> Sequence[int]: ...


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded waveforms and targets with their true lengths as counts, never ratios. Padding is zeros."""

    waveforms: Tensor  # float32 (batch, samples)
    sample_counts: Tensor  # int64 (batch,)
    targets: Tensor  # int64 (batch, labels)
    target_counts: Tensor  # int64 (batch,)
    indices: tuple[int, ...]  # which examples these are
    weights: Tensor | None = None  # float32 (batch,); None: all are 1

    def to(self, device: torch.device) -> Batch:
        """The batch on `device`; to a GPU from pinned memory, so that it computes during the copy."""
        if device.type == "cpu":
            return self
        pin = device.type == "cuda"

        def move(tensor: Tensor) -> Tensor:
            return (tensor.pin_memory() if pin else tensor).to(device, non_blocking=pin)

        return Batch(
            move(self.waveforms),
            move(self.sample_counts),
            move(self.targets),
            move(self.target_counts),
            self.indices,
            None if self.weights is None else move(self.weights),
        )


def plan_epoch(durations: Sequence[float], batch_seconds: float, seed: int | None, epoch: int = 0) -> list[list[int]]:
    """Indices of the examples of each batch: at most `batch_seconds` of audio with padding, shuffled by (seed, epoch).

    With seed None the order is by length, for validation. An utterance longer than `batch_seconds` is a batch of its own.
    """
    lengths = np.asarray(durations, dtype=np.float64)
    padded = _padded(lengths)
    rng = None if seed is None else np.random.default_rng((seed, epoch))
    jittered = lengths if rng is None else lengths * rng.uniform(1 - _LENGTH_JITTER, 1 + _LENGTH_JITTER, len(lengths))
    batches: list[list[int]] = []
    longest = 0.0
    for index in np.argsort(jittered, kind="stable").tolist():
        longest = max(longest, float(padded[index]))
        if not batches or longest * (len(batches[-1]) + 1) > batch_seconds:
            batches.append([])
            longest = float(padded[index])
        batches[-1].append(index)
    if rng is not None:
        rng.shuffle(batches)
    return batches


def plan_languages(
    durations: Sequence[float],
    languages: Sequence[str],
    temperature: float | None,
    batch_seconds: float,
    seed: int,
    epoch: int = 0,
) -> list[list[int]]:
    """Batches of an epoch as `plan_epoch` makes them, with small languages sampled more often than their size.

    The share of a language in the epoch is proportional to (its seconds) ** (1 / temperature): 1 keeps the shares, a
    large temperature makes them equal (Conneau et al., arXiv:1911.02116, section 3.1, has the exponent 0.3). An epoch is
    as long as the data: utterances of small languages occur several times, and some of large languages do not occur.
    Which ones is drawn by (seed, epoch). With temperature None it is `plan_epoch`.
    """
    if temperature is None:
        return plan_epoch(durations, batch_seconds, seed, epoch)
    lengths = np.asarray(durations, dtype=np.float64)
    names = sorted(set(languages))
    members = [np.flatnonzero(np.asarray([language == name for language in languages])) for name in names]
    seconds = np.array([lengths[member].sum() for member in members])
    shares = seconds ** (1 / temperature)
    wanted = shares / shares.sum() * seconds.sum()
    rng = np.random.default_rng((seed, epoch, len(names)))
    chosen = [
        index
        for member, goal in zip(members, wanted, strict=True)
        for index in _fill(member, lengths, float(goal), rng)
    ]
    plan = plan_epoch(lengths[chosen].tolist(), batch_seconds, seed, epoch)
    return [[chosen[i] for i in batch] for batch in plan]


def _fill(members: np.ndarray, lengths: np.ndarray, goal_s: float, rng: np.random.Generator) -> list[int]:
    """Shuffled passes through `members` until their seconds are nearest to `goal_s`; at least one utterance."""
    chosen: list[int] = []
    filled = 0.0
    while True:
        for index in rng.permutation(members).tolist():
            if chosen and filled + lengths[index] / 2 > goal_s:
                return chosen
            chosen.append(index)
            filled += float(lengths[index])


def padded_seconds(durations: Sequence[float], indices: Sequence[int]) -> float:
    """Seconds of audio in a batch with its padding: the padded length of the longest utterance, for each."""
    return len(indices) * float(_padded(np.array([max(durations[i] for i in indices)]))[0])


def _padded(lengths: np.ndarray) -> np.ndarray:
    """Padded length of a batch whose longest utterance this is; a change of speed may make it one sample longer."""
    whole: np.ndarray = np.ceil(lengths / PADDED_TO_S + 1e-3) * PADDED_TO_S
    return whole


class Loader:
    """Decodes, augments and pads examples. Decoded audio is kept as 16-bit integers: in memory up to `cache_mb`, on `disk`.

    `augment` runs in the loader's threads, so it must use neither PyTorch (see `_pad`) nor a shared random generator.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        sample_rate: int,
        cache_mb: float = 0,
        threads: int | None = None,
        augment: Augmentation | None = None,
        disk: DiskCache | None = None,
    ) -> None:
        self.examples = examples
        self.labels: Sequence[Sequence[int]] | None = None  # instead of the examples' own
        self.sample_rate = sample_rate
        self.threads = threads or max(2, min(_AHEAD, (os.cpu_count() or 1) // 2))
        self.augment = augment
        self.disk = disk
        self.waited_s = 0.0  # total time that callers of `batches` have waited
        self._cache: dict[int, np.ndarray] = {}
        self._room = int(cache_mb * 2**20)
        self._caches = self._room > 0 or disk is not None
        self._lock = Lock()

    def batches(self, plan: Sequence[Sequence[int]], epoch: int = 0) -> Iterator[Batch]:
        """Yield the planned batches of an epoch in order.

        Raises AnadilError naming the utterance if its audio cannot be decoded.
        """
        waiting: deque[Future[Batch]] = deque()
        with ThreadPoolExecutor(max_workers=self.threads) as pool:
            try:
                for indices in plan:
                    waiting.append(pool.submit(self.load, indices, epoch))
                    if len(waiting) > _AHEAD:
                        yield self._wait_for(waiting.popleft())
                while waiting:
                    yield self._wait_for(waiting.popleft())
            finally:
                for future in waiting:
                    future.cancel()

    def _wait_for(self, batch: Future[Batch]) -> Batch:
        started = time.monotonic()
        try:
            return batch.result()
        finally:
            self.waited_s += time.monotonic() - started

    def load(self, indices: Sequence[int], epoch: int = 0) -> Batch:
        """Decode, augment and pad the examples at `indices`."""
        augment = self.augment
        if augment is None:
            waveforms = [self._waveform(index) for index in indices]
            labels = [self._labels(index) for index in indices]
        else:
            waveforms = [augment(self._waveform, index, epoch) for index in indices]
            labels = [augment.labels(self._labels, index, epoch) for index in indices]
        weights = [self.examples[index].weight for index in indices]
        return Batch(
            _pad(waveforms, np.float32, round(PADDED_TO_S * self.sample_rate)),
            torch.tensor([len(waveform) for waveform in waveforms]),
            _pad([np.asarray(row) for row in labels], np.int64),
            torch.tensor([len(row) for row in labels]),
            tuple(indices),
            torch.tensor(weights) if any(weight != 1 for weight in weights) else None,
        )

    def _labels(self, index: int) -> Sequence[int]:
        return self.labels[index] if self.labels else self.examples[index].labels

    def _waveform(self, index: int) -> np.ndarray:
        kept = self._cache.get(index)
        if kept is not None:
            return _floats(kept)
        utterance = self.examples[index].utterance
        rounded = self.disk.read(utterance, self.sample_rate) if self.disk is not None else None
        if rounded is None:
            samples = self._decode(utterance)
            if not self._caches:
                return samples
            rounded = np.clip(np.round(samples * 32768), -32768, 32767).astype(np.int16)
            if self.disk is not None:
                self.disk.write(utterance, self.sample_rate, rounded)
        with self._lock:
            if rounded.nbytes <= self._room and index not in self._cache:
                self._room -= rounded.nbytes
                self._cache[index] = rounded
        return _floats(rounded)  # rounded even if not cached: samples must not depend on which thread found room

    def _decode(self, utterance: Utterance) -> np.ndarray:
        try:
            return read_audio(utterance, self.sample_rate)
        except AnadilError as error:
            raise AnadilError(f"{utterance.source}: {error}") from error


def _floats(samples: np.ndarray) -> np.ndarray:
    """16-bit samples as float32 in [-1, 1), in one pass through memory."""
    floats: np.ndarray = np.multiply(samples, np.float32(1 / 32768), dtype=np.float32)
    return floats


def _pad(rows: Sequence[np.ndarray], dtype: type[np.generic], multiple: int = 1) -> Tensor:
    """Rows padded with zeros. By NumPy, as PyTorch would start threads of its own that compete with the model's."""
    longest = max(len(row) for row in rows)
    padded = np.zeros((len(rows), -(-longest // multiple) * multiple), dtype=dtype)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return torch.from_numpy(padded)
