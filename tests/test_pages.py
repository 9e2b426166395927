"""The pages of the documentation: every link leads to a file or an anchor that is there, and every page is in the site."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from anadil import __version__

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "anadil/text/languages/README.md",
]


def prose(page: Path) -> str:
    """A page without its code."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "code", text)


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def broken_links(page: Path, text: str) -> list[str]:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:", target):  # the web is not asked
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.is_file() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    assert broken_links(page, prose(page)) == []


def test_a_broken_link_is_seen() -> None:
    text = (
        "[a](docs/LOG.md) [b](docs/none.md) ![c](docs/none.svg) [d](#none) [e](docs/training.md#none) [f](https://x.y)"
    )
    assert broken_links(ROOT / "README.md", text) == ["docs/none.md", "docs/none.svg", "#none", "docs/training.md#none"]


def test_every_page_is_in_the_site() -> None:
    settings = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))

    def pages(entries: list[dict[str, object]]) -> list[str]:
        found: list[str] = []
        for entry in entries:
            for value in entry.values():
                found += pages(value) if isinstance(value, list) else [str(value)]
        return found

    assert sorted(pages(settings["project"]["nav"])) == sorted(page.relative_to(ROOT).as_posix() for page in PAGES)
    assert settings["project"]["theme"]["font"] is False


def test_the_changelog_has_this_version() -> None:
    versions = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert versions[0] == "Unreleased" and versions[1] == __version__
