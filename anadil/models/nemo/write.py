"""Write a model folder as a `.nemo` that NeMo can restore."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from anadil.errors import AnadilError
from anadil.files import refuse_overwrite, whole_file
from anadil.models.acoustic import AcousticModel, load_model
from anadil.models.conformer import ConformerSettings
from anadil.models.features import WINDOWS, FeatureSettings, mel_filterbank
from anadil.models.hugging_face.network import HuggingFace
from anadil.models.nemo.archive import CONFIG, WEIGHTS
from anadil.models.nemo.labels import TOKENIZER_FILES, labels_to_pieces, tokenizer_kind
from anadil.models.nemo.read import nemo_name
from anadil.models.quartznet import BlockSettings, QuartzNetSettings
from anadil.settings import dump_mapping, read_yaml
from anadil.text.subwords import sentencepieces

KEPT_CONFIG = "nemo.yaml"
"""File in a model folder that was converted from NeMo: the config of the archive."""

_MODULES = "nemo.collections.asr.modules"
_REPLACED = ("preprocessor", "encoder", "decoder", "labels", "tokenizer", "target", "sample_rate")
"""Keys of a kept config that are written anew."""

_HYBRID_ONLY = ("aux_ctc", "joint", "loss", "decoding", "model_defaults")
"""Keys of a hybrid model's kept config that a model with only a CTC head must not have."""


def write_nemo(folder: Path, out: Path, force: bool = False) -> None:
    """Write a model folder as a `.nemo`.

    If the folder keeps a NeMo config, its other sections (optim, decoding) are copied. Raises AnadilError if `out` exists,
    the folder is no model folder, or the model has no counterpart in NeMo.
    """
    refuse_overwrite(out, force)
    if out.is_dir():
        raise AnadilError(
            f"{out} is a folder\n  next: give the name of a file, such as --out {out / (folder.name + '.nemo')}"
        )
    model = load_model(folder)
    if isinstance(model.acoustic.network, HuggingFace):
        raise AnadilError(
            f"{folder}: a model of kind {model.acoustic.network.settings.kind} has no counterpart in NeMo"
        )
    kept = read_yaml(folder / KEPT_CONFIG) if (folder / KEPT_CONFIG).is_file() else {}
    files = {name: (folder / name).read_bytes() for name in TOKENIZER_FILES if (folder / name).is_file()}
    config, artifacts = _config(model.acoustic, model.rules.labels, kept, files, str(folder))
    with whole_file(out) as beside, tarfile.open(beside, "w:") as tar:
        _add(tar, CONFIG, dump_mapping(config).encode("utf-8"))
        _add(tar, WEIGHTS, _weights(model.acoustic))
        for name, content in artifacts.items():
            _add(tar, name, content)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(f"./{name}")
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _weights(acoustic: AcousticModel) -> bytes:
    settings, features = acoustic.network.settings, acoustic.feature_settings
    state = {
        "preprocessor.featurizer.window": torch.from_numpy(WINDOWS[features.window](features.window_length)).float(),
        "preprocessor.featurizer.fb": torch.from_numpy(mel_filterbank(features))[None],
    }
    state |= {nemo_name(name, settings): tensor for name, tensor in acoustic.network.state_dict().items()}
    content = io.BytesIO()
    torch.save({name: tensor.detach().cpu().clone() for name, tensor in state.items()}, content)
    return content.getvalue()


