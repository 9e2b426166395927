"""Speech to learn a source model from, by language: python examples/source_speech.py SHARED OUT [--hours 0.35] [--seed 0]

SHARED/speech/english as it is, and sentences of other languages spoken by espeak-ng: the demo's Turkish ones, and those of
SHARED/speech/common_voice. All have spellings near to their sounds, which is what a head learns to name. Luganda and
Kinyarwanda, Bantu languages as Mboshi is, have no voices of their own: a Swahili one reads them.
Writes OUT/<language>/train.jsonl and valid.jsonl.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import replace
from pathlib import Path

from anadil.corpora.synthetic import synthesize_corpus
from anadil.manifest import Utterance, read_manifest, write_manifest

VOICES = {"tr": "tr", "es": "es", "it": "it", "id": "id", "et": "et", "fi": "fi", "eu": "eu", "lg": "sw", "rw": "sw"}
ENGLISH_VALID = 40  # utterances, from the end: their speakers are not in the others
N_VALID = 10  # sentences of each language


def texts_of(shared: Path, language: str) -> list[str] | None:
    """Sentences without digits; None for the language whose sentences come with Anadil."""
    if language == "tr":
        return None
    with open(shared / f"speech/common_voice/{language}/validated.tsv", encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        found = [row["sentence"].replace('"', "") for row in rows]
    return [text for text in found if text and not any(character.isdigit() for character in text)]


def english(shared: Path) -> tuple[list[Utterance], list[Utterance]]:
    """The English utterances to train on, and those of other speakers to validate on."""
    utterances = [replace(one, language="en") for one in read_manifest(shared / "speech/english/train.jsonl")]
    held_out = {one.speaker for one in utterances[-ENGLISH_VALID:]}
    return (
        [one for one in utterances if one.speaker not in held_out],
        [one for one in utterances if one.speaker in held_out],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--hours", type=float, default=0.35, help="of each synthetic language")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for name, utterances in zip(("train", "valid"), english(arguments.shared), strict=True):
        write_manifest(arguments.out / f"en/{name}.jsonl", utterances)
    print(arguments.out / "en")
    for language, voice in VOICES.items():
        folder, texts = arguments.out / language, texts_of(arguments.shared, language)
        synthesize_corpus(
            folder, language, arguments.seed, arguments.hours, n_valid=N_VALID, n_test=0, texts=texts, voice=voice
        )
        print(folder)


if __name__ == "__main__":
    main()
