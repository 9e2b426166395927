"""NeMo's own QuartzNet (../shared/reference/nemo), as our settings and tensors."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import torch
import yaml

from anadil.models.quartznet import QuartzNetSettings

Golden = tuple[QuartzNetSettings, dict[str, torch.Tensor], dict[str, np.ndarray]]


def read_golden(folder: Path) -> Golden:
    """Settings and weights of the archive, and what NeMo computed with them."""
    with tarfile.open(folder / "model.nemo") as archive:
        files = {Path(member.name).name: archive.extractfile(member) for member in archive if member.isfile()}
        content = {name: file.read() for name, file in files.items() if file is not None}
    config = yaml.safe_load(content["model_config.yaml"])
    weights = torch.load(io.BytesIO(content["model_weights.ckpt"]), weights_only=True, map_location="cpu")
    blocks = [
        {key: value[0] if isinstance(value, list) else value for key, value in block.items()}
        for block in config["encoder"]["jasper"]
    ]
    weights = {name: tensor for name, tensor in weights.items() if not name.startswith("preprocessor.")}
    return QuartzNetSettings.model_validate({"blocks": blocks}), weights, dict(np.load(folder / "expected.npz"))
