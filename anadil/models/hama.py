"""The phoneme recogniser of the package hama (Seongmin Park): `.hama` files, read as our Conformer without running hama.

A Conformer of four layers without positions, over log-mel features that are not normalised. Its labels are phonemes in
IPA. The engine in the package and this model differ by rounding alone (docs/LOG.md).

The file (little-endian) is: HAMAPK, version u8, kind u8, number of tensors u32; for each tensor the length of its name
u16, its name, type u8, number of dimensions u8, dimensions u32, offset u64, bytes u64; zeros to a multiple of 16; the
data, at these offsets. Matrices that were folded in the export to ONNX have no names but `onnx::MatMul_N`, in the order
of the layers.
"""

from __future__ import annotations

import importlib.util
import json
import math
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError

from anadil.errors import AnadilError, shortened
from anadil.models.acoustic import AcousticModel, LoadedModel
from anadil.models.conformer import ConformerSettings
from anadil.models.features import FeatureSettings, LogMel
from anadil.models.nemo.labels import rules_for

HAMA = "hama"
"""What `init.from` and `anadil convert` call the model of the installed package."""

LANGUAGE = "und-fonipa"
"""BCP-47's tag for phonetic transcription of no particular language."""

LICENCE = "Apache-2.0 as the package says, MIT as its repository says (github.com/hamanlp/hama, Seongmin Park)"

VOCABULARY = "g2p_vocab.json"
"""The labels, in the same folder as the weights. The word boundary and the blank come after them."""

FEATURES = FeatureSettings(
    window_size=0.025,
    window="hann_periodic",
    n_fft=400,
    mels=80,
    low_hz=40.0,
    high_hz=7600.0,
    mel_edges="bins",
    preemphasis=0.0,
    normalize="none",
    log_guard=1e-10,
    log_guard_type="clamp",
    edges="reflect",
)
_HEADS = 4  # not in the file; with 2 or 8 the log-probs differ by 10

_ASSET, _MAGIC, _VERSION, _RECOGNISER = "asr_waveform.hama", b"HAMAPK", 1, 2
_MAX_BYTES, _MAX_TENSORS, _MAX_DIMENSIONS = 2**28, 4096, 4
_TYPES = {0: "<f4", 1: "<f2", 2: "<i8", 3: "<i4", 4: "u1"}
_MODEL = "acoustic_model.model"
_FEATURE_TOLERANCE = 1e-3
"""Largest deviation of the file's Fourier kernels and mel filters from ours, as a share of their largest value."""

Tensors = dict[str, np.ndarray]


def is_hama(path: Path) -> bool:
    """Whether a file is a `.hama`, by its first bytes; a damaged one by its name."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC or path.suffix == ".hama"


def installed_model() -> Path:
    """The recogniser's file in the installed package, found without importing it. Raises AnadilError if there is none."""
    spec = importlib.util.find_spec(HAMA)
    for folder in (spec.submodule_search_locations if spec else None) or ():
        path = Path(folder) / "assets" / _ASSET
        if path.is_file():
            return path
    raise AnadilError(
        f"{HAMA}: the package hama, which holds the model, is not installed\n  next: pip install 'anadil[hama]'"
    )


def read_hama(path: Path) -> LoadedModel:
    """The model in evaluation mode. Its labels are those of `g2p_vocab.json` in the same folder.

    Raises AnadilError if the file is damaged, of another model of hama, or of a network that is not supported.
    """
    tensors = _read_tensors(path)
    if f"{_MODEL}.blocks.0.norm.weight" not in tensors or f"{_MODEL}.proj.weight" not in tensors:
        raise AnadilError(f"{path}: another network than the Conformer of hama 1.7\n  next: pip install 'hama==1.7.0'")
    labels = _read_labels(path.with_name(VOCABULARY), len(tensors[f"{_MODEL}.proj.weight"]))
    try:
        settings, weights = _settings(tensors), _weights(tensors)
        acoustic = AcousticModel(FEATURES, settings, len(labels))
        acoustic.network.load_state_dict(weights)
        _check_features(acoustic, tensors)
    except (KeyError, IndexError, ValueError, RuntimeError, ValidationError) as error:
        raise AnadilError(
            f"{path}: not the Conformer of hama 1.7: {shortened(str(error), 1000)}\n  next: pip install 'hama==1.7.0'"
        ) from error
    rules, _ = rules_for(labels, LANGUAGE)
    return LoadedModel(HAMA, acoustic.eval(), rules)


