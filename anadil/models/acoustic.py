"""The acoustic model, from waveforms to CTC log-probs, and the model folder on disk."""

from __future__ import annotations

import shutil
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias, get_args

import torch
from pydantic import Discriminator, Tag
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from anadil.data.pauses import NOT_MEASURED, PauseLimits
from anadil.errors import AnadilError, shortened
from anadil.files import whole_folder
from anadil.models.conformer import Conformer, ConformerSettings
from anadil.models.features import FeatureAugmentation, FeatureSettings, LogMel, length_mask
from anadil.models.hugging_face.network import FilterBank, HuggingFace, W2vBertSettings, Wav2Vec2Settings, Waveform
from anadil.models.quartznet import QuartzNet, QuartzNetSettings
from anadil.settings import parse, read_yaml
from anadil.text.rules import TextRules, TextSettings, TokenizerSettings, first_rules, text_rules
from anadil.text.tokenizer import read_subwords

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.yaml", "README.md"

MAX_FRAME_S = 1.0
"""The longest time from one output frame to the next."""

SECTIONS = ("name", "language", "data", "text", "tokenizer", "features", "augment", "model", "init", "lm", "training")
"""The keys of a config; training/config.py has a field for each."""

AnySettings: TypeAlias = QuartzNetSettings | ConformerSettings | Wav2Vec2Settings | W2vBertSettings
"""Section `model` of a config, of any family."""

FAMILIES: dict[str, type[AnySettings]] = {
    kind: family
    for family in (QuartzNetSettings, ConformerSettings, Wav2Vec2Settings, W2vBertSettings)
    for kind in get_args(family.model_fields["kind"].annotation)
}
"""The class of settings for each `model.kind`."""

HUGGING_FACE = tuple(kind for kind, family in FAMILIES.items() if family in (Wav2Vec2Settings, W2vBertSettings))
"""The kinds of model that compute their own features."""

_KINDS = tuple(FAMILIES)  # a tuple, because a wrong kind in a file may be unhashable


def _family(value: Any) -> str | None:
    kind = value.get("kind", "quartznet") if isinstance(value, dict) else getattr(value, "kind", None)
    return FAMILIES[kind].__name__ if kind in _KINDS else None


ModelSettings = Annotated[
    Annotated[QuartzNetSettings, Tag("QuartzNetSettings")]
    | Annotated[ConformerSettings, Tag("ConformerSettings")]
    | Annotated[Wav2Vec2Settings, Tag("Wav2Vec2Settings")]
    | Annotated[W2vBertSettings, Tag("W2vBertSettings")],
    Discriminator(
        _family,
        custom_error_type="unknown_kind",
        custom_error_message=f"the section must hold keys, and kind must be one of {', '.join(_KINDS)}",
    ),
]
"""Section `model` of a config, as a pydantic type; the key `kind` chooses the family and is quartznet by default."""


class AcousticModel(nn.Module):
    """Features, an encoder and a CTC head. The blank is the last label.

    Models of Hugging Face compute their own features and ignore the section `features`.
    """

    def __init__(self, features: FeatureSettings, model: AnySettings, n_labels: int) -> None:
        super().__init__()
        self.features: LogMel | Waveform | FilterBank
        self.network: QuartzNet | Conformer | HuggingFace
        if isinstance(model, Wav2Vec2Settings):
            self.features, self.network = Waveform(model), HuggingFace(model, n_labels)
        elif isinstance(model, W2vBertSettings):
            self.features, self.network = FilterBank(model), HuggingFace(model, n_labels)
        elif isinstance(model, ConformerSettings):
            self.features, self.network = LogMel(features), Conformer(model, features.width, n_labels)
        else:
            self.features, self.network = LogMel(features), QuartzNet(model, features.width, n_labels)
        if self.frame_s > MAX_FRAME_S:
            raise AnadilError(
                f"model: one output frame every {self.frame_s:g} s, allowed is {MAX_FRAME_S:g} s: speech has 10 letters "
                "a second\n  next: lower the strides"
            )

    @property
    def sample_rate(self) -> int:
        return self.features.sample_rate

    @property
    def feature_settings(self) -> FeatureSettings:
        """Section `features`; for a model of Hugging Face, which ignores it, its defaults."""
        return self.features.settings if isinstance(self.features, LogMel) else FeatureSettings()

    @property
    def frame_s(self) -> float:
        """Seconds from one output frame to the next."""
        return self.features.hop * self.network.settings.stride / self.sample_rate

    def frame_count(self, n_samples: int) -> int:
        """Output frames for one utterance of `n_samples`."""
        return self.network.frame_count(self.features.frame_count(n_samples))

    @property
    def min_samples(self) -> int:
        """Samples that give at least two feature frames and one output frame; shorter audio must be padded to this."""
        hop, most = self.features.hop, 2
        while self.frame_count(most * hop) < 1:
            most *= 2
        return hop * (2 + bisect_left(range(2, most), 1, key=lambda n: min(1, self.frame_count(n * hop))))

    def forward(
        self, waveforms: Tensor, sample_counts: Tensor, augment: FeatureAugmentation | None = None
    ) -> tuple[Tensor, Tensor]:
        """Float32 (batch, samples) and int64 (batch,) to log-probs (batch, frames, labels + blank) and frame counts."""
        features, frame_counts = self.features(waveforms, sample_counts)
        if isinstance(self.network, HuggingFace):  # it applies SpecAugment after its projection of the features
            log_probs, frame_counts = self.network(features, frame_counts, augment)
            return log_probs, frame_counts
        if augment is not None and self.feature_settings.normalize == "none":
            features, frame_counts = _augment_centred(features, frame_counts, augment)
        elif augment is not None:
            features, frame_counts = augment(features, frame_counts)
        log_probs, frame_counts = self.network(features, frame_counts)
        return log_probs, frame_counts


