"""The 2D stem: convolutions over time and frequency before the blocks of a QuartzNet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn
from torch.nn import functional as F

from anadil.models.features import length_mask
from anadil.settings import SECTION, Whole


class StemSettings(BaseModel):
    """2D convolutions before the blocks; each halves the frames and the mel bands."""

    model_config = SECTION

    channels: list[Annotated[Whole, Field(ge=1, le=4096)]] = Field([32, 32], min_length=1, max_length=5)
    residual: Whole = Field(
        0, ge=0, le=64
    )  # further convolutions with stride 1, with one residual connection around them all


class Stem(nn.Module):
    """2D convolutions over time and frequency, before the blocks: the front end of VGG (Hori et al., arXiv:1706.02737).

    Features (batch, mels, frames) to (batch, width, 1, frames / stride), and the mask (batch, 1, 1, frames / stride).
    Each convolution of `halvings` halves the frames and the bands; `width` is the channels of all remaining bands.

    With few hours of speech the stem lowers the error rate more than anything else that was tried (docs/LOG.md): a
    filter is learned once for all bands, not for each band.
    """

    def __init__(self, n_features: int, settings: StemSettings) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        n_in, bands = 1, n_features
        for channels in settings.channels:
            layers.append(nn.ModuleList([_filters(n_in, channels, 2), nn.BatchNorm2d(channels, eps=1e-3)]))
            n_in, bands = channels, -(-bands // 2)
        self.halvings = nn.ModuleList(layers)
        self.residual = nn.ModuleList(
            nn.ModuleList([_filters(n_in, n_in, 1), nn.BatchNorm2d(n_in, eps=1e-3)]) for _ in range(settings.residual)
        )
        self.width = n_in * bands

    def forward(self, features: Tensor, frame_counts: Tensor) -> tuple[Tensor, Tensor]:
        x = features.transpose(1, 2).unsqueeze(1)
        mask = length_mask(frame_counts, x.shape[2])[:, None, :, None].to(x.dtype)
        x = x * mask
        if x.device.type == "cpu":
            x = x.contiguous(memory_format=torch.channels_last)
        for conv, norm in _pairs(self.halvings):
            mask = mask[:, :, ::2]
            x = F.relu(norm(conv(x)))
            x = x * mask.to(x.dtype)
        y = x
        for conv, norm in _pairs(self.residual):
            y = F.relu(norm(conv(y))) * mask.to(x.dtype)
        x = x + y if len(self.residual) else x
        x = x.permute(0, 2, 3, 1).flatten(2)  # a view in channels-last memory
        return x.transpose(1, 2).unsqueeze(2), mask.transpose(2, 3)


def _filters(n_in: int, n_out: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False)


def _pairs(layers: nn.ModuleList) -> Iterator[nn.ModuleList]:
    for layer in layers:
        assert isinstance(layer, nn.ModuleList)
        yield layer
