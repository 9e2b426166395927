"""wav2vec 2.0 (XLS-R, MMS), HuBERT and w2v-BERT 2.0 with CTC, built from the modules of transformers.

An utterance gives the same result alone and in a batch. There are three differences from transformers:
- a group norm over time counts the frames of the utterance only, where transformers also counts its padding;
- SpecAugment is Anadil's, in the same place (after the projection of the features); a masked frame becomes the model's
  learned vector for masked frames;
- the layers of w2v-BERT's adapter get zeros beyond an utterance, and are never dropped.

The file has three parts: settings, under transformers' names; features; the network.
"""

from __future__ import annotations

from math import prod
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from anadil.errors import AnadilError
from anadil.models.features import FeatureAugmentation, length_mask
from anadil.settings import SECTION, Real, Whole

# Settings


class Wav2Vec2Settings(BaseModel):
    """Section `model` of a config: convolutions over the waveform, then a Transformer. The defaults are the base size."""

    model_config = SECTION

    kind: Literal["wav2vec2", "hubert"] = "wav2vec2"
    sample_rate: Whole = Field(16000, ge=4000, le=48000)
    do_normalize: bool = True  # normalise each utterance to mean 0 and variance 1
    freeze_feature_encoder: bool = True  # the convolutions stay frozen, whatever init.freeze says
    gradient_checkpointing: bool = False  # training takes a third more time and a fraction of the memory
    hidden_size: Whole = Field(768, ge=1, le=8192)
    num_hidden_layers: Whole = Field(12, ge=1, le=256)
    num_attention_heads: Whole = Field(12, ge=1, le=256)
    intermediate_size: Whole = Field(3072, ge=1, le=65_536)
    hidden_act: str = "gelu"
    layer_norm_eps: Real = Field(1e-5, gt=0, le=1)
    do_stable_layer_norm: bool = False  # norms before attention and feed-forward: XLS-R, MMS and the large models
    feat_extract_norm: Literal["group", "layer"] = "group"
    feat_extract_activation: str = "gelu"
    feat_proj_layer_norm: bool = True  # only hubert may set it to false
    conv_dim: list[Annotated[Whole, Field(ge=1, le=8192)]] = Field([512] * 7, max_length=32)
    conv_stride: list[Annotated[Whole, Field(ge=1, le=64)]] = Field([5, 2, 2, 2, 2, 2, 2], max_length=32)
    conv_kernel: list[Annotated[Whole, Field(ge=1, le=1024)]] = Field([10, 3, 3, 3, 3, 2, 2], max_length=32)
    conv_bias: bool = False
    num_conv_pos_embeddings: Whole = Field(128, ge=1, le=4096)
    num_conv_pos_embedding_groups: Whole = Field(16, ge=1, le=8192)
    adapter_attn_dim: Whole | None = Field(None, ge=1, le=8192)  # width of MMS's language adapters
    hidden_dropout: Real = Field(0.1, ge=0, lt=1)
    activation_dropout: Real = Field(0.1, ge=0, lt=1)
    attention_dropout: Real = Field(0.1, ge=0, lt=1)
    feat_proj_dropout: Real = Field(0.0, ge=0, lt=1)
    final_dropout: Real = Field(0.1, ge=0, lt=1)
    layerdrop: Real = Field(0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _sizes_agree(self) -> Wav2Vec2Settings:
        _check_heads(self.hidden_size, self.num_attention_heads)
        n_convolutions = len(self.conv_dim)
        if not n_convolutions or {len(self.conv_stride), len(self.conv_kernel)} != {n_convolutions}:
            raise ValueError("conv_dim, conv_stride and conv_kernel need one number for each convolution")
        if self.hidden_size % self.num_conv_pos_embedding_groups:
            raise ValueError(f"num_conv_pos_embedding_groups does not divide hidden_size {self.hidden_size}")
        if self.kind == "wav2vec2" and not self.feat_proj_layer_norm:
            raise ValueError("feat_proj_layer_norm: false is only possible for kind hubert")
        if self.adapter_attn_dim is not None and not self.do_stable_layer_norm:
            raise ValueError("adapter_attn_dim needs do_stable_layer_norm: true")
        return self

    @property
    def stride(self) -> int:
        """Samples per output frame."""
        return prod(self.conv_stride)

    @property
    def width(self) -> int:
        """Channels of the encoder's output."""
        return self.hidden_size

    def frame_count(self, n: int) -> int:
        """Output frames for `n` samples of one utterance."""
        for kernel, stride in zip(self.conv_kernel, self.conv_stride, strict=True):
            n = max(0, (n - kernel) // stride + 1)
        return n


class W2vBertSettings(BaseModel):
    """Section `model` of a config: a Conformer over log-mel features, `feature_stride` frames of them concatenated."""

    model_config = SECTION

    kind: Literal["w2v_bert"] = "w2v_bert"
    sample_rate: Literal[16000] = 16000
    num_mel_bins: Whole = Field(80, ge=8, le=256)
    feature_stride: Whole = Field(2, ge=1, le=64)  # frames of log-mel features that are concatenated to one
    gradient_checkpointing: bool = False  # training takes a third more time and a fraction of the memory
    hidden_size: Whole = Field(1024, ge=1, le=8192)
    num_hidden_layers: Whole = Field(24, ge=1, le=256)
    num_attention_heads: Whole = Field(16, ge=1, le=256)
    intermediate_size: Whole = Field(4096, ge=1, le=65_536)
    hidden_act: str = "swish"
    layer_norm_eps: Real = Field(1e-5, gt=0, le=1)
    position_embeddings_type: Literal["relative_key", "relative", "rotary"] | None = "relative_key"
    left_max_position_embeddings: Whole = Field(64, ge=0, le=4096)
    right_max_position_embeddings: Whole = Field(8, ge=0, le=4096)
    rotary_embedding_base: Whole = Field(10000, ge=2, le=1_000_000_000)
    max_source_positions: Whole = Field(5000, ge=1, le=1_000_000)
    conv_depthwise_kernel_size: Whole = Field(31, ge=1, le=10_001)
    add_adapter: bool = False  # further subsampling after the last layer
    num_adapter_layers: Whole = Field(1, ge=1, le=16)
    adapter_kernel_size: Whole = Field(3, ge=1, le=1024)
    adapter_stride: Whole = Field(2, ge=1, le=64)
    adapter_act: str = "relu"
    use_intermediate_ffn_before_adapter: bool = False
    output_hidden_size: Whole | None = Field(None, ge=1, le=8192)  # width after the adapter; None: hidden_size
    hidden_dropout: Real = Field(0.0, ge=0, lt=1)
    activation_dropout: Real = Field(0.0, ge=0, lt=1)
    attention_dropout: Real = Field(0.0, ge=0, lt=1)
    feat_proj_dropout: Real = Field(0.0, ge=0, lt=1)
    conformer_conv_dropout: Real = Field(0.1, ge=0, lt=1)
    final_dropout: Real = Field(0.1, ge=0, lt=1)
    layerdrop: Real = Field(0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _sizes_agree(self) -> W2vBertSettings:
        _check_heads(self.hidden_size, self.num_attention_heads)
        if self.conv_depthwise_kernel_size % 2 == 0:
            raise ValueError(f"conv_depthwise_kernel_size {self.conv_depthwise_kernel_size} is even: it must be odd")
        if self.position_embeddings_type == "rotary" and self.hidden_size // self.num_attention_heads % 2:
            raise ValueError("position_embeddings_type rotary needs an even hidden_size / num_attention_heads")
        if self.add_adapter:
            _check_heads(self.width, self.num_attention_heads)
            if self.adapter_kernel_size // 2 != self.adapter_stride // 2:
                raise ValueError("adapter_kernel_size and adapter_stride: their halves must agree, as in 3 and 2")
        elif self.use_intermediate_ffn_before_adapter or self.width != self.hidden_size:
            raise ValueError("use_intermediate_ffn_before_adapter and output_hidden_size need add_adapter: true")
        return self

    @property
    def feature_projection_input_dim(self) -> int:
        """Features per frame."""
        return self.num_mel_bins * self.feature_stride

    @property
    def stride(self) -> int:
        """Feature frames per output frame."""
        return int(self.adapter_stride**self.num_adapter_layers) if self.add_adapter else 1

    @property
    def width(self) -> int:
        """Channels of the encoder's output."""
        return self.output_hidden_size or self.hidden_size

    def frame_count(self, n: int) -> int:
        """Output frames for `n` feature frames of one utterance."""
        for _ in range(self.num_adapter_layers if self.add_adapter else 0):
            n = max(0, (n + 2 * (self.adapter_kernel_size // 2) - self.adapter_kernel_size) // self.adapter_stride + 1)
        return n


def _check_heads(width: int, heads: int) -> None:
    if width % heads:
        raise ValueError(f"hidden_size {width} is not a multiple of num_attention_heads {heads}")


HuggingFaceSettings = Wav2Vec2Settings | W2vBertSettings

OWN_SETTINGS = {
    *("kind", "sample_rate", "do_normalize", "freeze_feature_encoder", "gradient_checkpointing"),
    *("num_mel_bins", "feature_stride"),
}
"""Settings that do not occur in transformers' config."""


# Features: the waveform itself, or Kaldi's log-mel features. Means and variances exclude padding.

_VARIANCE_GUARD = 1e-7
"""Added to variances."""

WINDOW, _HOP, _N_FFT = 400, 160, 512  # samples
_PREEMPHASIS, _LOW_HZ, _MEL_FLOOR = 0.97, 20.0, 1.192092955078125e-07
_SCALE = 2.0**15
"""Kaldi's samples are 16-bit integers."""


class Waveform(nn.Module):
    """Waveforms (batch, samples) to features (batch, 1, samples), normalised to mean 0 and variance 1 if `do_normalize`."""

    hop = 1  # samples from one feature frame to the next

    def __init__(self, settings: Wav2Vec2Settings) -> None:
        super().__init__()
        self.sample_rate, self.normalize = settings.sample_rate, settings.do_normalize

    def frame_count(self, n_samples: int) -> int:
        """Feature frames for one utterance of `n_samples`."""
        return n_samples

    def forward(self, waveforms: Tensor, sample_counts: Tensor) -> tuple[Tensor, Tensor]:
        """Features, zero beyond each utterance, and frame counts, which are the sample counts."""
        features = waveforms.float().unsqueeze(1)
        if self.normalize:
            features = _normalized(features, sample_counts, correction=0)
        return features * _mask(features, sample_counts), sample_counts


class FilterBank(nn.Module):
    """Waveforms (batch, samples) to Kaldi's log-mel features (batch, stride * mels, frames).

    `stride` frames are concatenated to one. For each frame, Kaldi subtracts the mean, applies preemphasis and Povey's
    window (which is 0 at the first sample), and transforms. All of these are linear, so they are one convolution, as in
    LogMel.
    """

    def __init__(self, settings: W2vBertSettings) -> None:
        super().__init__()
        self.sample_rate, self.stride = settings.sample_rate, settings.feature_stride
        basis, mel = _kaldi_basis(), _kaldi_mel_filters(settings.num_mel_bins, self.sample_rate)
        self.register_buffer("basis", torch.from_numpy(basis), persistent=False)
        self.register_buffer("mel", torch.from_numpy(mel), persistent=False)
        self.basis: Tensor
        self.mel: Tensor

    @property
    def hop(self) -> int:
        """Samples from one feature frame to the next."""
        return _HOP * self.stride

    def frame_count(self, n_samples: int) -> int:
        """Feature frames for one utterance of `n_samples`."""
        return max(0, n_samples - WINDOW + _HOP) // _HOP // self.stride

    def forward(self, waveforms: Tensor, sample_counts: Tensor) -> tuple[Tensor, Tensor]:
        """Features, zero beyond each utterance, and frame counts (batch,) int64."""
        with torch.autocast(waveforms.device.type, enabled=False):  # half precision cannot represent quiet bands
            spectrum = F.conv1d(waveforms.float().unsqueeze(1), self.basis, stride=_HOP)
            cosine, sine = spectrum.chunk(2, dim=1)
            log_mel = torch.matmul(self.mel, cosine.square() + sine.square()).clamp(min=_MEL_FLOOR).log()
            counts = (sample_counts - WINDOW + _HOP).clamp(min=0) // _HOP
            log_mel = _normalized(log_mel, counts, correction=1)
        batch, mels, frames = log_mel.shape
        whole = log_mel[:, :, : frames // self.stride * self.stride].transpose(1, 2)
        features = whole.reshape(batch, -1, mels * self.stride).transpose(1, 2)
        counts = counts // self.stride
        return features * _mask(features, counts), counts


def _mask(features: Tensor, counts: Tensor) -> Tensor:
    return length_mask(counts, features.shape[2]).unsqueeze(1).to(features.dtype)


def _normalized(features: Tensor, counts: Tensor, correction: int) -> Tensor:
    """Each row of (batch, rows, frames) to mean 0 and variance 1 over the frames of its utterance."""
    mask = _mask(features, counts)
    n = counts.view(-1, 1, 1).to(features.dtype)
    features = (
        features - features[:, :, :1]
    )  # a constant row becomes exactly 0, not rounding noise (models/features.py)
    mean = (features * mask).sum(dim=2, keepdim=True) / n.clamp(min=1)
    centred = (features - mean) * mask
    variance = centred.square().sum(dim=2, keepdim=True) / (n - correction).clamp(min=1)
    return centred / (variance + _VARIANCE_GUARD).sqrt()


def _kaldi_basis() -> np.ndarray:
    """Cosines followed by sines, with mean removal, preemphasis and window applied: (2 * bins, 1, window) float32."""
    angle = 2 * np.pi * np.arange(_N_FFT // 2 + 1)[:, None] * np.arange(WINDOW)[None, :] / _N_FFT
    centre = np.eye(WINDOW) - 1 / WINDOW
    emphasis = np.eye(WINDOW) - _PREEMPHASIS * np.eye(WINDOW, k=-1)
    povey = np.hanning(WINDOW) ** 0.85
    basis: np.ndarray = _SCALE * np.concatenate([np.cos(angle), np.sin(angle)]) * povey @ emphasis @ centre
    return basis[:, None, :].astype(np.float32)


def _kaldi_mel_filters(mels: int, sample_rate: int) -> np.ndarray:
    """Filters (mels, bins) float32: triangles of height 1 over the mel scale 1127 ln(1 + f / 700), not over frequency."""

    def mel(hz: np.ndarray | float) -> np.ndarray:
        return np.asarray(1127.0 * np.log1p(np.asarray(hz) / 700.0))

    edges = np.linspace(mel(_LOW_HZ), mel(sample_rate / 2), mels + 2)
    bins = mel(np.arange(_N_FFT // 2 + 1) * sample_rate / _N_FFT)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    filters: np.ndarray = np.maximum(0, np.minimum(rising, falling))
    return filters.astype(np.float32)


# The network

_MASKED_SCORE = -10_000.0
"""Attention score of a masked frame. It is finite, so that padding frames, which attend to nothing, give no NaN."""


class HuggingFace(nn.Module):
    """Features (batch, width, frames) to CTC log-probs (batch, frames / stride, labels + blank), the blank last."""

    def __init__(self, settings: HuggingFaceSettings, n_labels: int) -> None:
        super().__init__()
        self.settings = settings
        self.n_labels = n_labels
        self.encoder = _encoder(settings)
        if isinstance(settings, Wav2Vec2Settings) and settings.do_stable_layer_norm:
            # moved to its place in the computation, after the layers: init.freeze and layer_lr_decay go by this order
            layers = self.encoder.encoder
            layers.add_module("layer_norm", layers._modules.pop("layer_norm"))
        if settings.gradient_checkpointing:
            self.encoder.activation_checkpointing_enable({"use_reentrant": False})
        self.dropout = nn.Dropout(settings.final_dropout)
        self.decoder = nn.Linear(settings.width, n_labels + 1)

    def frame_count(self, n_features: int) -> int:
        """Output frames for one utterance of `n_features` feature frames."""
        return self.settings.frame_count(n_features)

    def forward(
        self, features: Tensor, counts: Tensor, augment: FeatureAugmentation | None = None
    ) -> tuple[Tensor, Tensor]:
        encoder = self.encoder
        if isinstance(self.settings, Wav2Vec2Settings):
            features, counts = self._convolve(features, counts)
        x = encoder.feature_projection(features.transpose(1, 2))
        x = x[0] if isinstance(x, tuple) else x  # hubert returns no tuple
        if augment is not None:
            x, counts = self._mask_frames(x, counts, augment)
        positions = getattr(encoder.encoder, "embed_positions", None)
        if positions is not None and hasattr(positions, "cached_sequence_length"):
            positions.cached_sequence_length = None  # otherwise an exported graph keeps the positions of one length
        x = encoder.encoder(x, attention_mask=length_mask(counts, x.shape[1]))[0]
        if isinstance(self.settings, W2vBertSettings) and self.settings.add_adapter:
            x, counts = self._adapt(x, counts, self.settings)
        logits = self.decoder(self.dropout(x))
        return logits.float().log_softmax(dim=2), counts

    def _convolve(self, features: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """The convolutions over the waveform: (batch, 1, samples) to (batch, channels, frames)."""
        for layer in self.encoder.feature_extractor.conv_layers:
            (kernel,), (stride,) = layer.conv.kernel_size, layer.conv.stride
            counts = (counts - kernel + stride).clamp(min=0) // stride
            if isinstance(getattr(layer, "layer_norm", None), nn.GroupNorm):
                features = layer.activation(_norm_over_time(layer.conv(features), counts, layer.layer_norm))
            else:
                features = layer(features)
        return features, counts

    def _mask_frames(self, x: Tensor, counts: Tensor, augment: FeatureAugmentation) -> tuple[Tensor, Tensor]:
        """SpecAugment of x (batch, frames, width); a masked frame becomes the model's learned vector."""
        x, counts = augment(x.transpose(1, 2), counts)
        x = x.transpose(1, 2)
        masked = (x == 0).all(dim=2, keepdim=True)
        return torch.where(masked, self.encoder.masked_spec_embed.to(x.dtype), x), counts

    def _adapt(self, x: Tensor, counts: Tensor, settings: W2vBertSettings) -> tuple[Tensor, Tensor]:
        """w2v-BERT's adapter: further subsampling of x (batch, frames, width)."""
        encoder = self.encoder
        if encoder.intermediate_ffn is not None:
            x = x + 0.5 * encoder.intermediate_ffn(x)
        adapter = encoder.adapter
        if adapter.proj is not None:
            x = adapter.proj_layer_norm(adapter.proj(x))
        kernel, stride = settings.adapter_kernel_size, settings.adapter_stride
        for layer in adapter.layers:
            valid = length_mask(counts, x.shape[1]).unsqueeze(2)
            residual = F.glu(layer.residual_conv((layer.residual_layer_norm(x) * valid).transpose(1, 2)), dim=1)
            x = F.glu(layer.self_attn_conv((layer.self_attn_layer_norm(x) * valid).transpose(1, 2)), dim=1)
            x, residual = x.transpose(1, 2), residual.transpose(1, 2)
            counts = (counts + 2 * (kernel // 2) - kernel + stride).clamp(min=0) // stride
            masked = ~length_mask(counts, x.shape[1])[:, None, None, :]
            scores = torch.zeros_like(masked, dtype=x.dtype).masked_fill(masked, _MASKED_SCORE)
            x = layer.self_attn_dropout(layer.self_attn(x, attention_mask=scores)[0]) + residual
            x = x + layer.ffn(layer.ffn_layer_norm(x))
        return x, counts


def import_transformers() -> Any:
    """The package transformers, with its messages turned off. Raises AnadilError if the extra is not installed."""
    try:
        import transformers
    except ImportError as error:
        raise AnadilError(
            f"models of Hugging Face need transformers ({error})\n  next: pip install 'anadil[train,hf]'"
        ) from error
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def classes_of(kind: str) -> tuple[Any, Any, Any]:
    """transformers' classes of config, encoder, and encoder with CTC head. Raises AnadilError as `import_transformers`."""
    name = {"wav2vec2": "Wav2Vec2", "hubert": "Hubert", "w2v_bert": "Wav2Vec2Bert"}[kind]
    transformers = import_transformers()
    config, encoder, ctc = (getattr(transformers, name + suffix) for suffix in ("Config", "Model", "ForCTC"))
    return config, encoder, ctc


def transformers_config(settings: HuggingFaceSettings, vocab_size: int = 1) -> Any:
    """transformers' config for these settings. Raises AnadilError for an unknown activation."""
    data = settings.model_dump(exclude=OWN_SETTINGS)
    if isinstance(settings, W2vBertSettings):
        data["feature_projection_input_dim"] = settings.feature_projection_input_dim
    for key in ("hidden_act", "feat_extract_activation", "adapter_act"):
        name = data.get(key)
        if name is not None and name not in import_transformers().activations.ACT2FN:
            raise AnadilError(f"model.{key}: {name!r} is no activation of transformers")
    # mask_time_prob above 0 creates the vector for masked frames; the masking itself is Anadil's SpecAugment
    return classes_of(settings.kind)[0](**data, vocab_size=vocab_size, mask_time_prob=0.05, apply_spec_augment=False)


def _encoder(settings: HuggingFaceSettings) -> Any:
    return classes_of(settings.kind)[1](transformers_config(settings))


def _norm_over_time(x: Tensor, counts: Tensor, norm: nn.GroupNorm) -> Tensor:
    """Group norm with one channel per group of x (batch, channels, frames), over the frames of each utterance."""
    mask = length_mask(counts, x.shape[2]).unsqueeze(1).to(x.dtype)
    n = mask.sum(dim=2, keepdim=True).clamp(min=1)
    mean = (x * mask).sum(dim=2, keepdim=True) / n
    variance = ((x - mean) * mask).square().sum(dim=2, keepdim=True) / n
    return (x - mean) * (variance + norm.eps).rsqrt() * norm.weight.unsqueeze(1) + norm.bias.unsqueeze(1)
