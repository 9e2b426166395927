"""Augmentation of features: time warp and SpecAugment (Park et al., arXiv:1904.08779), cutout (arXiv:1708.04552).

It runs between two steps of the model, which waits. So what is small is drawn for the whole batch at once, and what is
large, the features, is changed where it lies: fresh memory for a copy takes longer to get than to fill.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from anadil.data.augment.settings import AugmentSettings, SpecAugmentSettings, SpecCutoutSettings, TimeWarpSettings


class Rectangles(NamedTuple):
    """Some in each utterance; widest as a share of the mel bands and of the frames, None: always as wide as these."""

    n: int
    freq_width: float | None
    time_width: float | None


Masks = tuple[float, list[Rectangles]]
"""How likely an utterance gets them, and what it gets then."""


def feature_augmentation(
    settings: AugmentSettings, generator: torch.Generator, views: int = 1
) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
    """From features (batch, mels, frames) and frame counts (batch,) to others, or None if all is off.

    With `views`, each utterance comes back so many times, warped once and each time under masks of its own: first all
    utterances, then all again. The features given are changed, unless they are part of a gradient's way. Time warp first,
    so that masks keep their straight edges. `generator` lives on the CPU.
    """
    warp, masks = settings.time_warp, []
    if settings.spec_augment is not None:
        masks.append(stretches(settings.spec_augment))
    if settings.spec_cutout is not None:
        masks.append(rectangles(settings.spec_cutout))
    if warp is None and not masks and views == 1:
        return None

    def augment(features: Tensor, frame_counts: Tensor) -> tuple[Tensor, Tensor]:
        features = features.clone() if features.requires_grad else features
        if warp is not None:
            time_warp(features, frame_counts, warp, generator)
        if views > 1:
            features, frame_counts = features.repeat(views, 1, 1), frame_counts.repeat(views)
        hide(features, frame_counts, masks, generator)
        return features, frame_counts

    return augment


def time_warp(features: Tensor, frame_counts: Tensor, settings: TimeWarpSettings, generator: torch.Generator) -> None:
    """Move a random point of each utterance in features (batch, mels, frames) by up to `shift` of its length.

    What lies before and after it is stretched and squeezed along the time axis (linear interpolation); the first and
    the last frame stay, and so does the padding. The point keeps `shift` away from both ends.
    """
    frames, device = features.shape[2], features.device
    chance = torch.rand(len(features), 3, generator=generator)
    chosen = (chance[:, 0] < settings.probability).nonzero().squeeze(1)
    if len(chosen) == 0:
        return
    chance, chosen = chance[chosen].to(device), chosen.to(device)
    last = (frame_counts.to(device)[chosen] - 1).unsqueeze(1).float()
    reach = settings.shift * last
    source = reach + chance[:, 1:2] * (last - 2 * reach)
    target = source + (2 * chance[:, 2:] - 1) * reach
    position = torch.arange(frames, device=device).float()
    before = position * (source / target.clamp(min=1e-6))
    after = last - (last - position) * ((last - source) / (last - target).clamp(min=1e-6))
    moved = torch.where(position <= target, before, after).clamp(min=0).minimum(last.clamp(min=0))
    moved = torch.where((position > last) | (target == source), position, moved)
    left = moved.floor()
    share = (moved - left).unsqueeze(1).to(features.dtype)
    index = left.long().unsqueeze(1).expand(-1, features.shape[1], -1)
    still = features.index_select(0, chosen)
    here, next_ = still.gather(2, index), still.gather(2, (index + 1).clamp(max=frames - 1))
    features.index_copy_(0, chosen, torch.lerp(here, next_, share))


def hide(features: Tensor, frame_counts: Tensor, masks: list[Masks], generator: torch.Generator) -> None:
    """Set random rectangles of features (batch, mels, frames) to 0, their mean; they may overlap."""
    groups = [[one for one in some for _ in range(one.n)] for _, some in masks]
    every = [one for group in groups for one in group]
    if not every:
        return
    mels, batch = features.shape[1], len(features)
    chance = torch.rand(batch, len(masks) + 4 * len(every), generator=generator)
    hit = torch.cat(
        [
            (chance[:, i : i + 1] < probability).expand(-1, len(group))
            for i, ((probability, _), group) in enumerate(zip(masks, groups, strict=True))
        ],
        dim=1,
    )
    wide, place = chance[:, len(masks) :].view(batch, len(every), 2, 2).unbind(2)  # (batch, rectangles, 2)
    shares = [(one.freq_width, one.time_width) for one in every]
    least = torch.tensor([[float(share is None) for share in pair] for pair in shares])
    most = torch.tensor([[1.0 if share is None else share for share in pair] for pair in shares])
    counts = frame_counts.cpu()
    extent = torch.stack([torch.full_like(counts, mels), counts], dim=1).float().unsqueeze(1)
    width = (torch.maximum(wide, least) * (most * extent)).floor()
    start = (place * (extent - width)).floor()
    rectangles = torch.cat([start, start + width], dim=2).long()  # low band, first frame, high band, end
    if features.device.type == "cpu" and features.dtype == torch.float32 and not features.requires_grad:
        _zero(features, rectangles, hit)
    else:
        _fill(features, rectangles.to(features.device), hit.to(features.device))


def _zero(features: Tensor, rectangles: Tensor, hit: Tensor) -> None:
    """One after the other, in NumPy: no memory is touched but what is hidden, where `_fill` needs as much as the features."""
    rows = features.numpy()
    for row, chosen, some in zip(rows, hit.tolist(), rectangles.tolist(), strict=True):
        for yes, (low, first, high, end) in zip(chosen, some, strict=True):
            if yes:
                row[low:high, first:end] = 0


def _fill(features: Tensor, rectangles: Tensor, hit: Tensor) -> None:
    """All at once, for a GPU and for gradients: how many rectangles a place lies in is a product of two matrices."""
    low, first, high, end = rectangles.unsqueeze(3).unbind(2)  # (batch, rectangles, 1)
    band = torch.arange(features.shape[1], device=features.device)
    frame = torch.arange(features.shape[2], device=features.device)
    bands, stretches = (band >= low) & (band < high) & hit.unsqueeze(2), (frame >= first) & (frame < end)
    within = torch.bmm(bands.to(torch.float32).transpose(1, 2), stretches.to(torch.float32))
    features.masked_fill_(within > 0, 0.0)


def stretches(settings: SpecAugmentSettings) -> Masks:
    bands = Rectangles(settings.freq_masks, settings.freq_width, None)
    return settings.probability, [bands, Rectangles(settings.time_masks, None, settings.time_width)]


def rectangles(settings: SpecCutoutSettings) -> Masks:
    return settings.probability, [Rectangles(settings.rectangles, settings.freq_width, settings.time_width)]
