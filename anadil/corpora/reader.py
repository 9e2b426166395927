"""What all readers of corpora and annotation files have in common.

A reader is a function `utterances(source, options, reject)` in a file of its own. It yields Utterances in the order of
the source, with the split they belong to in `extra["split"]` if the source has splits. Audio paths are absolute or
relative to the working directory; `duration` is None where the source does not tell it. Whether the audio is there and
how long it is, is found out afterwards, for all readers alike (importing.py). What cannot become an utterance goes to
`reject`, with place and reason: nothing is lost unnoticed. A source that is not of the kind at all is an AnadilError
that says what was looked for.
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
    """What a user may say about a source. A reader takes some of these; the catalogue lists which."""

    language: str | None = None  # of all utterances, where the source does not tell it
    audio: Path | None = None  # the recording, or the folder with the recordings, if not beside the source
    tier: str | None = None  # name of the annotation tier with the text
    tier_type: str | None = None  # linguistic type of such tiers (ELAN)
    audio_column: str | None = None  # of a table
    text_column: str | None = None
    speaker_column: str | None = None
    unpack_to: Path | None = (
        None  # where archives found in the source are unpacked (not the user's to say); beside them
    )


class Reader(Protocol):
    """`utterances` of every reader."""

    def __call__(self, source: Path, options: Options, reject: Reject) -> Iterator[Utterance]: ...