def _read_tensors(path: Path) -> Tensors:
    """The tensors by name, as views of the file's bytes."""
    if path.stat().st_size > _MAX_BYTES:
        raise AnadilError(f"{path}: larger than {_MAX_BYTES >> 20} MiB: no recogniser of hama")
    content = path.read_bytes()
    try:
        version, kind, n_tensors = struct.unpack_from("<BBI", content, len(_MAGIC))
        if content[: len(_MAGIC)] != _MAGIC or version != _VERSION:
            raise ValueError("it does not begin with HAMAPK and version 1")
        if kind != _RECOGNISER:
            raise AnadilError(f"{path}: not hama's recogniser, but another of its models (kind {kind})\n  next: "
                              f"give {_ASSET}")  # fmt: skip
        return _tensors(content, n_tensors)
    except (struct.error, ValueError, KeyError) as error:
        raise AnadilError(
            f"{path}: the file is damaged, or is no .hama: {shortened(str(error))}\n  next: copy it again"
        ) from error


def _tensors(content: bytes, n_tensors: int) -> Tensors:
    """The tensors of a file, each checked against its size. Raises ValueError, KeyError or struct.error."""
    if n_tensors > _MAX_TENSORS:
        raise ValueError(f"{n_tensors:,} tensors, allowed are {_MAX_TENSORS:,}")
    at = len(_MAGIC) + struct.calcsize("<BBI")
    table: list[tuple[str, str, tuple[int, ...], int, int]] = []
    for _ in range(n_tensors):
        (length,) = struct.unpack_from("<H", content, at)
        name = content[at + 2 : at + 2 + length].decode("utf-8")
        at += 2 + length
        kind, n_dimensions = struct.unpack_from("<BB", content, at)
        if n_dimensions > _MAX_DIMENSIONS:
            raise ValueError(f"{name}: {n_dimensions} dimensions, allowed are {_MAX_DIMENSIONS}")
        shape = struct.unpack_from(f"<{n_dimensions}I", content, at + 2)
        at += 2 + 4 * n_dimensions
        table.append((name, _TYPES[kind], shape, *struct.unpack_from("<QQ", content, at)))
        at += 16
    data = memoryview(content)[(at + 15) // 16 * 16 :]
    tensors: Tensors = {}
    for name, kind, shape, offset, n_bytes in table:
        if n_bytes != math.prod(shape) * np.dtype(kind).itemsize or offset + n_bytes > len(data) or name in tensors:
            raise ValueError(f"{name}: {n_bytes:,} bytes at {offset:,} of {len(data):,} for shape {shape}")
        tensors[name] = np.frombuffer(data[offset : offset + n_bytes], kind).reshape(shape)
        if kind in ("<f4", "<f2") and not np.isfinite(tensors[name]).all():
            raise ValueError(f"{name} holds NaN or infinity")
    return tensors


def _read_labels(path: Path, n_rows: int) -> list[str]:
    """The labels without the blank; the word boundary becomes the space. Raises AnadilError."""
    try:
        labels = json.loads(path.read_text(encoding="utf-8"))["decoder"]
    except FileNotFoundError:
        raise AnadilError(
            f"{path} is missing: it holds the model's labels\n  next: copy it from the folder of the package"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise AnadilError(f"{path}: no vocabulary of hama: {shortened(str(error))}\n  next: copy it again") from error
    if not isinstance(labels, list) or not all(isinstance(label, str) and label for label in labels):
        raise AnadilError(f"{path}: decoder must be a list of labels\n  next: copy it again")
    if len(labels) + 2 != n_rows or len(set(labels)) != len(labels):
        raise AnadilError(
            f"{path}: {len(labels):,} labels with a word boundary and a blank do not fit a head of {n_rows:,} rows\n"
            "  next: take both files from the same package"
        )
    # its own space stands for none: the recogniser writes <wb> between words
    return ["<space>" if label == " " else label for label in labels] + [" "]


def _settings(tensors: Tensors) -> ConformerSettings:
    prefix = f"{_MODEL}.blocks."
    width = tensors[f"{_MODEL}.proj.weight"].shape[1]
    inner = len(tensors[f"{prefix}0.ffn1.fc1.bias"])
    return ConformerSettings(
        n_layers=len({name.removeprefix(prefix).split(".")[0] for name in tensors if name.startswith(prefix)}),
        d_model=width,
        n_heads=_HEADS,
        ff_expansion_factor=inner // width,
        subsampling="conv1d",
        subsampling_factor=2,
        self_attention_model="no_pos",
        xscaling=False,
        conv_kernel_size=_unnamed(tensors, "Conv")[2].shape[2],
        conv_norm_type="fused_batch_norm",
        # the file says nothing of dropout; at 0.1 its random numbers are nearly half of a step's time on a CPU
        dropout=0.0,
        dropout_pre_encoder=0.0,
        dropout_att=0.0,
    )


def _unnamed(tensors: Tensors, kind: str) -> list[np.ndarray]:
    """The tensors `onnx::KIND_N` in the order of N, which is that of the layers."""
    prefix = f"onnx::{kind}_"
    names = [name for name in tensors if name.startswith(prefix)]
    return [tensors[name] for name in sorted(names, key=lambda name: int(name.removeprefix(prefix)))]


def _weights(tensors: Tensors) -> dict[str, torch.Tensor]:
    """The tensors under the names of our Conformer, float32."""
    found: Tensors = {}

    def put(name: str, weight: np.ndarray, bias: np.ndarray) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = weight, bias

    convolutions, products = _unnamed(tensors, "Conv"), _unnamed(tensors, "MatMul")
    put("encoder.pre_encode.conv.0", convolutions[0], convolutions[1])
    put("decoder.decoder_layers.0", *_named(tensors, f"{_MODEL}.proj"))
    for i, (depthwise, bias) in enumerate(zip(convolutions[2::2], convolutions[3::2], strict=True)):
        ours, its = f"encoder.layers.{i}", f"{_MODEL}.blocks.{i}"
        matrices = [matrix.T for matrix in products[6 * i : 6 * i + 6]]
        for j, (first, second) in ((1, matrices[:2]), (2, matrices[4:])):
            put(f"{ours}.norm_feed_forward{j}", *_named(tensors, f"{its}.ffn{j}.norm"))
            put(f"{ours}.feed_forward{j}.linear1", first, tensors[f"{its}.ffn{j}.fc1.bias"])
            put(f"{ours}.feed_forward{j}.linear2", second, tensors[f"{its}.ffn{j}.fc2.bias"])
        put(f"{ours}.norm_self_att", *_named(tensors, f"{its}.attn_norm"))
        in_projections = zip(np.split(matrices[2], 3), np.split(tensors[f"{its}.attn.in_proj_bias"], 3), strict=True)
        for letter, (weight, offset) in zip("qkv", in_projections, strict=True):
            put(f"{ours}.self_attn.linear_{letter}", weight, offset)
        put(f"{ours}.self_attn.linear_out", matrices[3], tensors[f"{its}.attn.out_proj.bias"])
        put(f"{ours}.norm_conv", *_named(tensors, f"{its}.conv.norm"))
        for j in (1, 2):
            put(f"{ours}.conv.pointwise_conv{j}", *_named(tensors, f"{its}.conv.pointwise{j}"))
        put(f"{ours}.conv.depthwise_conv", depthwise, bias)
        put(f"{ours}.conv.batch_norm", np.ones(len(bias)), np.zeros(len(bias)))  # folded into the convolution
        put(f"{ours}.norm_out", *_named(tensors, f"{its}.norm"))
    return {name: torch.from_numpy(array.astype(np.float32)) for name, array in found.items()}


def _named(tensors: Tensors, name: str) -> Sequence[np.ndarray]:
    return tensors[f"{name}.weight"], tensors[f"{name}.bias"]


def _check_features(acoustic: AcousticModel, tensors: Tensors) -> None:
    """Raise ValueError if the file's Fourier kernels or mel filters, which it holds as tensors, differ from ours."""
    features = acoustic.features
    assert isinstance(features, LogMel)
    cosine, sine = features.basis.chunk(2)
    own = {"stft_real_kernel": cosine, "stft_imag_kernel": sine, "mel_fb": features.mel.T}
    for name, tensor in own.items():
        array, expected = np.abs(tensors[name]), np.abs(tensor.numpy())  # a sine's sign has no influence on the power
        if array.shape != expected.shape or np.abs(array - expected).max() > _FEATURE_TOLERANCE * expected.max():
            raise ValueError(f"{name} differs from the features of hama 1.7")
