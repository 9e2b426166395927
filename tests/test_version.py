"""The version is written in one place, `anadil.__version__`, and a build reads it without importing anything."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

from anadil import __version__

ROOT = Path(__file__).parents[1]


def test_the_package_metadata_takes_its_version_from_the_source() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in settings["project"]
    assert settings["project"]["dynamic"] == ["version"]
    assert settings["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "anadil.__version__"}


def test_the_version_is_a_literal() -> None:
    """setuptools reads a literal from the syntax tree; anything else makes it import the package, and all that it needs."""
    tree = ast.parse((ROOT / "anadil/__init__.py").read_text(encoding="utf-8"))
    values = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == "__version__" for target in node.targets)
    ]
    assert [ast.literal_eval(value) for value in values] == [__version__]
