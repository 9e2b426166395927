"""Build a model from a folder of transformers, or from the id of a model on the hub of Hugging Face."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anadil.errors import AnadilError
from anadil.models.acoustic import FAMILIES, AcousticModel, LoadedModel, empty_model
from anadil.models.features import FeatureSettings
from anadil.models.hugging_face.network import (
    OWN_SETTINGS,
    HuggingFace,
    HuggingFaceSettings,
    W2vBertSettings,
    Wav2Vec2Settings,
    classes_of,
    import_transformers,
    transformers_config,
)
from anadil.models.hugging_face.vocabulary import (
    CONFIG,
    KINDS,
    File,
    read_json,
    read_vocabulary,
    tokens_of_language,
    vocabulary_languages,
)
from anadil.models.nemo.labels import rules_for
from anadil.models.summary import count_parameters
from anadil.settings import found_value, parse

_REQUIRED = {"wav2vec2": {"add_adapter": False}, "hubert": {"conv_pos_batch_norm": False, "add_adapter": False}}
"""Options of config.json that must have this value: with another, padding would change an utterance's result."""

_LANGUAGE_CODE = re.compile(r"[A-Za-z0-9_-]+")
_SHOWN = 5
_MAX_ROWS = 1_000_000
_SMALL = 10_000_000
"""Parameters that may be built before each tensor is compared."""


@dataclass(frozen=True)
class HuggingFaceModel:
    """A model of Hugging Face. Without a CTC head (base models), `loaded` has no labels and an untrained head."""

    loaded: LoadedModel
    has_head: bool
    left_out: list[str]  # groups of weights that have no counterpart in Anadil
    notes: list[str]  # for the user, about the labels
    source: str  # id or folder, version of transformers, and kind
    licence: str | None


def read_hugging_face(source: str, language: str = "und", adapter: str | None = None) -> HuggingFaceModel:
    """Read a folder of transformers, or download a model from the hub. Code in a model never runs.

    `adapter` is the language of MMS's adapter and head. Raises AnadilError if the model does not exist, if its family or
    one of its options is not supported, or if the weights do not fit the config.
    """
    if adapter is not None and not _LANGUAGE_CODE.fullmatch(adapter):
        raise AnadilError(f"adapter {adapter!r} is no language code such as tur or azj-script_latin")
    import_transformers()
    file = _folder(Path(source)) if Path(source).is_dir() else _hub(source)
    config = read_json(file, CONFIG)
    settings = _settings(config, file, source)
    if adapter is not None and getattr(settings, "adapter_attn_dim", None) is None:
        raise AnadilError(f"{source}: --adapter {adapter}, but the model has no adapters (adapter_attn_dim)")
    tokens = read_json(file, "vocab.json")
    tokens_of_language(tokens, source, adapter)  # raises before a gigabyte of weights is loaded
    vocab_size = _vocab_size(config, source)
    _require_size(Path(source), settings, vocab_size)
    model, info = _load(source, settings, vocab_size, adapter)
    has_head = not any(name.startswith("lm_head.") for name in info["missing_keys"])
    labels: list[str] = []
    notes: list[str] = []
    rows = [0]
    if has_head:
        # with several languages, one pad_token_id stands for all their vocabularies
        blank_id = config.get("pad_token_id") if not vocabulary_languages(tokens) else None
        vocabulary = read_vocabulary(file, source, adapter, len(model.lm_head.weight), blank_id, language)
        labels, rows, notes = vocabulary.labels, vocabulary.rows, vocabulary.notes
    acoustic = AcousticModel(FeatureSettings(), settings, len(labels))
    _load_weights(acoustic, model, info, rows, source)
    left_out = sorted({name.partition(".")[0] for name in info["unexpected_keys"]})
    rules, changed = rules_for(labels, language)
    if changed:
        notes.append(f"labels that the rules of {language} change, so that they occur in no text: {' '.join(changed)}")
    name = "-".join(filter(None, [source.rstrip("/").rpartition("/")[2], adapter]))
    description = f"{source}, transformers {config.get('transformers_version', 'of unknown version')}, {settings.kind}"
    description += f", adapter {adapter}" if adapter else ""
    loaded = LoadedModel(name, acoustic.eval(), rules)
    return HuggingFaceModel(loaded, has_head, left_out, notes, description, _licence(file))


def _settings(config: dict[str, Any], file: File, where: str) -> HuggingFaceSettings:
    """Settings from config.json and preprocessor_config.json. Raises AnadilError that names an unsupported option."""
    kind = KINDS.get(str(config.get("model_type")))
    if kind is None:
        raise AnadilError(
            f"{where}: {CONFIG}: model_type {config.get('model_type')!r} is not supported; supported are {', '.join(KINDS)}"
        )
    for option, required in _REQUIRED.get(kind, {}).items():
        if config.get(option, required) != required:
            raise AnadilError(f"{where}: {CONFIG}: {option}: {config[option]} is not supported")
    family = FAMILIES[kind]
    default = classes_of(kind)[0]()
    data = {
        key: config.get(key, getattr(default, key))
        for key in family.model_fields
        if key not in OWN_SETTINGS and hasattr(default, key)
    }
    preprocessor = read_json(file, "preprocessor_config.json")
    preprocessor = preprocessor or read_json(file, "processor_config.json").get("feature_extractor") or {}
    data |= {"kind": kind, "sample_rate": preprocessor.get("sampling_rate", 16000)}
    if kind == "w2v_bert":
        stride, mels = preprocessor.get("stride", 2), preprocessor.get("num_mel_bins", 80)
        data |= {"num_mel_bins": mels, "feature_stride": stride}
        if config.get("feature_projection_input_dim", 160) != stride * mels:
            raise AnadilError(f"{where}: feature_projection_input_dim is not stride {stride} x num_mel_bins {mels}")
        if data["output_hidden_size"] == data["hidden_size"]:
            data["output_hidden_size"] = None
    else:
        data["do_normalize"] = preprocessor.get("do_normalize", True)
    settings = parse(family, data, f"{where}: {CONFIG}")
    assert isinstance(settings, Wav2Vec2Settings | W2vBertSettings)
    return settings


