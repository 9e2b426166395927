"""What a long run tells its user; the command line shows it, a test collects it, a library user may leave it out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Reporter(Protocol):
    def say(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None: ...

    def progress(self, stage: str, done: float, total: float, note: str = "") -> None:
        """`done` of `total` of a stage; called often."""


class Silent:
    """Tells nothing."""

    def say(self, text: str) -> None:
        pass

    def warn(self, text: str) -> None:
        pass

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        pass

    def progress(self, stage: str, done: float, total: float, note: str = "") -> None:
        pass
