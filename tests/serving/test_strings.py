"""The strings of the page: the same keys and placeholders in every language, and all that the page names."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from anadil.serving.app import PAGE

STRINGS = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((PAGE / "strings").glob("*.json"))
}
OURS = [path for path in sorted(PAGE.iterdir()) if path.suffix in (".js", ".html", ".css")]


def test_the_languages() -> None:
    offered = re.search(r"LANGUAGES = \{([^}]*)\}", (PAGE / "strings.js").read_text(encoding="utf-8"))
    assert offered and set(re.findall(r"(\w+):", offered[1])) == set(STRINGS) == {"en", "es", "fr", "sw", "tr"}


@pytest.mark.parametrize("code", sorted(STRINGS))
def test_each_has_all_strings(code: str) -> None:
    assert list(STRINGS[code]) == list(STRINGS["en"])
    for key, text in STRINGS[code].items():
        assert text.strip() and set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", STRINGS["en"][key])), (
            key
        )


def test_what_the_page_names_is_there_and_is_used() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in OURS)
    source = re.sub(r'=== "[\w-]+"', "", source)
    named = set(re.findall(r'data-[tl]="([\w-]+)"', source)) | set(re.findall(r'\bt\([^)]*?"([\w-]+)"', source))
    named |= {key for pair in re.findall(r'\? "([\w-]+)" : "([\w-]+)"', source) for key in pair if key in STRINGS["en"]}
    assert named - set(STRINGS["en"]) == set()
    assert set(STRINGS["en"]) - named == set()


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_the_page_asks_no_other_host(path: Path) -> None:
    assert re.findall(r"https?://[\w.-]+", path.read_text(encoding="utf-8")) == []


def test_what_is_vendored_has_its_licence() -> None:
    for name in ("wavesurfer", "swagger-ui"):
        assert (PAGE / f"vendor/{name}.LICENSE.txt").stat().st_size > 500
    for font in (PAGE / "fonts").glob("*.woff2"):
        licence = "andika" if font.name.startswith("andika") else "noto"
        assert "SIL Open Font License" in (PAGE / f"fonts/{licence}.LICENSE.txt").read_text(encoding="utf-8")
        assert f"fonts/{font.name}" in (PAGE / "fonts.css").read_text(encoding="utf-8")
