"""How long work reports to its caller: the command line prints it, tests collect it, and it may be silent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Reporter(Protocol):
    def say(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None: ...

    def progress(self, stage: str, done: float, total: float, note: str = "") -> None:
        """Show that `done` of `total` of a stage is complete; called often."""


class Silent:
    """Reports nothing."""

    def say(self, text: str) -> None:
        pass

    def warn(self, text: str) -> None:
        pass

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        pass

    def progress(self, stage: str, done: float, total: float, note: str = "") -> None:
        pass
