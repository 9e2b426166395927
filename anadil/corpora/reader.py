"""The contract of all readers of corpora and annotation files.

A reader is a function `utterances(source, options, reject)` in a module of its own.

- It yields Utterances in the order of the source. If the source has splits, `extra["split"]` names the split.
- Audio paths are absolute or relative to the working directory. `duration` is None where the source does not give it.
- It does not open the audio: importing.py checks for all readers that the file exists and how long it is.
- Whatever cannot become an utterance goes to `reject`, with its place and the reason.
- It raises AnadilError if the source is of another kind, and says what it looked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from anadil.errors import Problem
from anadil.manifest import Utterance

Reject = Callable[[Problem], None]

TIER, ANNOTATIONS = "tier", "annotations"
"""Keys of `extra`: the tier of an utterance's text, and what other tiers hold beside it (glosses, translations)."""


@dataclass
class Notes:
    """What a reader tells beside its utterances. importing.py hands it on to the user."""

    left: Counter[str] = field(default_factory=Counter)  # annotations of tiers that were not taken, by tier
    removed: Counter[str] = field(default_factory=Counter)  # codes and marks that were removed from texts
    remarks: Counter[str] = field(default_factory=Counter)  # what else was done or assumed, and in how many files


@dataclass(frozen=True, slots=True)
class Options:
    """What the user can specify about a source. The catalogue lists which of these a reader supports."""

    language: str | None = None  # of all utterances for which the source gives none
    audio: Path | None = None  # the recording, or the folder with the recordings, if they are not beside the source
    tier: str | Sequence[str] | None = None  # names of the annotation tiers with the text, or patterns
    tier_type: str | Sequence[str] | None = None  # types of such tiers (ELAN: linguistic type)
    audio_column: str | None = None  # of a table
    text_column: str | None = None
    speaker_column: str | None = None
    encoding: str | None = None  # of a text file that is neither UTF-8 nor has a byte-order mark
    unpack_to: Path | None = None  # where archives are unpacked; set by importing.py, None: beside each archive
    notes: Notes = field(default_factory=Notes, compare=False)  # filled by the reader


class Reader(Protocol):
    """The signature of `utterances` in every reader's module."""

    def __call__(self, source: Path, options: Options, reject: Reject) -> Iterator[Utterance]: ...
