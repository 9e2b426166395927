"""Speed of scoring beside jiwer and kaldialign; the bootstrap; the report in a browser; and how often an interval is right.

python benchmarks/evaluate.py              # speeds, one core
python benchmarks/evaluate.py --coverage   # 95 % intervals over simulated speakers, 5 minutes
python benchmarks/evaluate.py --swapped MODEL MANIFEST   # 5 % of the references swapped: where they are in the ranking
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from anadil.evaluation.analysis import Analysis
from anadil.evaluation.errors import ErrorCounts
from anadil.evaluation.evaluate import compare, score
from anadil.evaluation.intervals import interval_of_sums, rate_interval
from anadil.evaluation.paired import compare_systems
from anadil.manifest import Utterance, read_manifest
from anadil.text.rules import TextSettings, text_rules


def seconds(name: str, work: Callable[[], object]) -> None:
    """Print the processor time of one call."""
    started = time.process_time()
    work()
    print(f"{name:70} {time.process_time() - started:6.2f} s", flush=True)


def texts(n: int, words: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """References and hypotheses: 17 % of the words substituted, 3 % deleted."""
    rng = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(20_000)]
    references, hypotheses = [], []
    for _ in range(n):
        reference = rng.choices(vocabulary, k=words)
        hypothesis = [
            rng.choice(vocabulary) if rng.random() < 0.17 else word for word in reference if rng.random() > 0.03
        ]
        references.append(" ".join(reference))
        hypotheses.append(" ".join(hypothesis))
    return references, hypotheses


def speeds() -> None:
    import jiwer
    import kaldialign

    references, hypotheses = texts(100_000, 10)
    utterances = [Utterance(f"{i}.wav", 3.0, speaker=f"s{i % 100}") for i in range(len(references))]
    print("a million words in 100,000 utterances, 20 % of them wrong; processor time on one core")
    seconds("anadil: words and characters aligned and counted", lambda: compare(utterances, references, hypotheses))
    seconds("the same with both intervals", lambda: score(utterances, references, hypotheses))
    seconds("jiwer: words", lambda: jiwer.process_words(references, hypotheses))
    seconds("jiwer: characters", lambda: jiwer.process_characters(references, hypotheses))
    pairs = list(zip(references, hypotheses, strict=True))
    seconds("kaldialign: words", lambda: [kaldialign.edit_distance(a.split(), b.split()) for a, b in pairs])
    seconds("kaldialign: characters", lambda: [kaldialign.edit_distance(list(a), list(b)) for a, b in pairs])
    rules = text_rules("und", TextSettings())
    evaluation = score(utterances, references, hypotheses)
    seconds("all figures of --json", lambda: Analysis("", evaluation, rules).to_dict())
    counts = [ErrorCounts(int(one), 0, 0, 10) for one in np.random.default_rng(0).binomial(10, 0.2, 10_000)]
    seconds("1,000 resamples of 10,000 utterances", lambda: rate_interval(counts))
    one = compare(utterances[:10_000], references[:10_000], hypotheses[:10_000])
    two = compare(utterances[:10_000], references[:10_000], hypotheses[9_999::-1])
    seconds("anadil compare: 10,000 utterances, words and characters", lambda: compare_systems([one], [two]))
    long, other = texts(1, 100_000)
    seconds("one utterance of 100,000 words", lambda: compare(utterances[:1], long, other))
    report()


def report() -> None:
    """Size of a report of 2,000 utterances, and the milliseconds until Chromium can use it."""
    from anadil.evaluation.report import write_report

    browser = shutil.which("chromium") or shutil.which("google-chrome")
    references, hypotheses = texts(2_000, 12, 1)
    utterances = [Utterance(f"/clips/{i}.wav", 3.0, speaker=f"s{i % 40}") for i in range(2_000)]
    rules = text_rules("und", TextSettings())
    analyses = [
        Analysis(f"system {n}", score(utterances, references, own), rules)
        for n, own in enumerate((hypotheses, references))
    ]
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        page = write_report(Path(folder) / "report", "2,000 utterances", analyses, audio="none")
        print(f"report of 2,000 utterances of two systems: {page.stat().st_size / 1e6:.2f} MB, written in "
              f"{time.perf_counter() - started:.1f} s")  # fmt: skip
        if browser is None:
            print("not measured: no chromium or google-chrome for the time to load")
            return
        command = [
            browser,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={folder}/profile",
            "--dump-dom",
        ]
        for _ in range(3):
            done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, check=True)
            found = re.search(r'data-ready="(\d+)"', done.stdout)
            print(f"  ready after {found[1] if found else '?'} ms")


def coverage(trials: int = 1000) -> None:
    """How often the 95 % interval holds the true rate, over speakers and over utterances of one speaker.

    Speakers' rates are beta-distributed, utterances of 3 to 15 words around them, 20 for each speaker on average. Unequal: five
    speakers have 50, 20, 15, 10 and 5 % of the utterances, others amounts that fall with the rank to the power of 1.2.
    """
    rng = np.random.default_rng(0)
    kinds = [(0.25, 0.02), (0.25, 0.08), (0.25, 0.15), (0.05, 0.02), (0.05, 0.04), (0.6, 0.1)]
    print("speakers, shares", *(f"{100 * mean:.0f} +- {100 * deviation:.0f} %" for mean, deviation in kinds), sep="\t")
    for unequal in (False, True):
        for n in (5, 7, 10, 20, 40):
            print(f"{n}, {'unequal' if unequal else 'equal'}", end="", flush=True)
            for mean, deviation in kinds:
                held, widths = 0, []
                for _ in range(trials):
                    low, high = _interval_over_speakers(rng, n, unequal, mean, deviation)
                    held += low <= mean <= high
                    widths.append(high - low)
                print(f"\t{held / trials:.1%} ({100 * np.median(widths):.1f})", end="", flush=True)
            print()
    for n in (30, 100, 300):
        held = 0
        for _ in range(trials):
            lengths = rng.integers(1, 16, n)
            errors = rng.binomial(lengths, rng.beta(1, 3, n))
            interval = interval_of_sums(errors.astype(float), lengths.astype(float))
            held += interval is not None and interval[0] <= 0.25 <= interval[1]
        print(f"{n:4} utterances: {held / trials:.1%}", flush=True)


def _interval_over_speakers(
    rng: np.random.Generator, n: int, unequal: bool, mean: float, deviation: float
) -> tuple[float, float]:
    """The interval of one simulated test set of n speakers."""
    shares = np.arange(1, n + 1) ** -1.2 if unequal else np.ones(n)
    if unequal and n == 5:
        shares = np.array([0.5, 0.2, 0.15, 0.1, 0.05])
    sizes = np.maximum(2, np.round(20 * n * shares / shares.sum())).astype(int)
    together = mean * (1 - mean) / deviation**2 - 1
    rates = rng.beta(mean * together, (1 - mean) * together, n).clip(1e-4, 1 - 1e-4)
    speakers = np.repeat(np.arange(n), sizes)
    lengths = rng.integers(3, 16, len(speakers))
    errors = rng.binomial(lengths, rng.beta(3 * rates[speakers], 3 - 3 * rates[speakers]))
    counts = [ErrorCounts(int(e), 0, 0, int(length)) for e, length in zip(errors, lengths, strict=True)]
    return rate_interval(counts, [str(one) for one in speakers]) or (0.0, 0.0)


def swapped(model: Path, manifest: Path) -> None:
    """Swap 5 % of the references of a real test set; print how many of them are in the first 10 % of the ranking."""
    from anadil.evaluation.references import doubtful, reference_doubt
    from anadil.recognition.load import load
    from anadil.recognition.recognize_manifest import measure

    recognizer = load(model)
    utterances = measure(read_manifest(manifest), recognizer.rules)
    spoken: dict[int, np.ndarray] = {}

    def keep(index: int, samples: np.ndarray, log_probs: np.ndarray) -> None:
        spoken[index] = log_probs.copy()

    for _ in recognizer.transcribe_by(utterances, [recognizer.greedy], keep):
        pass
    texts_ = [recognizer.rules.normalize(one.text) for one in utterances]
    n = len(texts_)
    shares = []
    for seed in range(10):
        chosen = random.Random(seed).sample(range(n), max(2, n // 20))
        references = list(texts_)
        for i, j in zip(chosen, chosen[1:] + chosen[:1], strict=True):
            references[i] = texts_[j]
        doubts = [reference_doubt(spoken[i], references[i], recognizer.rules) for i in range(n)]
        ranked = [Utterance(f"{i}", extra={"reference_doubt": doubt}) for i, doubt in enumerate(doubts)]
        scored = compare(ranked, references, references)
        shares.append(len(set(chosen) & set(doubtful(scored)[: n // 10])) / len(chosen))
    print(f"{n} utterances, {max(2, n // 20)} swapped: in the first 10 %: "
          f"{np.mean(shares):.1%} (10 draws, {min(shares):.1%} to {max(shares):.1%})")  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coverage", action="store_true")
    parser.add_argument("--swapped", nargs=2, type=Path, metavar=("MODEL", "MANIFEST"))
    arguments = parser.parse_args()
    if arguments.coverage:
        coverage()
    elif arguments.swapped:
        swapped(*arguments.swapped)
    else:
        speeds()
