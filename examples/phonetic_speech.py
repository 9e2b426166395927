"""Speech with phonetic transcripts, to learn a source model from: python examples/phonetic_speech.py SHARED OUT [--hours 0.13]

espeak-ng reads the sentences in SHARED/speech/common_voice in 59 of its languages, and writes how it reads them in the
International Phonetic Alphabet. A language without sentences reads those of a language that has the same letters; the
sounds matter, not the words. Sentences of mixed words are added, as 100 sentences would be learned by heart. The English
of SHARED/speech/english, which people have read, gets espeak-ng's transcripts too. Turkish is left out: the model is
tried on it.

The transcripts have letters alone: no stress, no length, no tones. Writes OUT/train.jsonl and OUT/valid.jsonl.
"""

from __future__ import annotations

import argparse
import re
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
from source_speech import english, texts_of

from anadil.corpora.synthetic import Synthesizer, Voice, synthesize_corpus
from anadil.manifest import Utterance, write_manifest
from anadil.models.hama import LANGUAGE

VOICES = """
ca ca | cs cs hr sl sk | cv cv | cy cy | de de lb | en en-us en-gb-scotland | es es pt an qu gn | et et lt lv | eu eu | fa fa
fi fi | fr fr ht | fy-NL af | ga-IE ga | hi hi mr ne | ia ia eo | id id ms mi haw | it it sq mt | ka ka | ky ky kk tt ba
lg sw | nl nl | pa-IN pa | pl pl | ro ro | ru ru uk bg be mk | rw sw tn om | sv-SE sv da nb is | vi vi | zh-CN cmn
"""
"""The folder of the sentences, and the languages of espeak-ng that read them."""

MIXED = 300  # sentences of mixed words, of each language
N_VALID = 3  # sentences of each voice
_FOREIGN = re.compile(r"\([a-z-]+\)")  # espeak-ng's mark of another language
_SAME = str.maketrans({"ɡ": "g", "ᵻ": "ɨ", "ɚ": "ə", "ɝ": "ɜ", "ɫ": "l"})


def letters(phonemes: str) -> str:
    """The letters of a transcript in IPA: without stress, length, tones and other marks."""
    text = unicodedata.normalize("NFD", _FOREIGN.sub("", phonemes).casefold()).translate(_SAME)
    kept = (one if unicodedata.category(one) in ("Ll", "Lo") else " " if one.isspace() else "" for one in text)
    return " ".join("".join(kept).split())


def with_mixed(texts: list[str], seed: int) -> list[str]:
    """The sentences, and MIXED of four to nine of their words, drawn at random."""
    rng = np.random.default_rng(seed)
    words = [word for text in texts for word in text.split()]
    if len(words) < 3 * len(texts):  # written without spaces
        return texts
    return texts + [" ".join(rng.choice(words, rng.integers(4, 10))) for _ in range(MIXED)]


def transcribed(utterances: list[Utterance], synthesizer: Synthesizer, voice: str, name: str) -> list[Utterance]:
    """The utterances with phonetic transcripts; those without any letter are left out, and counted."""
    found = []
    for one in utterances:
        text = letters(synthesizer.phonemes(str(one.extra.get("raw_text") or one.text).lower(), Voice(voice)))
        if text:
            found.append(replace(one, text=text, language=LANGUAGE, speaker=f"{name}-{one.speaker}"))
    left_out = len(utterances) - len(found)
    print(
        f"{name}: {len(found)} utterances" + (f", {left_out} without phonemes left out" if left_out else ""), flush=True
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--hours", type=float, default=0.13, help="of each voice")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="languages of the sentences, joined by commas; empty: all")
    given = parser.parse_args()
    readers = {language: voices for language, *voices in (one.split() for one in re.split(r"\||\n", VOICES.strip()))}
    synthesizer = Synthesizer()
    train, valid = (transcribed(part, synthesizer, "en-us", "english") for part in english(given.shared))
    for language in given.only.split(",") if given.only else readers:
        texts = with_mixed(texts_of(given.shared, language) or [], given.seed)
        for voice in readers[language]:
            name = f"{language}-{voice}"
            corpus = synthesize_corpus(
                given.out / name, language, given.seed, given.hours, n_valid=N_VALID, n_test=0, texts=texts, voice=voice
            )
            train += transcribed(corpus["train"], synthesizer, voice, name)
            valid += transcribed(corpus["valid"], synthesizer, voice, name)
    write_manifest(given.out / "train.jsonl", train)
    write_manifest(given.out / "valid.jsonl", valid)
    hours = sum(one.duration or 0.0 for one in train) / 3600
    print(f"{given.out / 'train.jsonl'}: {len(train)} utterances, {hours:.1f} hours")


if __name__ == "__main__":
    main()
