"""Conformer and FastConformer with CTC (Gulati et al., arXiv:2005.08100; Rekesh et al., arXiv:2305.05084).

Parameters and settings have NeMo's names, and parameters NeMo's shapes (`encoder.layers.N.self_attn.linear_q.weight`),
so that weights can be converted in both directions. Positions are relative, as in Transformer-XL (Dai et al.,
arXiv:1901.02860, section 3.3). They are computed inside the graph, so a recording may have any length.

The file has four parts: settings; subsampling; the modules of a layer; the encoder and the network.
"""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import Annotated, Any, Literal, TypeVar

import torch
from pydantic import BaseModel, BeforeValidator, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from anadil.models.features import length_mask
from anadil.settings import SECTION, Real, Whole

# Settings, under NeMo's names

_FAST = {"subsampling": "dw_striding", "subsampling_factor": 8, "subsampling_conv_channels": 256, "conv_kernel_size": 9}
"""Defaults of FastConformer (arXiv:2305.05084): twice the stride, and convolutions that cost a tenth."""

_Context = tuple[Annotated[Whole, Field(ge=-1, le=10**6)], Annotated[Whole, Field(ge=-1, le=10**6)]]
"""Numbers of frames to the left and to the right that attention includes; -1: all."""


def _contexts(value: Any) -> Any:
    """A list of contexts, from such a list or from a single context."""
    return [value] if isinstance(value, list | tuple) and value and isinstance(value[0], int) else value


