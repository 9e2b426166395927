"""A test set in noise beside the same test set as it is: rates at each signal-to-noise ratio, and what the noise costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from anadil.evaluation.evaluate import Evaluation
from anadil.evaluation.paired import Comparison, Difference, compare_systems
from anadil.evaluation.several import Part


@dataclass(frozen=True)
class InNoise:
    """The test set at one signal-to-noise ratio, in one way to decode or two; the main one is the last."""

    snr_db: float
    ways: tuple[tuple[str, Evaluation], ...]
    to_clean: tuple[Comparison, ...]  # of each way: A is in noise, B is clean
    parts: tuple[tuple[str, Sequence[Part]], ...] = ()  # of each way, with several manifests

    @property
    def name(self) -> str:
        """The ratio with its unit."""
        return f"{self.snr_db:g} dB"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: the figures of the main way, with the key greedy if there is another."""
        found = [
            evaluation.to_dict() | _differences("wer", clean.words) | _differences("cer", clean.characters)
            for (_, evaluation), clean in zip(self.ways, self.to_clean, strict=True)
        ]
        if self.parts:
            found[-1]["by_manifest"] = [one.to_dict() for one in self.parts[-1][1]]
        return {"snr_db": self.snr_db} | found[-1] | ({"greedy": found[0]} if len(found) > 1 else {})


def in_noise(
    snr_db: float,
    noisy: Sequence[tuple[str, Evaluation]],
    clean: Sequence[tuple[str, Evaluation]],
    parts: Sequence[tuple[str, Sequence[Part]]] = (),
) -> InNoise:
    """Compare an evaluation in noise with the clean one of the same utterances, each given as ways to decode.

    The interval of the difference is the paired one of `compare_systems`.
    """
    compared = [compare_systems([a.scored], [b.scored]) for (_, a), (_, b) in zip(noisy, clean, strict=True)]
    return InNoise(snr_db, tuple(noisy), tuple(compared), tuple(parts))


def _differences(unit: str, found: Difference) -> dict[str, Any]:
    figures = found.to_dict()
    return {f"{unit}_minus_clean": figures["difference"], f"{unit}_minus_clean_interval": figures["interval"]}
