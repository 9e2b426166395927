"""Typed settings from YAML: unknown keys are errors that name the nearest known key; `a.b=value` overrides."""

from __future__ import annotations

import difflib
import json
import math
import re
import sys
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from anadil.errors import AnadilError, shortened

SECTION = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
"""For every section of a config: no unknown keys, never edited after load."""

Paths = Annotated[list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
"""Files, relative to the working directory; one alone needs no brackets."""


def _no_boolean(value: object) -> object:
    """Refuse true and false where a number belongs: Python takes them for 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("a number is expected")
    return value


Whole = Annotated[int, BeforeValidator(_no_boolean)]
"""A whole number in a setting. Each field gives it a lowest and a highest value (tests/test_settings.py)."""

Real = Annotated[float, BeforeValidator(_no_boolean), Field(allow_inf_nan=False)]
"""A finite number in a setting. Each field gives it a lowest and a highest value."""

MAX_SEED = 2**32 - 1
"""NumPy's largest seed."""

Seed = Annotated[Whole, Field(ge=0, le=MAX_SEED)]
"""Of random numbers."""

Section = TypeVar("Section", bound=BaseModel)


YAML_BYTES, YAML_VALUES = 2**21, 500_000
"""The largest configs hold a vocabulary of some ten thousand labels, three times. PyYAML takes 15 s for a megabyte."""

JSON_BYTES = 64 * 2**20
"""The largest vocabularies, of MMS in 1,162 languages, have 2.5 MB."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without YAML 1.1's words for booleans (`language: no` is Norwegian), and each key once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
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
    with open(path, "rb") as file:  # no more than is allowed, however large the file is
        return parse_yaml(file.read(YAML_BYTES + 1), str(path), path.stat().st_size)


def parse_yaml(content: bytes, where: str, n_bytes: int | None = None) -> dict[str, Any]:
    """Read YAML that holds a mapping. Raises AnadilError if it is malformed, or larger than any config.

    `n_bytes`: the size of the file, if `content` is only its start.
    """
    if len(content) > YAML_BYTES:
        raise AnadilError(
            f"{where}: {n_bytes or len(content):,} bytes of YAML, allowed are {YAML_BYTES:,}\n  next: check the path"
        )
    try:
        data = _load(content.decode("utf-8-sig"), where)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise AnadilError(f"{where}: not valid YAML: {why_unreadable(error)}\n  next: mend the file") from error
    if not isinstance(data, dict):
        raise AnadilError(f"{where}: expected `key: value` lines, found {type(data).__name__}")
    return data


def _load(text: str, where: str) -> Any:
    """The data of one YAML document. Raises AnadilError if it explodes, YAMLError, ValueError or RecursionError."""
    loader = _Loader(text)
    root = loader.get_single_node()
    _refuse_explosion(root, where)
    return None if root is None else loader.construct_document(root)


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
            raise AnadilError(
                f"expected KEY=VALUE, found {shortened(repr(assignment))}\n  for example: training.epochs=20"
            )
        try:
            parsed = _load(value, key)
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date such as 2026-13-01
            raise AnadilError(
                f"{shortened(repr(assignment))}: the value is not valid YAML: {why_unreadable(error)}"
            ) from error
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
    return parse(kind, read_json(path), str(path))


def read_json(path: Path, max_bytes: int = JSON_BYTES) -> Any:
    """The data in a JSON file. Raises AnadilError if it cannot be read, is larger than `max_bytes`, or is not JSON."""
    try:
        n_bytes = path.stat().st_size
        if n_bytes > max_bytes:
            raise AnadilError(f"{path}: {n_bytes:,} bytes of JSON, allowed are {max_bytes:,}\n  next: check the path")
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise AnadilError(
            f"{path}: not valid JSON: {why_unreadable(error)}\n  next: copy or make the file again"
        ) from error


def why_unreadable(error: Exception) -> str:
    """What is wrong with JSON or YAML, from the exception of its reader."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if "integer string conversion" in str(error):
        return f"a number of more than {sys.get_int_max_str_digits():,} digits"
    return shortened(str(error), 500)


def dump(settings: BaseModel) -> str:
    """YAML text of settings, in the order of the fields; Unicode stays readable."""
    return dump_mapping(settings.model_dump(mode="json", by_alias=True))


def dump_mapping(data: dict[str, Any]) -> str:
    """YAML text that every reader of YAML 1.1 or 1.2 reads alike, in the order of the keys."""
    text: str = yaml.dump(data, Dumper=_Dumper, allow_unicode=True, sort_keys=False, default_flow_style=None, width=110)
    return text


_KIND_OF_UNION = re.compile(r"(?:list|tuple|dict|set|literal|function-\w+)\[")
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
    message = shortened(mistake["msg"].removeprefix("Value error, "), 500)
    return f"{key}: {message}" + (f" (found {found_value(mistake['input'])})" if _is_plain(mistake["input"]) else "")


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float) or value is None


def found_value(value: object) -> str:
    """A plain value as a message shows it. Python refuses to write out an int of more than 4,300 digits."""
    if isinstance(value, int) and abs(value) >= 10**30:
        return f"a number of about {round(value.bit_length() * math.log10(2)):,} digits"
    return shortened(repr(value))


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
