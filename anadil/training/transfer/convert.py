"""`anadil convert`: models and configs from NeMo, models from Hugging Face and hama, and models back to NeMo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from anadil.decoding.language_model import SETTINGS as LM_SETTINGS
from anadil.errors import AnadilError
from anadil.files import refuse_overwrite, whole_file
from anadil.models.acoustic import CONFIG, WEIGHTS, LoadedModel, save_model
from anadil.models.features import FeatureSettings
from anadil.models.hama import HAMA, LICENCE, installed_model, is_hama, read_hama
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

Result = Literal["model folder", "NeMo archive", "config"]


@dataclass(frozen=True)
class Hints:
    """Information that the source may lack."""

    language: str = "und"
    config: Path | None = None  # NeMo YAML, for a checkpoint that does not hold its config
    tokenizer: Path | None = None  # folder of the tokenizer, for a checkpoint with subwords
    adapter: str | None = None  # for MMS: the language of its adapter and head


def convert(source: Path, out: Path, report: Reporter, hints: Hints = Hints(), force: bool = False) -> Result:
    """Convert `source` and return the kind of what was written to `out`.

    A `.nemo`, a Lightning `.ckpt`, a `.hama` and a model of Hugging Face become a model folder, a model folder becomes a `.nemo`,
    and NeMo's YAML becomes a config. The kind of the source is read from its contents. Raises AnadilError if it is none
    of these, if `out` exists, or if the model has no counterpart.
    """
    refuse_overwrite(out, force)
    if (source / WEIGHTS).is_file() and (source / CONFIG).is_file():
        write_nemo(source, out, force)
        if (source / LM_SETTINGS).is_file():
            report.warn("the language model of the folder is left out: a NeMo archive holds none")
        return "NeMo archive"
    if archive_kind(source) is not None:
        _archive_to_folder(source, out, report, hints)
        return "model folder"
    if is_hama(source) or (str(source) == HAMA and not source.exists()):
        _hama_to_folder(source if source.exists() else installed_model(), out, report)
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
        f"{source} cannot be converted: it is no NeMo archive (a tar with model_config.yaml), no Lightning checkpoint, no "
        f".hama file, no model folder (with {WEIGHTS}), no folder of transformers (with config.json) and no NeMo YAML (.yaml)\n"
        "  next: check the path"
    )


def _archive_to_folder(source: Path, out: Path, report: Reporter, hints: Hints) -> None:
    model = read_nemo(source, hints.language, hints.config, hints.tokenizer)
    acoustic = model.loaded.acoustic
    left_out = list(model.left_out)
    recipe = _recipe(model.config, acoustic.feature_settings, left_out)
    # no flat start: the model is already trained
    data = _sections(model.loaded, recipe["augment"], {"flat_start_steps": 0, **recipe["training"]})
    parse(Config, {"data": {"train": ["?"]}, **data}, f"{source}: converted")  # training can be continued with it
    files = {**model.files, KEPT_CONFIG: dump_mapping(model.config).encode("utf-8")}
    licence = next((str(model.config[key]) for key in ("license", "licence") if model.config.get(key)), None)
    save_model(out, acoustic, dump_mapping(data), _card(model.loaded, "NeMo", model.source, licence, left_out), files)
    _report_model(model.loaded, model.source, report)
    _report_left_out(left_out, report)


def _hugging_face_to_folder(source: str, out: Path, report: Reporter, hints: Hints) -> None:
    model = read_hugging_face(source, hints.language, hints.adapter)
    if not model.has_head:
        raise AnadilError(
            f"{source} has no CTC head, so it cannot recognise speech yet\n"
            f"  next: train one: anadil train CONFIG init.from={source} (docs/transfer.md)"
        )
    data = _sections(model.loaded, {}, {"flat_start_steps": 0})
    parse(Config, {"data": {"train": ["?"]}, **data}, f"{source}: converted")
    card = _card(model.loaded, "Hugging Face", model.source, model.licence, model.left_out)
    save_model(out, model.loaded.acoustic, dump_mapping(data), card)
    _report_model(model.loaded, model.source, report)
    for note in model.notes:
        report.say(note)
    _report_left_out(model.left_out, report)


def _hama_to_folder(source: Path, out: Path, report: Reporter) -> None:
    loaded = read_hama(source)
    data = _sections(loaded, {}, {"flat_start_steps": 0})
    parse(Config, {"data": {"train": ["?"]}, **data}, f"{source}: converted")
    save_model(out, loaded.acoustic, dump_mapping(data), _card(loaded, "hama", source.name, LICENCE, []))
    _report_model(loaded, source.name, report)


def _report_model(loaded: LoadedModel, source: str, report: Reporter) -> None:
    acoustic, rules = loaded.acoustic, loaded.rules
    description = describe_model(acoustic.network.settings)
    report.table(f"{description}, a frame every {1000 * acoustic.frame_s:g} ms", *layer_table(acoustic))
    labels = " ".join(label.replace(" ", "▁") for label in rules.labels[:40])
    report.say(
        f"{source}\n{count_parameters(acoustic):,} parameters, {acoustic.sample_rate:,} Hz, {len(rules.labels):,} "
        f"labels: {labels}{' ...' if len(rules.labels) > 40 else ''}"
    )


def _sections(loaded: LoadedModel, augment: dict[str, Any], training: dict[str, Any]) -> dict[str, Any]:
    """The config of the model folder, without the section `data`."""
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
        raise AnadilError(f"{source} is no NeMo config of a model: it has no section encoder or model.encoder")
    findings = Findings()
    settings = read_config(section, str(source), findings)
    left_out = findings.left_out
    beside = {} if section is whole else {key: value for key, value in whole.items() if key not in ("model", "name")}
    recipe = _recipe({**beside, **section}, settings.features, left_out)
    kind = tokenizer_kind(section)
    labels = pieces_to_labels(settings.vocabulary, kind, str(source)) if settings.vocabulary else None
    if labels is None and kind:
        left_out.append(
            f"tokenizer: {kind} (the config has no labels; labels: auto uses the letters of the texts instead)"
        )
    data = {
        "name": str(whole.get("name", source.stem)),
        "language": hints.language,
        "data": recipe["data"],
        "text": text_settings(labels, hints.language).model_dump(mode="json", exclude_none=True) if labels else {},
        "tokenizer": {"labels": labels or "auto"},
        "features": settings.features.model_dump(mode="json", exclude_defaults=True),
        "augment": recipe["augment"],
        "model": {"kind": settings.model.kind} | settings.model.model_dump(mode="json", exclude_defaults=True),
        "training": recipe["training"],
    }
    data = {key: value for key, value in data.items() if value != {}}
    parse(Config, {**data, "data": {"train": ["?"], **recipe["data"]}}, f"{source}: converted")
    with whole_file(out) as partial:
        partial.write_text(dump_mapping(data), encoding="utf-8")
    if "train" not in recipe["data"]:
        report.warn(f"the source names no training data: add data.train to {out}, or data.train=FILE to the command")
    # unresolved interpolations in sections that are left out are not reported
    converted = (*_MODEL_SECTIONS, "model", "train_ds", "validation_ds", "optim", "trainer")
    left_out += [f"{option} (cannot be resolved)" for option in unresolved if option.startswith(converted)]
    _report_left_out(left_out, report)


def _report_left_out(left_out: list[str], report: Reporter) -> None:
    if left_out:
        report.say("left out, because Anadil has no counterpart:\n" + "\n".join(f"  {option}" for option in left_out))


def _card(loaded: LoadedModel, origin: str, source: str, licence: str | None, left_out: list[str]) -> str:
    """The model card, README.md of the model folder."""
    rules, thing = loaded.rules, "archive" if origin == "NeMo" else "model"
    return f"""# {loaded.name}

