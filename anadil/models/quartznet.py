"""QuartzNet: 1D time-channel separable convolutions with CTC (Kriman et al., arXiv:1910.10261).

Parameter names and shapes are NeMo's (`encoder.encoder.N.mconv.M.conv.weight`), so that weights pass both ways.
Inside, tensors are (batch, channels, 1, frames) in channels-last memory: PyTorch's grouped 1D convolution is
2 to 5 times slower on a CPU than the same sum as a channels-last 2D one (benchmarks/conv_layout.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import BaseModel, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from anadil.models.features import length_mask
from anadil.settings import SECTION

BATCH_NORM_EPS = 1e-3
BATCH_NORM_MOMENTUM = 0.1


class BlockSettings(BaseModel):
    """One block: `repeat` times (convolution, batch norm, ReLU, dropout), with a residual around them or without."""

    model_config = SECTION

    filters: int = Field(ge=1)
    kernel: int = Field(ge=1)
    repeat: int = Field(1, ge=1)
    stride: int = Field(1, ge=1)
    dilation: int = Field(1, ge=1)
    residual: bool = False
    separable: bool = True
    dropout: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _possible(self) -> BlockSettings:
        if self.stride > 1 and self.dilation > 1:
            raise ValueError("stride and dilation cannot both be above 1")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} is even: frames could not stay centred")
        return self


class QuartzNetSettings(BaseModel):
    """Section `model` of a config: a preset by name, or blocks of one's own."""

    model_config = SECTION

    kind: Literal["quartznet"] = "quartznet"
    preset: Literal["small", "5x5", "15x5"] | None = None
    blocks: list[BlockSettings] | None = None
    dropout: float = Field(0.0, ge=0, lt=1)  # of every block of a preset

    @model_validator(mode="after")
    def _one_of_two(self) -> QuartzNetSettings:
        if self.preset is not None and self.blocks is not None:
            raise ValueError("give a preset or blocks, not both")
        if self.blocks is not None and (not self.blocks or self.dropout):
            raise ValueError("blocks must not be empty, and each names its own dropout")
        return self

    @property
    def resolved_blocks(self) -> list[BlockSettings]:
        if self.blocks is not None:
            return self.blocks
        blocks = _SMALL if (self.preset or "small") == "small" else _paper_blocks(3 if self.preset == "15x5" else 1)
        return [block.model_copy(update={"dropout": self.dropout}) for block in blocks]

    @property
    def stride(self) -> int:
        """Feature frames to one output frame."""
        total = 1
        for block in self.resolved_blocks:
            total *= block.stride**block.repeat
        return total


def _paper_blocks(copies: int) -> list[BlockSettings]:
    """The paper's table 1: five groups of `copies` blocks of five repeats."""
    groups = ((256, 33), (256, 39), (512, 51), (512, 63), (512, 75))
    return [
        BlockSettings(filters=256, kernel=33, stride=2),
        *(
            BlockSettings(filters=filters, kernel=kernel, repeat=5, residual=True)
            for filters, kernel in groups
            for _ in range(copies)
        ),
        BlockSettings(filters=512, kernel=87, dilation=2),
        BlockSettings(filters=1024, kernel=1, separable=False),
    ]


# For a CPU and few hours: 4x stride from the start (40 ms frames), so that a second of audio costs 25 frames
_SMALL = [
    BlockSettings(filters=128, kernel=11, stride=2),
    BlockSettings(filters=192, kernel=11, stride=2),
    BlockSettings(filters=192, kernel=13, repeat=3, residual=True),
    BlockSettings(filters=256, kernel=17, repeat=3, residual=True),
    BlockSettings(filters=256, kernel=21, repeat=3, residual=True),
    BlockSettings(filters=320, kernel=25, repeat=3, residual=True),
    BlockSettings(filters=384, kernel=29, dilation=2),
    BlockSettings(filters=512, kernel=1, separable=False),
]


class MaskedConv(nn.Module):
    """1D convolution that sees zeros beyond each utterance.

    Input (batch, channels, 1, frames) and mask (batch, 1, 1, frames), 1 inside the utterance and 0 beyond. Every
    stride-th frame of the mask is the output's mask, as ceil(n / stride) frames remain of n.
    """

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int = 1, dilation: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(
            n_in,
            n_out,
            kernel,
            stride,
            padding=dilation * (kernel - 1) // 2,
            dilation=dilation,
            groups=groups,
            bias=False,
        )

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        conv = self.conv
        kernel, stride = conv.kernel_size[0], conv.stride[0]
        if kernel > 1 or self.training:  # a pointwise convolution carries nothing from frame to frame
            x = x * (mask if mask.dtype == x.dtype else mask.to(x.dtype))
        x = F.conv2d(
            x,
            conv.weight.unsqueeze(2),
            stride=(1, stride),
            padding=(0, int(conv.padding[0])),
            dilation=(1, conv.dilation[0]),
            groups=conv.groups,
        )
        return x, mask[..., ::stride] if stride > 1 else mask


