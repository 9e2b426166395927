"""The acoustic model, from waveforms to CTC log-probs, and the model folder on disk."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias, get_args

from pydantic import Discriminator, Tag
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from anadil.data.pauses import NOT_MEASURED, PauseLimits
from anadil.errors import AnadilError
from anadil.files import whole_folder
from anadil.models.conformer import Conformer, ConformerSettings
from anadil.models.features import FeatureAugmentation, FeatureSettings, LogMel
from anadil.models.hugging_face.network import FilterBank, HuggingFace, W2vBertSettings, Wav2Vec2Settings, Waveform
from anadil.models.quartznet import QuartzNet, QuartzNetSettings
from anadil.settings import parse, read_yaml
from anadil.text.rules import TextRules, TextSettings, TokenizerSettings, first_rules, text_rules
from anadil.text.tokenizer import read_subwords

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.yaml", "README.md"

AnySettings: TypeAlias = QuartzNetSettings | ConformerSettings | Wav2Vec2Settings | W2vBertSettings
"""Section `model` of a config, of any family."""

FAMILIES: dict[str, type[AnySettings]] = {
    kind: family
    for family in (QuartzNetSettings, ConformerSettings, Wav2Vec2Settings, W2vBertSettings)
    for kind in get_args(family.model_fields["kind"].annotation)
}
"""The class of settings for each `model.kind`."""

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
        n_hops = 2
        while self.frame_count(n_hops * self.features.hop) < 1:
            n_hops += 1
        return n_hops * self.features.hop

    def forward(
        self, waveforms: Tensor, sample_counts: Tensor, augment: FeatureAugmentation | None = None
    ) -> tuple[Tensor, Tensor]:
        """Float32 (batch, samples) and int64 (batch,) to log-probs (batch, frames, labels + blank) and frame counts."""
        features, frame_counts = self.features(waveforms, sample_counts)
        if isinstance(self.network, HuggingFace):  # it applies SpecAugment after its projection of the features
            log_probs, frame_counts = self.network(features, frame_counts, augment)
            return log_probs, frame_counts
        if augment is not None:
            features, frame_counts = augment(features, frame_counts)
        log_probs, frame_counts = self.network(features, frame_counts)
        return log_probs, frame_counts


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
    features = parse(FeatureSettings, _section(data, "features"), where)
    model = _parse_model(_section(data, "model"), where)
    text = _section(data, "text")
    tokenizer = parse(TokenizerSettings, _section(data, "tokenizer"), where)
    labels = tokenizer.labels
    if isinstance(labels, str):
        raise AnadilError(f"{where}: tokenizer.labels must be a list in a model folder, found {labels!r}")
    language = str(data.get("language", "und"))
    if "saved" not in text:  # written before there were language files
        rules = first_rules(text, language, labels)
    else:
        subwords = read_subwords(folder, tokenizer.kind, labels)
        rules = text_rules(language, parse(TextSettings, text, where), labels, subwords, check=False)
    try:
        weights = load_file(folder / WEIGHTS)
        acoustic = AcousticModel(features, _with_saved_preset(model, weights), len(labels))
        acoustic.network.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise AnadilError(
            f"{folder / WEIGHTS}: the weights do not fit the config: {error}\n  next: copy the folder again"
        ) from error
    return LoadedModel(
        str(data.get("name", folder.name)), acoustic.eval(), rules, _pauses(_section(data, "data"), where)
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


def _section(data: dict[str, Any], name: str) -> dict[str, Any]:
    section = data.get(name) or {}
    if not isinstance(section, dict):
        raise AnadilError(f"{CONFIG}: section {name!r} must hold keys, found {section!r}")
    return section


def _parse_model(section: dict[str, Any], where: str) -> AnySettings:
    name = section.get("kind", "quartznet")
    if name not in _KINDS:
        raise AnadilError(f"{where}: model.kind: {name!r} is not known; known are {', '.join(_KINDS)}")
    return parse(FAMILIES[name], section, where)
