from __future__ import annotations

import math
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from anadil.errors import AnadilError
from anadil.export.layout import ExportedSettings
from anadil.settings import YAML_BYTES, dump, override, parse, parse_json, read_yaml
from anadil.text.language_rules import LanguageRules
from anadil.training.config import Config, load_config

LEAST: dict[str, Any] = {"language": "tr", "data": {"train": ["t.jsonl"]}}


def with_key(key: str, value: object) -> dict[str, Any]:
    *sections, last = key.split(".")
    result: dict[str, Any] = {**LEAST}
    inner = result
    for section in sections:
        inner[section] = dict(inner.get(section, {}))
        inner = inner[section]
    inner[last] = value
    return result


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (with_key("modle", {}), "unknown key 'modle'; did you mean 'model'?"),
        (with_key("training.epoch", 3), "unknown key 'training.epoch'; did you mean 'training.epochs'?"),
        (
            with_key("augment.spec_augment.freq_mask", 3),
            "unknown key 'augment.spec_augment.freq_mask'; did you mean 'augment.spec_augment.freq_masks'?",
        ),
        (
            with_key("model.blocks", [{"filters": 8, "kernel": 3, "dilatation": 2}]),
            "unknown key 'model.blocks.0.dilatation'; did you mean 'model.blocks.0.dilation'?",
        ),
        (
            with_key("model", {"kind": "conformer", "dmodel": 8}),
            "unknown key 'model.dmodel'; did you mean 'model.d_model'?",
        ),
        (
            with_key("model", {"kind": "fastconformer", "d_model": 30, "n_heads": 4}),
            "model: d_model 30 must be even and a multiple of n_heads 4",
        ),
        (with_key("model", {"kind": "citrinet"}), "model: kind citrinet has no presets: give blocks"),
        (with_key("tokenizer.xyz", 3), "unknown key 'tokenizer.xyz'; known are: kind, labels, path, sampling, size"),
        (with_key("training.epochs", 0), "training.epochs: Input should be greater than or equal to 1 (found 0)"),
        (with_key("training.min_lr", 1), "training: min_lr 1.0 is above lr 0.003"),
        ({"data": {"train": "t.jsonl"}}, "'language' is required"),
        (
            with_key("tokenizer.labels", "atuo"),
            "tokenizer.labels: Input should be a valid list (found 'atuo')\n"
            "c.yaml: tokenizer.labels: Input should be 'auto' (found 'atuo')",
        ),
    ],
)
def test_a_mistake_is_named_with_what_was_meant(data: dict[str, Any], message: str) -> None:
    with pytest.raises(AnadilError) as caught:
        parse(Config, data, "c.yaml")
    assert str(caught.value) == f"c.yaml: {message}\n  next: mend these keys"


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(AnadilError) as caught:
        parse(Config, {"langauge": "tr", "data": {"train": []}, "training": {"lr": "fast"}}, "c.yaml")
    for key in ("langauge", "language", "data.train", "training.lr"):
        assert f"c.yaml: {key}: " in str(caught.value) or f"{key!r}" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 5  # and the next step


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("a=3", {"a": 3}),
        ("a=1e-3", {"a": 0.001}),
        ("a=-2.5E+3", {"a": -2500.0}),
        ("a=.5", {"a": 0.5}),
        ("a=.inf", {"a": math.inf}),
        ("a=true", {"a": True}),
        ("a=no", {"a": "no"}),
        ("a=on", {"a": "on"}),
        ("a=Y", {"a": "Y"}),
        ("a=null", {"a": None}),
        ("a=", {"a": None}),
        ("a=x=y", {"a": "x=y"}),
        ("a=[b, 1e3]", {"a": ["b", 1000.0]}),
        ("a={b: 1}", {"a": {"b": 1}}),
        ("s.t.u=1", {"s": {"t": {"u": 1}, "kept": 0}}),
        ("new.v=1", {"new": {"v": 1}}),
    ],
)
def test_an_override_is_yaml_at_its_key(assignment: str, expected: dict[str, Any]) -> None:
    data = {"s": {"t": {"u": 0}, "kept": 0}, "empty": None}
    result = override(data, [assignment])
    assert result == data | expected
    assert [type(value) for value in result.values()] == [type(value) for value in (data | expected).values()]
    assert data == {"s": {"t": {"u": 0}, "kept": 0}, "empty": None}  # a copy


def test_the_last_override_wins_and_an_empty_section_can_be_filled() -> None:
    assert override({"s": None}, ["s.a=1", "s.b=2", "s.a=3"]) == {"s": {"a": 3, "b": 2}}


@pytest.mark.parametrize(
    "assignment", ["training.epochs", "=5", "", "a=[", "a=2026-13-01", "a=!!python/name:os.system"]
)
def test_a_malformed_override_is_an_error(assignment: str) -> None:
    with pytest.raises(AnadilError, match=r"KEY=VALUE|not valid YAML"):
        override({}, [assignment])


