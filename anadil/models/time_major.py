"""A training step of separable convolutions on a CPU: the same sums in another layout, two to three times as fast.

Tensors are (1, channels, frames, batch) in channels-last memory, so that frames come first, then utterances, then
channels. Then a depthwise convolution is one image whose height is time (PyTorch's gradient of the filters takes an
eighth of the time that it takes for a row of frames an utterance), a dilated one is a plain one over `dilation` times as
many utterances, a pointwise one is a matrix product, and the frames beyond an utterance are rows that can be set to
zero by their numbers. benchmarks/train_speed.py measures it; docs/LOG.md has what was tried.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Frames:
    """Which frames lie inside their utterance."""

    mask: Tensor  # (1, 1, frames, batch), 1 inside and 0 beyond
    beyond: Tensor  # int64: numbers of the rows of (frames * batch, channels) that lie beyond

    def every(self, stride: int) -> Frames:
        return frames_of(self.mask[:, :, ::stride]) if stride > 1 else self


def frames_of(mask: Tensor) -> Frames:
    """From a mask (1, 1, frames, batch)."""
    return Frames(mask, (mask.reshape(-1) == 0).nonzero().squeeze(1))


def from_plain(x: Tensor) -> Tensor:
    """(batch, channels, 1, frames) to this layout; a copy unless it comes from `to_plain`."""
    return x.permute(2, 1, 3, 0).contiguous(memory_format=torch.channels_last)


def to_plain(x: Tensor) -> Tensor:
    """This layout to (batch, channels, 1, frames), a view."""
    return x.permute(3, 1, 0, 2)


def depthwise(x: Tensor, conv: nn.Conv1d, padding: tuple[int, int]) -> Tensor:
    """`conv`, one filter a channel, over zeros of `padding` before and behind; ceil(frames / stride) frames."""
    with torch.autocast("cpu", enabled=False):  # short filters are no faster in half precision, long ones a little
        return _depthwise(x, conv, padding)


def _depthwise(x: Tensor, conv: nn.Conv1d, padding: tuple[int, int]) -> Tensor:
    kernel, stride, dilation = conv.kernel_size[0], conv.stride[0], conv.dilation[0]
    n_frames, batch = x.shape[2:]
    filters = conv.weight.unsqueeze(3)
    # a view by somebody else (FSDP's hooks) may have another stride along the one image, and then PyTorch 2.13's gradient
    # of the filters is wrong, silently; this view has the usual one
    x = _as_images(_as_rows(x), batch)
    left, right = padding
    if left == right:
        # as many frames as the filter has: with fewer, oneDNN takes ten times as long for the filters' gradient
        wanted = max(-(-n_frames // dilation), kernel) * dilation if dilation > 1 or n_frames < kernel else n_frames
        x = F.pad(x, (0, 0, 0, wanted - n_frames)) if wanted > n_frames else x
        if dilation > 1:  # frames d apart are neighbours now: each utterance has become d of them
            x = _as_images(_as_rows(x), batch * dilation)
        if kernel >= _LONG and kernel % 2 and stride == 1:
            y: Tensor = _LongDepthwise.apply(x, filters)  # type: ignore[no-untyped-call]
        else:
            y = F.conv2d(x, filters, None, (stride, 1), ((kernel - 1) // 2, 0), 1, conv.groups)
        y = _as_images(_as_rows(y), batch) if dilation > 1 else y
    else:
        y = F.conv2d(F.pad(x, (0, 0, left, right)), filters, None, (stride, 1), 0, 1, conv.groups)
    return y[:, :, : -(-n_frames // stride)]


def pointwise(x: Tensor, conv: nn.Conv1d) -> Tensor:
    """`conv` of kernel 1 as a matrix product."""
    x = x[:, :, :: conv.stride[0]] if conv.stride[0] > 1 else x
    return _as_images(F.linear(_as_rows(x), conv.weight.squeeze(2)).to(x.dtype), x.shape[3])


def pointwise_within(x: Tensor, conv: nn.Conv1d, frames: Frames) -> Tensor:
    """As `pointwise`, of x that is zero beyond each utterance: x itself becomes that."""
    return _as_images(_LinearWithin.apply(_as_rows(x), conv.weight.squeeze(2), frames.beyond), x.shape[3])  # type: ignore[no-untyped-call]


def normalise(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """What `norm(x)` is, without its bookkeeping."""
    if norm.training and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    use_batch = norm.training or norm.running_mean is None
    return F.batch_norm(
        x, norm.running_mean, norm.running_var, norm.weight, norm.bias, use_batch, norm.momentum or 0.0, norm.eps
    )


def activate(x: Tensor, activation: nn.Module, dropout: nn.Dropout, frames: Frames) -> Tensor:
    """Activation and dropout, and zeros beyond each utterance. x is overwritten."""
    p = dropout.p if dropout.training else 0.0
    if isinstance(activation, nn.ReLU):
        out: Tensor = _ReluDropout.apply(x, p, frames.beyond)  # type: ignore[no-untyped-call]
        return out
    return F.dropout(activation(x), p) * frames.mask


def spread(x: Tensor, mask: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """`n` frames of each one in (batch, channels, 1, frames), its channels shared out among them.

    That is sub-pixel convolution (Shi et al., arXiv:1609.05158) along time.
    """
    if n == 1:
        return x, mask
    apart = x.reshape(x.shape[0], n, x.shape[1] // n, 1, x.shape[3]).permute(0, 2, 3, 4, 1)
    return apart.flatten(3), mask.repeat_interleave(n, dim=3)


def spread_frames(x: Tensor, frames: Frames, n: int) -> tuple[Tensor, Frames]:
    """What `spread` does, in this layout."""
    n_frames, batch = x.shape[2:]
    rows = _as_rows(x).view(n_frames, batch, n, -1).transpose(1, 2).reshape(n_frames * n * batch, -1)
    return _as_images(rows, batch), frames_of(frames.mask.repeat_interleave(n, dim=2))


def _as_rows(x: Tensor) -> Tensor:
    """(1, channels, frames, batch) to (frames * batch, channels), a view."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _as_images(rows: Tensor, batch: int) -> Tensor:
    """(frames * batch, channels) to (1, channels, frames, batch), a view."""
    return rows.view(1, -1, batch, rows.shape[1]).permute(0, 3, 1, 2)


