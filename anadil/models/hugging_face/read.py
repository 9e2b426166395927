"""A model of Hugging Face, from a folder of transformers or the hub, as a model of ours."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anadil.errors import AnadilError
from anadil.models.acoustic import FAMILIES, AcousticModel, LoadedModel
from anadil.models.features import FeatureSettings
from anadil.models.hugging_face.network import (
    OURS,
    HuggingFace,
    HuggingFaceSettings,
    W2vBertSettings,
    Wav2Vec2Settings,
    classes_of,
    library,
    transformers_config,
)
from anadil.models.hugging_face.vocabulary import (
    CONFIG,
    KINDS,
    File,
    languages,
    of_language,
    read_json,
    read_vocabulary,
)
from anadil.models.nemo.labels import rules_for
from anadil.settings import parse

_REFUSED = {"wav2vec2": {"add_adapter": False}, "hubert": {"conv_pos_batch_norm": False, "add_adapter": False}}
"""Options of config.json that must have this value: with another, padding would change what an utterance gives."""

_CODE = re.compile(r"[A-Za-z0-9_-]+")
SHOWN = 5


@dataclass(frozen=True)
class HuggingFaceModel:
    """What a folder or an id gave. Without a CTC head (base models) `loaded` has no labels, and a head that means nothing."""

    loaded: LoadedModel
    has_head: bool
    left_out: list[str]
    notes: list[str]
    source: str  # what it was made from, in words
    licence: str | None


def read_hugging_face(source: str, language: str = "und", adapter: str | None = None) -> HuggingFaceModel:
    """Read a folder of transformers, or fetch an id from the hub. Code that comes with a model never runs.

    `adapter` is the language of MMS's adapter and head. Raises AnadilError if there is no such model, if its family or
    an option is not supported, or if the weights do not fit.
    """
    if adapter is not None and not _CODE.fullmatch(adapter):
        raise AnadilError(f"adapter {adapter!r} is no language code such as tur or azj-script_latin")
    library()
    file = _folder(Path(source)) if Path(source).is_dir() else _hub(source)
    config = read_json(file, CONFIG)
    settings = _settings(config, file, source)
    if adapter is not None and getattr(settings, "adapter_attn_dim", None) is None:
        raise AnadilError(f"{source}: --adapter {adapter}, but the model has no adapters (adapter_attn_dim)")
    tokens = read_json(file, "vocab.json")
    of_language(tokens, source, adapter)  # an error comes before a gigabyte is loaded
    model, info = _load(source, settings, config, adapter)
    has_head = not any(name.startswith("lm_head.") for name in info["missing_keys"])
    labels: list[str] = []
    notes: list[str] = []
    rows = [0]
    if has_head:
        blank_id = config.get("pad_token_id") if not languages(tokens) else None  # one for a thousand vocabularies
        vocabulary = read_vocabulary(file, source, adapter, len(model.lm_head.weight), blank_id, language)
        labels, rows, notes = vocabulary.labels, vocabulary.rows, vocabulary.notes
    acoustic = AcousticModel(FeatureSettings(), settings, len(labels))
    _fill(acoustic, model, info, rows, source)
    left_out = sorted({name.partition(".")[0] for name in info["unexpected_keys"]})
    rules, strange = rules_for(labels, language)
    if strange:
        notes.append(
            f"labels that the rules of {language} write otherwise, so that no text has them: {' '.join(strange)}"
        )
    name = "-".join(filter(None, [source.rstrip("/").rpartition("/")[2], adapter]))
    what = f"{source}, transformers {config.get('transformers_version', 'of unknown version')}, {settings.kind}"
    what += f", adapter {adapter}" if adapter else ""
    loaded = LoadedModel(name, acoustic.eval(), rules)
    return HuggingFaceModel(loaded, has_head, left_out, notes, what, _licence(file))


def _settings(config: dict[str, Any], file: File, where: str) -> HuggingFaceSettings:
    """Section `model`, with what config.json and preprocessor_config.json say. Raises AnadilError naming the option."""
    kind = KINDS.get(str(config.get("model_type")))
    if kind is None:
        raise AnadilError(
            f"{where}: {CONFIG}: model_type {config.get('model_type')!r} is not supported; supported are {', '.join(KINDS)}"
        )
    for option, needed in _REFUSED.get(kind, {}).items():
        if config.get(option, needed) != needed:
            raise AnadilError(f"{where}: {CONFIG}: {option}: {config[option]} is not supported")
    family = FAMILIES[kind]
    default = classes_of(kind)[0]()
    data = {
        key: config.get(key, getattr(default, key))
        for key in family.model_fields
        if key not in OURS and hasattr(default, key)
    }
    heard = read_json(file, "preprocessor_config.json")
    heard = heard or read_json(file, "processor_config.json").get("feature_extractor") or {}
    data |= {"kind": kind, "sample_rate": heard.get("sampling_rate", 16000)}
    if kind == "w2v_bert":
        stride, mels = heard.get("stride", 2), heard.get("num_mel_bins", 80)
        data |= {"num_mel_bins": mels, "feature_stride": stride}
        if config.get("feature_projection_input_dim", 160) != stride * mels:
            raise AnadilError(f"{where}: feature_projection_input_dim is not stride {stride} x num_mel_bins {mels}")
        if data["output_hidden_size"] == data["hidden_size"]:
            data["output_hidden_size"] = None
    else:
        data["do_normalize"] = heard.get("do_normalize", True)
    settings = parse(family, data, f"{where}: {CONFIG}")
    assert isinstance(settings, Wav2Vec2Settings | W2vBertSettings)
    return settings


def _load(source: str, settings: HuggingFaceSettings, config: dict[str, Any], adapter: str | None) -> tuple[Any, Any]:
    """transformers' model with a CTC head, and what was missing or left over. Safetensors first; no pickled code."""
    made = classes_of(settings.kind)[2]
    ours = transformers_config(settings, config.get("vocab_size") or 1)
    try:
        model, info = made.from_pretrained(source, config=ours, output_loading_info=True, dtype=torch.float32)
        if adapter is not None:
            model.load_adapter(adapter)
    except Exception as error:  # transformers, torch and safetensors raise a dozen classes
        why = (str(error).strip() or type(error).__name__).splitlines()
        raise AnadilError(
            f"{source}: transformers cannot load it: {' '.join(why[:3])[:400]}\n  next: copy or fetch the model again"
        ) from error
    return model, info


