"""SpecAugment: bands of frequency and stretches of time set to the mean (Park et al., arXiv:1904.08779)."""

from __future__ import annotations

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from anadil.settings import SECTION


class SpecAugmentSettings(BaseModel):
    """Section `augment.spec_augment` of a config."""

    model_config = SECTION

    freq_masks: int = Field(2, ge=0)
    freq_width: float = Field(0.25, ge=0, le=1)  # widest mask, as a share of the mel bands
    time_masks: int = Field(2, ge=0)
    time_width: float = Field(0.05, ge=0, le=1)  # widest mask, as a share of the utterance


def spec_augment(
    features: Tensor, frame_counts: Tensor, settings: SpecAugmentSettings, generator: torch.Generator
) -> Tensor:
    """Mask features (batch, mels, frames), normalised so that 0 is the mean; `generator` lives on the CPU."""
    batch, mels, frames = features.shape
    widest_freq = torch.full((batch, 1), settings.freq_width * mels)
    widest_time = settings.time_width * frame_counts.cpu().unsqueeze(1).float()
    freq = _masks(settings.freq_masks, widest_freq, torch.full((batch, 1), float(mels)), mels, generator)
    time = _masks(settings.time_masks, widest_time, frame_counts.cpu().unsqueeze(1).float(), frames, generator)
    hidden = (freq.unsqueeze(2) | time.unsqueeze(1)).to(features.device)
    return features.masked_fill(hidden, 0.0)


def _masks(count: int, widest: Tensor, extent: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Boolean (batch, size): the union of `count` stretches a row, each up to `widest` and inside `extent`."""
    batch = widest.shape[0]
    widths = (torch.rand(batch, count, generator=generator) * widest).floor()
    starts = (torch.rand(batch, count, generator=generator) * (extent - widths).clamp(min=0)).floor()
    position = torch.arange(size).view(1, 1, size)
    inside = (position >= starts.unsqueeze(2)) & (position < (starts + widths).unsqueeze(2))
    return inside.any(dim=1)
