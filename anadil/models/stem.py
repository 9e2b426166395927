"""2D convolutions over time and frequency in front of the blocks: a sound is the same sound a little higher or lower.

The front end of VGG, as speech recognition uses it (Hori et al., arXiv:1706.02737). With few hours of speech it is worth
more than anything else that was tried (docs/LOG.md): a filter is learnt once for all bands, not for each.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anadil.models.features import length_mask
from anadil.models.quartznet_settings import StemSettings


class Stem(nn.Module):
    """Features (batch, mels, frames) to (batch, width, 1, frames / stride), and the mask (batch, 1, 1, frames / stride).

    Each convolution halves frames and bands; the channels of all bands that are left stand side by side.
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
            x = F.relu(norm(conv(x))) * mask
        y = x
        for conv, norm in _pairs(self.residual):
            y = F.relu(norm(conv(y))) * mask
        side_by_side = (
            (x + y if len(self.residual) else x).permute(0, 2, 3, 1).flatten(2)
        )  # a view in channels-last memory
        return side_by_side.transpose(1, 2).unsqueeze(2), mask.transpose(2, 3)


def _filters(n_in: int, n_out: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False)


def _pairs(layers: nn.ModuleList) -> Iterator[nn.ModuleList]:
    for layer in layers:
        assert isinstance(layer, nn.ModuleList)
        yield layer
