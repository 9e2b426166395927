"""The acoustic model: waveforms in, CTC log-probs out; and its folder on disk."""

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

FAMILIES: dict[str, type[AnySettings]] = {
    kind: family
    for family in (QuartzNetSettings, ConformerSettings, Wav2Vec2Settings, W2vBertSettings)
    for kind in get_args(family.model_fields["kind"].annotation)
}
"""Settings by `model.kind`."""

KINDS = tuple(FAMILIES)


def _family(value: Any) -> str | None:
    kind = value.get("kind", "quartznet") if isinstance(value, dict) else getattr(value, "kind", None)
    return FAMILIES[kind].__name__ if kind in KINDS else None


ModelSettings = Annotated[
    Annotated[QuartzNetSettings, Tag("QuartzNetSettings")]
    | Annotated[ConformerSettings, Tag("ConformerSettings")]
    | Annotated[Wav2Vec2Settings, Tag("Wav2Vec2Settings")]
    | Annotated[W2vBertSettings, Tag("W2vBertSettings")],
    Discriminator(
        _family,
        custom_error_type="unknown_kind",
        custom_error_message=f"the section must hold keys, and its kind be one of {', '.join(KINDS)}",
    ),
]
"""Section `model` of a config; `kind` says which, quartznet if it is left out."""


class AcousticModel(nn.Module):
    """Features and an encoder with a CTC head. The blank is the last label.

    Hugging Face's models bring features of their own: the section `features` is not theirs.
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
        """The section `features`; its defaults, which mean nothing, for a model with features of its own."""
        return self.features.settings if isinstance(self.features, LogMel) else FeatureSettings()

    @property
    def frame_s(self) -> float:
        """Seconds from one output frame to the next."""
        return self.features.hop * self.network.settings.stride / self.sample_rate

    def frame_count(self, n_samples: int) -> int:
        """Output frames for one utterance of so many samples."""
        return self.network.frame_count(self.features.frame_count(n_samples))

    @property
    def min_samples(self) -> int:
        """What gives two feature frames and one output frame; shorter audio is padded."""
        n_hops = 2
        while self.frame_count(n_hops * self.features.hop) < 1:
            n_hops += 1
        return n_hops * self.features.hop

    def forward(
        self, waveforms: Tensor, sample_counts: Tensor, augment: FeatureAugmentation | None = None
    ) -> tuple[Tensor, Tensor]:
        """Float32 (batch, samples) and int64 (batch,) to log-probs (batch, frames, labels + blank) and frame counts."""
        features, frame_counts = self.features(waveforms, sample_counts)
        if isinstance(self.network, HuggingFace):  # its features are masked further in
            log_probs, frame_counts = self.network(features, frame_counts, augment)
            return log_probs, frame_counts
        if augment is not None:
            features, frame_counts = augment(features, frame_counts)
        log_probs, frame_counts = self.network(features, frame_counts)
        return log_probs, frame_counts


@dataclass(frozen=True)
class LoadedModel:
    """A model folder, read: all that evaluation and export need."""

    name: str
    acoustic: AcousticModel
    rules: TextRules


def save_model(
    folder: Path,
    acoustic: AcousticModel,
    config_yaml: str,
    card: str,
    files: Mapping[str, bytes] | None = None,
    state: Mapping[str, Tensor] | None = None,
) -> None:
    """Write weights, config, model card and `files` (a tokenizer); the folder appears whole or the earlier one stays.

    `state` is the network's, if it is to be saved otherwise than it is. Raises AnadilError.
    """
    # cloned, because layers may share a parameter, and safetensors keeps each of them
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
        except SafetensorError as error:  # its own name for an I/O error
            raise OSError(str(error)) from error
        shutil.copymode(beside / CONFIG, beside / WEIGHTS)  # safetensors lets the owner alone read its files


def load_model(folder: Path) -> LoadedModel:
    """Read a model folder, in evaluation mode on the CPU. Raises AnadilError if it is not one, or damaged."""
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
    if "saved" not in text:  # written before languages had files
        rules = first_rules(text, language, labels)
    else:
        subwords = read_subwords(folder, tokenizer.kind, labels)
        rules = text_rules(language, parse(TextSettings, text, where), labels, subwords, check=False)
    try:
        weights = load_file(folder / WEIGHTS)
        acoustic = AcousticModel(features, _as_it_was(model, weights), len(labels))
        acoustic.network.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise AnadilError(
            f"{folder / WEIGHTS}: the weights do not fit the config: {error}\n  next: copy the folder again"
        ) from error
    return LoadedModel(str(data.get("name", folder.name)), acoustic.eval(), rules)


def _as_it_was(model: AnySettings, weights: Mapping[str, Tensor]) -> AnySettings:
    """The default preset was "small" once, and models saved then do not name it."""
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
    if name not in KINDS:
        raise AnadilError(f"{where}: model.kind: {name!r} is not known; known are {', '.join(KINDS)}")
    return parse(FAMILIES[name], section, where)
