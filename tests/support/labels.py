"""Label ids back to text, to test how rules encode."""

from __future__ import annotations

from collections.abc import Iterable

from anadil.text.rules import TextRules


def decoded(rules: TextRules, ids: Iterable[int]) -> str:
    """The text of label ids without blanks, with single spaces."""
    return " ".join("".join(rules.labels[i] for i in ids).split())
