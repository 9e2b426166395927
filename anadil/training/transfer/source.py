"""The source model, `init.from`, and the config completed from it: missing sections are copied from the source.

Keys that the user wrote are never changed. A key that contradicts the source is an error that shows both values.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from anadil.errors import AnadilError
from anadil.models.acoustic import CONFIG, WEIGHTS
from anadil.models.features import FeatureSettings
from anadil.models.hugging_face.vocabulary import is_hub_id, is_hugging_face
from anadil.models.pretrained import read_model
from anadil.settings import parse
from anadil.text.rules import rules_from_dict, text_rules
from anadil.text.tokenizer import read_tokenizer
from anadil.training.config import Config
from anadil.training.run import OUTPUTS
from anadil.training.transfer.settings import InitSettings

_NEW_HEAD_FLAT_START_STEPS = 100


@dataclass(frozen=True)
class Source:
    """The source model without its weights. RUN/init.json keeps it, so that a run can be resumed without the source."""

    path: str
    language: str
    labels: list[str]
    features: dict[str, Any]  # sections of a config, with all keys
    model: dict[str, Any]
    text: dict[str, Any]  # TextRules.to_dict()
    kind: str = "char"  # of the tokenizer
    subwords: str = ""  # the tokenizer's SentencePiece model in base64

    def kept_subwords(self, config: Config) -> bytes:
        """The SentencePiece model if `config`, after `resolve_config`, keeps the source's labels; else empty."""
        assert config.init is not None
        return base64.b64decode(self.subwords) if config.init.head == "keep" else b""


def read_source(init: InitSettings, out: Path | None = None) -> tuple[Source, dict[str, Tensor]]:
    """The model that `init.from` names, and its weights by name.

    Raises AnadilError if there is no such model, or if it is in `out`, which a new run would replace.
    """
    folder = Path(init.from_)
    replaced = {(out / name).resolve() for name in OUTPUTS} if out is not None else set()
    if replaced & {folder.resolve(), *folder.resolve().parents}:
        raise AnadilError(f"init.from: {folder} is in {out}, which this run replaces\n  next: choose another --out")
    if init.adapter is not None and not is_hugging_face(folder) and not is_hub_id(init.from_):
        raise AnadilError(f"init.adapter is a language of MMS, but {folder} is no model of Hugging Face")
    model = read_model(folder, hub=True, adapter=init.adapter)
    if model is None:
        raise AnadilError(_no_model_message(folder))
    loaded = model.loaded
    network = loaded.acoustic.network
    source = Source(
        init.from_,
        loaded.rules.language,
        list(loaded.rules.labels),
        loaded.acoustic.feature_settings.model_dump(mode="json"),
        network.settings.model_dump(mode="json"),
        loaded.rules.to_dict(),
        model.tokenizer,
        base64.b64encode(loaded.rules.subwords).decode(),
    )
    return source, network.state_dict()


def resolve_config(config: Config, source: Source) -> Config:
    """The config with missing sections from the source, and with `init.head` decided.

    Raises AnadilError that lists every key that contradicts the source.
    """
    assert config.init is not None
    written = config.model_dump(mode="json", by_alias=True, exclude_unset=True)
    problems = [] if config.init.other_features else _other_features(written.get("features", {}), source)
    head, head_problems = _head(config, written, source)
    if problems or head_problems:
        raise AnadilError("\n".join(problems + head_problems))
    data = written | {
        "features": source.features | written.get("features", {}),
        "model": _model(written.get("model", {}), source.model),
        "init": written["init"] | {"head": head},
        "training": {"flat_start_steps": _flat_start_steps(head, config.init)} | written.get("training", {}),
    }
    if _same_language(config, source) and "text" not in written:
        data["text"] = _text_section(source)
    if head == "keep":
        data["tokenizer"] = written.get("tokenizer", {}) | {"labels": source.labels, "kind": source.kind, "path": None}
    return parse(Config, data, f"config with init.from {source.path}")


def _flat_start_steps(head: str, init: InitSettings) -> int:
    """Steps of flat start: only a new head on a frozen encoder needs them, others would lose by them (docs/LOG.md)."""
    only_new_head_trains = head == "new" and init.freeze in ("encoder", "encoder_except_norm")
    return _NEW_HEAD_FLAT_START_STEPS if only_new_head_trains else 0


