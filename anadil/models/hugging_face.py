"""wav2vec 2.0 (XLS-R, MMS), HuBERT and w2v-BERT 2.0 with CTC: transformers' modules, heard the same alone and in a batch.

What differs from transformers: a group norm over time counts the utterance alone, where transformers counts its padding
too; SpecAugment is ours, in the same place (behind the projection of the features), with the model's learned vector for
a hidden frame; the layers of w2v-BERT's adapter see zeros beyond an utterance and are never dropped.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anadil.errors import AnadilError
from anadil.models.features import Augment, length_mask
from anadil.models.hugging_face_settings import W2vBertSettings, Wav2Vec2Settings

HuggingFaceSettings = Wav2Vec2Settings | W2vBertSettings

OURS = {"kind", "sample_rate", "do_normalize", "freeze_feature_encoder", "gradient_checkpointing", "num_mel_bins"}
OURS |= {"feature_stride"}
"""Settings that are not of transformers' own config."""

HIDDEN = -10_000.0
"""Score of a frame that must not be seen; finite, so that padding, which sees nothing, gives no NaN."""


class HuggingFace(nn.Module):
    """Features (batch, width, frames) to CTC log-probs (batch, frames / stride, labels + blank), the blank last."""

    def __init__(self, settings: HuggingFaceSettings, n_labels: int) -> None:
        super().__init__()
        self.settings = settings
        self.n_labels = n_labels
        self.encoder = _encoder(settings)
        if isinstance(settings, Wav2Vec2Settings) and settings.do_stable_layer_norm:
            # the last norm stands behind the layers, as it is computed: what is frozen goes by this order
            layers = self.encoder.encoder
            layers.add_module("layer_norm", layers._modules.pop("layer_norm"))
        if settings.gradient_checkpointing:
            self.encoder.activation_checkpointing_enable({"use_reentrant": False})
        self.dropout = nn.Dropout(settings.final_dropout)
        self.decoder = nn.Linear(settings.width, n_labels + 1)

    def frame_count(self, n_features: int) -> int:
        """Output frames for so many feature frames, for one utterance."""
        return self.settings.frame_count(n_features)

    def forward(self, features: Tensor, counts: Tensor, augment: Augment | None = None) -> tuple[Tensor, Tensor]:
        encoder = self.encoder
        if isinstance(self.settings, Wav2Vec2Settings):
            features, counts = self._convolve(features, counts)
        x = encoder.feature_projection(features.transpose(1, 2))
        x = x[0] if isinstance(x, tuple) else x  # hubert's is alone
        if augment is not None:
            x, counts = self._hide(x, counts, augment)
        positions = getattr(encoder.encoder, "embed_positions", None)
        if positions is not None and hasattr(positions, "cached_sequence_length"):
            positions.cached_sequence_length = None  # or a graph would hold those of the last length
        x = encoder.encoder(x, attention_mask=length_mask(counts, x.shape[1]))[0]
        if isinstance(self.settings, W2vBertSettings) and self.settings.add_adapter:
            x, counts = self._adapt(x, counts, self.settings)
        logits = self.decoder(self.dropout(x))
        return logits.float().log_softmax(dim=2), counts

    def _convolve(self, features: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        for layer in self.encoder.feature_extractor.conv_layers:
            (kernel,), (stride,) = layer.conv.kernel_size, layer.conv.stride
            counts = (counts - kernel + stride).clamp(min=0) // stride
            if isinstance(getattr(layer, "layer_norm", None), nn.GroupNorm):
                features = layer.activation(_norm_over_time(layer.conv(features), counts, layer.layer_norm))
            else:
                features = layer(features)
        return features, counts

    def _hide(self, x: Tensor, counts: Tensor, augment: Augment) -> tuple[Tensor, Tensor]:
        """SpecAugment of x (batch, frames, width); a frame that it hides becomes the vector of the model's training."""
        x, counts = augment(x.transpose(1, 2), counts)
        x = x.transpose(1, 2)
        hidden = (x == 0).all(dim=2, keepdim=True)
        return torch.where(hidden, self.encoder.masked_spec_embed.to(x.dtype), x), counts

    def _adapt(self, x: Tensor, counts: Tensor, settings: W2vBertSettings) -> tuple[Tensor, Tensor]:
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
            unseen = ~length_mask(counts, x.shape[1])[:, None, None, :]
            scores = torch.zeros_like(unseen, dtype=x.dtype).masked_fill(unseen, HIDDEN)
            x = layer.self_attn_dropout(layer.self_attn(x, attention_mask=scores)[0]) + residual
            x = x + layer.ffn(layer.ffn_layer_norm(x))
        return x, counts


def library() -> Any:
    """transformers, quiet. Raises AnadilError if the extra is not installed."""
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
    """transformers' config, encoder, and encoder with a CTC head. Raises AnadilError as `library`."""
    name = {"wav2vec2": "Wav2Vec2", "hubert": "Hubert", "w2v_bert": "Wav2Vec2Bert"}[kind]
    transformers = library()
    config, encoder, ctc = (getattr(transformers, name + suffix) for suffix in ("Config", "Model", "ForCTC"))
    return config, encoder, ctc


def transformers_config(settings: HuggingFaceSettings, vocab_size: int = 1) -> Any:
    """The config that builds the modules. Raises AnadilError."""
    data = settings.model_dump(exclude=OURS)
    if isinstance(settings, W2vBertSettings):
        data["feature_projection_input_dim"] = settings.feature_projection_input_dim
    for key in ("hidden_act", "feat_extract_activation", "adapter_act"):
        name = data.get(key)
        if name is not None and name not in library().activations.ACT2FN:
            raise AnadilError(f"model.{key}: {name!r} is no activation that transformers knows")
    # with a mask_time_prob there is a vector for hidden frames; hiding them is ours
    return classes_of(settings.kind)[0](**data, vocab_size=vocab_size, mask_time_prob=0.05, apply_spec_augment=False)


def _encoder(settings: HuggingFaceSettings) -> Any:
    return classes_of(settings.kind)[1](transformers_config(settings))


def _norm_over_time(x: Tensor, counts: Tensor, norm: nn.GroupNorm) -> Tensor:
    """Each channel of (batch, channels, frames) to mean 0 and variance 1 over the frames of its utterance."""
    mask = length_mask(counts, x.shape[2]).unsqueeze(1).to(x.dtype)
    n = mask.sum(dim=2, keepdim=True).clamp(min=1)
    mean = (x * mask).sum(dim=2, keepdim=True) / n
    variance = ((x - mean) * mask).square().sum(dim=2, keepdim=True) / n
    return (x - mean) * (variance + norm.eps).rsqrt() * norm.weight.unsqueeze(1) + norm.bias.unsqueeze(1)
