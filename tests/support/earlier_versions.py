"""What earlier versions of Anadil wrote."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

from tests.support.micro import write_corpus

MADE = Path(__file__).parents[1] / "made_by_0.1.0"
"""Trained on `write_corpus` for 30 of the 40 epochs of its config.yaml, then killed."""


def copy_made(folder: Path) -> Path:
    """Copy to `folder`: the config, the run, the exported folder with its model unpacked, and the corpus."""
    shutil.copytree(MADE, folder)
    packed = folder / "exported/model.onnx.gz"
    (folder / "exported/model.onnx").write_bytes(gzip.decompress(packed.read_bytes()))
    write_corpus(folder)
    return folder
