"""A start for CTC: one epoch of frame-wise cross-entropy against letters spread evenly over the utterance.

From random weights CTC first learns to emit blanks and stays there for long. The uniform segmentation, the flat start
of HMM training (Young et al., The HTK Book, section 3.2), is wrong in detail and right on average: it gets the model
off that plateau (docs/LOG.md has the figures).
"""

from __future__ import annotations

import torch
from torch import Tensor

EDGE = 0.06
"""Share of the frames at each end that is taken for silence."""


def flat_start_loss(log_probs: Tensor, frame_counts: Tensor, targets: Tensor, target_counts: Tensor) -> Tensor:
    """Mean negative log-prob in nats a frame.

    Log-probs (batch, frames, labels + blank), targets (batch, labels) int64; counts (batch,).
    """
    wanted = uniform_segmentation(log_probs.shape[1], frame_counts, targets, target_counts, log_probs.shape[2] - 1)
    valid = torch.arange(log_probs.shape[1], device=log_probs.device).unsqueeze(0) < frame_counts.unsqueeze(1)
    picked = log_probs.gather(2, wanted.unsqueeze(2)).squeeze(2)
    return -(picked * valid).sum() / valid.sum()


def uniform_segmentation(n_frames: int, frame_counts: Tensor, targets: Tensor, target_counts: Tensor, blank: int) -> Tensor:
    """Label of every frame (batch, n_frames): blanks at the ends, the labels in equal shares between them."""
    position = (torch.arange(n_frames, device=targets.device).unsqueeze(0) + 0.5) / frame_counts.unsqueeze(1)
    spoken = (position - EDGE) / (1 - 2 * EDGE)
    index = (spoken * target_counts.unsqueeze(1)).floor().long()
    inside = (index >= 0) & (index < target_counts.unsqueeze(1))
    letters = targets.gather(1, index.clamp(min=0).minimum(target_counts.unsqueeze(1) - 1))
    return torch.where(inside, letters, torch.full_like(letters, blank))
