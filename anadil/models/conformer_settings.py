"""Settings of Conformer and FastConformer, under NeMo's names."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from anadil.settings import SECTION

FAST = {"subsampling": "dw_striding", "subsampling_factor": 8, "subsampling_conv_channels": 256, "conv_kernel_size": 9}
"""What FastConformer (arXiv:2305.05084) changes: twice the stride, and convolutions that cost a tenth."""

Context = tuple[Annotated[int, Field(ge=-1)], Annotated[int, Field(ge=-1)]]
"""Frames that attention sees to the left and to the right; -1: all."""


def _contexts(value: Any) -> Any:
    return [value] if isinstance(value, list | tuple) and value and isinstance(value[0], int) else value


class ConformerSettings(BaseModel):
    """Section `model` of a config."""

    model_config = SECTION

    kind: Literal["conformer", "fastconformer"] = "conformer"
    n_layers: int = Field(16, ge=1)
    d_model: int = Field(176, ge=2)
    n_heads: int = Field(4, ge=1)
    ff_expansion_factor: int = Field(4, ge=1)
    feat_out: int = -1  # width behind the last layer; -1: d_model
    use_bias: bool = True
    subsampling: Literal["striding", "dw_striding", "vggnet", "stacking", "stacking_norm"] = "striding"
    subsampling_factor: int = Field(4, ge=1)
    subsampling_conv_channels: int = Field(-1, ge=-1)  # -1: d_model
    causal_downsampling: bool = False
    reduction: Literal["pooling", "striding"] | None = None  # a further subsampling,
    reduction_position: int = Field(-1, ge=-1)  # behind this layer; -1: behind all
    reduction_factor: int = Field(1, ge=1)
    self_attention_model: Literal["rel_pos", "rel_pos_local_attn", "abs_pos"] = "rel_pos"
    att_context_size: Annotated[list[Context], BeforeValidator(_contexts), Field(min_length=1)] = [(-1, -1)]
    att_context_probs: list[float] | None = None  # of each context in training; evaluation takes the first
    att_context_style: Literal["regular", "chunked_limited"] = "regular"
    xscaling: bool = True
    untie_biases: bool = True
    conv_kernel_size: int = Field(31, ge=1)
    conv_norm_type: str = "batch_norm"  # or layer_norm, instance_norm, fused_batch_norm, group_normN
    conv_context_size: Context | Literal["causal"] | None = None
    dropout: float = Field(0.1, ge=0, lt=1)
    dropout_pre_encoder: float = Field(0.1, ge=0, lt=1)
    dropout_emb: float = Field(0.0, ge=0, lt=1)
    dropout_att: float = Field(0.1, ge=0, lt=1)
    stochastic_depth_drop_prob: float = Field(0.0, ge=0, lt=1)
    stochastic_depth_mode: Literal["linear", "uniform"] = "linear"
    stochastic_depth_start_layer: int = Field(1, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _fast(cls, value: Any) -> Any:
        return FAST | value if isinstance(value, dict) and value.get("kind") == "fastconformer" else value

    @model_validator(mode="after")
    def _sizes_agree(self) -> ConformerSettings:
        if self.d_model % self.n_heads or self.d_model % 2:
            raise ValueError(f"d_model {self.d_model} must be even and a multiple of n_heads {self.n_heads}")
        for name in ("subsampling_factor", "reduction_factor"):
            factor = getattr(self, name)
            if factor & (factor - 1) and not (name == "subsampling_factor" and self.subsampling.startswith("stacking")):
                raise ValueError(f"{name} {factor} is not a power of two")
        if self.conv_kernel_size % 2 == 0:
            raise ValueError(f"conv_kernel_size {self.conv_kernel_size} is even")
        if sum(self.conv_context) + 1 != self.conv_kernel_size:
            raise ValueError(f"conv_context_size {self.conv_context_size} and conv_kernel_size "
                             f"{self.conv_kernel_size} disagree: left + 1 + right is the kernel")  # fmt: skip
        if (self.reduction is not None) != (self.reduction_factor > 1) or self.reduction_position >= self.n_layers:
            raise ValueError("reduction goes with a reduction_factor above 1 and a reduction_position below n_layers")
        self._check_norm()
        self._check_contexts()
        return self

    def _check_norm(self) -> None:
        norm = self.conv_norm_type
        groups = re.fullmatch(r"group_norm([1-9]\d{0,4})", norm)
        if groups and self.d_model % int(groups[1]):
            raise ValueError(f"conv_norm_type {norm}: {groups[1]} does not divide d_model {self.d_model}")
        if not groups and norm not in ("batch_norm", "layer_norm", "instance_norm", "fused_batch_norm"):
            raise ValueError(
                f"conv_norm_type {norm!r}: allowed are batch_norm, layer_norm, instance_norm, fused_batch_norm, group_normN"
            )
        if self.stochastic_depth_start_layer > self.n_layers:
            raise ValueError(f"stochastic_depth_start_layer {self.stochastic_depth_start_layer} is above n_layers")

    def _check_contexts(self) -> None:
        if self.att_context_probs is not None and len(self.att_context_probs) != len(self.att_context_size):
            raise ValueError("att_context_probs wants one probability for each att_context_size")
        local = self.self_attention_model == "rel_pos_local_attn"
        for left, right in self.att_context_size:
            if local and (left != right or left < 1):
                raise ValueError(
                    f"att_context_size [{left}, {right}]: rel_pos_local_attn wants the same width, above 0, on both sides"
                )
            if self.att_context_style == "chunked_limited" and right >= 0 and left > 0 and left % (right + 1):
                raise ValueError(f"att_context_size [{left}, {right}]: chunked_limited wants whole chunks of right + 1")
        if local and len(self.att_context_size) > 1:
            raise ValueError("rel_pos_local_attn has one att_context_size")

    @property
    def contexts(self) -> list[tuple[int, int]]:
        return list(self.att_context_size)

    @property
    def conv_context(self) -> tuple[int, int]:
        """Frames that the depthwise convolution sees to the left and to the right."""
        half = (self.conv_kernel_size - 1) // 2
        if self.conv_context_size is None:
            return half, half
        return (2 * half, 0) if self.conv_context_size == "causal" else self.conv_context_size

    @property
    def width(self) -> int:
        """Of the encoder's output."""
        return self.feat_out if self.feat_out > 0 else self.d_model

    @property
    def stride(self) -> int:
        """Feature frames to one output frame."""
        return self.subsampling_factor * (self.reduction_factor if self.reduction else 1)

    @property
    def skip_chances(self) -> list[float]:
        """How often training leaves out each layer."""
        first, chance = self.stochastic_depth_start_layer, self.stochastic_depth_drop_prob
        rest = self.n_layers - first
        rising = [i / rest * chance if self.stochastic_depth_mode == "linear" else chance for i in range(1, rest + 1)]
        return [0.0] * first + rising

    def frame_count(self, n: int) -> int:
        """Output frames for `n` feature frames of one utterance."""
        if self.subsampling.startswith("stacking"):
            n //= self.subsampling_factor
        else:
            causal = self.causal_downsampling and self.subsampling != "vggnet"
            for _ in range(self.subsampling_factor.bit_length() - 1):
                n = n // 2 + 1 if causal else (n + 1) // 2
        for _ in range(self.reduction_factor.bit_length() - 1 if self.reduction else 0):
            n = n // self.reduction_factor if self.reduction == "pooling" else (n + 1) // 2
        return n