def _augment_centred(features: Tensor, frame_counts: Tensor, augment: FeatureAugmentation) -> tuple[Tensor, Tensor]:
    """Augmented features of each utterance's own means: a mask is 0, which in logarithms of power would be loud."""
    valid = length_mask(frame_counts, features.shape[2]).unsqueeze(1)
    means = features.sum(dim=2, keepdim=True) / frame_counts.clamp(min=1).view(-1, 1, 1)
    augmented, counts = augment((features - means) * valid, frame_counts)
    means = means.repeat(len(augmented) // len(means), 1, 1)  # there may be several copies of the batch
    return (augmented + means) * length_mask(counts, augmented.shape[2]).unsqueeze(1), counts


@dataclass(frozen=True)
class LoadedModel:
    """The contents of a model folder: all that evaluation and export need."""

    name: str
    acoustic: AcousticModel
    rules: TextRules
    pauses: PauseLimits = NOT_MEASURED


def save_model(
    folder: Path,
    acoustic: AcousticModel,
    config_yaml: str,
    card: str,
    files: Mapping[str, bytes] | None = None,
    state: Mapping[str, Tensor] | None = None,
) -> None:
    """Write weights, config, model card and `files` (such as a tokenizer). An earlier folder stays if writing fails.

    `state`: weights to save instead of the network's own, such as merged ones. Raises AnadilError.
    """
    # cloned, because layers may share a parameter, which safetensors refuses
    tensors = {
        name: tensor.detach().cpu().clone().contiguous()
        for name, tensor in (state or acoustic.network.state_dict()).items()
    }
    with whole_folder(folder) as beside:
        (beside / CONFIG).write_text(config_yaml, encoding="utf-8")
        (beside / CARD).write_text(card, encoding="utf-8")
        for name, content in (files or {}).items():
            (beside / name).write_bytes(content)
        try:
            save_file(tensors, beside / WEIGHTS)
        except SafetensorError as error:  # raised for I/O errors too
            raise OSError(str(error)) from error
        shutil.copymode(beside / CONFIG, beside / WEIGHTS)  # safetensors makes files that only the owner can read


def load_model(folder: Path) -> LoadedModel:
    """Read a model folder; the model is in evaluation mode, on the CPU. Raises AnadilError if it is missing or damaged."""
    data = read_yaml(folder / CONFIG)
    where = str(folder / CONFIG)
    _check_sections(data, where)
    features = parse(FeatureSettings, _section(data, "features"), where)
    model = _parse_model(_section(data, "model"), where)
    text = _section(data, "text")
    tokenizer = parse(TokenizerSettings, _section(data, "tokenizer"), where)
    labels = tokenizer.labels
    if isinstance(labels, str) or not labels:
        raise AnadilError(f"{where}: tokenizer.labels must be a list of labels in a model folder, found {labels!r}")
    language = str(data.get("language", "und"))
    if "saved" not in text:  # written before there were language files
        rules = first_rules(text, language, labels)
    else:
        subwords = read_subwords(folder, tokenizer.kind, labels)
        rules = text_rules(language, parse(TextSettings, text, where), labels, subwords, check=False)
    try:
        weights = load_file(folder / WEIGHTS)
        model = _with_saved_preset(model, weights)
        _require_fit(features, model, len(labels), weights)
        acoustic = AcousticModel(features, model, len(labels))
        acoustic.network.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise AnadilError(
            f"{folder / WEIGHTS}: the weights do not fit the config: {shortened(str(error), 2000)}\n"
            "  next: copy the folder again"
        ) from error
    return LoadedModel(
        str(data.get("name", folder.name)), acoustic.eval(), rules, _pauses(_section(data, "data"), where)
    )


def _check_sections(data: Mapping[str, Any], where: str) -> None:
    """Raise AnadilError for a section that is unknown, is no section, or has no effect on this kind of model."""
    unknown = [str(key) for key in data if key not in SECTIONS]
    if unknown:
        raise AnadilError(
            f"{where}: unknown key {shortened(', '.join(unknown))}; known are {', '.join(SECTIONS)}\n"
            "  next: correct the key, or copy the folder again"
        )
    for name in SECTIONS[2:]:
        _section(data, name)
    for name in SECTIONS[:2]:
        if not isinstance(data.get(name, ""), str):
            raise AnadilError(f"{where}: {name} must be text, found {shortened(repr(data[name]))}")
    kind = _section(data, "model").get("kind")
    if (
        kind in HUGGING_FACE
        and (given := _section(data, "features"))
        and FeatureSettings() != parse(FeatureSettings, given, where)
    ):
        raise AnadilError(f"{where}: features: a model of kind {kind} has its own features: omit the section")


def empty_model(features: FeatureSettings, model: AnySettings, n_labels: int) -> AcousticModel:
    """The model without memory for its weights, to learn their names and shapes."""
    with torch.device("meta"):
        return AcousticModel(features, model, n_labels)


def _require_fit(features: FeatureSettings, model: AnySettings, n_labels: int, weights: Mapping[str, Tensor]) -> None:
    """Raise ValueError that lists weights which are missing, unknown, of another shape, or not finite.

    Before the model is built: a config that lies about its size would take all memory.
    """
    shapes = {
        name: tensor.shape for name, tensor in empty_model(features, model, n_labels).network.state_dict().items()
    }
    wrong = [f"{name} is missing" for name in shapes if name not in weights]
    for name, tensor in weights.items():
        if name not in shapes:
            wrong.append(f"{name} has no place in the model")
        elif tensor.shape != shapes[name]:
            wrong.append(f"{name} is {tuple(tensor.shape)}, expected from the config is {tuple(shapes[name])}")
        elif tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            wrong.append(f"{name} holds NaN or infinity")
    if wrong:
        raise ValueError(
            "\n  ".join(["", *wrong[:8], *([f"... and {len(wrong) - 8:,} more"] if len(wrong) > 8 else [])])
        )


def _pauses(section: dict[str, Any], where: str) -> PauseLimits:
    """What the section `data` holds of the training's silence."""
    limits = section.get("longest_pause"), section.get("pause_margin")
    if limits == (None, None):
        return NOT_MEASURED
    if not all(isinstance(limit, int | float) and 0 <= limit <= 60 for limit in limits):
        raise AnadilError(
            f"{where}: data.longest_pause and data.pause_margin must be seconds from 0 to 60, found {limits}"
        )
    return PauseLimits(*map(float, limits))  # type: ignore[arg-type]


def _with_saved_preset(model: AnySettings, weights: Mapping[str, Tensor]) -> AnySettings:
    """The settings with the preset that the weights have: the default was once "small", and old models omit it."""
    unnamed = isinstance(model, QuartzNetSettings) and model.preset is None and model.blocks is None
    has_stem = any(name.startswith("encoder.stem.") for name in weights)
    return model.model_copy(update={"preset": "small"}) if unnamed and not has_stem else model


def _section(data: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = data.get(name) or {}
    if not isinstance(section, dict):
        raise AnadilError(f"{CONFIG}: section {name!r} must hold keys, found {shortened(repr(section))}")
    return section


def _parse_model(section: dict[str, Any], where: str) -> AnySettings:
    name = section.get("kind", "quartznet")
    if name not in _KINDS:
        raise AnadilError(f"{where}: model.kind: {shortened(repr(name))} is not known; known are {', '.join(_KINDS)}")
    return parse(FAMILIES[name], section, where)
