"""Which numbers training computes with: `training.precision`, and what its `auto` means on this machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from lightning_fabric.plugins.precision import MixedPrecision, Precision

from anadil.models.quartznet import QuartzNetSettings
from anadil.training.config import Config, TrainingSettings


def chosen_precision(config: Config) -> Literal["32-true", "bf16-mixed", "bf16-activations", "16-mixed"]:
    """`training.precision`, where `auto` is the fastest of the float32 and bfloat16 ones on this machine.

    On a CPU, a FastConformer is slower in bfloat16, and other models than QuartzNet were not all measured. With AMX
    activations in bfloat16 save a fifth of a step; without it they were not measured, and the stem gains nothing (docs/LOG.md).
    """
    settings = config.training
    if settings.precision != "auto":
        return settings.precision
    if _on_gpu(settings):
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    on_cpu = settings.accelerator == "cpu" or not torch.backends.mps.is_available()
    if not on_cpu or not isinstance(config.model, QuartzNetSettings):
        return "32-true"
    read: Callable[[], dict[str, Any]] = getattr(torch.cpu, "get_capabilities", dict)  # older PyTorch has none
    capabilities = read()
    if capabilities.get("amx_bf16", False):
        return "bf16-activations"
    # without instructions for such products PyTorch computes them several times slower than in float32
    return "bf16-mixed" if capabilities.get("avx512_bf16", False) else "32-true"


def precision_plugin(config: Config) -> Precision:
    """Fabric's part of the precision. That activations stay in bfloat16 is the part of the network."""
    chosen = chosen_precision(config)
    if chosen == "32-true":
        return Precision()
    mixed: Literal["bf16-mixed", "16-mixed"] = "16-mixed" if chosen == "16-mixed" else "bf16-mixed"
    return _WholeWaveforms(mixed, "cuda" if _on_gpu(config.training) else "cpu")


def _on_gpu(settings: TrainingSettings) -> bool:
    return settings.accelerator in ("auto", "cuda") and torch.cuda.is_available()


class _WholeWaveforms(MixedPrecision):
    """Mixed precision by autocast alone. Fabric's own also rounds waveforms to bfloat16, which loses quiet bands."""

    def convert_input(self, data: Any) -> Any:
        return data
