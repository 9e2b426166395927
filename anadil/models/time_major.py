"""Separable convolutions in a time-major layout, for training on a CPU: the same sums, two to three times as fast.

Time-major tensors are (1, channels, frames, batch) in channels-last memory: frames vary slowest, then utterances, and
channels fastest. The usual layout is (batch, channels, 1, frames). In the time-major layout
- a depthwise convolution is over one image whose height is time: PyTorch's gradient of the filters takes an eighth of
  the time that it takes over one row of frames per utterance;
- a dilated convolution is a plain one over `dilation` times as many utterances;
- a pointwise convolution is a matrix product of rows, (frames * batch, channels);
- padding frames are rows, which can be set to zero by their indices.

benchmarks/train_speed.py measures the speed; docs/LOG.md lists what else was tried.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class FrameMask:
    """Which frames belong to an utterance, and which are padding."""

    mask: Tensor  # (1, 1, frames, batch), 1 inside the utterance and 0 for padding
    padding: Tensor  # int64: indices of the padding rows of (frames * batch, channels)

    def every(self, stride: int) -> FrameMask:
        """The mask of every stride-th frame."""
        return frame_mask(self.mask[:, :, ::stride]) if stride > 1 else self


def frame_mask(mask: Tensor) -> FrameMask:
    """The FrameMask of a mask (1, 1, frames, batch)."""
    return FrameMask(mask, (mask.reshape(-1) == 0).nonzero().squeeze(1))


def to_time_major(x: Tensor) -> Tensor:
    """(batch, channels, 1, frames) to (1, channels, frames, batch); a copy, unless x is from `from_time_major`."""
    return x.permute(2, 1, 3, 0).contiguous(memory_format=torch.channels_last)


def from_time_major(x: Tensor) -> Tensor:
    """(1, channels, frames, batch) to (batch, channels, 1, frames), a view."""
    return x.permute(3, 1, 0, 2)


def depthwise(x: Tensor, conv: nn.Conv1d, padding: tuple[int, int]) -> Tensor:
    """`conv`, with one filter per channel, after padding x with zeros: ceil(frames / stride) frames."""
    with torch.autocast("cpu", enabled=False):  # in the type of x: a copy to bfloat16 would cost more than it saves
        return _depthwise(x, conv, padding)


def _depthwise(x: Tensor, conv: nn.Conv1d, padding: tuple[int, int]) -> Tensor:
    kernel, stride, dilation = conv.kernel_size[0], conv.stride[0], conv.dilation[0]
    n_frames, batch = x.shape[2:]
    filters = conv.weight.unsqueeze(3).to(x.dtype)
    # A view made elsewhere (FSDP's hooks) may have another stride along the first dimension, and then PyTorch 2.13's
    # gradient of the filters is silently wrong. This view has the usual stride.
    x = as_images(as_rows(x), batch)
    left, right = padding
    if left == right:
        # at least as many frames as the filter: with fewer, oneDNN takes ten times as long for the filters' gradient
        padded = max(-(-n_frames // dilation), kernel) * dilation if dilation > 1 or n_frames < kernel else n_frames
        x = F.pad(x, (0, 0, 0, padded - n_frames)) if padded > n_frames else x
        if dilation > 1:  # each utterance becomes `dilation` utterances, of every dilation-th frame
            x = as_images(as_rows(x), batch * dilation)
        if kernel >= _LONG_KERNEL and kernel % 2 and stride == 1:
            y: Tensor = _LongDepthwise.apply(x, filters)  # type: ignore[no-untyped-call]
        else:
            y = F.conv2d(x, filters, None, (stride, 1), ((kernel - 1) // 2, 0), 1, conv.groups)
        y = as_images(as_rows(y), batch) if dilation > 1 else y
    else:
        y = F.conv2d(F.pad(x, (0, 0, left, right)), filters, None, (stride, 1), 0, 1, conv.groups)
    return y[:, :, : -(-n_frames // stride)]


def pointwise(x: Tensor, conv: nn.Conv1d) -> Tensor:
    """`conv`, whose kernel size is 1, as a matrix product."""
    x = x[:, :, :: conv.stride[0]] if conv.stride[0] > 1 else x
    return as_images(F.linear(as_rows(x), conv.weight.squeeze(2)).to(x.dtype), x.shape[3])


def masked_pointwise(x: Tensor, conv: nn.Conv1d, frames: FrameMask) -> Tensor:
    """As `pointwise`, after setting the padding frames of x to zero. Overwrites x."""
    return as_images(_MaskedLinear.apply(as_rows(x), conv.weight.squeeze(2), frames.padding), x.shape[3])  # type: ignore[no-untyped-call]


def batch_norm(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """The same as `norm(x)`, without the overhead of a module call."""
    if norm.training and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    use_batch = norm.training or norm.running_mean is None
    return F.batch_norm(
        x, norm.running_mean, norm.running_var, norm.weight, norm.bias, use_batch, norm.momentum or 0.0, norm.eps
    )


def activate(x: Tensor, activation: nn.Module, dropout: nn.Dropout, frames: FrameMask) -> Tensor:
    """Applies activation and dropout, and sets padding frames to zero. Overwrites x."""
    p = dropout.p if dropout.training else 0.0
    if isinstance(activation, nn.ReLU):
        out: Tensor = _ReluDropout.apply(x, p, frames.padding)  # type: ignore[no-untyped-call]
        return out
    return F.dropout(activation(x), p) * frames.mask.to(x.dtype)


def upsample(x: Tensor, mask: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Splits each frame of x (batch, channels, 1, frames) into `n` frames of channels / n channels each.

    This is sub-pixel convolution (Shi et al., arXiv:1609.05158) along time. The layout is the usual one.
    """
    if n == 1:
        return x, mask
    split = x.reshape(x.shape[0], n, x.shape[1] // n, 1, x.shape[3]).permute(0, 2, 3, 4, 1)
    return split.flatten(3), mask.repeat_interleave(n, dim=3)


def upsample_time_major(x: Tensor, frames: FrameMask, n: int) -> tuple[Tensor, FrameMask]:
    """The same as `upsample`, for x (1, channels, frames, batch)."""
    n_frames, batch = x.shape[2:]
    rows = as_rows(x).view(n_frames, batch, n, -1).transpose(1, 2).reshape(n_frames * n * batch, -1)
    return as_images(rows, batch), frame_mask(frames.mask.repeat_interleave(n, dim=2))


def as_rows(x: Tensor) -> Tensor:
    """(1, channels, frames, batch) to (frames * batch, channels), a view."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def as_images(rows: Tensor, batch: int) -> Tensor:
    """(frames * batch, channels) to (1, channels, frames, batch), a view."""
    return rows.view(1, -1, batch, rows.shape[1]).permute(0, 3, 1, 2)


_LONG_KERNEL = 25
"""Kernel size from which one row of frames per channel and utterance is faster than one image per channel."""


class _LongDepthwise(torch.autograd.Function):
    """Depthwise convolution with long, odd kernels that keeps the number of frames.

    x is (1, channels, frames, batch), filters are (channels, 1, kernel, 1).

    The forward pass, and the gradient of x (a convolution with the flipped filters), run along the rows of an image with
    batch * channels groups, where successive frames lie close together in memory. Along an image's columns, oneDNN reads
    each frame again for each tap. The gradient of the filters runs along the columns: along rows it takes several times
    as long.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, filters: Tensor) -> Tensor:
        ctx.save_for_backward(x, filters)
        return _along_rows(x, filters)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, filters = ctx.saved_tensors
        grad = as_images(as_rows(grad).contiguous(), grad.shape[3])  # after padding, grad is part of a larger tensor
        x_grad = _along_rows(grad, filters.flip(2)) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return x_grad, None
        padding = [filters.shape[2] // 2, 0]
        filters_grad = torch.ops.aten.convolution_backward(
            grad, x, filters, None, [1, 1], padding, [1, 1], False, [0, 0], len(filters), [False, True, False]
        )[1]
        return x_grad, filters_grad


def _along_rows(x: Tensor, filters: Tensor) -> Tensor:
    """The convolution of _LongDepthwise, over one row of frames per channel and utterance."""
    n_frames, batch = x.shape[2:]
    one_row = as_rows(x).view(1, 1, n_frames, -1).permute(0, 3, 1, 2)
    taps = filters.transpose(2, 3).repeat(batch, 1, 1, 1)
    y = F.conv2d(one_row, taps, None, 1, (0, filters.shape[2] // 2), 1, len(taps))
    return as_images(y.permute(0, 2, 3, 1).reshape(n_frames * batch, -1), batch)


class _MaskedLinear(torch.autograd.Function):
    """rows (n, in), with the rows of indices `padding` set to zero, times weight (out, in); in autocast's type, if any."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, padding: Tensor) -> Tensor:
        rows = rows.detach().index_fill_(0, padding, 0.0)  # in place: nothing else reads a convolution's output
        ctx.dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else rows.dtype
        ctx.weight_dtype = weight.dtype
        cast_rows, cast_weight = rows.to(ctx.dtype), weight.to(ctx.dtype)
        ctx.save_for_backward(cast_rows, cast_weight, padding)
        return (cast_rows @ cast_weight.t()).to(rows.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        rows, weight, padding = ctx.saved_tensors
        cast_grad = grad.to(ctx.dtype)
        rows_grad = (
            (cast_grad @ weight).to(grad.dtype).index_fill_(0, padding, 0.0) if ctx.needs_input_grad[0] else None
        )
        weight_grad = (cast_grad.t() @ rows).to(ctx.weight_dtype) if ctx.needs_input_grad[1] else None
        return rows_grad, weight_grad, None


_DRAWN = 1 << 21
"""Numbers that a stretch of dropout is taken from, at least; more for tensors above half of it."""


@lru_cache(maxsize=32)  # a few probabilities, a few sizes
def _factors(p: float, size: int, dtype: torch.dtype) -> tuple[Tensor, float]:
    """Dropout's factors (size,), always the same: 0 with probability p, else the number that keeps the mean, which follows."""
    drawn = np.random.Generator(np.random.SFC64(0)).random(size, dtype=np.float32)
    scale = float(torch.tensor(1 / (1 - p), dtype=dtype))
    return torch.from_numpy(drawn >= p).to(dtype) * scale, scale


class _ReluDropout(torch.autograd.Function):
    """dropout(relu(x)) with padding frames set to zero, in place.

    Drawing random bits for every number takes an eighth of a training step. So they are drawn once, and each call takes a
    stretch of them that begins at a random place. The backward pass needs no mask: the gradient passes where the output is
    above zero.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float, padding: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        rows, ctx.scale = as_rows(x).relu_(), 1.0
        if p > 0:
            factors, ctx.scale = _factors(p, max(_DRAWN, 1 << (2 * rows.numel()).bit_length()), x.dtype)
            start = int(torch.randint(len(factors) - rows.numel(), ()))
            rows.mul_(factors[start : start + rows.numel()].view_as(rows))
        rows.index_fill_(0, padding, 0.0)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (out,) = ctx.saved_tensors
        passed = torch.ops.aten.threshold_backward(grad.contiguous(memory_format=torch.channels_last), out, 0)
        return passed.mul_(ctx.scale) if ctx.scale > 1 else passed, None, None
