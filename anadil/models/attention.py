"""Self-attention between the blocks of a QuartzNet: a frame sees frames that the convolutions do not reach.

Multi-head attention (Vaswani et al., arXiv:1706.03762) of the layer-normed frames is added to the block's output. The
convolutions tell the order of the frames. The distance of two frames lowers their score, by another slope in each head
(Press et al., arXiv:2108.12409, here on both sides). So a recording may be longer than those in training.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anadil.models.time_major import FrameMask, as_images, as_rows

HEADS, HEAD_WIDTH = 4, 64

_MASKED_SCORE = -10_000.0


class SelfAttention(nn.Module):
    """Multi-head self-attention with a residual connection. It begins as the identity: `out` is zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * HEADS * HEAD_WIDTH)
        self.out = nn.Linear(HEADS * HEAD_WIDTH, width)
        # falls to 1 / e within 4, 16, 64 and 256 frames
        self.register_buffer("slopes", torch.tensor([4.0**-i for i in range(1, HEADS + 1)]), persistent=False)
        self.slopes: Tensor

    def begin(self) -> None:
        """Set `out` to zero."""
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (batch, channels, 1, frames), mask (batch, 1, 1, frames), 1 inside the utterance: padding frames of x must be 0."""
        rows = self._attended(x.squeeze(2).transpose(1, 2), mask.squeeze(1))
        return x + (rows * mask.permute(0, 3, 1, 2).squeeze(3)).transpose(1, 2).unsqueeze(2).to(x.dtype)

    def time_major(self, x: Tensor, frames: FrameMask) -> Tensor:
        """The same for x (1, channels, frames, batch), the layout of models/time_major.py."""
        n_frames, batch = x.shape[2:]
        by_frame = as_rows(x).view(n_frames, batch, -1).transpose(0, 1)
        attended = self._attended(by_frame, frames.mask.permute(3, 0, 1, 2).squeeze(2)).transpose(0, 1)
        added = as_images(attended.reshape(n_frames * batch, -1), batch)
        return x + (added * frames.mask.to(added.dtype)).to(x.dtype)

    def _attended(self, x: Tensor, mask: Tensor) -> Tensor:
        """(batch, frames, channels) from x of this shape and mask (batch, 1, frames)."""
        batch, n_frames = x.shape[:2]
        normed = F.layer_norm(x.float(), self.norm.normalized_shape, self.norm.weight, self.norm.bias, self.norm.eps)
        q, k, v = self.qkv(normed).view(batch, n_frames, 3, HEADS, HEAD_WIDTH).permute(2, 0, 3, 1, 4).unbind(0)
        places = torch.arange(n_frames, device=x.device)
        away = (places.unsqueeze(0) - places.unsqueeze(1)).abs().float()
        bias = -self.slopes[:, None, None] * away + (mask[:, :, None].float() - 1) * -_MASKED_SCORE
        # written out: in bfloat16 the backward pass of PyTorch's fused attention takes four times as long on a CPU
        scores = torch.matmul(q * HEAD_WIDTH**-0.5, k.transpose(2, 3))
        y = torch.matmul((scores + bias.to(scores.dtype)).softmax(dim=3).to(v.dtype), v)
        attended: Tensor = self.out(y.transpose(1, 2).reshape(batch, n_frames, -1))
        return attended