def _vocab_size(config: dict[str, Any], where: str) -> int:
    """Rows of the head, from config.json; 1 if it does not say. Raises AnadilError if it is no such number."""
    size = config.get("vocab_size")
    if size is None:
        return 1
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= _MAX_ROWS:
        raise AnadilError(
            f"{where}: {CONFIG}: vocab_size must be a number from 1 to {_MAX_ROWS:,}, found {found_value(size)}\n"
            "  next: copy or download the file again"
        )
    return size


def _require_size(folder: Path, settings: HuggingFaceSettings, vocab_size: int) -> None:
    """Raise AnadilError, before memory is taken, if config.json describes a model that the files cannot hold."""
    files = [file for file in folder.glob("*") if file.suffix in (".safetensors", ".bin", ".pt")]
    n_described = count_parameters(empty_model(FeatureSettings(), settings, vocab_size))
    n_bytes = sum(file.stat().st_size for file in files)
    if files and n_described > n_bytes + _SMALL:  # no format has less than a byte for a parameter
        raise AnadilError(
            f"{folder}: the weights do not fit the config: it describes {n_described:,} parameters, and the files have "
            f"{n_bytes:,} bytes\n  next: copy or download the model again"
        )


def _load(source: str, settings: HuggingFaceSettings, vocab_size: int, adapter: str | None) -> tuple[Any, Any]:
    """transformers' model with a CTC head, and its report of missing and unused weights. No pickled code runs."""
    ctc_model = classes_of(settings.kind)[2]
    model_config = transformers_config(settings, vocab_size)
    try:
        model, info = ctc_model.from_pretrained(
            source, config=model_config, output_loading_info=True, dtype=torch.float32
        )
        if adapter is not None:
            model.load_adapter(adapter)
    except Exception as error:  # transformers, torch and safetensors raise a dozen classes
        why = (str(error).strip() or type(error).__name__).splitlines()
        raise AnadilError(
            f"{source}: transformers cannot load it: {' '.join(why[:3])[:400]}\n  next: copy or download the model again"
        ) from error
    return model, info


def _load_weights(acoustic: AcousticModel, model: Any, info: Any, rows: list[int], where: str) -> None:
    """Copy the weights of transformers' model into the network; `rows` of its head, in this order.

    Raises AnadilError for tensors that are missing, have another shape, or are not finite.
    """
    network = acoustic.network
    assert isinstance(network, HuggingFace)
    base = getattr(model, model.base_model_prefix)
    state: dict[str, Tensor] = {f"encoder.{name}": tensor for name, tensor in base.state_dict().items()}
    state |= {f"decoder.{name}": tensor[rows] for name, tensor in model.lm_head.state_dict().items()}
    missing = {name.removeprefix(model.base_model_prefix + ".") for name in info["missing_keys"]}
    if "masked_spec_embed" in missing:  # the model was trained without masked frames: they become zeros
        state["encoder.masked_spec_embed"] = torch.zeros_like(state["encoder.masked_spec_embed"])
    wrong = [f"{name} is missing" for name in sorted(missing) if name != "masked_spec_embed" and "lm_head" not in name]
    wrong += [f"{name} has another shape" for name, *_ in info["mismatched_keys"]]
    wrong += [
        f"{name} holds NaN or infinity" for name, tensor in state.items() if not bool(torch.isfinite(tensor).all())
    ]
    if wrong:
        more = [f"... and {len(wrong) - _SHOWN} more"] if len(wrong) > _SHOWN else []
        listed = "\n  ".join([*wrong[:_SHOWN], *more])
        raise AnadilError(
            f"{where}: the weights do not fit the config:\n  {listed}\n  next: copy or download the model again"
        )
    network.load_state_dict(state)


def _folder(folder: Path) -> File:
    return lambda name: folder / name if (folder / name).is_file() else None


def _hub(name: str) -> File:
    """Files of a model on the hub, downloaded on first use. Raises AnadilError if the hub cannot be reached."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    def download(file: str) -> Path | None:
        try:
            return Path(hf_hub_download(name, file))
        except Exception as error:  # from huggingface_hub, httpx or the system
            if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
                return None
            why = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
            raise AnadilError(
                f"{name}: there is no such folder, and it could not be downloaded as a model of Hugging Face: {why}\n"
                "  next: check the path or id, and the network; a folder that was downloaded elsewhere works too"
            ) from error

    return download


def _licence(file: File) -> str | None:
    """The licence in the header of the model's README.md, or None."""
    path = file("README.md")
    text = path.read_text(encoding="utf-8", errors="replace")[:5000] if path else ""
    match = re.search(r"^license:\s*(\S+)\s*$", text, flags=re.MULTILINE)
    return match[1] if match else None
