"""QuartzNet, Jasper and Citrinet with CTC: three papers that share one block of 1D convolutions.

Jasper (arXiv:1904.03288) has plain convolutions and dense residuals, QuartzNet (arXiv:1910.10261) separable
convolutions, Citrinet (arXiv:2104.01721) squeeze-and-excitation and an 8x stride. Parameter names and shapes are
NeMo's, so that weights can be converted in both directions.

Tensors are (batch, channels, 1, frames) in channels-last memory: on a CPU, PyTorch's grouped 1D convolution is 2 to 5
times slower than the same sum as a channels-last 2D convolution. Training on a CPU uses another layout
(models/time_major.py, benchmarks/train_speed.py).

The file has three parts: settings; the layers and the block; the encoder and the network.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from anadil.errors import AnadilError
from anadil.models.features import length_mask
from anadil.models.self_conditioned import SelfConditioning
from anadil.models.stem import Stem, StemSettings
from anadil.models.time_major import (
    FrameMask,
    activate,
    batch_norm,
    depthwise,
    frame_mask,
    from_time_major,
    masked_pointwise,
    pointwise,
    to_time_major,
    upsample,
    upsample_time_major,
)
from anadil.settings import SECTION, Real, Whole

# Settings, and presets of QuartzNet


def _paper_blocks(copies: int) -> list[dict[str, Any]]:
    """The blocks of table 1 of arXiv:1910.10261: five groups of `copies` blocks with five repeats each."""
    groups = ((256, 33), (256, 39), (512, 51), (512, 63), (512, 75))
    return [
        {"filters": 256, "kernel": 33, "stride": 2},
        *(
            {"filters": filters, "kernel": kernel, "repeat": 5, "residual": True}
            for filters, kernel in groups
            for _ in range(copies)
        ),
        {"filters": 512, "kernel": 87, "dilation": 2},
        {"filters": 1024, "kernel": 1, "separable": False},
    ]


_SMALL_2D: list[dict[str, Any]] = [
    {"filters": 384, "kernel": 1, "separable": False},
    *({"filters": 384, "kernel": 7, "repeat": 2, "residual": True, "residual_projection": False} for _ in range(5)),
    {"filters": 768, "kernel": 1, "separable": False, "upsample": 2},
]

PRESETS: dict[str, list[dict[str, Any]]] = {
    # For a CPU and few hours of speech: 4x stride from the start (40 ms frames), so that a second has only 25 frames
    "small": [
        {"filters": 128, "kernel": 11, "stride": 2},
        {"filters": 192, "kernel": 11, "stride": 2},
        {"filters": 192, "kernel": 13, "repeat": 3, "residual": True},
        {"filters": 256, "kernel": 17, "repeat": 3, "residual": True},
        {"filters": 256, "kernel": 21, "repeat": 3, "residual": True},
        {"filters": 320, "kernel": 25, "repeat": 3, "residual": True},
        {"filters": 384, "kernel": 29, "dilation": 2},
        {"filters": 512, "kernel": 1, "separable": False},
    ],
    # After a 2D stem with a 4x stride. Kernels of 7, because wide ones memorise sentences. The last block doubles the
    # frames to one every 20 ms, because 1.7 frames per letter are too few for CTC (docs/LOG.md).
    "small-2d": _SMALL_2D,
    # With a narrower stem, which is faster, and two places that know what the network would write there
    "small-2d-sc": _SMALL_2D,
    "5x5": _paper_blocks(1),
    "15x5": _paper_blocks(3),
}


_STEMS = {"small-2d": StemSettings(), "small-2d-sc": StemSettings(channels=[16, 32])}
_CONDITIONED = {"small-2d-sc": [3, 5]}

DEFAULT_PRESET = "small-2d"


class SqueezeExciteSettings(BaseModel):
    """A gate for each channel, computed from the channels' means over time."""

    model_config = SECTION

    reduction: Whole = Field(8, ge=1, le=1024)  # factor by which the gate's inner layer has fewer channels
    context: Whole | None = Field(
        None, ge=1, le=10**6
    )  # frames that a training step averages over, at a random place; None: all


