"""Sentences a second on one core: plain ones, and ones with a number; Anadil against what others use.

    python benchmarks/text.py [--shared ../shared] [--languages tr en hi ru ...]

Plain: the real sentences of Common Voice. With a number: the same, each with a year, a quantity with its unit, a share or a
price, drawn at random as a news text has them (half the numbers below 100). The sentences repeat, which gains nothing:
Anadil keeps no sentence and no word that it has seen, only the form of each character and the words of numbers. The best of
five runs, timed in processor time, so that other work on the machine counts for little. The peer is what a CTC recipe for
one language does without a library: lower-casing and one regular expression that drops punctuation. It is wrong for Turkish
and spells no number.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import time
from collections.abc import Callable
from pathlib import Path

import languages

from anadil.text.rules import TextSettings, text_rules

RUNS, SENTENCES = 5, 10_000
_PUNCTUATION = re.compile(r"[.,?!;:\"“”„«»()\[\]…–—¿¡،؛؟।-]+")


def peer(text: str) -> str:
    """What a recipe does inline."""
    return " ".join(_PUNCTUATION.sub(" ", text.lower()).split())


def rate(function: Callable[[str], object], texts: list[str]) -> float:
    """Sentences a second, the best of `RUNS`."""
    best = float("inf")
    for _ in range(RUNS):
        started = time.process_time()
        for text in texts:
            function(text)
        best = min(best, time.process_time() - started)
    return len(texts) / best


def with_numbers(texts: list[str], seed: int = 0) -> list[str]:
    """One number a sentence."""
    rng = random.Random(seed)

    def number() -> str:
        small, large = rng.randrange(100), rng.randrange(10_000)
        return rng.choice([f"{rng.randrange(1900, 2030)}", f"{small} km", f"{small}%", f"{large}", f"{small}"])

    return [f"{text.rstrip('.')} {number()}." for text in texts]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("ANADIL_SHARED", "../shared")))
    parser.add_argument(
        "--languages", nargs="+", default=["tr", "en", "hi", "ru", "ar", "de", "et", "fr", "ka", "th", "vi"]
    )
    arguments = parser.parse_args()
    real = languages.sentences(arguments.shared)
    print(f"{'':6}{'plain/s':>10}{'numbers/s':>11}{'inline/s':>10}  (inline: drops punctuation, spells nothing)")
    for code in arguments.languages:
        rules = text_rules(code, TextSettings())
        texts = (real[code] * (SENTENCES // len(real[code]) + 1))[:SENTENCES]
        plain = rate(rules.normalize, texts)
        numbers = rate(rules.normalize, with_numbers(texts))
        print(f"{code:6}{plain:10,.0f}{numbers:11,.0f}{rate(peer, texts):10,.0f}")


if __name__ == "__main__":
    main()
