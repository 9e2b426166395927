"""Training by several processes, and by one, of the same data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.micro import micro_data
from tests.support.runs import metrics

posix = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")


def data_of(micro: Path, **training: Any) -> dict[str, Any]:
    """No norm over a batch or its padding and nothing random: then the number of processes shows in rounding alone."""
    same = {"epochs": 3, "flat_start_steps": 4, "batch_seconds": 4, "checkpoint_minutes": 1e-9, "min_lr": 0.02}
    data = micro_data(micro / "train.jsonl", micro / "train.jsonl", **same | training)
    data["features"] = {"mels": 20, "dither": 0.0}
    data["model"] = {"kind": "conformer", "n_layers": 1, "d_model": 16, "n_heads": 2, "conv_kernel_size": 5}
    data["model"] |= {"conv_norm_type": "layer_norm", "subsampling_conv_channels": 8}
    data["model"] |= dict.fromkeys(("dropout", "dropout_pre_encoder", "dropout_att"), 0.0)
    return data


def assert_same_course(one: Path, other: Path) -> None:
    for a, b in zip(metrics(one), metrics(other), strict=True):
        for column in ("epoch", "step", "lr"):
            assert a[column] == b[column]
        for column in ("train_loss", "valid_loss", "gradient_norm"):
            assert float(a[column]) == pytest.approx(float(b[column]), rel=1e-5)
        assert a["valid_cer"] == b["valid_cer"]
