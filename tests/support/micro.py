"""A language of three letters, each a tone, and a model small enough to learn it in seconds: shared by the tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from anadil import audio
from anadil.training.config import Config
from anadil.training.train import train
from tests.support.lines import write_lines

torch.set_num_threads(1)  # sums in one order, and other tests may run beside these

TONES_HZ = {"a": 400, "b": 1000, "c": 2500}
LETTER_S, GAP_S, SPACE_S = 0.14, 0.06, 0.2
TEXTS = ("abc", "cab ba", "b ac", "acb a", "ca bc", "bac", "a b c", "cba")

BLOCKS = [
    {"filters": 16, "kernel": 9, "stride": 2},
    {"filters": 16, "kernel": 9, "stride": 2},
    {"filters": 16, "kernel": 1, "separable": False},
]


def speak(text: str, sample_rate: int = 16000, seed: int = 0) -> np.ndarray:
    """Return float32 (samples,): a tone of 0.14 s and a pause for each letter, 0.2 s in all, over quiet noise."""
    pieces = [np.zeros(round(GAP_S * sample_rate))]
    for letter in text:
        time = np.arange(round(LETTER_S * sample_rate)) / sample_rate
        tone = 0.4 * np.sin(2 * np.pi * TONES_HZ[letter] * time) if letter in TONES_HZ else np.zeros(len(time))
        pieces += [tone, np.zeros(round(GAP_S * sample_rate))]
    samples = np.concatenate(pieces)
    return (samples + np.random.default_rng(seed).normal(0, 0.003, len(samples))).astype(np.float32)


def write_corpus(folder: Path, texts: Sequence[str] = TEXTS, name: str = "train.jsonl", rate: int = 16000) -> Path:
    """`folder`/clips/N.wav and their manifest, without durations."""
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    for i, text in enumerate(texts):
        audio.write(folder / f"clips/{i}.wav", speak(text, rate, seed=i), rate)
    return write_lines(
        folder / name, [{"audio_filepath": f"clips/{i}.wav", "text": text} for i, text in enumerate(texts)]
    )


def micro_data(manifest: Path, valid: Path | None = None, **training: Any) -> dict[str, Any]:
    """A config as nested mappings; keywords go to its section `training`."""
    return {
        "name": "micro",
        "language": "en",
        "data": {"train": [str(manifest)], "valid": [str(valid)] if valid else []},
        "features": {"mels": 20},
        "augment": {"silence": None, "spec_augment": None},
        "model": {"blocks": BLOCKS},
        "training": {"epochs": 2, "batch_seconds": 4, "warmup_steps": 5, "flat_start_steps": 40, "lr": 0.02}
        | {"accelerator": "cpu", "precision": "32-true"}
        | training,
    }


def micro_config(manifest: Path, valid: Path | None = None, **training: Any) -> Config:
    return Config.model_validate(micro_data(manifest, valid, **training))


def write_config(path: Path, data: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    return path


def train_micro(folder: Path) -> Path:
    """Write the corpus and `folder`/run, the training run that learns it."""
    manifest = write_corpus(folder)
    train(micro_config(manifest, manifest, epochs=40), folder / "run")
    return folder
