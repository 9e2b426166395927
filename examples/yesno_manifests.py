"""Manifests for the yesno corpus: python examples/yesno_manifests.py SPEECH OUT. The file names are the transcripts."""

from __future__ import annotations

import sys
from pathlib import Path

from anadil.manifest import Utterance, write_manifest

WORDS = {"1": "ken", "0": "lo"}


def write_manifests(speech: Path, out: Path) -> None:
    """Sorted by name, the first 30 recordings train and the other 30 test."""
    files = sorted(file for file in speech.iterdir() if file.suffix in (".flac", ".wav"))
    utterances = [Utterance(str(file), text=" ".join(WORDS[digit] for digit in file.stem.split("_"))) for file in files]
    write_manifest(out / "train.jsonl", utterances[:30])
    write_manifest(out / "test.jsonl", utterances[30:])


if __name__ == "__main__":
    write_manifests(Path(sys.argv[1]), Path(sys.argv[2]))
