"""Settings of QuartzNet, Jasper and Citrinet, and QuartzNets by name."""

from __future__ import annotations

from typing import Any, Literal

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
    "5x5": _paper_blocks(1),
    "15x5": _paper_blocks(3),
}


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
    separable: bool = True
    groups: int = Field(1, ge=1)  # of the full or pointwise convolutions; their outputs are shuffled
    heads: int | None = Field(None, ge=1)  # filters that the depthwise convolution shares between channels
    future_context: int | None = Field(None, ge=0)  # frames the kernel sees ahead; None: half of it
    squeeze_excite: SqueezeExciteSettings | None = None
    dropout: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _possible(self) -> BlockSettings:
        if self.dilation > 1 and (self.stride > 1 or self.future_context is not None):
            raise ValueError("stride and dilation cannot both be above 1, and future_context wants dilation 1")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} is even: frames could not stay centred")
        if self.residual_dense and (not self.residual or self.stride > 1):
            raise ValueError("residual_dense wants residual: true and no stride")
        if self.heads is not None and not self.separable:
            raise ValueError("heads are of depthwise convolutions: separable must be true")
        return self

    @property
    def total_stride(self) -> int:
        return self.stride if self.stride_last else self.stride**self.repeat

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
    preset: Literal["small", "5x5", "15x5"] | None = None
    blocks: list[BlockSettings] | None = None
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
        if self.kind != "quartznet" and self.blocks is None:
            raise ValueError(f"kind {self.kind} has no presets: give blocks")
        return self

    @property
    def resolved_blocks(self) -> list[BlockSettings]:
        if self.blocks is not None:
            return self.blocks
        return [BlockSettings(**block, dropout=self.dropout) for block in PRESETS[self.preset or "small"]]

    @property
    def stride(self) -> int:
        """Feature frames to one output frame."""
        total = 1
        for block in self.resolved_blocks:
            total *= block.total_stride
        return total