class ConformerSettings(BaseModel):
    """Section `model` of a config for a Conformer or FastConformer."""

    model_config = SECTION

    kind: Literal["conformer", "fastconformer"] = "conformer"
    n_layers: Whole = Field(16, ge=1, le=256)
    d_model: Whole = Field(176, ge=2, le=8192)
    n_heads: Whole = Field(4, ge=1, le=256)
    ff_expansion_factor: Whole = Field(4, ge=1, le=64)
    feat_out: Whole = Field(
        -1, ge=-1, le=8192
    )  # width of the encoder's output, after a projection; -1: d_model, without projection
    use_bias: bool = True
    subsampling: Literal["striding", "dw_striding", "vggnet", "stacking", "stacking_norm", "conv1d"] = "striding"
    subsampling_factor: Whole = Field(4, ge=1, le=256)
    subsampling_conv_channels: Whole = Field(-1, ge=-1, le=8192)  # -1: d_model
    causal_downsampling: bool = False
    reduction: Literal["pooling", "striding"] | None = None  # further subsampling between two layers
    reduction_position: Whole = Field(-1, ge=-1, le=256)  # after the layer of this index; -1: after the last layer
    reduction_factor: Whole = Field(1, ge=1, le=64)
    self_attention_model: Literal["rel_pos", "rel_pos_local_attn", "abs_pos", "no_pos"] = "rel_pos"
    att_context_size: Annotated[list[_Context], BeforeValidator(_contexts), Field(min_length=1)] = [(-1, -1)]
    att_context_probs: list[Annotated[Real, Field(ge=0, le=1)]] | None = (
        None  # of each context in training; evaluation uses the first context
    )
    att_context_style: Literal["regular", "chunked_limited"] = "regular"
    xscaling: bool = True
    untie_biases: bool = True
    conv_kernel_size: Whole = Field(31, ge=1, le=10_001)
    conv_norm_type: str = "batch_norm"  # or layer_norm, instance_norm, fused_batch_norm, group_normN
    conv_context_size: _Context | Literal["causal"] | None = None
    dropout: Real = Field(0.1, ge=0, lt=1)
    dropout_pre_encoder: Real = Field(0.1, ge=0, lt=1)
    dropout_emb: Real = Field(0.0, ge=0, lt=1)
    dropout_att: Real = Field(0.1, ge=0, lt=1)
    stochastic_depth_drop_prob: Real = Field(0.0, ge=0, lt=1)
    stochastic_depth_mode: Literal["linear", "uniform"] = "linear"
    stochastic_depth_start_layer: Whole = Field(1, ge=1, le=256)

    @model_validator(mode="before")
    @classmethod
    def _fast_defaults(cls, value: Any) -> Any:
        return _FAST | value if isinstance(value, dict) and value.get("kind") == "fastconformer" else value

    @model_validator(mode="after")
    def _sizes_agree(self) -> ConformerSettings:
        if self.d_model % self.n_heads or self.d_model % 2:
            raise ValueError(f"d_model {self.d_model} must be even and a multiple of n_heads {self.n_heads}")
        for name in ("subsampling_factor", "reduction_factor"):
            factor = getattr(self, name)
            if factor & (factor - 1) and not (name == "subsampling_factor" and self.subsampling.startswith("stacking")):
                raise ValueError(f"{name} {factor} is not a power of two")
        if self.conv_kernel_size % 2 == 0:
            raise ValueError(f"conv_kernel_size {self.conv_kernel_size} is even: it must be odd")
        if sum(self.conv_context) + 1 != self.conv_kernel_size:
            raise ValueError(f"conv_context_size {self.conv_context_size} and conv_kernel_size "
                             f"{self.conv_kernel_size} disagree: the kernel size must be left + 1 + right")  # fmt: skip
        if (self.reduction is not None) != (self.reduction_factor > 1) or self.reduction_position >= self.n_layers:
            raise ValueError("reduction needs a reduction_factor above 1 and a reduction_position below n_layers")
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
            raise ValueError("att_context_probs needs one probability for each att_context_size")
        local = self.self_attention_model == "rel_pos_local_attn"
        for left, right in self.att_context_size:
            if local and (left != right or left < 1):
                raise ValueError(
                    f"att_context_size [{left}, {right}]: rel_pos_local_attn needs the same number, above 0, on both sides"
                )
            if self.att_context_style == "chunked_limited" and right >= 0 and left > 0 and left % (right + 1):
                raise ValueError(
                    f"att_context_size [{left}, {right}]: for chunked_limited, left must be a multiple of right + 1"
                )
        if local and len(self.att_context_size) > 1:
            raise ValueError("rel_pos_local_attn takes a single att_context_size")

    @property
    def conv_context(self) -> tuple[int, int]:
        """Frames of the depthwise convolution's kernel to the left and to the right of its centre."""
        half = (self.conv_kernel_size - 1) // 2
        if self.conv_context_size is None:
            return half, half
        return (2 * half, 0) if self.conv_context_size == "causal" else self.conv_context_size

    @property
    def width(self) -> int:
        """Channels of the encoder's output."""
        return self.feat_out if self.feat_out > 0 else self.d_model

    @property
    def stride(self) -> int:
        """Feature frames per output frame."""
        return self.subsampling_factor * (self.reduction_factor if self.reduction else 1)

    @property
    def skip_probabilities(self) -> list[float]:
        """Probability of each layer that a training step skips it (stochastic depth)."""
        first, last = self.stochastic_depth_start_layer, self.stochastic_depth_drop_prob
        n = self.n_layers - first
        rising = [i / n * last if self.stochastic_depth_mode == "linear" else last for i in range(1, n + 1)]
        return [0.0] * first + rising

    def frame_count(self, n: int) -> int:
        """Output frames for `n` feature frames of one utterance."""
        if self.subsampling.startswith("stacking"):
            n //= self.subsampling_factor
        else:
            causal = self.causal_downsampling and self.subsampling not in ("vggnet", "conv1d")
            for _ in range(self.subsampling_factor.bit_length() - 1):
                n = n // 2 + 1 if causal else (n + 1) // 2
        for _ in range(self.reduction_factor.bit_length() - 1 if self.reduction else 0):
            n = n // self.reduction_factor if self.reduction == "pooling" else (n + 1) // 2
        return n


# Subsampling, before and between the layers

_Length = TypeVar("_Length", int, Tensor)


