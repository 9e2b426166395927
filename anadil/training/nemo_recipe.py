"""NeMo's sections about training (data, optimizer, schedule, trainer, SpecAugment) as sections of our config."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from anadil.models.features import FeatureSettings
from anadil.training.config import DataSettings, TrainingSettings

PRECISIONS = {32: "32-true", "32": "32-true", "32-true": "32-true", "bf16": "bf16-mixed", "bf16-mixed": "bf16-mixed"}
PRECISIONS |= {16: "16-mixed", "16": "16-mixed", "16-mixed": "16-mixed"}

READ_ELSEWHERE = {
    *("preprocessor", "encoder", "decoder", "aux_ctc", "labels", "tokenizer", "target", "nemo_version", "sample_rate"),
    *("joint", "model_defaults", "loss"),
}
"""Top-level sections of the model itself."""


def recipe(config: dict[str, Any], features: FeatureSettings, left_out: list[str]) -> dict[str, Any]:
    """Sections `data`, `augment` and `training`, with what NeMo says; what has no counterpart goes to `left_out`.

    `config` is the model's section, with `trainer` beside it if there was one.
    """
    rest = {key: value for key, value in config.items() if key not in READ_ELSEWHERE and value is not None}
    training: dict[str, Any] = {}
    training |= _optimizer(_section(rest, "optim"), config, left_out)
    training |= _trainer(_section(rest, "trainer"), left_out)
    found: dict[str, Any] = {"data": _data(rest, left_out)}
    found["augment"] = {"spec_augment": _spec_augment(_section(rest, "spec_augment"), features, left_out)}
    found["training"] = _valid(TrainingSettings, training, "training", left_out)
    found["data"] = _valid(DataSettings, found["data"], "data", left_out)
    left_out += sorted(rest)
    return found


def _valid(kind: type[BaseModel], values: dict[str, Any], name: str, left_out: list[str]) -> dict[str, Any]:
    """What `kind` accepts of the values; a model is not refused because of how it was trained."""
    needed = {"train": ["?"]} if kind is DataSettings else {}
    good: dict[str, Any] = {}
    for key, value in values.items():
        try:
            kind.model_validate({**needed, **good, key: value})
        except ValidationError:
            left_out.append(f"{name}.{key}: {_short(value)} (not possible here)")
        else:
            good[key] = value
    return good


def _section(rest: dict[str, Any], name: str) -> dict[str, Any]:
    section = rest.pop(name, None)
    return {key: value for key, value in section.items() if value is not None} if isinstance(section, dict) else {}


def _take(section: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """What `section` has of NeMo's names, under ours; taken out of it."""
    return {ours: section.pop(theirs) for theirs, ours in names.items() if theirs in section}


def _tell(section: dict[str, Any], name: str, left_out: list[str]) -> None:
    left_out += [f"{name}.{key}: {_short(value)}" for key, value in section.items() if key != "_target_"]


def _optimizer(section: dict[str, Any], config: dict[str, Any], left_out: list[str]) -> dict[str, Any]:
    found = _take(section, {"name": "optimizer", "lr": "lr", "betas": "betas", "weight_decay": "weight_decay"})
    if found.get("optimizer") == "adam":
        found["optimizer"] = "adamw"
        left_out.append("optim.name: adam (adamw instead, its weight decay apart from the gradient)")
    elif found.get("optimizer") not in (None, "adamw", "novograd"):
        left_out.append(f"optim.name: {found.pop('optimizer')}")
    schedule = section.pop("sched", None) or {}
    schedule = {key: value for key, value in schedule.items() if value is not None}
    name = schedule.pop("name", None)
    found |= _take(schedule, {"warmup_steps": "warmup_steps", "min_lr": "min_lr"})
    if name == "NoamAnnealing":  # there, lr is a factor: the rate rises to this
        width = schedule.pop("d_model", None) or config.get("encoder", {}).get("d_model")
        if isinstance(width, int) and isinstance(found.get("lr"), int | float) and found.get("warmup_steps"):
            found["lr"] = round(found["lr"] / (width * found["warmup_steps"]) ** 0.5, 8)
    if name not in (None, "CosineAnnealing"):
        left_out.append(f"optim.sched.name: {name} (a half cosine instead)")
    if isinstance(found.get("lr"), float) and found.get("min_lr", 1e-5) > found["lr"]:
        found["min_lr"] = found["lr"]
    _tell(schedule, "optim.sched", left_out)
    _tell(section, "optim", left_out)
    return found


def _trainer(section: dict[str, Any], left_out: list[str]) -> dict[str, Any]:
    found = _take(section, {"max_epochs": "epochs", "gradient_clip_val": "clip_norm"})
    if not found.get("clip_norm", 1.0):
        del found["clip_norm"]
        left_out.append("trainer.gradient_clip_val: 0 (gradients are clipped at training.clip_norm)")
    if isinstance(found.get("epochs"), int) and found["epochs"] < 1:
        left_out.append(f"trainer.max_epochs: {found.pop('epochs')}")
    if section.get("precision") in PRECISIONS:
        found["precision"] = PRECISIONS[section.pop("precision")]
    _tell(section, "trainer", left_out)
    return found


def _data(rest: dict[str, Any], left_out: list[str]) -> dict[str, Any]:
    train, valid = _section(rest, "train_ds"), _section(rest, "validation_ds")
    found: dict[str, Any] = {}
    for ours, section in (("train", train), ("valid", valid)):
        paths = _paths(section.pop("manifest_filepath", None))
        if paths:
            found[ours] = paths
    found |= _take(train, {"max_duration": "max_duration", "min_duration": "min_duration"})
    for section, name in ((train, "train_ds"), (valid, "validation_ds")):
        for known in ("labels", "sample_rate", "shuffle"):  # the model's own, or always so
            section.pop(known, None)
        _tell(section, name, left_out)
    return found


def _paths(value: Any) -> list[str]:
    if isinstance(value, str):
        value = value.split(",")
    flat = (
        [item for one in value for item in (one if isinstance(one, list) else [one])] if isinstance(value, list) else []
    )
    return [str(item).strip() for item in flat if str(item).strip() not in ("", "???", "None")]


def _spec_augment(section: dict[str, Any], features: FeatureSettings, left_out: list[str]) -> dict[str, Any] | None:
    found = _take(section, {"freq_masks": "freq_masks", "time_masks": "time_masks"})
    freq_width, time_width = section.pop("freq_width", 0), section.pop("time_width", 0)
    if found.get("freq_masks"):
        found["freq_width"] = round(min(1.0, freq_width / features.mels), 4)
    if found.get("time_masks"):
        if isinstance(time_width, float) and time_width <= 1:
            found["time_width"] = time_width
        else:
            found["time_masks"] = 0
            left_out.append(f"spec_augment.time_width: {time_width} (in frames; ours is a share of the utterance)")
    _tell(section, "spec_augment", left_out)
    if not found.get("freq_masks") and not found.get("time_masks"):
        return None
    return {"freq_masks": 0, "time_masks": 0} | found


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 60 else text[:57] + "..."