def _fill(acoustic: AcousticModel, model: Any, info: Any, rows: list[int], where: str) -> None:
    """Raises AnadilError for tensors that are missing, of another shape, or not finite."""
    network = acoustic.network
    assert isinstance(network, HuggingFace)
    base = getattr(model, model.base_model_prefix)
    state: dict[str, Tensor] = {f"encoder.{name}": tensor for name, tensor in base.state_dict().items()}
    state |= {f"decoder.{name}": tensor[rows] for name, tensor in model.lm_head.state_dict().items()}
    missing = {name.removeprefix(model.base_model_prefix + ".") for name in info["missing_keys"]}
    if "masked_spec_embed" in missing:  # it was trained without hidden frames: these are zeros then
        state["encoder.masked_spec_embed"] = torch.zeros_like(state["encoder.masked_spec_embed"])
    wrong = [f"{name} is missing" for name in sorted(missing) if name != "masked_spec_embed" and "lm_head" not in name]
    wrong += [f"{name} has another shape" for name, *_ in info["mismatched_keys"]]
    wrong += [
        f"{name} holds NaN or infinity" for name, tensor in state.items() if not bool(torch.isfinite(tensor).all())
    ]
    if wrong:
        listed = "\n  ".join([*wrong[:SHOWN], *([f"... and {len(wrong) - SHOWN} more"] if len(wrong) > SHOWN else [])])
        raise AnadilError(f"{where}: the weights do not fit the config:\n  {listed}\n  next: copy or fetch it again")
    network.load_state_dict(state)


def _folder(folder: Path) -> File:
    return lambda name: folder / name if (folder / name).is_file() else None


def _hub(name: str) -> File:
    """Files of a model on the hub, fetched when they are asked for. Raises AnadilError if it cannot be reached."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    def fetch(file: str) -> Path | None:
        try:
            return Path(hf_hub_download(name, file))
        except Exception as error:  # of huggingface_hub, httpx and the system
            if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
                return None
            why = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
            raise AnadilError(
                f"{name}: there is no such folder here, and as a model of Hugging Face it could not be fetched: {why}\n"
                "  next: check the path or the id and the network; a folder that was fetched elsewhere works as well"
            ) from error

    return fetch


def _licence(file: File) -> str | None:
    """As the model's README.md tells it on top."""
    path = file("README.md")
    text = path.read_text(encoding="utf-8", errors="replace")[:5000] if path else ""
    found = re.search(r"^license:\s*(\S+)\s*$", text, flags=re.MULTILINE)
    return found[1] if found else None
