"""Conformer and FastConformer with CTC (Gulati et al., arXiv:2005.08100; Rekesh et al., arXiv:2305.05084).

Parameter names and shapes are NeMo's (`encoder.layers.N.self_attn.linear_q.weight`), so that weights pass both ways;
so are the names of the settings. Positions are relative, after Transformer-XL (Dai et al., arXiv:1901.02860, section
3.3), and computed in the graph: a recording may be of any length.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anadil.models.conformer_settings import ConformerSettings
from anadil.models.features import length_mask
from anadil.models.subsampling import Reduction, Stacking, Subsampling

HIDDEN = -10_000.0
"""Score of a frame that must not be seen; finite, so that padding, which sees nothing, gives no NaN."""


class Attention(nn.Module):
    """Self-attention of several heads; with `positions` None the positions are in the input already."""

    def __init__(self, settings: ConformerSettings, shared: tuple[nn.Parameter, nn.Parameter] | None) -> None:
        super().__init__()
        width, self.heads = settings.d_model, settings.n_heads
        self.linear_q, self.linear_k, self.linear_v, self.linear_out = (
            nn.Linear(width, width, bias=settings.use_bias) for _ in range(4)
        )
        if settings.self_attention_model != "abs_pos":
            self.linear_pos = nn.Linear(width, width, bias=False)
            self.pos_bias_u, self.pos_bias_v = shared or _position_biases(settings)
        self.dropout = nn.Dropout(settings.dropout_att)

    def forward(self, x: Tensor, positions: Tensor | None, hidden: Tensor) -> Tensor:
        """x (batch, frames, d_model), positions (1, 2 * frames - 1, d_model), hidden (batch, 1, frames, frames)."""
        batch, n_frames, width = x.shape
        q, k, v = (
            linear(x).view(batch, n_frames, self.heads, -1) for linear in (self.linear_q, self.linear_k, self.linear_v)
        )
        k, v = k.permute(0, 2, 3, 1), v.transpose(1, 2)
        if positions is None:
            scores = torch.matmul(q.transpose(1, 2), k)
        else:
            place = self.linear_pos(positions).view(1, -1, self.heads, width // self.heads).permute(0, 2, 3, 1)
            scores = torch.matmul((q + self.pos_bias_u).transpose(1, 2), k)
            scores = scores + _shift(torch.matmul((q + self.pos_bias_v).transpose(1, 2), place))
        scores = (scores / math.sqrt(width // self.heads)).masked_fill(hidden, HIDDEN)
        weights = scores.softmax(dim=3).masked_fill(hidden, 0.0)
        heard = torch.matmul(self.dropout(weights), v).transpose(1, 2).reshape(batch, n_frames, width)
        return self.linear_out(heard)  # type: ignore[no-any-return]


def _shift(scores: Tensor) -> Tensor:
    """(.., frames, 2 * frames - 1) by distance, far past first, to (.., frames, frames) by frame (arXiv:1901.02860, B)."""
    batch, heads, n_frames, n_distances = scores.shape
    scores = F.pad(scores, (1, 0)).reshape(batch, heads, n_distances + 1, n_frames)
    return scores[:, :, 1:].reshape(batch, heads, n_frames, n_distances)[..., :n_frames]


class FeedForward(nn.Module):
    def __init__(self, settings: ConformerSettings) -> None:
        super().__init__()
        width, inner = settings.d_model, settings.d_model * settings.ff_expansion_factor
        self.linear1 = nn.Linear(width, inner, bias=settings.use_bias)
        self.linear2 = nn.Linear(inner, width, bias=settings.use_bias)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(F.silu(self.linear1(x))))  # type: ignore[no-any-return]


class Convolution(nn.Module):
    """Pointwise with gate, depthwise, norm, pointwise. (batch, frames, d_model) is channels-last memory as it is."""

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
    """What is left of a batch norm whose statistics were folded into its weights."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


