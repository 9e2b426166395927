"""Interpolations in a NeMo config, `${section.key}`: replaced as OmegaConf does, without running any of its resolvers."""

from __future__ import annotations

import re
from typing import Any

from anadil.errors import AnadilError

_MAX_VALUES = 500_000
_MAX_DEPTH = 64

_INNERMOST = re.compile(r"\$\{([^${}]*)\}")
_RESOLVER = re.compile(r"^[A-Za-z_][\w.]*:")

_Path = tuple[str | int, ...]
"""Keys and list indices from the root to a value."""


def resolve(config: dict[str, Any], where: str) -> tuple[dict[str, Any], list[str]]:
    """A copy of the config with interpolations replaced, and the unresolved ones as "key: ${...}".

    Resolvers (`${oc.env:HOME}`) are not run and stay in the text. Raises AnadilError for circular references, and for
    interpolations that expand to more values than any real config has (a "billion laughs" attack).
    """
    resolver = _Resolver(config, where)
    resolved = resolver.value(config, (), ())
    assert isinstance(resolved, dict)
    return resolved, list(dict.fromkeys(resolver.unresolved))


class _Resolver:
    """Walks a config and replaces its interpolations."""

    def __init__(self, root: dict[str, Any], where: str) -> None:
        self.root, self.where = root, where
        self.unresolved: list[str] = []
        self.n_values = 0

    def value(self, value: Any, path: _Path, resolving: tuple[_Path, ...]) -> Any:
        """The value at `path`, resolved; `resolving` are the paths whose interpolations led here."""
        self.n_values += 1
        if self.n_values > _MAX_VALUES or len(path) > _MAX_DEPTH:
            raise AnadilError(f"{self.where}: {_dotted(path[:8])}: interpolations expand to too many values: refused")
        if isinstance(value, dict):
            return {key: self.value(item, (*path, key), resolving) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item, (*path, i), resolving) for i, item in enumerate(value)]
        if isinstance(value, str) and "${" in value:
            return self._text(value, path, resolving)
        return value

    def _text(self, text: str, path: _Path, resolving: tuple[_Path, ...]) -> Any:
        original = text
        while match := _INNERMOST.search(text):
            located = None if _RESOLVER.match(match[1]) else self._locate(match[1], path)
            if located is None:
                self.unresolved.append(f"{_dotted(path)}: {original}")
                return original
            target, value = located
            if target in resolving or target == path:
                raise AnadilError(f"{self.where}: {_dotted(path)}: {original} is a circular reference")
            if len(resolving) > _MAX_DEPTH:
                raise AnadilError(f"{self.where}: {_dotted(path)}: interpolations are nested too deep: refused")
            resolved = self.value(value, target, (*resolving, path))
            if match[0] == text:
                return resolved
            text = text[: match.start()] + str(resolved) + text[match.end() :]
            if len(text) > _MAX_VALUES:
                raise AnadilError(f"{self.where}: {_dotted(path)}: interpolations expand to too much text: refused")
        return text

    def _locate(self, reference: str, path: _Path) -> tuple[_Path, Any] | None:
        """Path and value that `a.b[0]` refers to: from the root, or with leading dots from the section of `path` upwards."""
        names = [name for name in re.split(r"[.\[\]]", reference.strip().lstrip(".")) if name]
        n_dots = len(reference.strip()) - len(reference.strip().lstrip("."))
        if n_dots > len(path) or not names:
            return None
        if not n_dots and names[0] == "model" and "model" not in self.root:
            names = names[1:]  # an archive holds the section `model` without the rest of the config
        start = path[: len(path) - n_dots] if n_dots else ()
        value: Any = self.root
        target: _Path = ()
        for name in (*start, *names):
            if isinstance(value, str) and "${" in value:  # the section is itself an interpolation
                value = self.value(value, target, (path,))
            key: str | int = int(name) if isinstance(value, list) and str(name).lstrip("-").isdigit() else name
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError):
                return None
            target = (*target, key)
        return target, value


def _dotted(path: _Path) -> str:
    return ".".join(map(str, path))
