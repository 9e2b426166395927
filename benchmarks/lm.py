"""Seconds and memory of `anadil lm build` for 10 million words and order 3, against KenLM's lmplz on the same text.

    python benchmarks/lm.py [--words 10e6] [--order 3] [--memory 2G] [--lmplz PATH] [--folder DIR]

The text is synthetic: the words are drawn by Zipf's law (exponent 1.05) from 400,000; seven in ten depend on the word
before, a third of these on the two before, through one fixed random choice of followers. 10 million words hold
350,000 different ones, which is more than English has. Each program
runs alone on one core (Linux), with one thread; the order is Anadil, lmplz, Anadil, and the better of Anadil's two
runs counts. Processor time is what is compared, so that other work on the machine counts for little. lmplz is looked
for on the PATH; without it, Anadil's seconds are printed alone.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

VOCABULARY, SENTENCES = 400_000, 20_000
SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprst" for vowel in "aeiou"]


def word(rank: int) -> str:
    """A word for each rank, the longer the rarer."""
    text, rank = "", rank + 7
    while rank:
        text, rank = text + SYLLABLES[rank % 60], rank // 60
    return text


def sentences(n_words: int, seed: int = 0) -> Iterator[str]:
    """Sentences of 3 to 60 words, 14 on average, with `n_words` or a little more in all."""
    rng = np.random.default_rng(seed)
    words = [word(rank) for rank in range(VOCABULARY)]
    weights = 1 / (np.arange(1, VOCABULARY + 1) + 2.7) ** 1.05
    frequent = np.cumsum(weights / weights.sum())
    weights = 1 / np.arange(1, 5001) ** 1.1
    follower = np.cumsum(weights / weights.sum())
    done = 0
    while done < n_words:
        lengths = np.clip(rng.geometric(1 / 12, SENTENCES) + 2, 3, 60)
        before = np.zeros(SENTENCES, np.uint64)
        columns = [np.searchsorted(frequent, rng.random(SENTENCES))]
        for _ in range(int(lengths.max()) - 1):
            last = columns[-1].astype(np.uint64)
            rank = np.searchsorted(follower, rng.random(SENTENCES)).astype(np.uint64)
            known = np.where(rng.random(SENTENCES) < 1 / 3, before, 0)
            mixed = (
                last * np.uint64(0x9E3779B97F4A7C15) + rank * np.uint64(0xC2B2AE3D27D4EB4F) + known * np.uint64(40503)
            )
            mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
            chosen = np.searchsorted(frequent, (mixed >> np.uint64(11)).astype(float) / 2**53)
            any_word = np.searchsorted(frequent, rng.random(SENTENCES))
            columns.append(np.where(rng.random(SENTENCES) < 0.7, chosen, any_word))
            before = last
        for row, length in zip(np.stack(columns, axis=1).tolist(), lengths.tolist(), strict=True):
            yield " ".join([words[i] for i in row[:length]])
            done += length
            if done >= n_words:
                return


def measure(command: list[str]) -> tuple[float, float, float]:
    """Processor seconds, seconds by the clock, and the most memory in GB of a command on one core."""
    started = time.monotonic()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    core = str(max(os.sched_getaffinity(0)))
    process = subprocess.Popen(["taskset", "-c", core, *command], env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"failed: {' '.join(command)}")
    return usage.ru_utime + usage.ru_stime, time.monotonic() - started, usage.ru_maxrss / 1e6


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", type=float, default=10e6)
    parser.add_argument("--order", type=int, default=3)
    parser.add_argument("--memory", default="2G")
    parser.add_argument("--lmplz", default=shutil.which("lmplz"))
    parser.add_argument("--folder", type=Path, default=Path("lm-benchmark"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    text, ours, theirs = (options.folder / name for name in ("text.txt", "anadil.arpa", "lmplz.arpa"))
    with open(text, "w", encoding="utf-8") as file:
        file.writelines(f"{sentence}\n" for sentence in sentences(int(options.words)))
    anadil = [sys.executable, "-m", "anadil.cli.main", "lm", "build", str(text), "--order", str(options.order)]
    anadil += ["--memory", options.memory, "--out", str(ours), "--force"]
    runs = [("anadil", anadil)]
    if options.lmplz:
        lmplz = [options.lmplz, "-o", str(options.order), "-S", options.memory, "-T", f"{options.folder}/"]
        runs += [
            ("lmplz", [*lmplz, "--discount_fallback", "--text", str(text), "--arpa", str(theirs)]),
            ("anadil", anadil),
        ]
    best: dict[str, float] = {}
    print("program  processor s  clock s  GB")
    for name, command in runs:
        processor, clock, memory = measure(command)
        best[name] = min(processor, best.get(name, processor))
        print(f"{name:7}  {processor:11.1f}  {clock:7.1f}  {memory:.2f}", flush=True)
    if "lmplz" in best:
        print(
            f"{best['anadil'] / best['lmplz']:.2f} times lmplz's processor time; largest difference of a log10: ",
            end="",
        )
        print(f"{largest_difference(ours, theirs):.1e}")


def largest_difference(ours: Path, theirs: Path) -> float:
    """The largest difference of a probability or back-off between two ARPA files of the same n-grams in the same order."""
    largest = 0.0
    with open(ours, encoding="utf-8") as first, open(theirs, encoding="utf-8") as second:
        for one, two in zip(first, second, strict=True):
            a, b = one.rstrip("\n").split("\t"), two.rstrip("\n").split("\t")
            if a[1:2] != b[1:2]:
                sys.exit(f"other n-grams: {one!r} and {two!r}")
            if len(a) > 1:
                largest = max(largest, *(abs(float(x) - float(y)) for x, y in zip(a[::2], b[::2], strict=True)))
    return largest


if __name__ == "__main__":
    main()
