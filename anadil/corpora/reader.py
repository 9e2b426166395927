"""The contract of all readers of corpora and annotation files.

A reader is a function `utterances(source, options, reject)` in a module of its own.

- It yields Utterances in the order of the source. If the source has splits, `extra["split"]` names the split.
- Audio paths are absolute or relative to the working directory. `duration` is None where the source does not give it.
- It does not open the audio: importing.py checks for all readers that the file exists and how long it is.
- Whatever cannot become an utterance goes to `reject`, with its place and the reason.
- It raises AnadilError if the source is of another kind, and says what it looked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from anadil.errors import Problem
from anadil.manifest import Utterance

Reject = Callable[[Problem], None]


@dataclass(frozen=True, slots=True)
class Options:
    """What the user can specify about a source. The catalogue lists which of these a reader supports."""

    language: str | None = None  # of all utterances for which the source gives none
    audio: Path | None = None  # the recording, or the folder with the recordings, if they are not beside the source
    tier: str | None = None  # name of the annotation tier with the text
    tier_type: str | None = None  # linguistic type of such tiers (ELAN)
    audio_column: str | None = None  # of a table
    text_column: str | None = None
    speaker_column: str | None = None
    unpack_to: Path | None = None  # where archives are unpacked; set by importing.py, None: beside each archive


class Reader(Protocol):
    """The signature of `utterances` in every reader's module."""

    def __call__(self, source: Path, options: Options, reject: Reject) -> Iterator[Utterance]: ...
