"""Small models that NeMo 3.0.0 made and ran (tests/models/nemo_golden.npz, written by make_nemo_golden.py)."""

from __future__ import annotations

import io
import json
import tarfile
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

GOLDEN = Path(__file__).parents[1] / "models/nemo/golden.npz"
REFERENCE = ("quartznet_char", "citrinet_bpe", "fastconformer_bpe", "conformer_char")
"""In ../shared/reference/nemo."""


@cache
def golden() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Config and weights' shapes of every case by name, and what NeMo computed."""
    arrays = dict(np.load(GOLDEN))
    return json.loads(str(arrays.pop("cases"))), arrays


def audio() -> tuple[torch.Tensor, torch.Tensor]:
    """Two chirps in noise, the second padded: (2, 14000) float32 and counts."""
    time = np.arange(14000) / 16000
    first = np.sin(2 * np.pi * (300 + 200 * np.sin(9 * time)) * time) * (0.3 + 0.2 * np.sin(31 * time))
    second = np.sin(2 * np.pi * (1500 - 700 * time) * time) * 0.4 * np.sin(17 * time) ** 2
    both = np.stack([first, second]) + np.random.default_rng(0).normal(0, 0.01, (2, 14000))
    both[1, 9100:] = 0
    return torch.from_numpy(both.astype(np.float32)), torch.tensor([14000, 9100])


def weight(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The same numbers for NeMo's model and ours."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("running_var"):
        return torch.from_numpy(np.asarray(rng.uniform(0.5, 2, shape))).float()
    scale = 1 / np.sqrt(int(np.prod(shape[1:])) or 1) if len(shape) > 1 else 0.3
    base = 1.0 if len(shape) == 1 and name.endswith(".weight") else 0.0
    return torch.from_numpy(np.asarray(base + rng.normal(0, scale, shape))).float()


def write_archive(path: Path, config: dict[str, Any], weights: Any, files: dict[str, bytes] | None = None) -> Path:
    """A `.nemo` as NeMo packs it."""
    content = io.BytesIO()
    torch.save(weights, content)
    members = {"model_config.yaml": yaml.safe_dump(config, allow_unicode=True).encode(), **(files or {})}
    write_tar(path, {f"./{name}": data for name, data in {**members, "model_weights.ckpt": content.getvalue()}.items()})
    return path


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w:") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def write_case(path: Path, name: str, **changes: Any) -> Path:
    """A golden case as a `.nemo`; `changes` go to its config's sections: encoder={"quantize": True}."""
    case = golden()[0][name]
    config = {key: dict(value) if isinstance(value, dict) else value for key, value in case["config"].items()}
    for section, values in changes.items():
        config[section] = {**config[section], **values} if isinstance(values, dict) else values
    return write_archive(path, config, {one: weight(one, tuple(shape)) for one, shape in case["weights"].items()})
