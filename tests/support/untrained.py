"""A model that was not trained, for what depends on its shape alone."""

from __future__ import annotations

from typing import Any

import torch

from anadil.export.onnx import probe_batch
from anadil.models.acoustic import AcousticModel, LoadedModel
from anadil.models.features import FeatureSettings
from anadil.models.quartznet import QuartzNetSettings
from anadil.text.rules import TextSettings, text_rules
from tests.support.micro import BLOCKS


def untrained(features: dict[str, Any], labels: tuple[str, ...] = (" ", "a", "b"), **model: Any) -> LoadedModel:
    """A micro model with random weights and batch-norm statistics of noise."""
    torch.manual_seed(0)
    settings = QuartzNetSettings.model_validate(model or {"blocks": BLOCKS})
    acoustic = AcousticModel(FeatureSettings.model_validate(features), settings, len(labels)).train()
    waveforms, counts = probe_batch(acoustic.sample_rate, [1.0, 0.5])
    for _ in range(20):
        acoustic(torch.from_numpy(waveforms), torch.from_numpy(counts))
    return LoadedModel("random", acoustic.eval(), text_rules("tr", TextSettings(), labels))
