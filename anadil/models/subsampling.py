"""Fewer frames before and between the layers of a Conformer, under NeMo's names of parameters."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anadil.models.conformer_settings import ConformerSettings
from anadil.models.features import length_mask

Length = TypeVar("Length", int, Tensor)


class Subsampling(nn.Module):
    """Features (batch, frames, mels) to (batch, frames / factor, d_model), by 2D convolutions of stride 2."""

    def __init__(self, settings: ConformerSettings, kind: str, factor: int, n_in: int, channels: int) -> None:
        super().__init__()
        self.causal = settings.causal_downsampling and kind != "vggnet"
        self.pooled = kind == "vggnet"
        layers: list[nn.Module] = []
        width, pad = 1, 0 if self.causal else 1
        for i in range(int(math.log2(factor))):
            if kind == "vggnet":
                layers += [nn.Conv2d(width, channels, 3, padding=1), nn.ReLU()]
                layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, 2, ceil_mode=True)]
            elif kind == "dw_striding" and i:
                layers.append(nn.Conv2d(width, width, 3, 2, pad, groups=width))
                layers += [nn.Conv2d(width, channels, 1), nn.ReLU()]
            else:
                layers += [nn.Conv2d(width, channels, 3, 2, pad), nn.ReLU()]
            width = channels
            n_in = self.length(n_in)
        self.conv = nn.ModuleList(layers)
        self.out = nn.Linear(channels * n_in, settings.d_model)

    def length(self, n: Length) -> Length:
        """Frames, or mel bands, that one halving leaves of `n`."""
        return n // 2 + 1 if self.causal else (n + 1) // 2

    def forward(self, x: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        x = x.unsqueeze(1)
        if x.device.type == "cpu":
            x = x.contiguous(memory_format=torch.channels_last)
        mask = _time_mask(x, counts)
        for layer in self.conv:
            wide = isinstance(layer, nn.Conv2d | nn.MaxPool2d) and layer.kernel_size != (1, 1)
            halves = wide and layer.stride in (2, (2, 2))
            if wide:
                x = x * mask
            if halves and self.causal:
                x = F.pad(x, (2, 1, 2, 1))
            x = layer(x)
            if halves:
                counts = self.length(counts)
                mask = _time_mask(x, counts)
        x = (x * mask).transpose(1, 2).flatten(2)
        return self.out(x), counts


class Stacking(nn.Module):
    """`factor` frames side by side, then a projection. Counts depend on the padding, as in NeMo."""

    def __init__(self, settings: ConformerSettings, n_in: int) -> None:
        super().__init__()
        self.factor = settings.subsampling_factor
        self.pre_norm = nn.LayerNorm(n_in) if settings.subsampling == "stacking_norm" else None
        self.proj_out = nn.Linear(self.factor * n_in, settings.d_model)

    def forward(self, x: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        batch, n_frames, width = x.shape
        missing = (self.factor - n_frames % self.factor) % self.factor
        x = F.pad(x, (0, 0, 0, missing))
        if self.pre_norm is not None:
            x = self.pre_norm(x)
        x = x.reshape(batch, -1, self.factor * width)
        return self.proj_out(x), (counts + missing) // self.factor


class Reduction(nn.Module):
    """A further halving between two layers, or behind the last."""

    def __init__(self, settings: ConformerSettings) -> None:
        super().__init__()
        self.factor, self.halvings = settings.reduction_factor, int(math.log2(settings.reduction_factor))
        width, factor = settings.d_model, settings.reduction_factor
        self.reduction_enc: nn.Module
        if settings.reduction == "pooling":
            self.reduction_enc = nn.MaxPool1d(factor)
        else:
            plain = settings.model_copy(update={"causal_downsampling": False})
            self.reduction_enc = Subsampling(plain, "striding", factor, width, width)

    def forward(self, x: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(self.reduction_enc, Subsampling):
            reduced: tuple[Tensor, Tensor] = self.reduction_enc(x, counts)
            return reduced
        return self.reduction_enc(x.transpose(1, 2)).transpose(1, 2), counts // self.factor**self.halvings


def _time_mask(x: Tensor, counts: Tensor) -> Tensor:
    """For x (batch, channels, frames, bands): (batch, 1, frames, 1) of its type."""
    return length_mask(counts, x.shape[2])[:, None, :, None].to(x.dtype)
