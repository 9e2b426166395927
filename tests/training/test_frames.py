"""How far it is from the command to the model: a reader follows the calls by hand."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
import torch
from torch import Tensor

import anadil
from anadil.cli.train import train
from anadil.models.acoustic import AcousticModel
from tests.support.micro import micro_data, write_config

MOST = 6
PACKAGE = str(Path(anadil.__file__).parent)


def test_six_own_frames_from_the_verb_to_forward(tmp_path: Path, micro: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths: list[list[str]] = []
    forward = AcousticModel.forward

    def recording(self: AcousticModel, *args: Tensor, **options: object) -> tuple[Tensor, Tensor]:
        frames = [frame for frame in traceback.extract_stack() if frame.filename.startswith(PACKAGE)]
        paths.append([f"{Path(frame.filename).name}:{frame.name}" for frame in frames])
        return forward(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(AcousticModel, "forward", recording)
    config = write_config(tmp_path / "config.yaml", micro_data(micro / "train.jsonl", epochs=1, flat_start_steps=0))
    train(config, out=tmp_path / "run")
    in_training = [path for path in paths if "step.py:take_step" in path]
    assert in_training and torch.is_grad_enabled()
    for path in in_training:
        own = path[path.index("train.py:train") :]  # the decorator of all verbs is before it
        assert len(own) <= MOST, own
