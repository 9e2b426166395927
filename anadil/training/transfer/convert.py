"""Models and configs between NeMo and Anadil, both ways."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from anadil.errors import AnadilError
from anadil.files import refuse_overwrite, whole_file
from anadil.models.acoustic import CONFIG, WEIGHTS, LoadedModel, save_model
from anadil.models.features import FeatureSettings
from anadil.models.hugging_face.read import read_hugging_face
from anadil.models.hugging_face.vocabulary import is_hub_id, is_hugging_face
from anadil.models.nemo.archive import archive_kind
from anadil.models.nemo.config import Findings, read_config
from anadil.models.nemo.interpolation import resolve
from anadil.models.nemo.labels import pieces_to_labels, text_settings, tokenizer_kind
from anadil.models.nemo.read import read_nemo
from anadil.models.nemo.write import KEPT_CONFIG, write_nemo
from anadil.models.summary import count_parameters, describe_model, layer_table
from anadil.settings import dump_mapping, parse, read_yaml
from anadil.training.config import Config, DataSettings, TrainingSettings
from anadil.training.monitoring.report import Reporter

# NeMo's sections about training (data, optimizer, schedule, trainer, SpecAugment) as sections of our config.

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


def _tell_recipe(section: dict[str, Any], name: str, left_out: list[str]) -> None:
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
    _tell_recipe(schedule, "optim.sched", left_out)
    _tell_recipe(section, "optim", left_out)
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
    _tell_recipe(section, "trainer", left_out)
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
        _tell_recipe(section, name, left_out)
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
    _tell_recipe(section, "spec_augment", left_out)
    if not found.get("freq_masks") and not found.get("time_masks"):
        return None
    return {"freq_masks": 0, "time_masks": 0} | found


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 60 else text[:57] + "..."


Made = Literal["model folder", "NeMo archive", "config"]


@dataclass(frozen=True)
class Hints:
    """What the source may not tell itself."""

    language: str = "und"
    config: Path | None = None  # for a checkpoint without its config
    tokenizer: Path | None = None  # folder, for a checkpoint of subwords
    adapter: str | None = None  # MMS: the language of its adapter and head


def convert(source: Path, out: Path, report: Reporter, hints: Hints = Hints(), force: bool = False) -> Made:
    """`.nemo`, Lightning `.ckpt` or Hugging Face's model to a model folder, model folder to `.nemo`, NeMo's YAML to ours.

    What the source is, is read from its contents. Raises AnadilError if it is none of these, if `out` exists, or if
    the model has what the other side has not.
    """
    refuse_overwrite(out, force)
    if (source / WEIGHTS).is_file() and (source / CONFIG).is_file():
        write_nemo(source, out, force)
        return "NeMo archive"
    if archive_kind(source) is not None:
        _archive_to_folder(source, out, report, hints)
        return "model folder"
    if source.is_file() and source.suffix.lower() in (".yaml", ".yml"):
        _config_to_config(source, out, report, hints)
        return "config"
    if is_hugging_face(source) or is_hub_id(str(source)):
        _hugging_face_to_folder(str(source), out, report, hints)
        return "model folder"
    if not source.exists():
        raise AnadilError(f"not found: {source}\n  next: check the path")
    raise AnadilError(
        f"{source} cannot be converted: looked for a NeMo archive (a tar with model_config.yaml), a Lightning checkpoint, "
        f"a model folder (with {WEIGHTS}), one of transformers (with config.json) and NeMo's YAML (.yaml)\n  next: check the path"
    )


def _archive_to_folder(source: Path, out: Path, report: Reporter, hints: Hints) -> None:
    model = read_nemo(source, hints.language, hints.config, hints.tokenizer)
    acoustic = model.loaded.acoustic
    left_out = list(model.left_out)
    found = recipe(model.config, acoustic.feature_settings, left_out)
    # no flat start: the model knows its letters already
    data = _sections(model.loaded, found["augment"], {"flat_start_steps": 0, **found["training"]})
    parse(Config, {"data": {"train": ["?"]}, **data}, f"{source}: converted")  # a config to go on training with
    files = {**model.files, KEPT_CONFIG: dump_mapping(model.config).encode("utf-8")}
    licence = next((str(model.config[key]) for key in ("license", "licence") if model.config.get(key)), None)
    save_model(out, acoustic, dump_mapping(data), _card(model.loaded, "NeMo", model.source, licence, left_out), files)
    _show(model.loaded, model.source, report)
    _tell(report, left_out)


def _hugging_face_to_folder(source: str, out: Path, report: Reporter, hints: Hints) -> None:
    model = read_hugging_face(source, hints.language, hints.adapter)
    if not model.has_head:
        raise AnadilError(
            f"{source} has no CTC head, so it recognises nothing yet\n"
            f"  next: give it one: anadil train CONFIG init.from={source} (docs/transfer.md)"
        )
    data = _sections(model.loaded, {}, {"flat_start_steps": 0})
    parse(Config, {"data": {"train": ["?"]}, **data}, f"{source}: converted")
    card = _card(model.loaded, "Hugging Face", model.source, model.licence, model.left_out)
    save_model(out, model.loaded.acoustic, dump_mapping(data), card)
    _show(model.loaded, model.source, report)
    for note in model.notes:
        report.say(note)
    _tell(report, model.left_out)


def _show(loaded: LoadedModel, source: str, report: Reporter) -> None:
    acoustic, rules = loaded.acoustic, loaded.rules
    what = describe_model(acoustic.network.settings)
    report.table(f"{what}, a frame every {1000 * acoustic.frame_s:g} ms", *layer_table(acoustic))
    labels = " ".join(label.replace(" ", "▁") for label in rules.labels[:40])
    report.say(
        f"{source}\n{count_parameters(acoustic):,} parameters, {acoustic.sample_rate:,} Hz, {len(rules.labels):,} "
        f"labels: {labels}{' ...' if len(rules.labels) > 40 else ''}"
    )


def _sections(loaded: LoadedModel, augment: dict[str, Any], training: dict[str, Any]) -> dict[str, Any]:
    acoustic, rules = loaded.acoustic, loaded.rules
    return {
        "name": loaded.name,
        "language": rules.language,
        "text": {"unknown": rules.unknown, "saved": rules.to_dict()},
        "tokenizer": {"kind": "bpe" if rules.subwords else "char", "labels": list(rules.labels)},
        "features": acoustic.feature_settings.model_dump(mode="json"),
        "augment": augment,
        "model": acoustic.network.settings.model_dump(mode="json"),
        "training": training,
    }


def _config_to_config(source: Path, out: Path, report: Reporter, hints: Hints) -> None:
    whole, unresolved = resolve(read_yaml(source), str(source))
    section = whole.get("model", whole)
    if not isinstance(section, dict) or "encoder" not in section:
        raise AnadilError(f"{source} is no NeMo config of a model: looked for the section encoder, or model.encoder")
    findings = Findings()
    # the number of labels is of the data: NeMo leaves it open
    settings = read_config(section, str(source), findings)
    left_out = findings.left_out
    beside = {} if section is whole else {key: value for key, value in whole.items() if key not in ("model", "name")}
    found = recipe({**beside, **section}, settings.features, left_out)
    kind = tokenizer_kind(section)
    labels = pieces_to_labels(settings.vocabulary, kind, str(source)) if settings.vocabulary else None
    if labels is None and kind:
        left_out.append(f"tokenizer: {kind} (its labels are not in the config; labels: auto takes the letters instead)")
    data = {
        "name": str(whole.get("name", source.stem)),
        "language": hints.language,
        "data": found["data"],
        "text": text_settings(labels, hints.language).model_dump(mode="json", exclude_none=True) if labels else {},
        "tokenizer": {"labels": labels or "auto"},
        "features": settings.features.model_dump(mode="json", exclude_defaults=True),
        "augment": found["augment"],
        "model": {"kind": settings.model.kind} | settings.model.model_dump(mode="json", exclude_defaults=True),
        "training": found["training"],
    }
    data = {key: value for key, value in data.items() if value != {}}
    parse(Config, {**data, "data": {"train": ["?"], **found["data"]}}, f"{source}: converted")
    with whole_file(out) as partial:
        partial.write_text(dump_mapping(data), encoding="utf-8")
    if "train" not in found["data"]:
        report.warn(f"the source names no training data: add data.train to {out}, or data.train=FILE to the command")
    # what a part that is left out refers to does not matter
    kept = tuple(f"{key}" for key in (*READ_ELSEWHERE, "model", "train_ds", "validation_ds", "optim", "trainer"))
    _tell(report, [*left_out, *(f"{one} (cannot be resolved)" for one in unresolved if one.startswith(kept))])


def _tell(report: Reporter, left_out: list[str]) -> None:
    if left_out:
        report.say("left out, as it has no counterpart here:\n" + "\n".join(f"  {one}" for one in left_out))


def _card(loaded: LoadedModel, whose: str, source: str, licence: str | None, left_out: list[str]) -> str:
    rules, thing = loaded.rules, "archive" if whose == "NeMo" else "model"
    return f"""# {loaded.name}

Speech recogniser for the language `{rules.language}`, converted by Anadil from {whose}.

| | |
|---|---|
| model | {describe_model(loaded.acoustic.network.settings)} |
| parameters | {count_parameters(loaded.acoustic):,} |
| labels | {len(rules.labels)} |
| converted from | {source} |
| licence | {licence or f"the {thing} does not tell; ask whoever made it"} |

Left out in the conversion: {"; ".join(left_out) or "nothing"}.
"""