Speech recogniser for the language `{rules.language}`, converted by Anadil from {origin}.

| | |
|---|---|
| model | {describe_model(loaded.acoustic.network.settings)} |
| parameters | {count_parameters(loaded.acoustic):,} |
| labels | {len(rules.labels)} |
| converted from | {source} |
| licence | {licence or f"not stated in the {thing}; ask its authors"} |

Left out in the conversion: {"; ".join(left_out) or "nothing"}.
"""


# NeMo's sections about training (data, optimizer, schedule, trainer, SpecAugment) as sections of Anadil's config

_PRECISIONS: dict[Any, str] = {
    **dict.fromkeys((32, "32", "32-true"), "32-true"),
    **dict.fromkeys(("bf16", "bf16-mixed"), "bf16-mixed"),
    **dict.fromkeys((16, "16", "16-mixed"), "16-mixed"),
}
"""Anadil's `training.precision` for each value of NeMo's `trainer.precision`."""

_MODEL_SECTIONS = {
    *("preprocessor", "encoder", "decoder", "aux_ctc", "labels", "tokenizer", "target", "nemo_version", "sample_rate"),
    *("joint", "model_defaults", "loss"),
}
"""Keys of NeMo's config about the model itself, which models/nemo/ reads."""


def _recipe(config: dict[str, Any], features: FeatureSettings, left_out: list[str]) -> dict[str, Any]:
    """Sections `data`, `augment` and `training`; options without counterpart are added to `left_out`.

    `config` is NeMo's section `model`, with the other sections, such as `trainer`, beside its own if there are any.
    """
    rest = {key: value for key, value in config.items() if key not in _MODEL_SECTIONS and value is not None}
    training = _optimizer(_section(rest, "optim"), config, left_out) | _trainer(_section(rest, "trainer"), left_out)
    data = _data(rest, left_out)
    augment = {"spec_augment": _spec_augment(_section(rest, "spec_augment"), features, left_out)}
    training = _valid(TrainingSettings, training, "training", left_out)
    data = _valid(DataSettings, data, "data", left_out)
    left_out += sorted(rest)
    return {"data": data, "augment": augment, "training": training}