class Layer(nn.Module):
    """Half a feed-forward, attention, convolution, half a feed-forward; each around a residual."""

    def __init__(self, settings: ConformerSettings, shared: tuple[nn.Parameter, nn.Parameter] | None) -> None:
        super().__init__()
        width = settings.d_model
        self.norm_feed_forward1, self.feed_forward1 = nn.LayerNorm(width), FeedForward(settings)
        self.norm_self_att, self.self_attn = nn.LayerNorm(width), Attention(settings, shared)
        self.norm_conv, self.conv = nn.LayerNorm(width), Convolution(settings)
        self.norm_feed_forward2, self.feed_forward2 = nn.LayerNorm(width), FeedForward(settings)
        self.norm_out = nn.LayerNorm(width)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x: Tensor, positions: Tensor | None, hidden: Tensor, valid: Tensor) -> Tensor:
        x = x + 0.5 * self.dropout(self.feed_forward1(self.norm_feed_forward1(x)))
        x = x + self.dropout(self.self_attn(self.norm_self_att(x), positions, hidden))
        x = x + self.dropout(self.conv(self.norm_conv(x), valid))
        x = x + 0.5 * self.dropout(self.feed_forward2(self.norm_feed_forward2(x)))
        return self.norm_out(x)  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """Features (batch, mels, frames) to (batch, frames / factor, width), and frame counts."""

    def __init__(self, settings: ConformerSettings, n_features: int) -> None:
        super().__init__()
        self.settings = settings
        channels = settings.d_model if settings.subsampling_conv_channels == -1 else settings.subsampling_conv_channels
        self.pre_encode: nn.Module
        if settings.subsampling_factor == 1:
            self.pre_encode = nn.Linear(n_features, settings.d_model)
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
        hidden, valid = _masks(x, counts, context, settings.att_context_style)
        for i, layer in enumerate(self.layers):
            x = self._maybe_skip(x, layer(x, positions, hidden, valid), i)
            if settings.reduction and settings.reduction_position == i:
                assert self.reduction_subsampling is not None
                x, counts = self.reduction_subsampling(x, counts)
                positions = None if positions is None else self._positions(x)
                hidden, valid = _masks(x, counts, context, settings.att_context_style)
        if self.out_proj is not None:
            x = self.out_proj(x)
        if settings.reduction and settings.reduction_position == -1:
            assert self.reduction_subsampling is not None
            x, counts = self.reduction_subsampling(x, counts)
        return x, counts

    def _positions(self, x: Tensor) -> Tensor | None:
        n_frames = x.shape[1]
        if self.settings.self_attention_model == "abs_pos":
            positions = torch.arange(n_frames, device=x.device)
        else:
            positions = n_frames - 1 - torch.arange(2 * n_frames - 1, device=x.device)
        rates = torch.exp(torch.arange(0, x.shape[2], 2, device=x.device).float() * -(math.log(10000) / x.shape[2]))
        angles = positions.float().unsqueeze(1) * rates
        waves = torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1).unsqueeze(0)
        return self.dropout_positions(waves)  # type: ignore[no-any-return]

    def _context(self) -> tuple[int, int]:
        """The first context, and in training one of all of them."""
        contexts = self.settings.contexts
        if self.training and len(contexts) > 1:
            weights = torch.tensor(self.settings.att_context_probs or [1.0] * len(contexts))
            return contexts[int(torch.multinomial(weights, 1))]
        return contexts[0]

    def _maybe_skip(self, before: Tensor, after: Tensor, index: int) -> Tensor:
        """Stochastic depth (Huang et al., arXiv:1603.09382): in training a layer is left out now and then."""
        chance = self.settings.skip_chances[index] if self.training else 0.0
        if chance == 0.0:
            return after
        keep = 0.0 if float(torch.rand(())) < chance else 1 / (1 - chance)
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
        """Output frames for so many feature frames, for one utterance."""
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


def _position_biases(settings: ConformerSettings) -> tuple[nn.Parameter, nn.Parameter]:
    shape = (settings.n_heads, settings.d_model // settings.n_heads)
    return nn.Parameter(torch.zeros(shape)), nn.Parameter(torch.zeros(shape))


def _masks(x: Tensor, counts: Tensor, context: tuple[int, int], style: str) -> tuple[Tensor, Tensor]:
    """What attention must not see (batch, 1, frames, frames), and valid frames (batch, frames, 1) of x's type."""
    valid = length_mask(counts, x.shape[1])
    seen = valid.unsqueeze(1) & valid.unsqueeze(2)
    left, right = context
    frames = torch.arange(x.shape[1], device=x.device)
    if style == "chunked_limited" and right >= 0:
        chunks = frames // (right + 1)
        back = chunks.unsqueeze(1) - chunks.unsqueeze(0)
        seen = seen & (back >= 0)
        if left >= 0:
            seen = seen & (back <= left // (right + 1))
    else:
        ahead = frames.unsqueeze(0) - frames.unsqueeze(1)
        if left >= 0:
            seen = seen & (ahead >= -left)
        if right >= 0:
            seen = seen & (ahead <= right)
    return ~seen.unsqueeze(1), valid.unsqueeze(2).to(x.dtype)