class BlockSettings(BaseModel):
    """One block: `repeat` times (convolution, norm, activation, dropout), with or without a residual connection."""

    model_config = SECTION

    filters: Whole = Field(ge=1, le=16_384)
    kernel: Whole = Field(ge=1, le=10_001)
    repeat: Whole = Field(1, ge=1, le=64)
    stride: Whole = Field(1, ge=1, le=64)
    stride_last: bool = False  # only the last of the `repeat` convolutions has the stride
    dilation: Whole = Field(1, ge=1, le=64)
    residual: bool = False
    residual_dense: bool = False  # residuals from the inputs of all dense blocks so far
    residual_mode: Literal["add", "max"] = "add"
    residual_projection: bool = True  # false: the block's input is added unchanged
    separable: bool = True
    groups: Whole = Field(
        1, ge=1, le=16_384
    )  # of the full or pointwise convolutions; their output channels are shuffled
    heads: Whole | None = Field(None, ge=1, le=16_384)  # number of distinct depthwise filters, shared between channels
    future_context: Whole | None = Field(
        None, ge=0, le=10_000
    )  # frames of the kernel after its centre; None: half of the kernel
    squeeze_excite: SqueezeExciteSettings | None = None
    upsample: Whole = Field(
        1, ge=1, le=64
    )  # output frames per frame, at the block's end; they share the frame's channels
    dropout: Real = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _possible(self) -> BlockSettings:
        if self.dilation > 1 and (self.stride > 1 or self.future_context is not None):
            raise ValueError("stride and dilation cannot both be above 1, and future_context needs dilation 1")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} is even: it must be odd, so that it has a centre frame")
        if self.residual_dense and (not self.residual or self.stride > 1):
            raise ValueError("residual_dense needs residual: true and stride 1")
        if not self.residual_projection and (
            self.residual_dense or self.residual_mode != "add" or self.total_stride > 1
        ):
            raise ValueError("residual_projection: false needs residual_mode: add, no residual_dense and stride 1")
        if self.heads is not None and not self.separable:
            raise ValueError("heads need separable: true: they belong to depthwise convolutions")
        if self.filters % self.upsample or (self.upsample > 1 and self.residual_dense):
            raise ValueError(f"upsample {self.upsample} needs filters that it divides, and no residual_dense")
        return self

    @property
    def width(self) -> int:
        """Channels of the block's output."""
        return self.filters // self.upsample

    @property
    def total_stride(self) -> int:
        total: int = self.stride ** (1 if self.stride_last else self.repeat)
        return total

    @property
    def padding(self) -> tuple[int, int]:
        """Zeros before and after the utterance with which a convolution of stride 1 keeps its length."""
        if self.future_context is None or self.future_context >= self.kernel:
            return (self.dilation * (self.kernel - 1) // 2,) * 2
        return self.kernel - 1 - self.future_context, self.future_context


class QuartzNetSettings(BaseModel):
    """Section `model` of a config: the name of a preset, or a list of blocks."""

    model_config = SECTION

    kind: Literal["quartznet", "jasper", "citrinet"] = "quartznet"
    preset: Literal["small", "small-2d", "small-2d-sc", "5x5", "15x5"] | None = None
    blocks: list[BlockSettings] | None = Field(None, max_length=256)
    # before `blocks`, or in place of the stem that the preset has; None: the preset's own, if it has one
    stem: StemSettings | None = None
    # of each block of a preset; auto: by the epochs that training expects (training/regularization.py)
    dropout: Annotated[Real, Field(ge=0, lt=1)] | Literal["auto"] = 0.0
    # after these blocks, counted from 1, the network is conditioned on what it would write there (arXiv:2104.02724);
    # None: the preset's own, if it has any
    self_conditioned: list[Annotated[Whole, Field(ge=1, le=256)]] | None = Field(None, max_length=64)
    activation: Literal["relu", "hardtanh", "selu", "swish", "gelu", "identity"] = "relu"
    norm: Literal["batch", "group", "instance", "layer"] = "batch"
    norm_groups: Whole | None = Field(None, ge=1, le=16_384)  # of `norm: group`; None: one group per channel
    conv_mask: bool = True  # frames beyond an utterance are set to zero before each convolution

    @model_validator(mode="after")
    def _preset_or_blocks(self) -> QuartzNetSettings:
        if self.preset is not None and self.blocks is not None:
            raise ValueError("give a preset or blocks, not both")
        if self.blocks is not None and (not self.blocks or self.dropout):
            raise ValueError(
                "blocks must not be empty, and each block sets its own dropout (model.dropout is for presets)"
            )
        if self.stem is not None and self.blocks is None and self.preset_name not in _STEMS:
            raise ValueError(f"stem needs blocks, or a preset that has one ({', '.join(_STEMS)})")
        if self.resolved_stem is not None and (self.norm != "batch" or not self.conv_mask):
            raise ValueError("with a stem (preset small-2d has one) norm must be batch, and conv_mask true")
        if self.downsampling % self.upsampling:
            raise ValueError(
                f"upsample: {self.upsampling} output frames per frame do not divide the stride of {self.downsampling}"
            )
        if problem := self._wrong_places():
            raise ValueError(f"self_conditioned {self.conditioned_places}: {problem}")
        if self.kind != "quartznet" and self.blocks is None:
            raise ValueError(f"kind {self.kind} has no presets: give blocks")
        return self

    def _wrong_places(self) -> str:
        """What is wrong with `self_conditioned`; empty if nothing is."""
        places, blocks = self.conditioned_places, self.resolved_blocks
        if len(set(places)) < len(places) or any(place >= len(blocks) for place in places):
            return f"different numbers from 1 to {len(blocks) - 1} are allowed, of blocks that others follow"
        if any(block.total_stride > 1 for block in blocks[min(places, default=len(blocks)) :]):
            return "a block with a stride follows; the output has its frames only after the last stride"
        if any(block.residual_dense for block in blocks) and places:
            return "not with residual_dense, which reads blocks as they were"
        return ""

    def frames_in_each(self, place: int) -> int:
        """Output frames in each frame after block `place`, counted from 1, where no stride follows."""
        return math.prod(block.upsample for block in self.resolved_blocks[place:])

    @property
    def conditioned_places(self) -> list[int]:
        """The blocks after which the network is conditioned: `self_conditioned`, or those of the preset."""
        if self.self_conditioned is not None or self.blocks is not None:
            return self.self_conditioned or []
        return _CONDITIONED.get(self.preset_name, [])

    @property
    def preset_name(self) -> str:
        """`preset`, or its default; without meaning if `blocks` are given."""
        return self.preset or DEFAULT_PRESET

    @property
    def resolved_blocks(self) -> list[BlockSettings]:
        """The blocks that the network is built from: `blocks`, or those of the preset."""
        if self.blocks is not None:
            return self.blocks
        dropout = 0.0 if self.dropout == "auto" else self.dropout  # until training has replaced it
        return [BlockSettings(**block, dropout=dropout) for block in PRESETS[self.preset_name]]

    @property
    def resolved_stem(self) -> StemSettings | None:
        """The stem that the network is built with: `stem`, or that of the preset."""
        if self.stem is not None or self.blocks is not None:
            return self.stem
        return _STEMS.get(self.preset_name)

    @property
    def downsampling(self) -> int:
        """Feature frames per frame of the last block, before any `upsample`."""
        total = 1 << (len(self.resolved_stem.channels) if self.resolved_stem else 0)
        for block in self.resolved_blocks:
            total *= block.total_stride
        return total

    @property
    def upsampling(self) -> int:
        """Output frames per frame, by the `upsample` of all blocks."""
        return math.prod(block.upsample for block in self.resolved_blocks)

    @property
    def stride(self) -> int:
        """Feature frames per output frame."""
        return self.downsampling // self.upsampling


# The layers and the block

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "hardtanh": nn.Hardtanh,
    "selu": nn.SELU,
    "swish": nn.SiLU,
    "gelu": nn.GELU,
    "identity": nn.Identity,
}


