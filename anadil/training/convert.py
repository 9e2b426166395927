"""Models and configs between NeMo and Anadil, both ways."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from anadil.errors import AnadilError
from anadil.files import refuse_overwrite, whole_file
from anadil.models.acoustic import CONFIG, WEIGHTS, LoadedModel, save_model
from anadil.models.hugging_face_folder import read_hugging_face
from anadil.models.hugging_face_vocabulary import is_hub_id, is_hugging_face
from anadil.models.interpolation import resolve
from anadil.models.nemo import read_nemo
from anadil.models.nemo_archive import kind_of
from anadil.models.nemo_config import read_config
from anadil.models.nemo_labels import labels_from, text_settings, tokenizer_kind
from anadil.models.nemo_options import Findings
from anadil.models.nemo_write import KEPT_CONFIG, write_nemo
from anadil.models.summary import count_parameters, describe_model, layer_table
from anadil.settings import dump_mapping, parse, read_yaml
from anadil.training.config import Config
from anadil.training.nemo_recipe import READ_ELSEWHERE, recipe
from anadil.training.report import Reporter

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
    if kind_of(source) is not None:
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
    labels = labels_from(settings.vocabulary, kind, str(source)) if settings.vocabulary else None
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
