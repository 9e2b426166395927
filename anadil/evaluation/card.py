"""The model card of a folder: sections that are written after the training."""

from __future__ import annotations

from pathlib import Path

from anadil.files import whole_file

CARD = "README.md"


def write_section(folder: Path, title: str, text: str) -> None:
    """Write the section `title` of the model card, in place of an earlier one; other sections stay. Nothing without a card.

    An empty text removes the section.
    """
    path = folder / CARD
    if not path.is_file():
        return
    before, heading, after = path.read_text(encoding="utf-8").partition(f"\n## {title}\n")
    _, next_heading, rest = after.partition("\n## ") if heading else ("", "", "")
    section = f"\n## {title}\n\n{text.strip()}\n" if text.strip() else ""
    with whole_file(path) as beside:
        beside.write_text(f"{before.rstrip()}\n{section}{next_heading}{rest}", encoding="utf-8")
