"""A start for CTC: a few steps of frame-wise cross-entropy against letters spread evenly over the speech.

From random weights CTC first learns to emit blanks and stays there for long, or settles on an alignment that is off
by a letter. An even segmentation, the flat start of HMM training (Young et al., The HTK Book, section 3.2), is wrong
in detail and right on average. Here it is even over the frames that are loud: pauses get blanks (docs/LOG.md has the
figures).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

LOUD = 0.4
"""A frame counts as speech if its level in dB is this far from the utterance's quiet (5 %) to its loud (95 %) frames."""


def flat_start_loss(
    log_probs: Tensor,
    frame_counts: Tensor,
    targets: Tensor,
    target_counts: Tensor,
    speech: Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    """Mean negative log-prob in nats a frame; with `weights` (batch,) a frame counts as much as its utterance.

    Log-probs (batch, frames, labels + blank), targets (batch, labels) int64; counts (batch,); `speech` boolean
    (batch, frames) from `speech_frames`.
    """
    wanted = even_segmentation(speech, targets, target_counts, blank=log_probs.shape[2] - 1)
    valid = torch.arange(log_probs.shape[1], device=log_probs.device).unsqueeze(0) < frame_counts.unsqueeze(1)
    picked = log_probs.gather(2, wanted.unsqueeze(2)).squeeze(2)
    if weights is None:
        return -(picked * valid).sum() / valid.sum()
    counted = valid * weights.unsqueeze(1)
    return -(picked * counted).sum() / counted.sum()


def speech_frames(waveforms: Tensor, frame_counts: Tensor, n_frames: int, samples_per_frame: int) -> Tensor:
    """Which output frames are loud: boolean (batch, n_frames), false beyond each utterance."""
    power = F.avg_pool1d(waveforms.float().square().unsqueeze(1), samples_per_frame, ceil_mode=True).squeeze(1)
    level = 10 * torch.log10(power + 1e-10)
    level = F.pad(level, (0, max(0, n_frames - level.shape[1])), value=-100.0)[:, :n_frames]
    valid = torch.arange(n_frames, device=level.device).unsqueeze(0) < frame_counts.unsqueeze(1)
    level = level.masked_fill(~valid, torch.nan)
    quiet, loud = level.nanquantile(0.05, dim=1, keepdim=True), level.nanquantile(0.95, dim=1, keepdim=True)
    return valid & (level >= quiet + LOUD * (loud - quiet))


def even_segmentation(speech: Tensor, targets: Tensor, target_counts: Tensor, blank: int) -> Tensor:
    """Label of every frame (batch, frames): the labels in equal shares of the speech frames, blanks elsewhere."""
    passed = speech.cumsum(dim=1) - 0.5
    share = passed / speech.sum(dim=1, keepdim=True).clamp(min=1)
    index = (share * target_counts.unsqueeze(1)).floor().long()
    letters = targets.gather(1, index.clamp(min=0).minimum(target_counts.unsqueeze(1) - 1))
    return torch.where(speech, letters, torch.full_like(letters, blank))
