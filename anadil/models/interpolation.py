"""`${section.key}` in a NeMo config, resolved as OmegaConf does, without running any of its resolvers."""

from __future__ import annotations

import re
from typing import Any

from anadil.errors import AnadilError

MAX_VALUES = 500_000
MAX_DEPTH = 64

_INNERMOST = re.compile(r"\$\{([^${}]*)\}")
_RESOLVER = re.compile(r"^[A-Za-z_][\w.]*:")

Path = tuple[str | int, ...]


def resolve(config: dict[str, Any], where: str) -> tuple[dict[str, Any], list[str]]:
    """A copy with every interpolation replaced, and what could not be, as "key: ${...}".

    Resolvers (`${oc.env:HOME}`) are not run and stay as they are. Raises AnadilError for circles and for
    interpolations that stand for more values than any config has.
    """
    walker = _Walker(config, where)
    resolved = walker.value(config, (), ())
    assert isinstance(resolved, dict)
    return resolved, list(dict.fromkeys(walker.unresolved))


class _Walker:
    def __init__(self, root: dict[str, Any], where: str) -> None:
        self.root, self.where = root, where
        self.unresolved: list[str] = []
        self.n_values = 0

    def value(self, value: Any, path: Path, on_way: tuple[Path, ...]) -> Any:
        self.n_values += 1
        if self.n_values > MAX_VALUES or len(path) > MAX_DEPTH:
            raise AnadilError(f"{self.where}: {_dotted(path[:8])}: its interpolations stand for too much: refused")
        if isinstance(value, dict):
            return {key: self.value(item, (*path, key), on_way) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item, (*path, i), on_way) for i, item in enumerate(value)]
        if isinstance(value, str) and "${" in value:
            return self._text(value, path, on_way)
        return value

    def _text(self, text: str, path: Path, on_way: tuple[Path, ...]) -> Any:
        whole = text
        while match := _INNERMOST.search(text):
            found = None if _RESOLVER.match(match[1]) else self._target(match[1], path)
            if found is None:
                self.unresolved.append(f"{_dotted(path)}: {whole}")
                return whole
            target, value = found
            if target in on_way or target == path:
                raise AnadilError(f"{self.where}: {_dotted(path)}: {whole} leads back to itself")
            if len(on_way) > MAX_DEPTH:
                raise AnadilError(f"{self.where}: {_dotted(path)}: interpolations are nested too deep: refused")
            resolved = self.value(value, target, (*on_way, path))
            if match[0] == text:
                return resolved
            text = text[: match.start()] + str(resolved) + text[match.end() :]
            if len(text) > MAX_VALUES:
                raise AnadilError(f"{self.where}: {_dotted(path)}: its interpolations stand for too much: refused")
        return text

    def _target(self, reference: str, path: Path) -> tuple[Path, Any] | None:
        """Where `a.b[0]` points, from the root; with leading dots from the value's own section upwards."""
        names = [name for name in re.split(r"[.\[\]]", reference.strip().lstrip(".")) if name]
        n_dots = len(reference.strip()) - len(reference.strip().lstrip("."))
        if n_dots > len(path) or not names:
            return None
        if not n_dots and names[0] == "model" and "model" not in self.root:
            names = names[1:]  # an archive keeps the section `model` alone
        start = path[: len(path) - n_dots] if n_dots else ()
        value: Any = self.root
        target: Path = ()
        for name in (*start, *names):
            if isinstance(value, str) and "${" in value:  # a section that is itself taken from elsewhere
                value = self.value(value, target, (path,))
            key: str | int = int(name) if isinstance(value, list) and str(name).lstrip("-").isdigit() else name
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError):
                return None
            target = (*target, key)
        return target, value


def _dotted(path: Path) -> str:
    return ".".join(map(str, path))
