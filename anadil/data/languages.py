"""Several languages in one training set: how often each is heard."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anadil.data.batches import plan_epoch


def plan_languages(
    durations: Sequence[float],
    languages: Sequence[str],
    temperature: float | None,
    batch_seconds: float,
    seed: int,
    epoch: int = 0,
) -> list[list[int]]:
    """Batches of an epoch, as `plan_epoch` makes them, in which small languages are heard more often than they are large.

    Language l gets a share of the epoch's seconds that goes with (its seconds) ** (1 / temperature): 1 leaves the
    shares as they are, a large temperature makes them equal (Conneau et al., arXiv:1911.02116, section 3.1, writes it
    as the exponent 0.3). An epoch is as long as the data: utterances of small languages come several times, of large
    ones not all come in each epoch. Which ones is drawn by (seed, epoch).
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
    """Shuffled passes through `members` until their seconds come nearest to `goal_s`; one utterance at least."""
    chosen: list[int] = []
    filled = 0.0
    while True:
        for index in rng.permutation(members).tolist():
            if chosen and filled + lengths[index] / 2 > goal_s:
                return chosen
            chosen.append(index)
            filled += float(lengths[index])
