"""The layout's rules (DESIGN.md, section 1), read off the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROAD = [
    *("text", "corpora", "lm", "decoding", "evaluation", "splitting", "doctor", "data", "models"),
    *("training", "export", "recognition", "studies", "serving", "cli"),
]
"""Each package may import from those before it."""
FREE = {"errors", "files", "settings", "sound_headers", "sound_files", "audio", "manifest", "cluster"}
LAZY = "__init__.py"  # anadil.load() imports from the road, when it is called

SOURCES = sorted((ROOT / "anadil").rglob("*.py"))


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT / "anadil").as_posix()


def imported(tree: ast.Module, package: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Line and the first name below anadil of every import of Anadil's own, those inside functions included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            start = base + (node.module.split(".") if node.module else [])
            names = [[*start, alias.name] for alias in node.names]
        else:
            continue
        for name in names:
            if name[0] == "anadil":
                yield node.lineno, name[1] if len(name) > 1 else ""


def wrong_imports(path: Path, source: str) -> list[str]:
    parts = path.parts[:-1]
    layer = parts[0] if parts else path.stem
    allowed = FREE | {"__version__"}
    if layer in ROAD:
        allowed |= set(ROAD[: ROAD.index(layer) + 1])
    package = ("anadil", *parts)
    return [f"{path}:{line}: {name}" for line, name in imported(ast.parse(source), package) if name not in allowed]


def test_a_package_imports_only_from_those_above_it() -> None:
    found = [
        wrong
        for path in SOURCES
        if name_of(path) != LAZY
        for wrong in wrong_imports(path.relative_to(ROOT / "anadil"), path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("path", "source", "n_wrong"),
    [
        ("text/a.py", "from anadil.data.examples import check", 1),
        ("text/a.py", "from anadil import data", 1),
        ("text/a.py", "import anadil.cli.main", 1),
        ("text/a.py", "def f():\n    from anadil.models import acoustic", 1),
        ("text/a.py", "from ..data import checks", 1),
        ("text/a.py", "from .. import data", 1),
        ("text/a.py", "from . import rules\nfrom .rules import TextRules\nfrom ..errors import AnadilError", 0),
        ("cli/a.py", "from anadil.text import rules\nfrom anadil import audio", 0),
        ("audio.py", "from anadil.text.rules import TextRules", 1),
        ("audio.py", "from anadil.errors import AnadilError\nimport torch", 0),
        ("newcomer/a.py", "from anadil.text import rules", 1),
    ],
)
def test_the_rule_sees_every_way_to_import(path: str, source: str, n_wrong: int) -> None:
    assert len(wrong_imports(Path(path), source)) == n_wrong


def test_every_module_has_its_place_on_the_road() -> None:
    tops = {name_of(path).split("/")[0].removesuffix(".py") for path in SOURCES}
    assert tops == {*ROAD, *FREE, "__init__"}


def test_the_page_on_the_architecture_has_this_order() -> None:
    page = (ROOT / "docs/ARCHITECTURE.md").read_text(encoding="utf-8")
    order = page.split("    text -> ")[1].split("\n\n")[0]
    assert ["text", *(name.strip() for name in order.split("->"))] == ROAD


def test_no_module_is_a_drawer() -> None:
    drawers = {"util", "utils", "common", "helper", "helpers", "misc"}
    assert [name_of(path) for path in SOURCES if drawers & set(path.with_suffix("").parts)] == []


def imported_tests(source: str) -> list[str]:
    """Modules of `tests` other than those of tests.support, imported by absolute or relative name."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = "tests." * (node.level > 0) + (node.module or "")
            names += [start] if node.module else [f"{start}{alias.name}" for alias in node.names]
            names += [f"tests.{alias.name}" for alias in node.names if start == "tests"]
    return [name for name in names if name.split(".")[0] == "tests" and name.split(".")[1:2] not in ([], ["support"])]


def test_tests_share_code_through_support_only() -> None:
    found = {path: imported_tests(path.read_text(encoding="utf-8")) for path in (ROOT / "tests").rglob("*.py")}
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("source", "n_wrong"),
    [
        ("from tests.training.test_train import metrics", 1),
        ("import tests.training.test_train", 1),
        ("from tests import test_audio", 1),
        ("from .test_train import metrics", 1),
        ("from . import test_train", 1),
        ("def f():\n    from tests.conftest import shared", 1),
        ("from tests.support.micro import speak\nimport tests.support.micro\nfrom tests import support", 0),
        ("import pytest\nfrom pathlib import Path", 0),
    ],
)
def test_every_import_from_another_test_is_found(source: str, n_wrong: int) -> None:
    assert len(imported_tests(source)) == n_wrong


def test_only_the_command_line_prints() -> None:
    found = [
        f"{name_of(path)}:{node.lineno}"
        for path in SOURCES
        if name_of(path).split("/")[0] != "cli"
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert found == []
