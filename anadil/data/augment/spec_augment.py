"""Augmentation of features: time warp and SpecAugment (Park et al., arXiv:1904.08779), cutout (arXiv:1708.04552).

The model waits for it in every step. So random numbers are drawn for the whole batch at once, and features are changed
in place: new memory for a copy takes longer to get than to fill.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from anadil.data.augment.settings import AugmentSettings, SpecAugmentSettings, SpecCutoutSettings, TimeWarpSettings


class Rectangles(NamedTuple):
    """`n` rectangles per utterance. Largest size as a share of the mel bands and of the frames; None: always all of them."""

    n: int
    freq_width: float | None
    time_width: float | None


Masks = tuple[float, list[Rectangles]]
"""The probability that an utterance is masked, and its rectangles."""


def feature_augmentation(
    settings: AugmentSettings, generator: torch.Generator, views: int = 1
) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
    """A function from features (batch, mels, frames) and frame counts (batch,) to augmented ones; None if all is off.

    With `views`, each utterance is returned that many times, with the same warp and different masks: first all utterances,
    then all again. Features are changed in place, unless they need a gradient. Time warp comes first, so that masks keep
    straight edges. `generator` is on the CPU.
    """
    warp, masks = settings.time_warp, []
    if settings.spec_augment is not None:
        masks.append(_spec_augment_masks(settings.spec_augment))
    if settings.spec_cutout is not None:
        masks.append(_cutout_masks(settings.spec_cutout))
    if warp is None and not masks and views == 1:
        return None

    def augment(features: Tensor, frame_counts: Tensor) -> tuple[Tensor, Tensor]:
        features = features.clone() if features.requires_grad else features
        if warp is not None:
            _time_warp(features, frame_counts, warp, generator)
        if views > 1:
            features, frame_counts = features.repeat(views, 1, 1), frame_counts.repeat(views)
        _mask(features, frame_counts, masks, generator)
        return features, frame_counts

    return augment


def _time_warp(features: Tensor, frame_counts: Tensor, settings: TimeWarpSettings, generator: torch.Generator) -> None:
    """Move a random point of each utterance in features (batch, mels, frames) by up to `shift` of its length, in place.

    The frames before and after it are stretched or compressed by linear interpolation. The first and the last frame and
    the padding stay. The point is at least `shift` away from both ends.
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
    unwarped = features.index_select(0, chosen)
    this, following = unwarped.gather(2, index), unwarped.gather(2, (index + 1).clamp(max=frames - 1))
    features.index_copy_(0, chosen, torch.lerp(this, following, share))


def _mask(features: Tensor, frame_counts: Tensor, masks: list[Masks], generator: torch.Generator) -> None:
    """Set random rectangles of features (batch, mels, frames) to 0, their mean, in place; rectangles may overlap."""
    groups = [[one for one in rectangles for _ in range(one.n)] for _, rectangles in masks]
    repeated = [one for group in groups for one in group]
    if not repeated:
        return
    mels, batch = features.shape[1], len(features)
    chance = torch.rand(batch, len(masks) + 4 * len(repeated), generator=generator)
    hit = torch.cat(
        [
            (chance[:, i : i + 1] < probability).expand(-1, len(group))
            for i, ((probability, _), group) in enumerate(zip(masks, groups, strict=True))
        ],
        dim=1,
    )
    size, position = chance[:, len(masks) :].view(batch, len(repeated), 2, 2).unbind(2)  # (batch, rectangles, 2)
    shares = [(one.freq_width, one.time_width) for one in repeated]
    least = torch.tensor([[float(share is None) for share in pair] for pair in shares])
    most = torch.tensor([[1.0 if share is None else share for share in pair] for pair in shares])
    counts = frame_counts.cpu()
    extent = torch.stack([torch.full_like(counts, mels), counts], dim=1).float().unsqueeze(1)
    width = (torch.maximum(size, least) * (most * extent)).floor()
    start = (position * (extent - width)).floor()
    rectangles = torch.cat([start, start + width], dim=2).long()  # low band, first frame, high band, end
    if features.device.type == "cpu" and features.dtype == torch.float32 and not features.requires_grad:
        _zero(features, rectangles, hit)
    else:
        _fill(features, rectangles.to(features.device), hit.to(features.device))


def _zero(features: Tensor, rectangles: Tensor, hit: Tensor) -> None:
    """Mask one by one in NumPy: this touches only the masked memory, while `_fill` needs as much as the features."""
    rows = features.numpy()
    for row, chosen, bounds in zip(rows, hit.tolist(), rectangles.tolist(), strict=True):
        for is_chosen, (low, first, high, end) in zip(chosen, bounds, strict=True):
            if is_chosen:
                row[low:high, first:end] = 0


def _fill(features: Tensor, rectangles: Tensor, hit: Tensor) -> None:
    """Mask all at once, for a GPU and for gradients: a product of two matrices counts the rectangles that cover a point."""
    low, first, high, end = rectangles.unsqueeze(3).unbind(2)  # (batch, rectangles, 1)
    band = torch.arange(features.shape[1], device=features.device)
    frame = torch.arange(features.shape[2], device=features.device)
    bands, spans = (band >= low) & (band < high) & hit.unsqueeze(2), (frame >= first) & (frame < end)
    within = torch.bmm(bands.to(torch.float32).transpose(1, 2), spans.to(torch.float32))
    features.masked_fill_(within > 0, 0.0)


def _spec_augment_masks(settings: SpecAugmentSettings) -> Masks:
    bands = Rectangles(settings.freq_masks, settings.band_share, None)
    return settings.probability, [bands, Rectangles(settings.n_time_masks, None, settings.time_width)]


def _cutout_masks(settings: SpecCutoutSettings) -> Masks:
    return settings.probability, [Rectangles(settings.rectangles, settings.freq_width, settings.time_width)]
