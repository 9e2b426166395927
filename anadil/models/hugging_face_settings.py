"""Settings of wav2vec 2.0, HuBERT and w2v-BERT 2.0, under transformers' names."""

from __future__ import annotations

from math import prod
from typing import Literal

from pydantic import BaseModel, Field, model_validator

from anadil.settings import SECTION


class Wav2Vec2Settings(BaseModel):
    """Section `model` of a config: convolutions over the waveform, then a Transformer. The base size by default."""

    model_config = SECTION

    kind: Literal["wav2vec2", "hubert"] = "wav2vec2"
    sample_rate: int = Field(16000, ge=4000, le=48000)
    do_normalize: bool = True  # each utterance to mean 0 and variance 1
    freeze_feature_encoder: bool = True  # the convolutions never learn, whatever init.freeze says
    gradient_checkpointing: bool = False  # in training: a third more time, a fraction of the memory
    hidden_size: int = Field(768, ge=1)
    num_hidden_layers: int = Field(12, ge=1)
    num_attention_heads: int = Field(12, ge=1)
    intermediate_size: int = Field(3072, ge=1)
    hidden_act: str = "gelu"
    layer_norm_eps: float = Field(1e-5, gt=0)
    do_stable_layer_norm: bool = False  # norms before attention and feed-forward: XLS-R, MMS and the large ones
    feat_extract_norm: Literal["group", "layer"] = "group"
    feat_extract_activation: str = "gelu"
    feat_proj_layer_norm: bool = True  # of hubert
    conv_dim: list[int] = [512] * 7
    conv_stride: list[int] = [5, 2, 2, 2, 2, 2, 2]
    conv_kernel: list[int] = [10, 3, 3, 3, 3, 2, 2]
    conv_bias: bool = False
    num_conv_pos_embeddings: int = Field(128, ge=1)
    num_conv_pos_embedding_groups: int = Field(16, ge=1)
    adapter_attn_dim: int | None = Field(None, ge=1)  # width of MMS's adapters of languages
    hidden_dropout: float = Field(0.1, ge=0, lt=1)
    activation_dropout: float = Field(0.1, ge=0, lt=1)
    attention_dropout: float = Field(0.1, ge=0, lt=1)
    feat_proj_dropout: float = Field(0.0, ge=0, lt=1)
    final_dropout: float = Field(0.1, ge=0, lt=1)
    layerdrop: float = Field(0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _sizes_agree(self) -> Wav2Vec2Settings:
        _check_heads(self.hidden_size, self.num_attention_heads)
        n_convolutions = len(self.conv_dim)
        if not n_convolutions or {len(self.conv_stride), len(self.conv_kernel)} != {n_convolutions}:
            raise ValueError("conv_dim, conv_stride and conv_kernel want one number for each convolution")
        if min(*self.conv_dim, *self.conv_stride, *self.conv_kernel) < 1:
            raise ValueError("conv_dim, conv_stride and conv_kernel are positive numbers")
        if self.hidden_size % self.num_conv_pos_embedding_groups:
            raise ValueError(f"num_conv_pos_embedding_groups does not divide hidden_size {self.hidden_size}")
        if self.kind == "wav2vec2" and not self.feat_proj_layer_norm:
            raise ValueError("feat_proj_layer_norm: false is of hubert alone")
        if self.adapter_attn_dim is not None and not self.do_stable_layer_norm:
            raise ValueError("adapter_attn_dim wants do_stable_layer_norm: true")
        return self

    @property
    def stride(self) -> int:
        """Samples to one output frame."""
        return prod(self.conv_stride)

    @property
    def width(self) -> int:
        """Of the encoder's output."""
        return self.hidden_size

    def frame_count(self, n: int) -> int:
        """Output frames for `n` samples of one utterance."""
        for kernel, stride in zip(self.conv_kernel, self.conv_stride, strict=True):
            n = max(0, (n - kernel) // stride + 1)
        return n


class W2vBertSettings(BaseModel):
    """Section `model` of a config: a Conformer over log-mel features, two frames side by side."""

    model_config = SECTION

    kind: Literal["w2v_bert"] = "w2v_bert"
    sample_rate: Literal[16000] = 16000
    num_mel_bins: int = Field(80, ge=8, le=256)
    feature_stride: int = Field(2, ge=1)  # frames of features side by side
    gradient_checkpointing: bool = False  # in training: a third more time, a fraction of the memory
    hidden_size: int = Field(1024, ge=1)
    num_hidden_layers: int = Field(24, ge=1)
    num_attention_heads: int = Field(16, ge=1)
    intermediate_size: int = Field(4096, ge=1)
    hidden_act: str = "swish"
    layer_norm_eps: float = Field(1e-5, gt=0)
    position_embeddings_type: Literal["relative_key", "relative", "rotary"] | None = "relative_key"
    left_max_position_embeddings: int = Field(64, ge=0)
    right_max_position_embeddings: int = Field(8, ge=0)
    rotary_embedding_base: int = Field(10000, ge=2)
    max_source_positions: int = Field(5000, ge=1)
    conv_depthwise_kernel_size: int = Field(31, ge=1)
    add_adapter: bool = False  # a further subsampling behind the last layer
    num_adapter_layers: int = Field(1, ge=1)
    adapter_kernel_size: int = Field(3, ge=1)
    adapter_stride: int = Field(2, ge=1)
    adapter_act: str = "relu"
    use_intermediate_ffn_before_adapter: bool = False
    output_hidden_size: int | None = Field(None, ge=1)  # behind the adapter; None: hidden_size
    hidden_dropout: float = Field(0.0, ge=0, lt=1)
    activation_dropout: float = Field(0.0, ge=0, lt=1)
    attention_dropout: float = Field(0.0, ge=0, lt=1)
    feat_proj_dropout: float = Field(0.0, ge=0, lt=1)
    conformer_conv_dropout: float = Field(0.1, ge=0, lt=1)
    final_dropout: float = Field(0.1, ge=0, lt=1)
    layerdrop: float = Field(0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _sizes_agree(self) -> W2vBertSettings:
        _check_heads(self.hidden_size, self.num_attention_heads)
        if self.conv_depthwise_kernel_size % 2 == 0:
            raise ValueError(f"conv_depthwise_kernel_size {self.conv_depthwise_kernel_size} is even")
        if self.position_embeddings_type == "rotary" and self.hidden_size // self.num_attention_heads % 2:
            raise ValueError("position_embeddings_type rotary wants an even hidden_size for each attention head")
        if self.add_adapter:
            _check_heads(self.width, self.num_attention_heads)
            if self.adapter_kernel_size // 2 != self.adapter_stride // 2:
                raise ValueError("adapter_kernel_size and adapter_stride: their halves must agree, as in 3 and 2")
        elif self.use_intermediate_ffn_before_adapter or self.width != self.hidden_size:
            raise ValueError("use_intermediate_ffn_before_adapter and output_hidden_size want add_adapter: true")
        return self

    @property
    def feature_projection_input_dim(self) -> int:
        return self.num_mel_bins * self.feature_stride

    @property
    def stride(self) -> int:
        """Frames of stacked features to one output frame."""
        return int(self.adapter_stride**self.num_adapter_layers) if self.add_adapter else 1

    @property
    def width(self) -> int:
        """Of the encoder's output."""
        return self.output_hidden_size or self.hidden_size

    def frame_count(self, n: int) -> int:
        """Output frames for `n` frames of stacked features of one utterance."""
        for _ in range(self.num_adapter_layers if self.add_adapter else 0):
            n = max(0, (n + 2 * (self.adapter_kernel_size // 2) - self.adapter_kernel_size) // self.adapter_stride + 1)
        return n


def _check_heads(width: int, heads: int) -> None:
    if width % heads:
        raise ValueError(f"hidden_size {width} is not a multiple of num_attention_heads {heads}")
