"""Settings of QuartzNet, Jasper and Citrinet, and QuartzNets by name."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from anadil.settings import SECTION


def _paper_blocks(copies: int) -> list[dict[str, Any]]:
    """Table 1 of arXiv:1910.10261: five groups of `copies` blocks of five repeats."""
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


PRESETS: dict[str, list[dict[str, Any]]] = {
    # For a CPU and few hours: 4x stride from the start (40 ms frames), so that a second of audio costs 25 frames
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
    # Behind 2D convolutions with a 4x stride; filters of 7, as wide ones learn sentences by heart; a frame every 20 ms again
    # at the end, for 1.7 frames a letter is too few for CTC (docs/LOG.md)
    "small-2d": [
        {"filters": 384, "kernel": 1, "separable": False},
        *({"filters": 384, "kernel": 7, "repeat": 2, "residual": True, "residual_projection": False} for _ in range(5)),
        {"filters": 768, "kernel": 1, "separable": False, "upsample": 2},
    ],
    "5x5": _paper_blocks(1),
    "15x5": _paper_blocks(3),
}


class StemSettings(BaseModel):
    """2D convolutions in front of the blocks: each halves frames and bands."""

    model_config = SECTION

    channels: list[Annotated[int, Field(ge=1)]] = Field([32, 32], min_length=1, max_length=5)
    residual: int = Field(0, ge=0)  # convolutions behind them, with a way round them all


STEMS = {"small-2d": StemSettings()}

DEFAULT_PRESET = "small-2d"


class SqueezeExciteSettings(BaseModel):
    """A gate on every channel, from the channels' means over time."""

    model_config = SECTION

    reduction: int = Field(8, ge=1)  # of channels, inside the gate
    context: int | None = Field(None, ge=1)  # frames of the stretch that a training step averages over; None: all


class BlockSettings(BaseModel):
    """One block: `repeat` times (convolution, norm, activation, dropout), with a residual around them or none."""

    model_config = SECTION

    filters: int = Field(ge=1)
    kernel: int = Field(ge=1)
    repeat: int = Field(1, ge=1)
    stride: int = Field(1, ge=1)
    stride_last: bool = False  # of the `repeat` convolutions only the last one strides
    dilation: int = Field(1, ge=1)
    residual: bool = False
    residual_dense: bool = False  # from the input of every dense block so far
    residual_mode: Literal["add", "max"] = "add"
    residual_projection: bool = True  # false: the block's input is added as it is
    separable: bool = True
    groups: int = Field(1, ge=1)  # of the full or pointwise convolutions; their outputs are shuffled
    heads: int | None = Field(None, ge=1)  # filters that the depthwise convolution shares between channels
    future_context: int | None = Field(None, ge=0)  # frames the kernel sees ahead; None: half of it
    squeeze_excite: SqueezeExciteSettings | None = None
    upsample: int = Field(1, ge=1)  # frames that each one becomes at the end, its channels shared out among them
    dropout: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _possible(self) -> BlockSettings:
        if self.dilation > 1 and (self.stride > 1 or self.future_context is not None):
            raise ValueError("stride and dilation cannot both be above 1, and future_context wants dilation 1")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} is even: frames could not stay centred")
        if self.residual_dense and (not self.residual or self.stride > 1):
            raise ValueError("residual_dense wants residual: true and no stride")
        if not self.residual_projection and (
            self.residual_dense or self.residual_mode != "add" or self.total_stride > 1
        ):
            raise ValueError("residual_projection: false wants residual_mode: add, no residual_dense and no stride")
        if self.heads is not None and not self.separable:
            raise ValueError("heads are of depthwise convolutions: separable must be true")
        if self.filters % self.upsample or (self.upsample > 1 and self.residual_dense):
            raise ValueError(f"upsample {self.upsample} wants filters that it divides, and no residual_dense")
        return self

    @property
    def width(self) -> int:
        """Channels of what comes out."""
        return self.filters // self.upsample

    @property
    def total_stride(self) -> int:
        total: int = self.stride ** (1 if self.stride_last else self.repeat)
        return total

    @property
    def padding(self) -> tuple[int, int]:
        """Zeros before and behind the utterance, so that it keeps its length."""
        if self.future_context is None or self.future_context >= self.kernel:
            return (self.dilation * (self.kernel - 1) // 2,) * 2
        return self.kernel - 1 - self.future_context, self.future_context


class QuartzNetSettings(BaseModel):
    """Section `model` of a config: a preset by name, or blocks of one's own."""

    model_config = SECTION

    kind: Literal["quartznet", "jasper", "citrinet"] = "quartznet"
    preset: Literal["small", "small-2d", "5x5", "15x5"] | None = None
    blocks: list[BlockSettings] | None = None
    stem: StemSettings | None = None  # before blocks of one's own; a preset has its own
    dropout: float = Field(0.0, ge=0, lt=1)  # of every block of a preset
    activation: Literal["relu", "hardtanh", "selu", "swish", "gelu", "identity"] = "relu"
    norm: Literal["batch", "group", "instance", "layer"] = "batch"
    norm_groups: int | None = Field(None, ge=1)  # of `norm: group`; None: one a channel
    conv_mask: bool = True  # convolutions see zeros beyond an utterance, whatever it was padded with

    @model_validator(mode="after")
    def _one_of_two(self) -> QuartzNetSettings:
        if self.preset is not None and self.blocks is not None:
            raise ValueError("give a preset or blocks, not both")
        if self.blocks is not None and (not self.blocks or self.dropout):
            raise ValueError("blocks must not be empty, and each names its own dropout")
        if self.stem is not None and self.blocks is None:
            raise ValueError("a stem wants blocks of one's own: a preset has its own")
        if self.resolved_stem is not None and (self.norm != "batch" or not self.conv_mask):
            raise ValueError("behind a stem (preset small-2d has one) norm must be batch, and conv_mask true")
        if self.downsampling % self.upsampling:
            raise ValueError(f"{self.downsampling} feature frames a frame cannot become {self.upsampling} frames")
        if self.kind != "quartznet" and self.blocks is None:
            raise ValueError(f"kind {self.kind} has no presets: give blocks")
        return self

    @property
    def resolved_blocks(self) -> list[BlockSettings]:
        if self.blocks is not None:
            return self.blocks
        return [BlockSettings(**block, dropout=self.dropout) for block in PRESETS[self.preset or DEFAULT_PRESET]]

    @property
    def resolved_stem(self) -> StemSettings | None:
        return self.stem if self.blocks is not None else STEMS.get(self.preset or DEFAULT_PRESET)

    @property
    def downsampling(self) -> int:
        """Feature frames that become one frame, before any `upsample`."""
        total = 1 << (len(self.resolved_stem.channels) if self.resolved_stem else 0)
        for block in self.resolved_blocks:
            total *= block.total_stride
        return total

    @property
    def upsampling(self) -> int:
        return math.prod(block.upsample for block in self.resolved_blocks)

    @property
    def stride(self) -> int:
        """Feature frames to one output frame."""
        return self.downsampling // self.upsampling
