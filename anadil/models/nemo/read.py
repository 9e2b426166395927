"""A NeMo archive or checkpoint as a model of ours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anadil.errors import AnadilError
from anadil.models.acoustic import AcousticModel, LoadedModel
from anadil.models.features import WINDOWS, FeatureSettings, mel_filterbank
from anadil.models.nemo.archive import Archive, read_archive
from anadil.models.nemo.config import Findings, NemoSettings, read_config
from anadil.models.nemo.interpolation import resolve
from anadil.models.nemo.labels import (
    labels_from,
    read_vocabulary,
    rules_for,
    sentencepieces,
    tokenizer_files,
    tokenizer_kind,
)
from anadil.models.quartznet import QuartzNetSettings

FEATURE_TOLERANCE = 1e-4
"""Of the archive's own window and mel filters, as a share of their largest value."""


@dataclass(frozen=True)
class NemoModel:
    """What an archive gave: the model, and what a model folder keeps beside it."""

    loaded: LoadedModel
    config: dict[str, Any]  # NeMo's own, interpolations resolved
    files: dict[str, bytes]  # of the tokenizer, by their names in a model folder
    left_out: list[str]
    source: str  # what it was made from, in words


def load_nemo(path: Path) -> LoadedModel:
    """A `.nemo` or `.ckpt` as a model in evaluation mode. Raises AnadilError as `read_nemo`."""
    return read_nemo(path).loaded


def read_nemo(
    path: Path, language: str = "und", config_file: Path | None = None, tokenizer: Path | None = None
) -> NemoModel:
    """Build the model that the archive's config describes, with its weights.

    `config_file` and `tokenizer` (a folder) are for checkpoints that come without them. Raises AnadilError if the
    file is no archive, holds anything unsafe, or is of a model that Anadil does not have.
    """
    archive = read_archive(path, config_file)
    config, unresolved = resolve(archive.config, str(path))
    findings = Findings(left_out=[f"{one} (cannot be resolved)" for one in unresolved])
    settings = read_config(config, str(path), findings)
    artifacts = archive.artifacts | _files_of(tokenizer)
    files = tokenizer_files(config, artifacts, findings)
    kind = tokenizer_kind(config)
    labels = labels_from(read_vocabulary(settings.vocabulary, files, str(path)), kind, str(path))
    acoustic = AcousticModel(settings.features, settings.model, len(labels))
    _fill(acoustic, archive, settings)
    _check_features(archive, settings.features)
    name = path.stem
    subwords = _subwords(files, labels, kind, str(path), findings)
    rules, strange = rules_for(labels, language, subwords)
    if strange:
        findings.left_out.append(f"labels that the rules of {language} write otherwise: {' '.join(strange)}")
    loaded = LoadedModel(name, acoustic.eval(), rules)
    version = config.get("nemo_version")
    target = str(config.get("target", "")).rpartition(".")[2]
    source = f"{path.name}, NeMo {version or 'of unknown version'}, {target or 'a CTC model'}"
    return NemoModel(loaded, config, files, findings.left_out, source)


def _subwords(files: dict[str, bytes], labels: list[str], kind: str | None, where: str, findings: Findings) -> bytes:
    """The archive's SentencePiece model, by which its texts were encoded, if the labels are its pieces."""
    model = files.get("tokenizer.model", b"")
    if kind != "bpe" or not model:
        return b""
    if labels_from(sentencepieces(model, where), "bpe", where) != labels:
        findings.left_out.append(
            "tokenizer.model: its pieces are not the labels: texts are encoded longest label first"
        )
        return b""
    return model


def nemo_name(name: str, settings: QuartzNetSettings | object) -> str:
    """NeMo's name of one of our parameters; they differ where NeMo's convolutions are not masked."""
    if isinstance(settings, QuartzNetSettings) and not settings.conv_mask and name.startswith("encoder."):
        return name.replace(".conv.weight", ".weight")
    return name


def _files_of(folder: Path | None) -> dict[str, bytes]:
    if folder is None:
        return {}
    found = {file.name: file.read_bytes() for file in folder.glob("*") if file.suffix in (".model", ".txt", ".vocab")}
    if not found:
        raise AnadilError(f"no tokenizer in {folder}: looked for tokenizer.model, vocab.txt and tokenizer.vocab")
    return found


def _fill(acoustic: AcousticModel, archive: Archive, settings: NemoSettings) -> None:
    """Raises AnadilError for tensors that are missing, of another shape, or that no part of the model takes."""
    weights = dict(archive.weights)
    state: dict[str, Tensor] = {}
    wrong = []
    for name, ours in acoustic.network.state_dict().items():
        theirs = nemo_name(name, settings.model)
        if settings.hybrid and theirs.startswith("decoder."):
            theirs = "ctc_" + theirs
        found = weights.pop(theirs, None)
        if found is None:
            wrong.append(f"{theirs} is missing")
        elif found.shape != ours.shape or found.is_sparse or found.is_quantized:
            wrong.append(f"{theirs} is {tuple(found.shape)}, the config wants {tuple(ours.shape)}")
        elif found.is_floating_point() and not bool(torch.isfinite(found).all()):
            wrong.append(f"{theirs} holds NaN or infinity")
        else:
            state[name] = found.to(ours.dtype)
    expected: tuple[str, ...] = ("preprocessor.", "spec_augmentation.", "encoder.pos_enc.pe")
    expected += ("decoder.", "joint.", "loss.", "ctc_loss.") if settings.hybrid else ("loss.",)
    wrong += [f"{name} has no place in the model" for name in weights if not name.startswith(expected)]
    if wrong:
        listed = "\n  ".join([*wrong[:8], *([f"... and {len(wrong) - 8} more"] if len(wrong) > 8 else [])])
        raise AnadilError(
            f"{archive.path}: the weights do not fit the config:\n  {listed}\n  next: copy the file again"
        )
    acoustic.network.load_state_dict(state)


def _check_features(archive: Archive, settings: FeatureSettings) -> None:
    """The archive holds its window and mel filters: they must be ours."""
    ours = {
        "preprocessor.featurizer.window": WINDOWS[settings.window](settings.window_length),
        "preprocessor.featurizer.fb": mel_filterbank(settings)[None],
    }
    for name, expected in ours.items():
        found = archive.weights.get(name)
        if found is None:
            continue
        same = tuple(found.shape) == expected.shape and found.is_floating_point() and not found.is_sparse
        wanted = torch.from_numpy(expected).double()
        # `not <=`, so that NaN is refused too
        if not same or not (found.double() - wanted).abs().max() <= FEATURE_TOLERANCE * wanted.abs().max():
            raise AnadilError(f"{archive.path}: {name} is not what the section preprocessor describes: not supported")