class MaskedConv(nn.Module):
    """1D convolution whose input is set to zero beyond each utterance.

    Input (batch, channels, 1, frames) and mask (batch, 1, 1, frames), 1 inside the utterance and 0 beyond. The output
    has ceil(n / stride) frames for n frames, and its mask is every stride-th frame of the input's mask.
    """

    def __init__(
        self, n_in: int, n_out: int, block: BlockSettings | None = None, stride: int = 1, groups: int = 1
    ) -> None:
        """Kernel size, dilation and padding are those of `block`; without `block` the convolution is pointwise."""
        super().__init__()
        kernel, dilation = (block.kernel, block.dilation) if block else (1, 1)
        heads = block.heads if block and groups == n_in == n_out else None
        self.conv = nn.Conv1d(
            heads or n_in, heads or n_out, kernel, stride, dilation=dilation, groups=heads or groups, bias=False
        )
        self.copies = n_in // heads if heads else 1  # channels per filter
        self.padding = block.padding if block else (0, 0)
        self.masked, self.mask_pointwise = True, False

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        conv, (left, right) = self.conv, self.padding
        stride = conv.stride[0]
        # a pointwise convolution does not mix frames, but a norm over time or a batch norm in training does
        if self.masked and (conv.kernel_size[0] > 1 or self.training or self.mask_pointwise):
            x = x * (mask if mask.dtype == x.dtype else mask.to(x.dtype))
        if left != right:
            x = F.pad(x, (left, right))
        x = F.conv2d(
            x,
            conv.weight.repeat(self.copies, 1, 1).unsqueeze(2) if self.copies > 1 else conv.weight.unsqueeze(2),
            stride=(1, stride),
            padding=(0, left if left == right else 0),
            dilation=(1, conv.dilation[0]),
            groups=conv.groups * self.copies,
        )
        return x, mask[..., ::stride] if stride > 1 else mask


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation (Hu et al., arXiv:1709.01507); means are taken over the frames of each utterance."""

    def __init__(self, width: int, settings: SqueezeExciteSettings, activation: nn.Module) -> None:
        super().__init__()
        self.context = settings.context
        inner = width // settings.reduction
        self.fc = nn.Sequential(nn.Linear(width, inner, bias=False), activation, nn.Linear(inner, width, bias=False))

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        mask = mask.to(x.dtype)
        x = x * mask
        x_part, mask_part = x, mask
        if self.training and self.context is not None and x.shape[3] > self.context:
            start = int(torch.randint(0, x.shape[3] - self.context, ()))
            x_part, mask_part = (tensor[..., start : start + self.context] for tensor in (x, mask))
        mean = x_part.float().sum(dim=(2, 3)) / mask_part.float().sum(dim=(2, 3)).clamp(min=1)
        gate = torch.sigmoid(self.fc(mean)).to(x.dtype)
        return x * gate[:, :, None, None], mask


class Shuffle(nn.Module):
    """Reorders channels to the first of each group, then the second of each, so that grouped convolutions mix groups."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.register_buffer("order", torch.arange(width).view(groups, -1).t().flatten(), persistent=False)
        self.order: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.order]


