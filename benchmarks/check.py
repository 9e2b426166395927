"""The doctor's speed on this machine: decoding against plain soundfile.read, and reading a manifest of a million lines.

    python benchmarks/check.py MANIFEST... [--files 1000] [--lines 1000000]

The same files, alternately by one thread of plain `soundfile.read`, by the doctor's measurements in one thread, and by
its whole pass (`measure_all`, all cores); then a generated manifest is read and its texts are checked, with the most memory
that took.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import soundfile

from anadil.doctor.audio import AudioLimits, measure, measure_all
from anadil.doctor.examine import examine, read_parts
from anadil.manifest import Utterance, read_manifests
from anadil.text.rules import RulesByLanguage, TextSettings, text_rules

LETTERS = "aaaeeeıiiklmnnrrtbcçdfgğhjoöpsşuüvyz"
LIMITS = AudioLimits(0.1, 20)


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def audio_speed(manifests: list[Path], n_files: int, rounds: int = 3) -> None:
    utterances = [Utterance(path) for path in {one.audio_filepath: None for one in read_manifests(manifests)}][:n_files]
    paths = [one.audio_filepath for one in utterances]
    for path in paths:  # into the page cache
        Path(path).read_bytes()
    plain = measured = everything = float("inf")
    for _ in range(rounds):
        plain = min(plain, seconds(lambda: [soundfile.read(path, dtype="float32") for path in paths]))
        measured = min(measured, seconds(lambda: [measure(path, [(0.0, None)]) for path in paths]))
        everything = min(everything, seconds(lambda: measure_all(utterances, LIMITS)))
    hours = sum(soundfile.info(path).duration for path in paths) / 3600
    print(f"{len(paths):,} files, {hours:.2f} h, best of {rounds} rounds, {os.cpu_count()} cores")
    for name, taken in (
        ("soundfile.read, one thread", plain),
        ("measured, one thread", measured),
        ("the doctor's pass", everything),
    ):
        print(f"{name:<28} {len(paths) / taken:7.1f} files a second, {plain / taken:5.2f} of soundfile.read")


def write_lines(path: Path, n_lines: int) -> None:
    """Random Turkish-looking words, with the keys of an imported corpus."""
    rng = random.Random(0)
    words = ["".join(rng.choices(LETTERS, k=rng.randint(2, 11))) for _ in range(60_000)]
    with open(path, "w", encoding="utf-8") as file:
        for i in range(n_lines):
            record = {
                "audio_filepath": f"clips/common_voice_tr_{17_000_000 + i}.mp3",
                "duration": round(rng.uniform(2, 9), 3),
                "text": " ".join(rng.choices(words, k=rng.randint(3, 10))).capitalize() + ".",
                "speaker": f"{rng.randint(0, 5000):064x}",
                "split": "train",
                "up_votes": 2,
            }
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def text_speed(path: Path) -> None:
    started, started_cpu = time.perf_counter(), time.process_time()
    report = examine(
        read_parts([path]), RulesByLanguage(text_rules("tr", TextSettings(), ())), LIMITS, decode_audio=False
    )
    wall_s, cpu_s = time.perf_counter() - started, time.process_time() - started_cpu
    n_lines = len(report.parts[0].utterances)
    most_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
    print(f"{n_lines:,} lines: {wall_s:.1f} s, of which {cpu_s:.1f} s on the processor; {most_mb:.0f} MB at most")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", type=Path, nargs="*")
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--texts-of", type=Path, help=argparse.SUPPRESS)  # in a process of its own, for its memory
    arguments = parser.parse_args()
    if arguments.texts_of:
        text_speed(arguments.texts_of)
        return
    if arguments.manifests:
        audio_speed(arguments.manifests, arguments.files)
    if arguments.lines:
        with tempfile.TemporaryDirectory() as folder:
            write_lines(Path(folder) / "train.jsonl", arguments.lines)
            command = [sys.executable, __file__, "--texts-of", str(Path(folder) / "train.jsonl")]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
