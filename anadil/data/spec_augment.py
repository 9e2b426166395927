"""Augmentation of features: time warp and SpecAugment (Park et al., arXiv:1904.08779), cutout (arXiv:1708.04552)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from anadil.data.augment.settings import AugmentSettings, SpecAugmentSettings, SpecCutoutSettings, TimeWarpSettings


def feature_augmentation(
    settings: AugmentSettings, generator: torch.Generator
) -> Callable[[Tensor, Tensor], Tensor] | None:
    """From features (batch, mels, frames) and frame counts (batch,) to other features, or None if all is off.

    Time warp first, so that masks keep their straight edges. `generator` lives on the CPU.
    """
    warp, masks, cutout = settings.time_warp, settings.spec_augment, settings.spec_cutout
    if warp is None and masks is None and cutout is None:
        return None

    def augment(features: Tensor, frame_counts: Tensor) -> Tensor:
        if warp is not None:
            features = time_warp(features, frame_counts, warp, generator)
        if masks is not None:
            features = spec_augment(features, frame_counts, masks, generator)
        if cutout is not None:
            features = spec_cutout(features, frame_counts, cutout, generator)
        return features

    return augment


def spec_augment(
    features: Tensor, frame_counts: Tensor, settings: SpecAugmentSettings, generator: torch.Generator
) -> Tensor:
    """Mask features (batch, mels, frames), normalised so that 0 is the mean; `generator` lives on the CPU."""
    batch, mels, frames = features.shape
    widest_freq = torch.full((batch, 1), settings.freq_width * mels)
    widest_time = settings.time_width * frame_counts.cpu().unsqueeze(1).float()
    freq = _stretches(settings.freq_masks, widest_freq, torch.full((batch, 1), float(mels)), mels, generator).any(dim=1)
    time = _stretches(settings.time_masks, widest_time, frame_counts.cpu().unsqueeze(1).float(), frames, generator).any(
        dim=1
    )
    hidden = freq.unsqueeze(2) | time.unsqueeze(1)
    if settings.probability < 1:  # otherwise nothing is drawn: runs of before there was a choice stay as they are
        hidden &= _chosen(settings.probability, batch, generator)
    return features.masked_fill(hidden.to(features.device), 0.0)


def spec_cutout(
    features: Tensor, frame_counts: Tensor, settings: SpecCutoutSettings, generator: torch.Generator
) -> Tensor:
    """Set random rectangles of features (batch, mels, frames) to 0, their mean (DeVries and Taylor 2017)."""
    batch, mels, frames = features.shape
    spoken = frame_counts.cpu().unsqueeze(1).float()
    bands = torch.full((batch, 1), float(mels))
    freq = _stretches(settings.rectangles, settings.freq_width * bands, bands, mels, generator)
    time = _stretches(settings.rectangles, settings.time_width * spoken, spoken, frames, generator)
    hidden = torch.bmm(freq.float().transpose(1, 2), time.float()) > 0  # in how many rectangles a place lies
    hidden &= _chosen(settings.probability, batch, generator)
    return features.masked_fill(hidden.to(features.device), 0.0)


def time_warp(features: Tensor, frame_counts: Tensor, settings: TimeWarpSettings, generator: torch.Generator) -> Tensor:
    """Move a random point of each utterance in features (batch, mels, frames) by up to `shift` of its length.

    What lies before and after it is stretched and squeezed along the time axis (linear interpolation); the first and
    the last frame stay, and so does the padding. The point keeps `shift` away from both ends.
    """
    batch, _, frames = features.shape
    last = (frame_counts.cpu() - 1).unsqueeze(1).float()
    reach = settings.shift * last
    source = reach + torch.rand(batch, 1, generator=generator) * (last - 2 * reach)
    target = source + (2 * torch.rand(batch, 1, generator=generator) - 1) * reach
    target = torch.where(_chosen(settings.probability, batch, generator).squeeze(2), target, source)
    position = torch.arange(frames).float().expand(batch, -1)
    before = position * source / target.clamp(min=1e-6)
    after = last - (last - position) * (last - source) / (last - target).clamp(min=1e-6)
    moved = torch.where(position <= target, before, after).clamp(min=0).minimum(last.clamp(min=0))
    moved = torch.where((position > last) | (target == source), position, moved).to(features.device)
    left = moved.floor()
    share = (moved - left).unsqueeze(1).to(features.dtype)
    index = left.long().unsqueeze(1).expand_as(features)
    here, next_ = features.gather(2, index), features.gather(2, (index + 1).clamp(max=frames - 1))
    return torch.lerp(here, next_, share)


def _chosen(probability: float, batch: int, generator: torch.Generator) -> Tensor:
    """Boolean (batch, 1, 1)."""
    return torch.rand(batch, 1, 1, generator=generator) < probability


def _stretches(count: int, widest: Tensor, extent: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Boolean (batch, count, size): stretches of a row, each up to `widest` and inside `extent`."""
    batch = widest.shape[0]
    widths = (torch.rand(batch, count, generator=generator) * widest).floor()
    starts = (torch.rand(batch, count, generator=generator) * (extent - widths).clamp(min=0)).floor()
    position = torch.arange(size).view(1, 1, size)
    return (position >= starts.unsqueeze(2)) & (position < (starts + widths).unsqueeze(2))
