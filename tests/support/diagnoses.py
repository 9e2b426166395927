"""Small corpora for the doctor's tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anadil.doctor.audio import AudioLimits
from anadil.doctor.examine import Model, Report, examine, read_parts
from anadil.text.rules import RulesByLanguage, TextSettings, text_rules
from tests.support.lines import write_lines

LIMITS = AudioLimits(0.1, 20)


def babble(seconds: float = 2.0, rate: int = 16000, seed: int = 0, level: float = 0.1) -> np.ndarray:
    """Bursts of noise like syllables, with quiet between them: float64 (samples,)."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    syllables = np.clip(np.sin(2 * np.pi * 3 * time), 0, 1) ** 2
    sound: np.ndarray = level * (syllables + 1e-3) * rng.uniform(-1, 1, len(time))
    return sound


def diagnose(
    folder: Path,
    records: Sequence[dict[str, Any]],
    language: str = "und",
    labels: Sequence[str] = (),
    model: Model | None = None,
    decode_audio: bool = True,
    limits: AudioLimits = LIMITS,
    **others: Sequence[dict[str, Any]],
) -> Report:
    """Check `records` as train.jsonl, and `others` by the names of their splits."""
    paths = [write_lines(folder / f"{name}.jsonl", some) for name, some in {"train": records, **others}.items()]
    return examine(
        read_parts(paths), RulesByLanguage(text_rules(language, TextSettings(), labels)), limits, model, decode_audio
    )


def diagnose_texts(*manifests: Path) -> Report:
    return examine(
        read_parts(manifests), RulesByLanguage(text_rules("und", TextSettings(), ())), LIMITS, decode_audio=False
    )


def kinds_in(report: Report) -> dict[str, int]:
    """How many findings of each kind there are, but those that any small corpus has."""
    counts = {kind.name: len(some) for kind, some in report.by_kind()}
    return {name: n for name, n in counts.items() if name not in ("rare-character", "duplicate-text")}
