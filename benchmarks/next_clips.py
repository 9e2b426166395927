"""Is `anadil next` worth it? A simulated transcriber: the same minutes of speech, chosen by `anadil next` or at random.

    python benchmarks/next_clips.py configs/mboshi.yaml --out DIR [KEY=VALUE...] [--base-hours 0.5] [--more-hours 0.5] [--seeds 2]

For each seed: train on some random hours, rank the rest with that model, train on the first hours with the chosen clips added and
with random clips added, and test all three on data.valid. The same command goes on after an interruption.
The difference of the means is given with its 95 % interval, over utterances and seeds (`compare_systems`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from anadil.cli.console import ConsoleReporter
from anadil.evaluation.paired import compare_systems
from anadil.manifest import Utterance
from anadil.recognition.load import load
from anadil.recognition.next_clips import ranked
from anadil.recognition.pseudo_labels import DurationLimits, pseudo_label
from anadil.studies.trials import Outcome, Trial, hours_of, read_data, run_trials, with_fixed_labels
from anadil.training.config import Config, load_config


def up_to(utterances: Sequence[Utterance], hours: float) -> list[Utterance]:
    """The first utterances that last so long together."""
    ends = np.cumsum([one.duration or 0.0 for one in utterances]) / 3600
    return list(utterances[: int(np.searchsorted(ends, hours)) + 1])


def choose(model: Path, pool: Sequence[Utterance], known: Sequence[Utterance], hours: float) -> list[Utterance]:
    """The clips of the pool that `anadil next` takes first, with the texts that people gave them."""
    recognizer = load(model)
    silent = [replace(one, text="", extra=one.extra | {"place": place}) for place, one in enumerate(pool)]
    found = pseudo_label(recognizer, silent, 0.0, recognizer.name, DurationLimits(), {})
    known = [replace(one, text=recognizer.rules.normalize(one.text)) for one in known]
    return [pool[one.extra["place"]] for one in ranked(found.kept, known, 3600 * hours)]


def one_seed(config: Config, seed: int, out: Path, base_hours: float, more_hours: float) -> list[Outcome]:
    """The outcomes of the base, of the chosen clips and of the random ones."""
    training = config.training.model_copy(update={"seed": seed})
    config = config.model_copy(update={"training": training})
    with ConsoleReporter() as report:
        train, valid = read_data(config, report)
        config = with_fixed_labels(config, train, valid)
        order = np.random.default_rng(seed).permutation(len(train))
        shuffled = [train[i] for i in order]
        base = up_to(shuffled, base_hours)
        pool = shuffled[len(base) :]
        trial = Trial(f"base-{seed}", config, base, valid, valid)
        first = run_trials([trial], out, report, resume=True)
        chosen = choose(out / trial.name / "run" / "best", pool, base, more_hours)
        more = [
            Trial(f"{name}-{seed}", config, [*base, *clips], valid, valid)
            for name, clips in (("chosen", chosen), ("random", up_to(pool, hours_of(chosen))))
        ]
        second = run_trials(more, out, report, resume=True)
    if first.failed or second.failed:
        raise SystemExit(f"failed: {[*first.failed, *second.failed]}")
    return [*first.done, *second.done]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--base-hours", type=float, default=0.5)
    parser.add_argument("--more-hours", type=float, default=0.5)
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_intermixed_args()
    config = load_config(arguments.config, arguments.overrides)
    pairs = []
    print("| seed | clips | hours | CER | WER |\n|---|---|---|---|---|")
    for seed in range(arguments.seeds):
        outcomes = one_seed(config, seed, arguments.out, arguments.base_hours, arguments.more_hours)
        for one in outcomes:
            plain = one.greedy or one.evaluation
            row = [seed, one.trial.name.split("-")[0], f"{one.trial.hours:.2f}", f"{plain.cer:.1%}", f"{plain.wer:.1%}"]
            print("| " + " | ".join(map(str, row)) + " |", flush=True)
        _, chosen, random = (one.greedy or one.evaluation for one in outcomes)
        pairs.append((chosen, random))
    found = compare_systems([chosen.scored for chosen, _ in pairs], [random.scored for _, random in pairs])
    for name, one in (("CER", found.characters), ("WER", found.words)):
        low, high = one.interval or (float("nan"), float("nan"))
        print(
            f"{name}, chosen - random: {100 * one.difference:+.1f} points (95 %: {100 * low:+.1f} to {100 * high:+.1f})"
        )


if __name__ == "__main__":
    main()