class Block(nn.Module):
    """`repeat` times (convolution, norm, activation, dropout), with residual connections.

    `mconv` holds the layers in NeMo's order, `res` the projection and norm of each residual connection.
    """

    def __init__(self, n_ins: Sequence[int], block: BlockSettings, settings: QuartzNetSettings) -> None:
        """`n_ins`: channels of the inputs of the residual connections; the last one is the block's own input."""
        super().__init__()
        self.mode, self.upsample = block.residual_mode, block.upsample
        activation = _ACTIVATIONS[settings.activation]()
        layers: list[nn.Module] = []
        width = n_ins[-1]
        for i in range(block.repeat):
            if i:
                layers += [activation, nn.Dropout(block.dropout)]
            stride = 1 if block.stride_last and i + 1 < block.repeat else block.stride
            if block.separable:
                layers.append(MaskedConv(width, width, block, stride, groups=width))
                layers.append(MaskedConv(width, block.filters, groups=block.groups))
            else:
                layers.append(MaskedConv(width, block.filters, block, stride, block.groups))
            layers.append(_norm(block.filters, settings))
            if block.groups > 1:
                layers.append(Shuffle(block.filters, block.groups))
            width = block.filters
        if block.squeeze_excite is not None:
            layers.append(SqueezeExcite(width, block.squeeze_excite, activation))
        self.mconv = nn.ModuleList(layers)
        self.res = nn.ModuleList(
            nn.ModuleList([MaskedConv(n, width, stride=block.total_stride), _norm(width, settings)])
            for n in (n_ins if block.residual and block.residual_projection else ())
        )
        self.adds_input = block.residual and not block.residual_projection
        if self.adds_input and n_ins[-1] != width:
            raise AnadilError(
                "model.blocks: residual_projection: false needs as many output channels as input channels, found "
                f"{n_ins[-1]} in and {width} out"
            )
        self.activation, self.dropout = activation, nn.Dropout(block.dropout)

    def forward(self, xs: Sequence[Tensor], mask: Tensor) -> tuple[Tensor, Tensor]:
        y, y_mask = _run(self.mconv, xs[-1], mask)
        for projection, x in zip(self.res, xs, strict=False):
            assert isinstance(projection, nn.ModuleList)
            residual = _run(projection, x, mask)[0]
            y = y + residual if self.mode == "add" else torch.maximum(y, residual)
        y = y + xs[-1] if self.adds_input else y
        return upsample(self.dropout(self.activation(y)), y_mask, self.upsample)

    def time_major(self, xs: Sequence[Tensor], frames: FrameMask) -> tuple[Tensor, FrameMask]:
        """Computes the same as `forward`, in the layout of models/time_major.py: (1, channels, frames, batch).

        `xs` must be zero beyond each utterance.
        """
        y, y_frames, is_depthwise = xs[-1], frames, False
        for layer in self.mconv:
            if isinstance(layer, MaskedConv) and layer.conv.groups > 1:
                y, y_frames = depthwise(y, layer.conv, layer.padding), y_frames.every(layer.conv.stride[0])
                is_depthwise = True
            elif isinstance(layer, MaskedConv) and is_depthwise:
                y, is_depthwise = masked_pointwise(y, layer.conv, y_frames), False
            elif isinstance(layer, MaskedConv):
                y, y_frames = pointwise(y, layer.conv), y_frames.every(layer.conv.stride[0])
            elif isinstance(layer, nn.BatchNorm2d):
                y = batch_norm(y, layer)
            elif isinstance(layer, nn.Dropout):  # follows an activation, which the same call computes
                y = activate(y, self.activation, layer, y_frames)
            elif isinstance(layer, SqueezeExcite):
                y = layer(from_time_major(y), from_time_major(y_frames.mask))[0].permute(2, 1, 3, 0)
        for projection, x in zip(self.res, xs, strict=False):
            assert isinstance(projection, nn.ModuleList)
            conv, norm = projection
            assert isinstance(conv, MaskedConv) and isinstance(norm, nn.BatchNorm2d)
            residual = batch_norm(pointwise(x, conv.conv), norm)
            y = y + residual if self.mode == "add" else torch.maximum(y, residual)
        y = activate(y + xs[-1] if self.adds_input else y, self.activation, self.dropout, y_frames)
        return (y, y_frames) if self.upsample == 1 else upsample_time_major(y, y_frames, self.upsample)