def _config(
    acoustic: AcousticModel, labels: Sequence[str], kept: dict[str, Any], files: Mapping[str, bytes], where: str
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """NeMo's config, and the tokenizer's files under the names that the config gives them."""
    settings, features = acoustic.network.settings, acoustic.feature_settings
    assert isinstance(settings, QuartzNetSettings | ConformerSettings)
    if features.pad_to is None and _depends_on_padding(settings):
        raise AnadilError(
            f"{where}: the network's results depend on the padding after an utterance, and NeMo pads differently\n"
            "  next: set features.pad_to: 0 in its config.yaml; this changes the results in Anadil too"
        )
    for key, value in (
        ("features.window", features.window),
        ("features.edges", features.edges),
        ("model.subsampling", getattr(settings, "subsampling", None)),
        ("model.self_attention_model", getattr(settings, "self_attention_model", None)),
    ):
        if value in ("ones", "hann_periodic", "reflect", "conv1d", "no_pos"):
            raise AnadilError(f"{where}: {key}: {value} has no counterpart in NeMo")
    dropped = (*_REPLACED, *(_HYBRID_ONLY if "aux_ctc" in kept else ()))
    config = {"sample_rate": features.sample_rate, "preprocessor": _preprocessor(features)}
    encoder = _conformer(settings) if isinstance(settings, ConformerSettings) else _convolutions(settings, where)
    config["encoder"] = {**encoder, "feat_in": features.width}
    kind = tokenizer_kind(kept)
    artifacts: dict[str, bytes] = {}
    vocabulary = list(labels)
    if kind or "tokenizer.model" in files:
        vocabulary, config["tokenizer"], artifacts = _tokenizer(labels, kind or "bpe", files, where)
        config["target"] = "nemo.collections.asr.models.ctc_bpe_models.EncDecCTCModelBPE"
    else:
        config["labels"] = vocabulary
        config["target"] = "nemo.collections.asr.models.ctc_models.EncDecCTCModel"
    width = settings.width if isinstance(settings, ConformerSettings) else settings.resolved_blocks[-1].filters
    config["decoder"] = {
        "_target_": f"{_MODULES}.ConvASRDecoder",
        "feat_in": width,
        "num_classes": len(vocabulary),
        "vocabulary": vocabulary,
    }
    return config | {key: value for key, value in kept.items() if key not in dropped}, artifacts


def _depends_on_padding(settings: QuartzNetSettings | ConformerSettings) -> bool:
    """Whether the frames after an utterance change the network's output for the utterance."""
    if isinstance(settings, QuartzNetSettings):
        return settings.norm != "batch" or not settings.conv_mask
    return settings.conv_norm_type.startswith(("instance", "group")) or settings.subsampling.startswith("stacking")


def _tokenizer(
    labels: Sequence[str], kind: str, files: Mapping[str, bytes], where: str
) -> tuple[list[str], dict[str, Any], dict[str, bytes]]:
    """NeMo's vocabulary, section `tokenizer`, and the files that the section names."""
    pieces = labels_to_pieces(labels, kind)
    needed = "vocab.txt" if kind == "wpe" else "tokenizer.model"
    if needed not in files or kind == "agg":
        raise AnadilError(
            f"{where}: NeMo needs {needed} for this model's tokenizer ({kind}), and it is not in the folder\n"
            "  next: copy it there; for a .ckpt: anadil convert RUN.ckpt --tokenizer FOLDER --out DIR"
        )
    if kind == "bpe" and sentencepieces(files[needed], where) != pieces:
        raise AnadilError(
            f"{where}: tokenizer.labels are not the pieces of tokenizer.model\n  next: restore the one that was changed"
        )
    files = {"vocab.txt": "".join(piece + "\n" for piece in pieces).encode("utf-8"), **files}
    names = {name: f"{hashlib.sha256(content).hexdigest()[:32]}_{name}" for name, content in files.items()}
    section = {"dir": None, "type": kind} | {TOKENIZER_FILES[name]: f"nemo:{names[name]}" for name in names}
    return pieces, section, {names[name]: content for name, content in files.items()}


def _preprocessor(features: FeatureSettings) -> dict[str, Any]:
    return {
        "_target_": f"{_MODULES}.AudioToMelSpectrogramPreprocessor",
        "sample_rate": features.sample_rate,
        "window_size": features.window_size,
        "window_stride": features.window_stride,
        "window": features.window,
        "n_fft": features.fft_size,
        "features": features.mels,
        "lowfreq": features.low_hz,
        "highfreq": features.high_hz,
        "preemph": features.preemphasis,
        "dither": features.dither,
        "normalize": "NA" if features.normalize == "none" else features.normalize,
        "mel_norm": None if features.mel_norm == "none" else features.mel_norm,
        "mag_power": features.magnitude_power,
        "log": features.log,
        "log_zero_guard_type": features.log_guard_type,
        "log_zero_guard_value": features.log_guard,
        "frame_splicing": features.frame_splicing,
        "exact_pad": features.exact_pad,
        "pad_to": features.pad_to or 0,
        "pad_value": features.pad_value,
    }


def _convolutions(settings: QuartzNetSettings, where: str) -> dict[str, Any]:
    unsupported = any(block.upsample > 1 or not block.residual_projection for block in settings.resolved_blocks)
    if settings.resolved_stem is not None or unsupported or settings.conditioned_places:
        raise AnadilError(
            f"{where}: a stem, upsample, self_conditioned and residual_projection: false have no counterpart in NeMo\n"
            "  next: train with model.preset=small for a model that NeMo can read"
        )
    return {
        "_target_": f"{_MODULES}.ConvASREncoder",
        "activation": settings.activation,
        "conv_mask": settings.conv_mask,
        "normalization_mode": settings.norm,
        "norm_groups": settings.norm_groups or -1,
        "jasper": [_block(block, where) for block in settings.resolved_blocks],
    }


def _block(block: BlockSettings, where: str) -> dict[str, Any]:
    if block.residual and block.total_stride != block.stride:
        raise AnadilError(
            f"{where}: a residual around {block.repeat} convolutions of stride {block.stride} has no counterpart in NeMo"
        )
    mode = "max" if block.residual_mode == "max" else "stride_add" if block.total_stride > 1 else "add"
    data: dict[str, Any] = {
        "filters": block.filters,
        "repeat": block.repeat,
        "kernel": [block.kernel],
        "stride": [block.stride],
        "dilation": [block.dilation],
        "dropout": block.dropout,
        "residual": block.residual,
        "residual_mode": mode,
        "separable": block.separable,
        "stride_last": block.stride_last,
        "residual_dense": block.residual_dense,
        "groups": block.groups,
        "heads": block.heads or -1,
        "future_context": -1 if block.future_context is None else block.future_context,
    }
    if block.squeeze_excite is not None:
        gate = block.squeeze_excite
        data |= {"se": True, "se_reduction_ratio": gate.reduction, "se_context_size": gate.context or -1}
    return data


def _conformer(settings: ConformerSettings) -> dict[str, Any]:
    data = settings.model_dump(mode="json", exclude={"kind"})
    if len(data["att_context_size"]) == 1:
        data["att_context_size"] = data["att_context_size"][0]
    return {"_target_": f"{_MODULES}.ConformerEncoder", **data, "pos_emb_max_len": 5000}