class Block(nn.Module):
    """`mconv` holds the layers in NeMo's order, `res` the residual's projection and batch norm."""

    def __init__(self, n_in: int, settings: BlockSettings) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = n_in
        for i in range(settings.repeat):
            if i:
                layers += [nn.ReLU(), nn.Dropout(settings.dropout)]
            sizes = (settings.kernel, settings.stride, settings.dilation)
            if settings.separable:
                layers += [MaskedConv(width, width, *sizes, groups=width), MaskedConv(width, settings.filters, 1)]
            else:
                layers.append(MaskedConv(width, settings.filters, *sizes))
            layers.append(_batch_norm(settings.filters))
            width = settings.filters
        self.mconv = nn.ModuleList(layers)
        residual_stride = settings.stride**settings.repeat
        projection = [MaskedConv(n_in, settings.filters, 1, residual_stride), _batch_norm(settings.filters)]
        self.res = nn.ModuleList([nn.ModuleList(projection)]) if settings.residual else None
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        y, y_mask = _run(self.mconv, x, mask)
        if self.res is not None:
            projection = self.res[0]
            assert isinstance(projection, nn.ModuleList)
            y = y + _run(projection, x, mask)[0]
        return self.dropout(F.relu(y)), y_mask


def _run(layers: nn.ModuleList, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    for layer in layers:
        if isinstance(layer, MaskedConv | Block):
            x, mask = layer(x, mask)
        else:
            x = layer(x)
    return x, mask


class Encoder(nn.Module):
    """Features (batch, mels, frames) to (batch, channels, 1, frames / stride), and the mask of these frames."""

    def __init__(self, n_features: int, blocks: Sequence[BlockSettings]) -> None:
        super().__init__()
        widths = [n_features, *(block.filters for block in blocks)]
        self.encoder = nn.ModuleList(Block(n_in, block) for n_in, block in zip(widths, blocks, strict=False))
        self.width = widths[-1]

    def forward(self, features: Tensor, frame_counts: Tensor) -> tuple[Tensor, Tensor]:
        x = features.unsqueeze(2)
        if x.device.type == "cpu":
            x = x.contiguous(memory_format=torch.channels_last)
        mask = length_mask(frame_counts, features.shape[2])[:, None, None, :].to(x.dtype)
        return _run(self.encoder, x, mask)


class QuartzNet(nn.Module):
    """Features (batch, mels, frames) to CTC log-probs (batch, frames / stride, labels + blank), the blank last."""

    def __init__(self, settings: QuartzNetSettings, n_features: int, n_labels: int) -> None:
        super().__init__()
        self.settings = settings
        self.n_labels = n_labels
        self.encoder = Encoder(n_features, settings.resolved_blocks)
        self.decoder = nn.ModuleDict(
            {"decoder_layers": nn.ModuleList([nn.Conv1d(self.encoder.width, n_labels + 1, kernel_size=1)])}
        )
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                nn.init.xavier_uniform_(module.weight)

    def frame_count(self, n_features: int) -> int:
        """Output frames for so many feature frames, for one utterance."""
        for block in self.settings.resolved_blocks:
            for _ in range(block.repeat):
                n_features = (n_features - 1) // block.stride + 1
        return n_features

    def forward(self, features: Tensor, frame_counts: Tensor) -> tuple[Tensor, Tensor]:
        x, mask = self.encoder(features, frame_counts)
        head = self._head
        logits = F.conv2d(x, head.weight.unsqueeze(2), head.bias).squeeze(2).transpose(1, 2)
        return logits.float().log_softmax(dim=2), mask.sum(dim=(1, 2, 3)).long()

    @property
    def _head(self) -> nn.Conv1d:
        layers = self.decoder["decoder_layers"]
        assert isinstance(layers, nn.ModuleList) and isinstance(layers[0], nn.Conv1d)
        return layers[0]


def _batch_norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=BATCH_NORM_EPS, momentum=BATCH_NORM_MOMENTUM)
