"""Transfer from the micro model to other letters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from anadil.training.config import Config
from anadil.training.prepare import Prepared, prepare
from tests.support.lines import write_lines
from tests.support.micro import micro_data
from tests.support.runs import Told


def spoken(folder: Path, micro: Path, letters: str = "abc", name: str = "t.jsonl") -> Path:
    """The source's recordings with other letters for its a, b and c."""
    folder.mkdir(exist_ok=True)
    table = str.maketrans(dict(zip("abc", letters, strict=True)))
    lines = [json.loads(line) for line in (micro / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    return write_lines(
        folder / name,
        [
            {"audio_filepath": str(micro / line["audio_filepath"]), "text": line["text"].translate(table)}
            for line in lines
        ],
    )


def data_of(manifest: Path, micro: Path, language: str = "und", init: dict[str, Any] | None = None) -> dict[str, Any]:
    """A config of another language that leaves features and model to the source."""
    data = micro_data(manifest, manifest, epochs=2)
    del data["features"], data["model"], data["training"]["flat_start_steps"]
    return data | {"language": language, "init": {"from": str(micro / "run/best")} | (init or {})}


def prepared(data: dict[str, Any], out: Path, told: Told | None = None) -> Prepared:
    return prepare(Config.model_validate(data), out, told or Told())


def weights_of(model: Path) -> dict[str, Tensor]:
    return load_file(model / "model.safetensors")


def log_probs(acoustic: torch.nn.Module) -> Tensor:
    samples = torch.randn(2, 16000, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        output: Tensor = acoustic.eval()(samples, torch.tensor([16000, 12000]))[0]
    return output