def _valid(kind: type[BaseModel], values: dict[str, Any], name: str, left_out: list[str]) -> dict[str, Any]:
    """The values that `kind` accepts. Others are left out: a model is not refused because of how it was trained."""
    required = {"train": ["?"]} if kind is DataSettings else {}
    valid: dict[str, Any] = {}
    for key, value in values.items():
        try:
            kind.model_validate({**required, **valid, key: value})
        except ValidationError:
            left_out.append(f"{name}.{key}: {_short(value)} (not allowed in Anadil)")
        else:
            valid[key] = value
    return valid


def _section(rest: dict[str, Any], name: str) -> dict[str, Any]:
    """A section without its null values, removed from `rest`."""
    section = rest.pop(name, None)
    return {key: value for key, value in section.items() if value is not None} if isinstance(section, dict) else {}


def _take(section: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Options removed from `section`, under Anadil's names; `names` maps NeMo's names to these."""
    return {name: section.pop(nemo_name) for nemo_name, name in names.items() if nemo_name in section}


def _leave_out(section: dict[str, Any], name: str, left_out: list[str]) -> None:
    """Add the options that remain in a section to `left_out`."""
    left_out += [f"{name}.{key}: {_short(value)}" for key, value in section.items() if key != "_target_"]


def _optimizer(section: dict[str, Any], config: dict[str, Any], left_out: list[str]) -> dict[str, Any]:
    training = _take(section, {"name": "optimizer", "lr": "lr", "betas": "betas", "weight_decay": "weight_decay"})
    if training.get("optimizer") == "adam":
        training["optimizer"] = "adamw"
        left_out.append("optim.name: adam (adamw instead, whose weight decay is not part of the gradient)")
    elif training.get("optimizer") not in (None, "adamw", "novograd"):
        left_out.append(f"optim.name: {training.pop('optimizer')}")
    schedule = section.pop("sched", None) or {}
    schedule = {key: value for key, value in schedule.items() if value is not None}
    name = schedule.pop("name", None)
    training |= _take(schedule, {"warmup_steps": "warmup_steps", "min_lr": "min_lr"})
    if name == "NoamAnnealing":  # its lr is a factor; converted to the learning rate at the end of the warm-up
        width = schedule.pop("d_model", None) or config.get("encoder", {}).get("d_model")
        if isinstance(width, int) and isinstance(training.get("lr"), int | float) and training.get("warmup_steps"):
            training["lr"] = round(training["lr"] / (width * training["warmup_steps"]) ** 0.5, 8)
    if name not in (None, "CosineAnnealing"):
        left_out.append(f"optim.sched.name: {name} (a half cosine instead)")
    if isinstance(training.get("lr"), float) and training.get("min_lr", 1e-5) > training["lr"]:
        training["min_lr"] = training["lr"]
    _leave_out(schedule, "optim.sched", left_out)
    _leave_out(section, "optim", left_out)
    return training


def _trainer(section: dict[str, Any], left_out: list[str]) -> dict[str, Any]:
    training = _take(section, {"max_epochs": "epochs", "gradient_clip_val": "clip_norm"})
    if not training.get("clip_norm", 1.0):
        del training["clip_norm"]
        left_out.append("trainer.gradient_clip_val: 0 (gradients are clipped at training.clip_norm)")
    if isinstance(training.get("epochs"), int) and training["epochs"] < 1:
        left_out.append(f"trainer.max_epochs: {training.pop('epochs')}")
    if section.get("precision") in _PRECISIONS:
        training["precision"] = _PRECISIONS[section.pop("precision")]
    _leave_out(section, "trainer", left_out)
    return training


def _data(rest: dict[str, Any], left_out: list[str]) -> dict[str, Any]:
    train, valid = _section(rest, "train_ds"), _section(rest, "validation_ds")
    data: dict[str, Any] = {}
    for name, section in (("train", train), ("valid", valid)):
        paths = _paths(section.pop("manifest_filepath", None))
        if paths:
            data[name] = paths
    data |= _take(train, {"max_duration": "max_duration", "min_duration": "min_duration"})
    for section, name in ((train, "train_ds"), (valid, "validation_ds")):
        for key in ("labels", "sample_rate", "shuffle"):  # known from the model, or always on in Anadil
            section.pop(key, None)
        _leave_out(section, name, left_out)
    return data


def _paths(value: Any) -> list[str]:
    """Manifests, from a string with commas, a list, or a list of lists."""
    if isinstance(value, str):
        value = value.split(",")
    flat: list[Any] = []
    for item in value if isinstance(value, list) else []:
        flat += item if isinstance(item, list) else [item]
    return [str(path).strip() for path in flat if str(path).strip() not in ("", "???", "None")]


def _spec_augment(section: dict[str, Any], features: FeatureSettings, left_out: list[str]) -> dict[str, Any] | None:
    settings = _take(section, {"freq_masks": "freq_masks", "time_masks": "time_masks"})
    freq_width, time_width = section.pop("freq_width", 0), section.pop("time_width", 0)
    if settings.get("freq_masks"):
        settings["freq_width"] = round(min(1.0, freq_width / features.mels), 4)
    if settings.get("time_masks"):
        if isinstance(time_width, float) and time_width <= 1:
            settings["time_width"] = time_width
        else:
            settings["time_masks"] = 0
            left_out.append(f"spec_augment.time_width: {time_width} (in frames; Anadil's is a share of the utterance)")
    _leave_out(section, "spec_augment", left_out)
    if not settings.get("freq_masks") and not settings.get("time_masks"):
        return None
    return {"freq_masks": 0, "time_masks": 0} | settings


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 60 else text[:57] + "..."