def _run(layers: nn.ModuleList, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    for layer in layers:
        if isinstance(layer, MaskedConv | SqueezeExcite):
            x, mask = layer(x, mask)
        else:
            x = layer(x)
    return x, mask


def _norm(width: int, settings: QuartzNetSettings) -> nn.Module:
    if settings.norm == "batch":
        return nn.BatchNorm2d(width, eps=1e-3, momentum=0.1)
    groups = {"group": settings.norm_groups or width, "instance": width, "layer": 1}[settings.norm]
    return nn.GroupNorm(groups, width)


# Encoder and network


class Encoder(nn.Module):
    """Features (batch, mels, frames) to (batch, channels, 1, frames / stride), and the mask of these frames."""

    def __init__(self, n_features: int, settings: QuartzNetSettings) -> None:
        super().__init__()
        self.dense = [block.residual_dense for block in settings.resolved_blocks]
        stem = settings.resolved_stem
        self.stem = Stem(n_features, stem) if stem is not None else None
        n_ins, blocks, width = list[int](), list[Block](), self.stem.width if self.stem is not None else n_features
        for block in settings.resolved_blocks:
            n_ins = [*n_ins, width] if block.residual_dense else []
            blocks.append(Block(n_ins or [width], block, settings))
            width = block.width
        self.encoder = nn.ModuleList(blocks)
        self.width = width
        self.keeps_bf16 = False
        """Whether training in the time-major layout under autocast keeps activations in bfloat16 between the layers, and
        computes the stem and the filters in it. Weights, their gradients and the statistics of norms stay float32."""
        self.has_time_major = (
            settings.norm == "batch"
            and settings.conv_mask
            and all(
                (block.separable or block.kernel == 1) and block.groups == 1 and not block.heads and block.filters > 1
                for block in settings.resolved_blocks
            )
        )
        for module in self.modules():
            if isinstance(module, MaskedConv):
                module.masked, module.mask_pointwise = settings.conv_mask, settings.norm != "batch"

    def forward(
        self, features: Tensor, frame_counts: Tensor, conditioning: nn.ModuleDict | None = None
    ) -> tuple[Tensor, Tensor]:
        """`conditioning`: by the number of the block that it follows, counted from 1."""
        time_major = self.is_time_major(features)
        bf16 = time_major and self.keeps_bf16 and torch.is_autocast_enabled("cpu")
        if self.stem is not None:
            # in half precision only a CPU with AMX is faster for its few channels
            with contextlib.nullcontext() if bf16 else torch.autocast("cpu", enabled=False):
                x, mask = self.stem(features, frame_counts)
        else:
            x = features.unsqueeze(2)
            mask = length_mask(frame_counts, features.shape[2])[:, None, None, :].to(x.dtype)
        if time_major:
            frames = frame_mask(to_time_major(mask))
            x = to_time_major(x.to(torch.bfloat16) if bf16 else x)
            x = x * frames.mask.to(x.dtype)
        elif x.device.type == "cpu":
            x = x.contiguous(memory_format=torch.channels_last)
        inputs: list[Tensor] = []
        for number, (block, dense) in enumerate(zip(self.encoder, self.dense, strict=True), start=1):
            assert isinstance(block, Block)
            inputs = [*inputs, x] if dense else []
            if time_major:
                x, frames = block.time_major(inputs or [x], frames)
            else:
                x, mask = block(inputs or [x], mask)
            if conditioning is not None and str(number) in conditioning:
                place = conditioning[str(number)]
                assert isinstance(place, SelfConditioning)
                x = place.time_major(x, frames) if time_major else place(x, mask)
        return (from_time_major(x), from_time_major(frames.mask)) if time_major else (x, mask)

    def is_time_major(self, features: Tensor) -> bool:
        """Whether the blocks compute in the time-major layout: in training on a CPU, where all of them support it."""
        return self.has_time_major and self.training and features.device.type == "cpu"


class QuartzNet(nn.Module):
    """Features (batch, mels, frames) to CTC log-probs (batch, frames / stride, labels + blank), the blank last."""

    def __init__(self, settings: QuartzNetSettings, n_features: int, n_labels: int) -> None:
        super().__init__()
        self.settings, self.n_labels = settings, n_labels
        # kept, because frame_count is called for every utterance and the settings compute them anew each time
        self.downsampling, self.upsampling = settings.downsampling, settings.upsampling
        self.encoder = Encoder(n_features, settings)
        head = nn.ModuleList([nn.Conv1d(self.encoder.width, n_labels + 1, kernel_size=1)])
        self.decoder = nn.ModuleDict({"decoder_layers": head})
        self.conditioning = nn.ModuleDict(
            {
                str(place): SelfConditioning(
                    settings.resolved_blocks[place - 1].width, n_labels, settings.frames_in_each(place)
                )
                for place in settings.conditioned_places
            }
        )
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)

    def frame_count(self, n_features: int) -> int:
        """Output frames for one utterance of `n_features` feature frames."""
        return -(-n_features // self.downsampling) * self.upsampling

    def forward(self, features: Tensor, frame_counts: Tensor) -> tuple[Tensor, Tensor]:
        x, mask = self.encoder(features, frame_counts, self.conditioning)
        head = self._head
        if self.encoder.is_time_major(features):
            logits = F.linear(x.permute(2, 3, 0, 1)[0], head.weight.squeeze(2), head.bias).transpose(0, 1)
        else:
            logits = F.conv2d(x, head.weight.unsqueeze(2), head.bias).squeeze(2).transpose(1, 2)
        return logits.float().log_softmax(dim=2), mask.sum(dim=(1, 2, 3)).long()

    def take_intermediate(self) -> list[Tensor]:
        """Log-probs of the intermediate heads in the last forward pass of training, shaped as the output; then none."""
        taken = [place.take() for place in self.conditioning.values() if isinstance(place, SelfConditioning)]
        return [log_probs for log_probs in taken if log_probs is not None]

    def set_dropout(self, settings: QuartzNetSettings) -> None:
        """Take the dropout of `settings`, which are otherwise those of the network."""
        self.settings = settings
        for module, block in zip(self.encoder.encoder, settings.resolved_blocks, strict=True):
            for layer in module.modules():
                if isinstance(layer, nn.Dropout):
                    layer.p = block.dropout

    @property
    def _head(self) -> nn.Conv1d:
        layers = self.decoder["decoder_layers"]
        assert isinstance(layers, nn.ModuleList) and isinstance(layers[0], nn.Conv1d)
        return layers[0]
