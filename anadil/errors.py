"""Errors of the input. A message says what is wrong, where, what is allowed, and the next command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class AnadilError(Exception):
    """The input is wrong, not the program. The command line prints only the message and exits with status 1."""


def shortened(text: str, length: int = 100) -> str:
    """`text`, or its start and its length if it is longer than `length`: input may hold values of megabytes."""
    return text if len(text) <= length else f"{text[:length]}... ({len(text):,} characters)"


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of one utterance or line. Problems are collected before one error is raised."""

    where: str  # "data/tr/train.jsonl:118"
    what: str  # "audio file not found: clips/17529550.mp3"

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def summarize(problems: Sequence[Problem], noun: str, total: int, next_step: str, shown: int = 10) -> str:
    """Message for several problems: the first `shown`, their number of `total`, and the next step."""
    lines = [str(problem) for problem in problems[:shown]]
    if len(problems) > shown:
        lines.append(f"... and {len(problems) - shown:,} more")
    lines.append(f"{len(problems):,} of {total:,} {noun} cannot be used")
    lines.append(f"  next: {next_step}")
    return "\n".join(lines)
