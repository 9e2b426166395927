"""A `.hama` file with a network of two narrow layers and random weights, and the same network without our modules."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from anadil.models.features import LogMel
from anadil.models.hama import FEATURES, VOCABULARY

LABELS = ["<pad>", " ", "a", "b", "t͡ʃ", "ɔ"]
"""The vocabulary's; a word boundary and the blank follow."""

WIDTH, INNER, KERNEL, LAYERS, HEADS = 8, 16, 5, 2, 4
_TYPES = {"float32": 0, "float16": 1}


def tensors(seed: int = 0) -> dict[str, np.ndarray]:
    """The tensors of a recogniser under hama's names, float16 as there."""
    rng = np.random.default_rng(seed)
    features = LogMel(FEATURES)
    cosine, sine = features.basis.chunk(2)
    found = {"mel_fb": features.mel.numpy().T, "stft_real_kernel": cosine.numpy(), "stft_imag_kernel": -sine.numpy()}

    def add(name: str, *shape: int) -> None:
        found[name] = (rng.standard_normal(shape) / math.sqrt(math.prod(shape[1:]) or 1)).astype(np.float16)

    def norm(name: str) -> None:
        found[f"{name}.weight"] = rng.uniform(0.5, 1.5, WIDTH).astype(np.float16)
        add(f"{name}.bias", WIDTH)

    add("onnx::Conv_98", WIDTH, FEATURES.mels, 3)
    add("onnx::Conv_99", WIDTH)
    product = 90
    for i in range(LAYERS):
        block = f"acoustic_model.model.blocks.{i}"
        for part in ("ffn1", "ffn2"):
            norm(f"{block}.{part}.norm")
            add(f"{block}.{part}.fc1.bias", INNER)
            add(f"{block}.{part}.fc2.bias", WIDTH)
        for name in ("attn_norm", "conv.norm", "norm"):
            norm(f"{block}.{name}")
        add(f"{block}.attn.in_proj_bias", 3 * WIDTH)
        add(f"{block}.attn.out_proj.bias", WIDTH)
        for name, width in (("pointwise1", 2 * WIDTH), ("pointwise2", WIDTH)):
            add(f"{block}.conv.{name}.weight", width, WIDTH, 1)
            add(f"{block}.conv.{name}.bias", width)
        add(f"onnx::Conv_{101 + 3 * i}", WIDTH, 1, KERNEL)
        add(f"onnx::Conv_{102 + 3 * i}", WIDTH)
        sizes = ((WIDTH, INNER), (INNER, WIDTH), (WIDTH, 3 * WIDTH), (WIDTH, WIDTH), (WIDTH, INNER), (INNER, WIDTH))
        for shape in sizes:  # the numbers pass 99, so that their order is not that of the names
            add(f"onnx::MatMul_{product}", *shape)
            product += 1
    add("acoustic_model.model.proj.weight", len(LABELS) + 2, WIDTH, 1)
    add("acoustic_model.model.proj.bias", len(LABELS) + 2)
    return found


def packed(arrays: Mapping[str, np.ndarray], kind: int = 2, version: int = 1) -> bytes:
    """The bytes of a `.hama` file."""
    table, data = b"", b""
    for name, array in arrays.items():
        data += bytes(-len(data) % 16)
        content = np.ascontiguousarray(array).tobytes()
        table += struct.pack("<H", len(name)) + name.encode()
        table += struct.pack(f"<BB{array.ndim}I", _TYPES[str(array.dtype)], array.ndim, *array.shape)
        table += struct.pack("<QQ", len(data), len(content))
        data += content
    header = b"HAMAPK" + struct.pack("<BBI", version, kind, len(arrays)) + table
    return header + bytes(-len(header) % 16) + data


def write_hama(folder: Path, arrays: Mapping[str, np.ndarray] | None = None) -> Path:
    """`folder`/tiny.hama and its vocabulary; returns the former."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / VOCABULARY).write_text(json.dumps({"encoder": [], "decoder": LABELS}), encoding="utf-8")
    (folder / "tiny.hama").write_bytes(packed(tensors() if arrays is None else arrays))
    return folder / "tiny.hama"


def hama_log_probs(arrays: Mapping[str, np.ndarray], waveform: Tensor) -> Tensor:
    """Log-probs (frames, labels + 2) of one utterance (samples,), computed from hama's tensors as they are."""
    w = {name: torch.from_numpy(array.astype(np.float32)) for name, array in arrays.items()}
    window = torch.hann_window(400)
    power = torch.stft(waveform, 400, 160, 400, window, pad_mode="reflect", return_complex=True).abs().square()
    mel = (w["mel_fb"].T @ power).clamp(min=1e-10).log()
    x = F.gelu(F.conv1d(mel[None], w["onnx::Conv_98"], w["onnx::Conv_99"], stride=2, padding=1)).transpose(1, 2)

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (WIDTH,), w[f"{name}.weight"], w[f"{name}.bias"])

    def half(x: Tensor, name: str, product: int) -> Tensor:
        inner = F.silu(norm(x, f"{name}.norm") @ w[f"onnx::MatMul_{product}"] + w[f"{name}.fc1.bias"])
        return 0.5 * (inner @ w[f"onnx::MatMul_{product + 1}"] + w[f"{name}.fc2.bias"])

    for i in range(LAYERS):
        block, product = f"acoustic_model.model.blocks.{i}", 90 + 6 * i
        x = x + half(x, f"{block}.ffn1", product)
        attention = torch.nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        attention.in_proj_weight.data = w[f"onnx::MatMul_{product + 2}"].T
        attention.in_proj_bias.data = w[f"{block}.attn.in_proj_bias"]
        attention.out_proj.weight.data = w[f"onnx::MatMul_{product + 3}"].T
        attention.out_proj.bias.data = w[f"{block}.attn.out_proj.bias"]
        y = norm(x, f"{block}.attn_norm")
        x = x + attention(y, y, y)[0]
        y = norm(x, f"{block}.conv.norm").transpose(1, 2)
        y = F.glu(F.conv1d(y, w[f"{block}.conv.pointwise1.weight"], w[f"{block}.conv.pointwise1.bias"]), dim=1)
        depthwise = (w[f"onnx::Conv_{101 + 3 * i}"], w[f"onnx::Conv_{102 + 3 * i}"])
        y = F.silu(F.conv1d(y, *depthwise, padding=KERNEL // 2, groups=WIDTH))
        x = x + F.conv1d(y, w[f"{block}.conv.pointwise2.weight"], w[f"{block}.conv.pointwise2.bias"]).transpose(1, 2)
        x = norm(x + half(x, f"{block}.ffn2", product + 4), f"{block}.norm")
    head = (w["acoustic_model.model.proj.weight"], w["acoustic_model.model.proj.bias"])
    return F.conv1d(x.transpose(1, 2), *head)[0].T.log_softmax(dim=1).detach()
