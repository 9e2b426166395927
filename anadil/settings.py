"""Typed settings from YAML: unknown keys are errors that name the nearest known key; `a.b=value` overrides."""

from __future__ import annotations

import difflib
import json
import re
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from anadil.errors import AnadilError

SECTION = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
"""For every section of a config: no unknown keys, never edited after load."""

Paths = Annotated[list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
"""Files, relative to the working directory; one alone needs no brackets."""

Section = TypeVar("Section", bound=BaseModel)


YAML_BYTES, YAML_VALUES = 8 * 2**20, 500_000
"""The largest configs hold a vocabulary of some ten thousand labels, three times."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without YAML 1.1's words for booleans (`language: no` is Norwegian), and each key once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key {key.value!r} comes twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern) for tag, pattern in resolvers if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:float")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
# YAML 1.1 takes 1e-3 for a string, because it has no dot
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][-+]?\d+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"),
    list("-+0123456789."),
)


class _Dumper(yaml.SafeDumper):
    """Quotes what `_Loader` would not read as a string: 08, 1e3."""


_Dumper.yaml_implicit_resolvers = {
    first: [
        *yaml.SafeDumper.yaml_implicit_resolvers.get(first, []),
        *(pair for pair in _Loader.yaml_implicit_resolvers.get(first, []) if pair[0].endswith(":float")),
    ]
    for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *_Loader.yaml_implicit_resolvers}
}


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping. Raises AnadilError if it is missing or malformed."""
    if not path.is_file():
        raise AnadilError(f"config not found: {path}\n  next: check the path; configs to start from are in configs/")
    return parse_yaml(path.read_bytes(), str(path))


def parse_yaml(content: bytes, where: str) -> dict[str, Any]:
    """Read YAML that holds a mapping. Raises AnadilError if it is malformed, or larger than any config."""
    if len(content) > YAML_BYTES:
        raise AnadilError(f"{where}: {len(content):,} bytes of YAML, allowed are {YAML_BYTES:,}")
    try:
        loader = _Loader(content.decode("utf-8-sig"))
        root = loader.get_single_node()
        _refuse_explosion(root, where)
        data = None if root is None else loader.construct_document(root)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise AnadilError(f"{where}: not valid YAML: {error}\n  next: mend the file") from error
    if not isinstance(data, dict):
        raise AnadilError(f"{where}: expected `key: value` lines, found {type(data).__name__}")
    return data


def _refuse_explosion(root: yaml.Node | None, where: str) -> None:
    """Raise AnadilError if the document has too many values with its aliases expanded, or one that contains itself.

    PyYAML has no limit: a few lines of aliases can stand for billions of values.
    """
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = YAML_VALUES + 1  # until it is known: a node below itself has no end
            children: list[yaml.Node] = []
            if isinstance(node, yaml.SequenceNode):
                children = list(node.value)
            elif isinstance(node, yaml.MappingNode):
                children = [child for pair in node.value for child in pair]
            sizes[id(node)] = 1 + sum(map(size, children))
        return sizes[id(node)]

    if root is not None and size(root) > YAML_VALUES:
        raise AnadilError(f"{where}: its aliases (*name) stand for more than {YAML_VALUES:,} values")


def override(data: dict[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Apply `a.b=value` to a copy of nested mappings; values are read as YAML. Raises AnadilError."""
    result = dict(data)
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key:
            raise AnadilError(f"expected KEY=VALUE, found {assignment!r}\n  for example: training.epochs=20")
        try:
            parsed = yaml.load(value, Loader=_Loader)
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date such as 2026-13-01
            raise AnadilError(f"{assignment!r}: the value is not valid YAML: {error}") from error
        *sections, last = key.split(".")
        inner = result
        for section in sections:
            child = inner.get(section)
            inner[section] = dict(child) if isinstance(child, dict) else {}
            inner = inner[section]
        inner[last] = parsed
    return result


def parse(kind: type[Section], data: dict[str, Any], where: str) -> Section:
    """Validate `data` as a `kind`. Raises AnadilError with every mistake, unknown keys with the nearest known one."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        lines = dict.fromkeys(_explain(kind, mistake["loc"], mistake) for mistake in error.errors())
        raise AnadilError("\n".join(f"{where}: {line}" for line in lines) + "\n  next: mend these keys") from error


def parse_json(kind: type[Section], path: Path) -> Section:
    """Read and validate a JSON file as a `kind`. Raises AnadilError if it is missing, malformed or does not fit."""
    if not path.is_file():
        raise AnadilError(f"file not found: {path}\n  next: check the path")
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise AnadilError(f"{path}: not valid JSON: {error}\n  next: copy or make the file again") from error
    return parse(kind, data, str(path))


def dump(settings: BaseModel) -> str:
    """YAML text of settings, in the order of the fields; Unicode stays readable."""
    return dump_mapping(settings.model_dump(mode="json", by_alias=True))


def dump_mapping(data: dict[str, Any]) -> str:
    """YAML text that every reader of YAML 1.1 or 1.2 reads alike, in the order of the keys."""
    text: str = yaml.dump(data, Dumper=_Dumper, allow_unicode=True, sort_keys=False, default_flow_style=None, width=110)
    return text


_KIND_OF_UNION = re.compile(r"(?:list|tuple|dict|set|literal)\[")
"""pydantic names the member of a union that was tried as if it were a key: "labels.list[str]"."""


def _explain(kind: type[BaseModel], location: tuple[int | str, ...], mistake: Any) -> str:
    location = tuple(part for part in location if not _KIND_OF_UNION.match(str(part)))
    location, sections = _walk(kind, location)
    key = ".".join(str(part) for part in location)
    if mistake["type"] == "extra_forbidden":
        known = sorted({field.alias or name for section in sections for name, field in section.model_fields.items()})
        near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.4)
        full = ".".join([*map(str, location[:-1]), near[0]]) if near else ""
        hint = f"did you mean {full!r}?" if near else f"known are: {', '.join(known)}"
        return f"unknown key {key!r}; {hint}"
    if mistake["type"] == "missing":
        return f"{key!r} is required"
    message = mistake["msg"].removeprefix("Value error, ")
    return f"{key}: {message}" + (f" (found {mistake['input']!r})" if _short(mistake["input"]) else "")


def _short(value: object) -> bool:
    return isinstance(value, str | int | float) or value is None


def _types(annotation: Any) -> Iterator[type]:
    """The classes in an annotation, as deep as `list[Block] | None` goes."""
    arguments = typing.get_args(annotation)
    if not arguments and isinstance(annotation, type):
        yield annotation
    for argument in arguments:
        yield from _types(argument)


def _walk(
    kind: type[BaseModel], location: tuple[int | str, ...]
) -> tuple[tuple[int | str, ...], list[type[BaseModel]]]:
    """The location below `kind` as the user wrote it, and the sections that its last key may belong to.

    Of a section that comes in several kinds pydantic puts the tag, its class's name, into the location as if it were a key.
    """
    sections: list[type[BaseModel]] = [kind]
    written: list[int | str] = []
    inner: list[type[BaseModel]] = []
    for part in location:
        named = [one for one in inner if len(inner) > 1 and part == one.__name__]
        if named:
            sections = inner = named
            continue
        written.append(part)
        if isinstance(part, int):
            continue
        sections = inner or sections
        fields = [one.model_fields[part].annotation for one in sections if part in one.model_fields]
        inner = [one for annotation in fields for one in _types(annotation) if issubclass(one, BaseModel)]
    return tuple(written), sections
