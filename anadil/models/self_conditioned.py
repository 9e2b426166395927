"""Self-conditioned CTC: what the network would write after some block is given to the blocks after it.

Nozaki and Komatsu, arXiv:2104.02724: an intermediate head makes label probabilities, a projection of them is added to the
channels, and training adds the CTC losses of the intermediate heads. So the network knows in later blocks what it took
the neighbouring sounds for. Unlike in the paper, each place has a head and a projection of its own, because a place
before an `upsample` has several output frames in each of its frames, which the head writes side by side.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from anadil.models.time_major import FrameMask, as_images, as_rows


class SelfConditioning(nn.Module):
    """A head and the projection of its probabilities at one place; `per_frame` output frames are in each frame there.

    `log_probs` are those of the last forward pass of training, (batch, frames * per_frame, labels + blank), for the loss;
    `take` removes them.
    """

    def __init__(self, width: int, n_labels: int, per_frame: int) -> None:
        super().__init__()
        self.per_frame = per_frame
        self.head = nn.Conv1d(width, per_frame * (n_labels + 1), kernel_size=1)
        self.back = nn.Conv1d(per_frame * (n_labels + 1), width, kernel_size=1)
        self.log_probs: Tensor | None = None

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (batch, channels, 1, frames), conditioned; zero where mask (batch, 1, 1, frames) is."""
        logits = F.conv2d(x, self.head.weight.unsqueeze(2), self.head.bias)
        batch, _, _, frames = logits.shape
        log_probs = logits.float().reshape(batch, self.per_frame, -1, frames).log_softmax(dim=2)
        if self.training:
            self.log_probs = log_probs.permute(0, 3, 1, 2).reshape(batch, frames * self.per_frame, -1)
        probabilities = log_probs.exp().reshape(batch, -1, 1, frames)
        return x + (F.conv2d(probabilities, self.back.weight.unsqueeze(2), self.back.bias) * mask).to(x.dtype)

    def time_major(self, x: Tensor, frames: FrameMask) -> Tensor:
        """The same for x (1, channels, frames, batch), the layout of models/time_major.py."""
        n_frames, batch = x.shape[2:]
        logits = F.linear(as_rows(x), self.head.weight.squeeze(2), self.head.bias)
        log_probs = logits.float().view(n_frames * batch, self.per_frame, -1).log_softmax(dim=2)
        in_order = log_probs.view(n_frames, batch, self.per_frame, -1).transpose(0, 1)
        self.log_probs = in_order.reshape(batch, n_frames * self.per_frame, -1)
        projected = F.linear(log_probs.exp().flatten(1), self.back.weight.squeeze(2), self.back.bias)
        return x + (as_images(projected, batch) * frames.mask).to(x.dtype)

    def take(self) -> Tensor | None:
        """`log_probs`, which the module forgets: they hold the graph of the forward pass."""
        taken, self.log_probs = self.log_probs, None
        return taken