def _other_features(written: Mapping[str, Any], source: Source) -> list[str]:
    """Problems with features that differ from the source's: to its encoder they look like noise."""
    source_features = parse(FeatureSettings, dict(source.features), source.path)
    features = parse(FeatureSettings, source.features | dict(written), "features")
    before, now = (
        settings.model_dump()
        | {"n_fft": settings.fft_size, "high_hz": settings.high_hz or settings.sample_rate / 2, "dither": None}
        for settings in (source_features, features)
    )
    lines = [
        f"  features.{key} is {now[key]}, in {source.path} {before[key]}" for key in now if now[key] != before[key]
    ]
    if not lines:
        return []
    return [
        "the features differ from those that the encoder was trained on:",
        *lines,
        "  next: leave these keys out (the source's are used then), or train nevertheless with init.other_features=true",
    ]


def _model(written: dict[str, Any], source: dict[str, Any]) -> dict[str, Any]:
    """Section `model`: the source's with the keys that were written, or, for another architecture, only these."""
    other = written.get("kind", source["kind"]) != source["kind"] or {"preset", "blocks"} & written.keys()
    return written if other else source | written


def _head(config: Config, written: dict[str, Any], source: Source) -> tuple[str, list[str]]:
    """The value of `init.head`, and the problems with it."""
    assert config.init is not None
    if not source.labels:
        problem = f"init.head={config.init.head}, but {source.path} has no CTC head\n  next: leave init.head out (new)"
        return "new", [] if config.init.head in (None, "new") else [problem]
    differing = _differing_tokenizer(config, written.get("tokenizer", {}), source)
    if config.init.head == "keep":
        return "keep", _cannot_keep("init.head=keep", differing)
    if config.init.head is not None:
        return config.init.head, []
    if not _same_language(config, source):
        return "map", []
    if "text" in written:
        differing += _differing_text(config, source)
    return "keep", _cannot_keep(f"the language of {source.path} is {source.language} too", differing)


def _cannot_keep(reason: str, differing: list[str]) -> list[str]:
    if not differing:
        return []
    return [
        f"{reason}, so its head, labels and text rules are kept, but the config has others:",
        *differing,
        "  next: leave these keys out (the source's are used then), or choose another head: init.head=map copies shared "
        "labels, init.head=new starts with a random head",
    ]


def _differing_tokenizer(config: Config, written: dict[str, Any], source: Source) -> list[str]:
    settings = config.tokenizer
    if settings.path is not None:
        return _differing_labels(read_tokenizer(Path(settings.path))[1], source)
    lines = [] if settings.labels == "auto" else _differing_labels(list(settings.labels), source)
    expected = {"kind": source.kind, "size": len(source.labels)}
    return lines + [
        f"  tokenizer.{key} is {written[key]}, in {source.path} {expected[key]}"
        for key in expected
        if key in written and written[key] != expected[key]
    ]


def _differing_labels(labels: list[str], source: Source) -> list[str]:
    """Labels that only one of the two has."""
    added = [label for label in labels if label not in source.labels]
    missing = [label for label in source.labels if label not in labels]
    lines = [f"  tokenizer.labels has {', '.join(map(repr, added))}, which the source lacks"] if added else []
    return lines + ([f"  tokenizer.labels lacks {', '.join(map(repr, missing))} of the source"] if missing else [])


def _differing_text(config: Config, source: Source) -> list[str]:
    own = text_rules(config.language, config.text, ()).language_rules.model_dump(mode="json", exclude={"tests"})
    expected = rules_from_dict(source.text, ()).language_rules.model_dump(mode="json", exclude={"tests"})
    return [
        f"  text.{key} is {own[key]!r}, in {source.path} {expected[key]!r}" for key in own if own[key] != expected[key]
    ]


def _same_language(config: Config, source: Source) -> bool:
    own, other = (tag.replace("_", "-").lower() for tag in (config.language, source.language))
    return own == other


def _text_section(source: Source) -> dict[str, Any]:
    return {"saved": source.text, "unknown": source.text.get("unknown", "error")}


def _no_model_message(folder: Path) -> str:
    if not folder.exists():
        return f"init.from: model not found: {folder}\n  next: check the path, relative to the working directory"
    message = f"init.from: {folder} is no model folder, which would have {WEIGHTS} and {CONFIG}"
    checkpoints = [name for name in ("best", "last") if (folder / name / WEIGHTS).is_file()]
    if checkpoints:
        return f"{message}; it is a run\n  next: init.from={folder / checkpoints[0]}"
    if (folder / "model.onnx").is_file():
        return (
            f"{message}; it is an exported folder, which cannot be trained\n"
            "  next: give the model that it was exported from"
        )
    return f"{message}\n  next: give a model folder, such as RUN/best of a training run"
