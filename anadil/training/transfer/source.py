"""The model that `init.from` names, and the config that follows from it: sections that the user left out are the source's.

What was written is never changed: where it contradicts the source, that is an error that names both.
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

NEW_HEAD_FLAT_START_STEPS = 100


@dataclass(frozen=True)
class Source:
    """All of the source but its weights, JSON-ready: kept in the run, so that a resumed one does not need the source."""

    path: str
    language: str
    labels: list[str]
    features: dict[str, Any]  # sections of a config, with every key
    model: dict[str, Any]
    text: dict[str, Any]  # TextRules.to_dict()
    kind: str = "char"  # of the tokenizer
    subwords: str = ""  # its SentencePiece model in base64

    def kept_subwords(self, config: Config) -> bytes:
        """The SentencePiece model if `config`, settled, keeps the source's labels."""
        assert config.init is not None
        return base64.b64decode(self.subwords) if config.init.head == "keep" else b""


def read_source(init: InitSettings, out: Path | None = None) -> tuple[Source, dict[str, Tensor]]:
    """Read the model that `init.from` names, and its weights by name.

    Raises AnadilError if it is none, or if it lies in `out`, which a new run would replace.
    """
    folder = Path(init.from_)
    replaced = {(out / name).resolve() for name in OUTPUTS} if out is not None else set()
    if replaced & {folder.resolve(), *folder.resolve().parents}:
        raise AnadilError(f"init.from: {folder} lies in {out}, which this run replaces\n  next: choose another --out")
    foreign = is_hugging_face(folder) or is_hub_id(init.from_)
    if init.adapter is not None and not foreign:
        raise AnadilError(f"init.adapter chooses a language of MMS, and {folder} is no model of Hugging Face")
    model = read_model(folder, hub=True, adapter=init.adapter)
    if model is None:
        raise AnadilError(_no_source(folder))
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
    """The config with what was left out taken from the source, and `init.head` decided.

    Raises AnadilError naming every key that contradicts the source.
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
    """A flat start would undo a good one; only a new head on an encoder that holds still needs it (docs/LOG.md)."""
    alone = head == "new" and init.freeze in ("encoder", "encoder_except_norm")
    return NEW_HEAD_FLAT_START_STEPS if alone else 0


def _other_features(written: Mapping[str, Any], source: Source) -> list[str]:
    """The encoder knows one kind of features; others look to it like noise, and nothing says so but the error rate."""
    there = parse(FeatureSettings, dict(source.features), source.path)
    here = parse(FeatureSettings, source.features | dict(written), "features")
    before, now = (
        settings.model_dump()
        | {"n_fft": settings.fft_size, "high_hz": settings.high_hz or settings.sample_rate / 2, "dither": None}
        for settings in (there, here)
    )
    lines = [
        f"  features.{key} is {now[key]}, in {source.path} {before[key]}" for key in now if now[key] != before[key]
    ]
    if not lines:
        return []
    return [
        "the features are not those that the encoder learned to hear:",
        *lines,
        "  next: leave these keys out (the source's are taken), or, to train all the same, init.other_features=true",
    ]


def _model(written: dict[str, Any], source: dict[str, Any]) -> dict[str, Any]:
    """Single keys (dropout) change the source's section; another architecture stands by itself."""
    another = written.get("kind", source["kind"]) != source["kind"] or {"preset", "blocks"} & written.keys()
    return written if another else source | written


def _head(config: Config, written: dict[str, Any], source: Source) -> tuple[str, list[str]]:
    """What becomes of the head, and what speaks against it."""
    assert config.init is not None
    if not source.labels:
        lines = [f"init.head={config.init.head}, but {source.path} has no CTC head\n  next: leave init.head out (new)"]
        return "new", [] if config.init.head in (None, "new") else lines
    differing = _differing_tokenizer(config, written.get("tokenizer", {}), source)
    if config.init.head == "keep":
        return "keep", _refusal("init.head=keep", differing)
    if config.init.head is not None:
        return config.init.head, []
    if not _same_language(config, source):
        return "map", []
    if "text" in written:
        differing += _differing_text(config, source)
    return "keep", _refusal(f"{source.path} speaks {source.language} too", differing)


def _refusal(why: str, differing: list[str]) -> list[str]:
    if not differing:
        return []
    return [
        f"{why}, so its head, labels and text rules are kept, but the config has others:",
        *differing,
        "  next: leave these keys out (the source's are taken), or say what becomes of the head: init.head=map copies "
        "what is shared, init.head=new begins anew",
    ]


def _differing_tokenizer(config: Config, written: dict[str, Any], source: Source) -> list[str]:
    settings = config.tokenizer
    if settings.path is not None:
        return _differing_labels(read_tokenizer(Path(settings.path))[1], source)
    lines = [] if settings.labels == "auto" else _differing_labels(list(settings.labels), source)
    here, there = written, {"kind": source.kind, "size": len(source.labels)}
    return lines + [
        f"  tokenizer.{key} is {here[key]}, in {source.path} {there[key]}"
        for key in there
        if key in here and here[key] != there[key]
    ]


def _differing_labels(labels: list[str], source: Source) -> list[str]:
    """Compared by label: as many labels are not the same labels."""
    added = [label for label in labels if label not in source.labels]
    missing = [label for label in source.labels if label not in labels]
    lines = [f"  tokenizer.labels has {', '.join(map(repr, added))}, the source has not"] if added else []
    return lines + ([f"  tokenizer.labels lacks {', '.join(map(repr, missing))} of the source"] if missing else [])


def _differing_text(config: Config, source: Source) -> list[str]:
    here = text_rules(config.language, config.text, ()).language_rules.model_dump(mode="json", exclude={"tests"})
    there = rules_from_dict(source.text, ()).language_rules.model_dump(mode="json", exclude={"tests"})
    return [
        f"  text.{key} is {here[key]!r}, in {source.path} {there[key]!r}" for key in here if here[key] != there[key]
    ]


def _same_language(config: Config, source: Source) -> bool:
    here, there = (tag.replace("_", "-").lower() for tag in (config.language, source.language))
    return here == there


def _text_section(source: Source) -> dict[str, Any]:
    return {"saved": source.text, "unknown": source.text.get("unknown", "error")}


def _no_source(folder: Path) -> str:
    what = f"init.from: {folder} is no model folder (it has {WEIGHTS} and {CONFIG})"
    if not folder.exists():
        return f"init.from: model not found: {folder}\n  next: check the path, relative to the working directory"
    inside = [name for name in ("best", "last") if (folder / name / WEIGHTS).is_file()]
    if inside:
        return f"{what}, it is a run\n  next: init.from={folder / inside[0]}"
    if (folder / "model.onnx").is_file():
        return f"{what}, it is an exported folder, which cannot be trained\n  next: give the model that it was exported from"
    return f"{what}\n  next: anadil train CONFIG --out RUN writes RUN/best"