class Subsampling(nn.Module):
    """Features (batch, frames, mels) to (batch, frames / factor, d_model), by 2D convolutions of stride 2."""

    def __init__(self, settings: ConformerSettings, kind: str, factor: int, n_in: int, channels: int) -> None:
        super().__init__()
        self.causal = settings.causal_downsampling and kind != "vggnet"
        self.pooled = kind == "vggnet"
        layers: list[nn.Module] = []
        width, pad = 1, 0 if self.causal else 1
        for i in range(int(math.log2(factor))):
            if kind == "vggnet":
                layers += [nn.Conv2d(width, channels, 3, padding=1), nn.ReLU()]
                layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, 2, ceil_mode=True)]
            elif kind == "dw_striding" and i:
                layers.append(nn.Conv2d(width, width, 3, 2, pad, groups=width))
                layers += [nn.Conv2d(width, channels, 1), nn.ReLU()]
            else:
                layers += [nn.Conv2d(width, channels, 3, 2, pad), nn.ReLU()]
            width = channels
            n_in = self.length(n_in)
        self.conv = nn.ModuleList(layers)
        self.out = nn.Linear(channels * n_in, settings.d_model)

    def length(self, n: _Length) -> _Length:
        """Frames, or mel bands, that remain of `n` after one halving."""
        return n // 2 + 1 if self.causal else (n + 1) // 2

    def forward(self, x: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        x = x.unsqueeze(1)
        if x.device.type == "cpu":
            x = x.contiguous(memory_format=torch.channels_last)
        mask = _time_mask(x, counts)
        for layer in self.conv:
            wide = isinstance(layer, nn.Conv2d | nn.MaxPool2d) and layer.kernel_size != (1, 1)
            halves = wide and layer.stride in (2, (2, 2))
            if wide:
                x = x * mask
            if halves and self.causal:
                x = F.pad(x, (2, 1, 2, 1))
            x = layer(x)
            if halves:
                counts = self.length(counts)
                mask = _time_mask(x, counts)
        x = (x * mask).transpose(1, 2).flatten(2)
        return self.out(x), counts


class Subsampling1d(nn.Module):
    """Features (batch, frames, mels) to (batch, frames / factor, d_model), by convolutions over time, with GELU."""

    def __init__(self, settings: ConformerSettings, n_in: int) -> None:
        super().__init__()
        widths = [n_in] + [settings.d_model] * int(math.log2(settings.subsampling_factor))
        self.conv = nn.ModuleList(nn.Conv1d(a, b, 3, 2, 1) for a, b in pairwise(widths))

    def forward(self, x: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        x = x.transpose(1, 2)
        for layer in self.conv:
            x = F.gelu(layer(x * length_mask(counts, x.shape[2]).unsqueeze(1).to(x.dtype)))
            counts = (counts + 1) // 2
        return x.transpose(1, 2), counts


class Stacking(nn.Module):
    """Concatenates `factor` frames and projects them to d_model. Frame counts depend on the padding, as in NeMo."""

    def __init__(self, settings: ConformerSettings, n_in: int) -> None:
        super().__init__()
        self.factor = settings.subsampling_factor
        self.pre_norm = nn.LayerNorm(n_in) if settings.subsampling == "stacking_norm" else None
        self.proj_out = nn.Linear(self.factor * n_in, settings.d_model)

    def forward(self, x: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        batch, n_frames, width = x.shape
        missing = (self.factor - n_frames % self.factor) % self.factor
        x = F.pad(x, (0, 0, 0, missing))
        if self.pre_norm is not None:
            x = self.pre_norm(x)
        x = x.reshape(batch, -1, self.factor * width)
        return self.proj_out(x), (counts + missing) // self.factor


class Reduction(nn.Module):
    """Further subsampling between two layers, or after the last one."""

    def __init__(self, settings: ConformerSettings) -> None:
        super().__init__()
        self.factor, self.halvings = settings.reduction_factor, int(math.log2(settings.reduction_factor))
        width, factor = settings.d_model, settings.reduction_factor
        self.reduction_enc: nn.Module
        if settings.reduction == "pooling":
            self.reduction_enc = nn.MaxPool1d(factor)
        else:
            plain = settings.model_copy(update={"causal_downsampling": False})
            self.reduction_enc = Subsampling(plain, "striding", factor, width, width)

    def forward(self, x: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(self.reduction_enc, Subsampling):
            reduced: tuple[Tensor, Tensor] = self.reduction_enc(x, counts)
            return reduced
        return self.reduction_enc(x.transpose(1, 2)).transpose(1, 2), counts // self.factor**self.halvings


def _time_mask(x: Tensor, counts: Tensor) -> Tensor:
    """Mask (batch, 1, frames, 1) of the type of x (batch, channels, frames, bands)."""
    return length_mask(counts, x.shape[2])[:, None, :, None].to(x.dtype)


# The modules of a layer

_MASKED_SCORE = -10_000.0
"""Attention score of a masked frame. It is finite, so that padding frames, which attend to nothing, give no NaN."""


class Attention(nn.Module):
    """Multi-head self-attention with relative positions, or without if `positions` is None (x has them, or nothing has)."""

    def __init__(self, settings: ConformerSettings, shared: tuple[nn.Parameter, nn.Parameter] | None) -> None:
        """`shared`: position biases of all layers; None: this layer has its own."""
        super().__init__()
        width, self.heads = settings.d_model, settings.n_heads
        self.linear_q, self.linear_k, self.linear_v, self.linear_out = (
            nn.Linear(width, width, bias=settings.use_bias) for _ in range(4)
        )
        if settings.self_attention_model.startswith("rel_pos"):
            self.linear_pos = nn.Linear(width, width, bias=False)
            self.pos_bias_u, self.pos_bias_v = shared or _position_biases(settings)
        self.dropout = nn.Dropout(settings.dropout_att)

    def forward(self, x: Tensor, positions: Tensor | None, masked: Tensor) -> Tensor:
        """x (batch, frames, d_model), positions (1, 2 * frames - 1, d_model), masked (batch, 1, frames, frames)."""
        batch, n_frames, width = x.shape
        q, k, v = (
            linear(x).view(batch, n_frames, self.heads, -1) for linear in (self.linear_q, self.linear_k, self.linear_v)
        )
        k, v = k.permute(0, 2, 3, 1), v.transpose(1, 2)
        scale = 1 / math.sqrt(width // self.heads)  # of q, which is smaller than the scores
        if positions is None:
            scores = torch.matmul((q * scale).transpose(1, 2), k)
        else:
            p = self.linear_pos(positions).view(1, -1, self.heads, width // self.heads).permute(0, 2, 3, 1)
            scores = torch.matmul(((q + self.pos_bias_u) * scale).transpose(1, 2), k)
            scores = scores + _shift(torch.matmul(((q + self.pos_bias_v) * scale).transpose(1, 2), p))
        # a masked frame's weight is exactly 0; frames of padding, which see nothing else, get values that nobody uses
        weights = scores.masked_fill(masked, _MASKED_SCORE).softmax(dim=3)
        attended = torch.matmul(self.dropout(weights), v).transpose(1, 2).reshape(batch, n_frames, width)
        return self.linear_out(attended)  # type: ignore[no-any-return]


def _shift(scores: Tensor) -> Tensor:
    """Scores (..., frames, 2 * frames - 1) by distance, farthest past first, to (..., frames, frames) by frame.

    Appendix B of arXiv:1901.02860.
    """
    batch, heads, n_frames, n_distances = scores.shape
    scores = F.pad(scores, (1, 0)).reshape(batch, heads, n_distances + 1, n_frames)
    return scores[:, :, 1:].reshape(batch, heads, n_frames, n_distances)[..., :n_frames]


def _position_biases(settings: ConformerSettings) -> tuple[nn.Parameter, nn.Parameter]:
    shape = (settings.n_heads, settings.d_model // settings.n_heads)
    return nn.Parameter(torch.zeros(shape)), nn.Parameter(torch.zeros(shape))


class FeedForward(nn.Module):
    """Two linear layers with SiLU between them."""

    def __init__(self, settings: ConformerSettings) -> None:
        super().__init__()
        width, inner = settings.d_model, settings.d_model * settings.ff_expansion_factor
        self.linear1 = nn.Linear(width, inner, bias=settings.use_bias)
        self.linear2 = nn.Linear(inner, width, bias=settings.use_bias)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(F.silu(self.linear1(x))))  # type: ignore[no-any-return]


class Convolution(nn.Module):
    """Pointwise convolution with a gate, depthwise convolution, norm, SiLU, pointwise convolution.

    The input (batch, frames, d_model) is already in channels-last memory, so no copy is needed for `conv2d`.
    """

    def __init__(self, settings: ConformerSettings) -> None:
        super().__init__()
        width, bias, norm = settings.d_model, settings.use_bias, settings.conv_norm_type
        self.left, self.right = settings.conv_context
        self.pointwise_conv1 = nn.Conv1d(width, 2 * width, 1, bias=bias)
        self.depthwise_conv = nn.Conv1d(width, width, settings.conv_kernel_size, groups=width, bias=bias)
        self.pointwise_conv2 = nn.Conv1d(width, width, 1, bias=bias)
        self.batch_norm: nn.Module
        if norm == "layer_norm":
            self.batch_norm = nn.LayerNorm(width)
        elif norm == "batch_norm":
            self.batch_norm = nn.BatchNorm2d(width)
        elif norm == "fused_batch_norm":
            self.batch_norm = Scale(width)
        elif norm == "instance_norm":
            self.batch_norm = nn.InstanceNorm2d(width)
        else:
            self.batch_norm = nn.GroupNorm(int(norm.removeprefix("group_norm")), width)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        x = F.glu(F.linear(x, self.pointwise_conv1.weight.squeeze(2), self.pointwise_conv1.bias), dim=2)
        x = (x * valid).transpose(1, 2).unsqueeze(2)
        if self.left != self.right:
            x = F.pad(x, (self.left, self.right))
        padding = (0, self.left if self.left == self.right else 0)
        conv = self.depthwise_conv
        x = F.conv2d(x, conv.weight.unsqueeze(2), conv.bias, padding=padding, groups=conv.groups)
        if not isinstance(self.batch_norm, nn.LayerNorm):
            x = self.batch_norm(x)
        x = x.squeeze(2).transpose(1, 2)
        if isinstance(self.batch_norm, nn.LayerNorm):
            x = self.batch_norm(x)
        return F.linear(F.silu(x), self.pointwise_conv2.weight.squeeze(2), self.pointwise_conv2.bias)


class Scale(nn.Module):
    """A scale and an offset per channel: a batch norm whose statistics are folded into its weights."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


class Layer(nn.Module):
    """Half a feed-forward, attention, convolution, half a feed-forward, each with a residual connection."""

    def __init__(self, settings: ConformerSettings, shared: tuple[nn.Parameter, nn.Parameter] | None) -> None:
        super().__init__()
        width = settings.d_model
        self.norm_feed_forward1, self.feed_forward1 = nn.LayerNorm(width), FeedForward(settings)
        self.norm_self_att, self.self_attn = nn.LayerNorm(width), Attention(settings, shared)
        self.norm_conv, self.conv = nn.LayerNorm(width), Convolution(settings)
        self.norm_feed_forward2, self.feed_forward2 = nn.LayerNorm(width), FeedForward(settings)
        self.norm_out = nn.LayerNorm(width)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x: Tensor, positions: Tensor | None, masked: Tensor, valid: Tensor) -> Tensor:
        x = x + 0.5 * self.dropout(self.feed_forward1(self.norm_feed_forward1(x)))
        x = x + self.dropout(self.self_attn(self.norm_self_att(x), positions, masked))
        x = x + self.dropout(self.conv(self.norm_conv(x), valid))
        x = x + 0.5 * self.dropout(self.feed_forward2(self.norm_feed_forward2(x)))
        return self.norm_out(x)  # type: ignore[no-any-return]


# Encoder and network


class Encoder(nn.Module):
    """Features (batch, mels, frames) to (batch, frames / stride, width) and frame counts."""

    def __init__(self, settings: ConformerSettings, n_features: int) -> None:
        super().__init__()
        self.settings = settings
        channels = settings.d_model if settings.subsampling_conv_channels == -1 else settings.subsampling_conv_channels
        self.pre_encode: nn.Module
        if settings.subsampling_factor == 1:
            self.pre_encode = nn.Linear(n_features, settings.d_model)
        elif settings.subsampling == "conv1d":
            self.pre_encode = Subsampling1d(settings, n_features)
        elif settings.subsampling.startswith("stacking"):
            self.pre_encode = Stacking(settings, n_features)
        else:
            sizes = (settings.subsampling_factor, n_features, channels)
            self.pre_encode = Subsampling(settings, settings.subsampling, *sizes)
        shared = None if settings.untie_biases else _position_biases(settings)
        self.layers = nn.ModuleList(Layer(settings, shared) for _ in range(settings.n_layers))
        self.reduction_subsampling = Reduction(settings) if settings.reduction else None
        self.out_proj = nn.Linear(settings.d_model, settings.width) if settings.width != settings.d_model else None
        self.dropout, self.dropout_positions = (
            nn.Dropout(settings.dropout_pre_encoder),
            nn.Dropout(settings.dropout_emb),
        )

    def forward(self, features: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        settings = self.settings
        x = features.transpose(1, 2)
        if isinstance(self.pre_encode, nn.Linear):
            x = self.pre_encode(x)
        else:
            x, counts = self.pre_encode(x, counts)
        if settings.xscaling:
            x = x * math.sqrt(settings.d_model)
        positions = self._positions(x)
        if settings.self_attention_model == "abs_pos":
            x, positions = x + positions, None
        x = self.dropout(x)
        context = self._context()
        masked, valid = _masks(x, counts, context, settings.att_context_style)
        for i, layer in enumerate(self.layers):
            x = self._maybe_skip(x, layer(x, positions, masked, valid), i)
            if settings.reduction and settings.reduction_position == i:
                assert self.reduction_subsampling is not None
                x, counts = self.reduction_subsampling(x, counts)
                positions = None if positions is None else self._positions(x)
                masked, valid = _masks(x, counts, context, settings.att_context_style)
        if self.out_proj is not None:
            x = self.out_proj(x)
        if settings.reduction and settings.reduction_position == -1:
            assert self.reduction_subsampling is not None
            x, counts = self.reduction_subsampling(x, counts)
        return x, counts

    def _positions(self, x: Tensor) -> Tensor | None:
        """Sinusoidal encodings (1, positions, d_model): of each frame, or of each distance, farthest past first."""
        n_frames = x.shape[1]
        if self.settings.self_attention_model == "no_pos":
            return None
        if self.settings.self_attention_model == "abs_pos":
            positions = torch.arange(n_frames, device=x.device)
        else:
            positions = n_frames - 1 - torch.arange(2 * n_frames - 1, device=x.device)
        rates = torch.exp(torch.arange(0, x.shape[2], 2, device=x.device).float() * -(math.log(10000) / x.shape[2]))
        angles = positions.float().unsqueeze(1) * rates
        waves = torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1).unsqueeze(0)
        return self.dropout_positions(waves)  # type: ignore[no-any-return]

    def _context(self) -> tuple[int, int]:
        """The first context; in training, one drawn from all of them."""
        contexts = self.settings.att_context_size
        if self.training and len(contexts) > 1:
            weights = torch.tensor(self.settings.att_context_probs or [1.0] * len(contexts))
            return contexts[int(torch.multinomial(weights, 1))]
        return contexts[0]

    def _maybe_skip(self, before: Tensor, after: Tensor, index: int) -> Tensor:
        """Stochastic depth (Huang et al., arXiv:1603.09382): in training, layers are skipped at random."""
        probability = self.settings.skip_probabilities[index] if self.training else 0.0
        if probability == 0.0:
            return after
        keep = 0.0 if float(torch.rand(())) < probability else 1 / (1 - probability)
        return before + (after - before) * keep


class Conformer(nn.Module):
    """Features (batch, mels, frames) to CTC log-probs (batch, frames / stride, labels + blank), the blank last."""

    def __init__(self, settings: ConformerSettings, n_features: int, n_labels: int) -> None:
        super().__init__()
        self.settings = settings
        self.n_labels = n_labels
        self.encoder = Encoder(settings, n_features)
        head = nn.Conv1d(settings.width, n_labels + 1, kernel_size=1)
        nn.init.xavier_uniform_(head.weight)
        self.decoder = nn.ModuleDict({"decoder_layers": nn.ModuleList([head])})

    def frame_count(self, n_features: int) -> int:
        """Output frames for one utterance of `n_features` feature frames."""
        return self.settings.frame_count(n_features)

    def forward(self, features: Tensor, frame_counts: Tensor) -> tuple[Tensor, Tensor]:
        x, counts = self.encoder(features, frame_counts)
        head = self._head
        logits = F.linear(x, head.weight.squeeze(2), head.bias)
        return logits.float().log_softmax(dim=2), counts

    @property
    def _head(self) -> nn.Conv1d:
        layers = self.decoder["decoder_layers"]
        assert isinstance(layers, nn.ModuleList) and isinstance(layers[0], nn.Conv1d)
        return layers[0]


def _masks(x: Tensor, counts: Tensor, context: tuple[int, int], style: str) -> tuple[Tensor, Tensor]:
    """Pairs of frames that attention masks (batch, 1, frames, frames), and valid frames (batch, frames, 1) of x's type."""
    valid = length_mask(counts, x.shape[1])
    visible = valid.unsqueeze(1) & valid.unsqueeze(2)
    left, right = context
    frames = torch.arange(x.shape[1], device=x.device)
    if style == "chunked_limited" and right >= 0:
        chunks = frames // (right + 1)
        chunks_back = chunks.unsqueeze(1) - chunks.unsqueeze(0)
        visible = visible & (chunks_back >= 0)
        if left >= 0:
            visible = visible & (chunks_back <= left // (right + 1))
    else:
        ahead = frames.unsqueeze(0) - frames.unsqueeze(1)
        if left >= 0:
            visible = visible & (ahead >= -left)
        if right >= 0:
            visible = visible & (ahead <= right)
    return ~visible.unsqueeze(1), valid.unsqueeze(2).to(x.dtype)
