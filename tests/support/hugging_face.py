"""Tiny models of Hugging Face with random weights, written as transformers writes them: shared by the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

transformers = pytest.importorskip("transformers", reason="the extra hf is not installed: pip install 'anadil[hf]'")
transformers.logging.disable_progress_bar()

SIZE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
CONVOLUTIONS = {"conv_dim": [8, 8, 8], "conv_stride": [5, 8, 8], "conv_kernel": [10, 8, 8]}
CONVOLUTIONS |= {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
STABLE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
VOCAB = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "a": 5, "b": 6, "c": 7}

CASES: dict[str, dict[str, Any]] = {
    "wav2vec2": {"kind": "Wav2Vec2"},
    "xls-r": {"kind": "Wav2Vec2", **STABLE},
    "mms": {"kind": "Wav2Vec2", **STABLE, "adapter_attn_dim": 4},
    "hubert": {"kind": "Hubert", "feat_proj_layer_norm": False},
    "hubert large": {"kind": "Hubert", **STABLE},
    "w2v-bert": {"kind": "Wav2Vec2Bert"},
    "w2v-bert relative": {"kind": "Wav2Vec2Bert", "position_embeddings_type": "relative"},
    "w2v-bert rotary": {"kind": "Wav2Vec2Bert", "position_embeddings_type": "rotary"},
    "w2v-bert none": {"kind": "Wav2Vec2Bert", "position_embeddings_type": None},
    "w2v-bert adapter": {
        "kind": "Wav2Vec2Bert",
        "add_adapter": True,
        "num_adapter_layers": 2,
        "output_hidden_size": 8,
        "use_intermediate_ffn_before_adapter": True,
    },
}


def build(case: str, head: str = "ForCTC", **changes: Any) -> Any:
    """A model of transformers; its weights get random noise, so that no norm or bias keeps its initial value."""
    options = dict(CASES[case])
    kind = options.pop("kind")
    base = {"conv_depthwise_kernel_size": 5} if kind == "Wav2Vec2Bert" else CONVOLUTIONS
    torch.manual_seed(0)
    config = getattr(transformers, kind + "Config")(**SIZE, **(base | options | {"vocab_size": 8} | changes))
    model = getattr(transformers, kind + head)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model


def extractor(case: str) -> Any:
    if CASES[case]["kind"] == "Wav2Vec2Bert":
        return transformers.SeamlessM4TFeatureExtractor(padding_value=1)
    return transformers.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask="layer" in str(CASES[case]))


def write(folder: Path, case: str, vocab: dict[str, Any] | None = None, head: str = "ForCTC", **changes: Any) -> Any:
    """A folder of transformers, and the model that it holds."""
    model = build(case, head, **changes)
    model.save_pretrained(folder)
    extractor(case).save_pretrained(folder)
    if head == "ForCTC":
        (folder / "vocab.json").write_text(json.dumps(vocab or VOCAB), encoding="utf-8")
        names = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
        names |= {"word_delimiter_token": "|", "tokenizer_class": "Wav2Vec2CTCTokenizer"}
        (folder / "tokenizer_config.json").write_text(json.dumps(names), encoding="utf-8")
    return model


def write_mms(folder: Path) -> Any:
    """Adapters and heads of two languages, the vocabularies of both in one file."""
    tokens = {"tur": {**VOCAB, "ş": 8}, "eng": VOCAB}
    model = write(folder, "mms", tokens)
    generator = torch.Generator().manual_seed(7)
    for language, vocab in tokens.items():
        names = {name: tensor for name, tensor in model.state_dict().items() if "adapter_layer" in name}
        names |= {"lm_head.weight": torch.zeros(len(vocab), 16), "lm_head.bias": torch.zeros(len(vocab))}
        tensors = {name: torch.randn(tensor.shape, generator=generator) for name, tensor in names.items()}
        save_file(tensors, folder / f"adapter.{language}.safetensors")
    return model


def speech(n: int, seed: int = 0) -> np.ndarray:
    """Noise that swells: float32 (n,)."""
    swell = 0.1 * (0.1 + np.sin(np.arange(n) / 1300) ** 2)
    return (np.random.default_rng(seed).normal(0, 1, n) * swell).astype(np.float32)


def log_probs(model: Any, case: str, samples: np.ndarray) -> torch.Tensor:
    """transformers' own, of one utterance: (frames, labels)."""
    inputs = extractor(case)(samples, sampling_rate=16000, return_tensors="pt")
    inputs = {name: value for name, value in inputs.items() if name != "attention_mask" or "Bert" in str(type(model))}
    with torch.no_grad():
        found: torch.Tensor = model(**inputs).logits.log_softmax(-1)[0]
    return found