_LONG = 25
"""Taps from which a row a channel and utterance is faster than an image a channel."""


class _LongDepthwise(torch.autograd.Function):
    """Depthwise convolution of x (1, channels, frames, batch) with filters (channels, 1, kernel, 1), kernel odd, as many frames.

    Forward, and the gradient of x, which is a convolution with the filters turned round, go along rows of batch * channels
    groups, each frame read near the last one; down an image's columns oneDNN reads each anew for each tap. The gradient
    of the filters goes down the columns: along rows it takes several times as long.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, filters: Tensor) -> Tensor:
        ctx.save_for_backward(x, filters)
        return _along_rows(x, filters)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, filters = ctx.saved_tensors
        grad = _as_images(_as_rows(grad).contiguous(), grad.shape[3])  # padding leaves a part of a tensor
        of_x = _along_rows(grad, filters.flip(2)) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return of_x, None
        padding = [filters.shape[2] // 2, 0]
        of_filters = torch.ops.aten.convolution_backward(
            grad, x, filters, None, [1, 1], padding, [1, 1], False, [0, 0], len(filters), [False, True, False]
        )[1]
        return of_x, of_filters


def _along_rows(x: Tensor, filters: Tensor) -> Tensor:
    n_frames, batch = x.shape[2:]
    one_row = _as_rows(x).view(1, 1, n_frames, -1).permute(0, 3, 1, 2)
    taps = filters.transpose(2, 3).repeat(batch, 1, 1, 1)
    y = F.conv2d(one_row, taps, None, 1, (0, filters.shape[2] // 2), 1, len(taps))
    return _as_images(y.permute(0, 2, 3, 1).reshape(n_frames * batch, -1), batch)


class _LinearWithin(torch.autograd.Function):
    """rows (n, in) with those numbered `beyond` set to zero, times weight (out, in); under autocast in its type."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, beyond: Tensor) -> Tensor:
        rows = rows.detach().index_fill_(0, beyond, 0.0)  # in place: nothing else reads a convolution's output
        ctx.dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else rows.dtype
        factor, other = rows.to(ctx.dtype), weight.to(ctx.dtype)
        ctx.save_for_backward(factor, other, beyond)
        return (factor @ other.t()).to(rows.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        factor, other, beyond = ctx.saved_tensors
        given = grad.to(ctx.dtype)
        of_rows = (given @ other).to(grad.dtype).index_fill_(0, beyond, 0.0) if ctx.needs_input_grad[0] else None
        of_weight = (given.t() @ factor).to(grad.dtype) if ctx.needs_input_grad[1] else None
        return of_rows, of_weight, None


_STEPS = 1 << 16
"""Dropout's probability is rounded to a multiple of 1 / 65536: so 16 random bits do for a number."""


class _ReluDropout(torch.autograd.Function):
    """dropout(relu(x)) and zeros beyond each utterance, in place.

    PyTorch's own dropout draws 64 random bits a number and compares them one by one: an eighth of a step. Backward needs
    no mask: the gradient passes where the output is above zero.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float, beyond: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        dropped = min(round(p * _STEPS), _STEPS - 1)
        ctx.scale = _STEPS / (_STEPS - dropped)
        rows = _as_rows(x).relu_()
        if dropped:
            drawn = _random_bits(rows.numel()).view_as(rows).to(rows.dtype)
            # 0 where what was drawn is at most the threshold, in one pass; comparing and multiplying takes six times as long
            _threshold(rows, drawn, dropped - _STEPS // 2 - 1, grad_input=rows)
            rows.mul_(ctx.scale)
        rows.index_fill_(0, beyond, 0.0)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (out,) = ctx.saved_tensors
        passed = torch.ops.aten.threshold_backward(grad.contiguous(memory_format=torch.channels_last), out, 0)
        return passed.mul_(ctx.scale) if ctx.scale > 1 else passed, None, None


def _random_bits(n: int) -> Tensor:
    """int16 (n,), uniform. PyTorch's generator gives the seed alone: NumPy's SFC64 draws three times as fast, on one thread."""
    drawn = np.random.SFC64(int(torch.randint(1 << 62, ()))).random_raw(-(-n // 4))
    return torch.from_numpy(drawn.view(np.int16))[:n]


_threshold = torch.ops.aten.threshold_backward.grad_input
