"""docs/ARCHITECTURE.md names every file of the package, in the section of its folder, and no file that is not there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "anadil"
PAGE = (ROOT / "docs/ARCHITECTURE.md").read_text(encoding="utf-8")


def named_files() -> set[str]:
    """Paths below anadil/ that the sections of "The packages" name."""
    found = set()
    for section in PAGE.split("## The packages\n")[1].split("\n### ")[1:]:
        title, _, body = section.partition("\n")
        folder = "" if title == "Top" else f"{title}/"
        found |= {folder + name for name in re.findall(r"`([\w/]+\.py)`", body)}
    return found


def test_every_file_is_described() -> None:
    there = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")}
    assert named_files() == {name for name in there if not name.endswith("/__init__.py")}


def test_paths_elsewhere_on_the_page_are_there() -> None:
    before = PAGE.split("## The packages\n")[0]
    names = set(re.findall(r"`((?:\w+/)*\w+\.py)`", before))
    assert names
    missing = {name for name in names if not (PACKAGE / name).is_file() and not (ROOT / name).is_file()}
    assert missing == set()
