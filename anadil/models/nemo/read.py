"""Build a model from a NeMo archive or checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anadil.errors import AnadilError
from anadil.models.acoustic import AcousticModel, LoadedModel, empty_model
from anadil.models.features import WINDOWS, FeatureSettings, mel_filterbank
from anadil.models.nemo.archive import Archive, read_archive
from anadil.models.nemo.config import Findings, NemoSettings, read_config
from anadil.models.nemo.interpolation import resolve
from anadil.models.nemo.labels import (
    pieces_to_labels,
    read_vocabulary,
    rules_for,
    tokenizer_files,
    tokenizer_kind,
)
from anadil.models.quartznet import QuartzNetSettings
from anadil.models.summary import count_parameters
from anadil.text.subwords import sentencepieces

_SMALL = 10_000_000
"""Parameters that may be built before each tensor is compared."""

_FEATURE_TOLERANCE = 1e-4
"""Largest deviation of the archive's window and mel filters from Anadil's, as a share of their largest value."""


@dataclass(frozen=True)
class NemoModel:
    """A model read from an archive, and what a model folder keeps beside it."""

    loaded: LoadedModel
    config: dict[str, Any]  # of the archive, with interpolations resolved
    files: dict[str, bytes]  # of the tokenizer, by their names in a model folder
    left_out: list[str]  # what has no counterpart in Anadil
    source: str  # file name, NeMo version and model class


def read_nemo(
    path: Path, language: str = "und", config_file: Path | None = None, tokenizer: Path | None = None
) -> NemoModel:
    """Build the model that the archive's config describes, with its weights, in evaluation mode.

    `config_file` and `tokenizer` (a folder) are for checkpoints that do not hold them. Raises AnadilError if the file is
    no archive, holds anything unsafe, or holds a model that Anadil does not support.
    """
    archive = read_archive(path, config_file)
    config, unresolved = resolve(archive.config, str(path))
    findings = Findings(left_out=[f"{option} (cannot be resolved)" for option in unresolved])
    settings = read_config(config, str(path), findings)
    artifacts = archive.artifacts | _read_tokenizer(tokenizer)
    files = tokenizer_files(config, artifacts, findings)
    kind = tokenizer_kind(config)
    labels = pieces_to_labels(read_vocabulary(settings.vocabulary, files, str(path)), kind, str(path))
    _require_size(archive, settings, len(labels))
    acoustic = AcousticModel(settings.features, settings.model, len(labels))
    _load_weights(acoustic, archive, settings)
    _check_features(archive, settings.features)
    subwords = _subwords(files, labels, kind, str(path), findings)
    rules, changed = rules_for(labels, language, subwords)
    if changed:
        findings.left_out.append(f"labels that the rules of {language} change: {' '.join(changed)}")
    loaded = LoadedModel(path.stem, acoustic.eval(), rules)
    version = config.get("nemo_version")
    target = str(config.get("target", "")).rpartition(".")[2]
    source = f"{path.name}, NeMo {version or 'of unknown version'}, {target or 'a CTC model'}"
    return NemoModel(loaded, config, files, findings.left_out, source)


def _require_size(archive: Archive, settings: NemoSettings, n_labels: int) -> None:
    """Raise AnadilError, before memory is taken, if the config describes a much larger model than the weights are."""
    n_described = count_parameters(empty_model(settings.features, settings.model, n_labels))
    n_there = sum(tensor.numel() for tensor in archive.weights.values())
    if n_described > 2 * n_there + _SMALL:
        raise AnadilError(
            f"{archive.path}: the weights do not fit the config: it describes {n_described:,} parameters, and there are "
            f"{n_there:,}\n  next: copy the file again"
        )


def _read_tokenizer(folder: Path | None) -> dict[str, bytes]:
    """The files of a tokenizer by name. Raises AnadilError if the folder has none."""
    if folder is None:
        return {}
    files = {file.name: file.read_bytes() for file in folder.glob("*") if file.suffix in (".model", ".txt", ".vocab")}
    if not files:
        raise AnadilError(f"no tokenizer in {folder}: looked for tokenizer.model, vocab.txt and tokenizer.vocab")
    return files


def _subwords(files: dict[str, bytes], labels: list[str], kind: str | None, where: str, findings: Findings) -> bytes:
    """The archive's SentencePiece model, with which its training texts were encoded, if the labels are its pieces."""
    model = files.get("tokenizer.model", b"")
    if kind != "bpe" or not model:
        return b""
    if pieces_to_labels(sentencepieces(model, where), "bpe", where) != labels:
        findings.left_out.append(
            "tokenizer.model: its pieces are not the labels: texts are encoded longest label first"
        )
        return b""
    return model


def nemo_name(name: str, settings: object) -> str:
    """NeMo's name of a parameter; it differs from Anadil's if the convolutions of a QuartzNet are not masked."""
    if isinstance(settings, QuartzNetSettings) and not settings.conv_mask and name.startswith("encoder."):
        return name.replace(".conv.weight", ".weight")
    return name


def _load_weights(acoustic: AcousticModel, archive: Archive, settings: NemoSettings) -> None:
    """Copy the archive's weights into the network.

    Raises AnadilError for tensors that are missing, have another shape, are not finite, or are unknown.
    """
    weights = dict(archive.weights)
    state: dict[str, Tensor] = {}
    wrong = []
    for name, own in acoustic.network.state_dict().items():
        key = nemo_name(name, settings.model)
        if settings.hybrid and key.startswith("decoder."):
            key = "ctc_" + key
        tensor = weights.pop(key, None)
        if tensor is None:
            wrong.append(f"{key} is missing")
        elif tensor.shape != own.shape or tensor.is_sparse or tensor.is_quantized:
            wrong.append(f"{key} is {tuple(tensor.shape)}, expected from the config is {tuple(own.shape)}")
        elif tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            wrong.append(f"{key} holds NaN or infinity")
        else:
            state[name] = tensor.to(own.dtype)
    unused: tuple[str, ...] = ("preprocessor.", "spec_augmentation.", "encoder.pos_enc.pe")
    unused += ("decoder.", "joint.", "loss.", "ctc_loss.") if settings.hybrid else ("loss.",)
    wrong += [f"{name} has no place in the model" for name in weights if not name.startswith(unused)]
    if wrong:
        listed = "\n  ".join([*wrong[:8], *([f"... and {len(wrong) - 8} more"] if len(wrong) > 8 else [])])
        raise AnadilError(
            f"{archive.path}: the weights do not fit the config:\n  {listed}\n  next: copy the file again"
        )
    acoustic.network.load_state_dict(state)


def _check_features(archive: Archive, settings: FeatureSettings) -> None:
    """Raise AnadilError if the archive's window or mel filters, which it holds as tensors, differ from Anadil's."""
    own = {
        "preprocessor.featurizer.window": WINDOWS[settings.window](settings.window_length),
        "preprocessor.featurizer.fb": mel_filterbank(settings)[None],
    }
    for name, array in own.items():
        tensor = archive.weights.get(name)
        if tensor is None:
            continue
        same_shape = tuple(tensor.shape) == array.shape and tensor.is_floating_point() and not tensor.is_sparse
        expected = torch.from_numpy(array).double()
        # `not <=`, so that NaN is refused too
        if not same_shape or not (tensor.double() - expected).abs().max() <= _FEATURE_TOLERANCE * expected.abs().max():
            raise AnadilError(
                f"{archive.path}: {name} differs from what the section preprocessor describes: not supported"
            )