def test_a_config_is_read_with_its_overrides(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("\ufefflanguage: no\ndata: {train: ö.jsonl}\ntraining:\n", encoding="utf-8")
    config = load_config(path, ["training.lr=1e-4", "data.skip_bad=true", "training.betas=[0.8, 0.5]"])
    assert (config.language, config.data.train, config.data.skip_bad) == ("no", ["ö.jsonl"], True)
    assert (config.training.lr, config.training.betas) == (1e-4, (0.8, 0.5))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("- a\n- b\n", "expected `key: value` lines, found list"),
        ("", "expected `key: value` lines, found NoneType"),
        ("a: [1\nb: 2\n", "not valid YAML"),
        ("a: 2026-13-01\n", "not valid YAML"),
        ("a: \xe7", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_config_is_an_error(tmp_path: Path, content: str, what: str) -> None:
    (tmp_path / "c.yaml").write_text(content, encoding="latin-1")
    with pytest.raises(AnadilError, match=f"c.yaml: {what}"):
        read_yaml(tmp_path / "c.yaml")


def test_a_missing_config_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "c.yaml"):
        with pytest.raises(AnadilError, match="config not found"):
            read_yaml(path)


def test_yaml_runs_no_code(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        f"a: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{tmp_path}/ran']]"
    )
    with pytest.raises(AnadilError, match="could not determine a constructor"):
        read_yaml(path)
    assert [one.name for one in tmp_path.iterdir()] == ["c.yaml"]


@pytest.mark.parametrize(
    "name", ["no", "null", "1.5", "1e3", "08", "0x1F", "1:30", "2026-11-23", "a: b # c", " ğ\u2028", "'"]
)
def test_settings_survive_being_written(tmp_path: Path, name: str) -> None:
    changed = {
        "name": name,
        "tokenizer": {"labels": [" ", "n", "y", "'", "ω\u0301", name]},
        "text": {"map": {"~": name}, "drop": "!\n\u2028"},
        "model": {"blocks": [{"filters": 8, "kernel": 3}]},
        "augment": {"spec_augment": None},
        "training": {"lr": 1e-3, "betas": [0.9, 0.98]},
    }
    config = parse(Config, LEAST | changed, "")
    (tmp_path / "c.yaml").write_text(dump(config), encoding="utf-8")
    assert load_config(tmp_path / "c.yaml") == config
    assert "ω" in dump(config)


def test_a_key_that_comes_twice_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("a: &a {x: 1}\nb: {<<: *a, x: 2}\n")
    assert read_yaml(path)["b"] == {"x": 2}  # a merge is no repetition
    path.write_text("training: {lr: 1}\nname: a\ntraining: {lr: 2}\n")
    with pytest.raises(AnadilError, match=r"'training' comes twice\n.*line 3"):
        read_yaml(path)


def leaves(annotation: Any) -> Iterator[Any]:
    """The types in an annotation: list[Annotated[int, ...]] | None holds list, int and None."""
    arguments = () if typing.get_origin(annotation) is typing.Literal else typing.get_args(annotation)
    yield annotation
    for argument in arguments:
        yield from leaves(argument)


def numbers(kind: type[BaseModel], seen: set[type] | None = None) -> Iterator[tuple[type[BaseModel], str]]:
    """Every field of `kind`, and of the sections in it, that holds a number."""
    seen = set() if seen is None else seen
    if kind in seen:
        return
    seen.add(kind)
    for name, field in kind.model_fields.items():
        types = list(leaves(field.annotation))
        if int in types or float in types:
            yield kind, field.alias or name
        for one in types:
            if isinstance(one, type) and issubclass(one, BaseModel):
                yield from numbers(one, seen)


NUMBERS = [*numbers(Config), *numbers(ExportedSettings), *numbers(LanguageRules)]


@pytest.mark.parametrize(("kind", "name"), NUMBERS, ids=[f"{kind.__name__}.{name}" for kind, name in NUMBERS])
def test_every_number_has_a_range(kind: type[BaseModel], name: str) -> None:
    for value in (math.inf, -math.inf, math.nan, 10**30, -(10**30), 10**4000, 1e308, -1e308, True):
        for written in (value, [value], [value, value]):
            with pytest.raises(ValidationError) as caught:
                kind.model_validate({name: written})
            assert name in {error["loc"][0] for error in caught.value.errors()}, written


def test_the_fields_that_are_numbers_are_found() -> None:
    found = {f"{kind.__name__}.{name}" for kind, name in NUMBERS}
    assert len(found) > 120
    assert {"TrainingSettings.betas", "StemSettings.channels", "GainSettings.db", "NumberSettings.years"} <= found
    assert {"ExportedSettings.sample_rate", "Wav2Vec2Settings.conv_dim", "ConformerSettings.att_context_size"} <= found


def test_a_number_of_thousands_of_digits_is_named_and_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"name": ' + "9" * 5000 + "}")
    with pytest.raises(AnadilError, match=r"a\.json: not valid JSON: a number of more than 4,300 digits"):
        parse_json(ExportedSettings, tmp_path / "a.json")
    with pytest.raises(AnadilError, match=r"seed: .* \(found a number of about 4,000 digits\)"):
        parse(Config, with_key("training.seed", 10**4000), "c.yaml")
    with pytest.raises(AnadilError, match="a number of more than 4,300 digits") as caught:
        override({}, ["training.seed=" + "9" * 5000])
    assert len(str(caught.value)) < 400


def test_files_that_are_too_large_or_too_deep_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: " + "x" * YAML_BYTES)
    with pytest.raises(AnadilError, match=f"{YAML_BYTES + 3:,} bytes of YAML, allowed are {YAML_BYTES:,}"):
        read_yaml(tmp_path / "a.yaml")
    (tmp_path / "a.json").write_text("[" * 100_000)
    with pytest.raises(AnadilError, match="nested too deeply"):
        parse_json(ExportedSettings, tmp_path / "a.json")
    (tmp_path / "b.yaml").write_text("!!map [a]")
    with pytest.raises(AnadilError, match="not valid YAML"):
        read_yaml(tmp_path / "b.yaml")
