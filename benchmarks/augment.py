"""What augmentation costs of training: whole epochs with it and without, and seconds of audio per second for each transform.

    python benchmarks/augment.py [--preset small-2d] [--clips 60] [--rounds 9]

The figure that counts comes last: whole epochs from a warm cache by turns, bare, at the default probabilities and with
every transform on every clip; the median of what each round adds to the bare epoch beside it. What a loader thread takes
of one core, all of the model's threads wait for, so this is more than the sum of the parts. That sum comes first: core-
seconds of each transform over core-seconds of the step (features, network, CTC, backward, optimizer) for the same audio,
with the transform on every clip and at the default probability. Clips are synthetic syllables of 2 to 6 s at 16 kHz;
what is in them does not matter. For figures to quote: an idle machine, OMP_NUM_THREADS as in training.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch.nn import functional as F

from anadil import audio
from anadil.data.augment.chain import Augmenter
from anadil.data.augment.settings import AugmentSettings
from anadil.data.augment.spec_augment import feature_augmentation
from anadil.data.augment.steps import STEPS, steps
from anadil.data.batches import Batch, Loader, plan_epoch
from anadil.data.examples import Example
from anadil.manifest import Utterance
from anadil.models.acoustic import AcousticModel
from anadil.models.features import FeatureSettings
from anadil.models.quartznet import QuartzNetSettings

RATE, N_LABELS, BATCH_S = 16000, 34, 30.0
FEATURE_STEPS = ("time_warp", "spec_augment", "spec_cutout")


def syllables(seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Harmonics under a syllable's envelope, over a little noise."""
    t = np.arange(round(seconds * RATE)) / RATE
    voice = sum(np.sin(2 * np.pi * 120 * k * t + k) / k for k in range(1, 20))
    envelope = np.maximum(0, np.sin(2 * np.pi * 2 * t)) ** 0.5
    return (0.2 * voice * envelope + 0.003 * rng.standard_normal(len(t))).astype(np.float32)


def corpus(folder: Path, n_clips: int) -> tuple[list[Example], Path]:
    """Clips and a manifest of noises."""
    rng = np.random.default_rng(0)
    examples = []
    for i in range(n_clips):
        clip = syllables(rng.uniform(2, 6), rng)
        audio.write(folder / f"{i}.wav", clip, RATE)
        utterance = Utterance(str(folder / f"{i}.wav"), duration=len(clip) / RATE)
        examples.append(Example(utterance, tuple(rng.integers(0, N_LABELS, round(8 * len(clip) / RATE)).tolist())))
    for i in range(3):
        audio.write(folder / f"noise{i}.wav", rng.uniform(-0.3, 0.3, 44100 * 20), 44100)
    noises = folder / "noises.jsonl"
    noises.write_text("".join(f'{{"audio_filepath": "noise{i}.wav"}}\n' for i in range(3)))
    return examples, noises


def chosen(names: Sequence[str], noises: Path, probability: float | None = None) -> AugmentSettings:
    """Settings with these transforms on, at their default probabilities or another one."""
    sections: dict[str, dict[str, object] | None] = {"spec_augment": None}
    for name in names:
        sections[name] = {} if probability is None else {"probability": probability}
        if name == "background":
            sections[name] |= {"manifest": [str(noises)]}  # type: ignore[operator]
    return AugmentSettings.model_validate(sections)


def best_of(rounds: int, work: Callable[[], object]) -> float:
    """Least core-seconds of `rounds` runs, after one to warm up: the machine may be shared."""
    times = []
    for _ in range(rounds + 1):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times[1:])


class Trainee:
    """A model with the step that the training loop makes."""

    def __init__(self, preset: str) -> None:
        torch.manual_seed(0)
        self.model = AcousticModel(FeatureSettings(), QuartzNetSettings(preset=preset), N_LABELS).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)

    def step(self, batch: Batch, augment: Callable[..., torch.Tensor] | None = None) -> None:
        log_probs, counts = self.model(batch.waveforms, batch.sample_counts, augment)
        loss = F.ctc_loss(log_probs.transpose(0, 1), batch.targets, counts, batch.target_counts, blank=N_LABELS)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def epoch_seconds(trainee: Trainee, loader: Loader, durations: Sequence[float], settings: AugmentSettings) -> float:
    """Seconds of wall time for a second of audio heard, over an epoch."""
    masks = feature_augmentation(settings, torch.Generator().manual_seed(0))
    started, heard = time.perf_counter(), 0.0
    for batch in loader.batches(plan_epoch(durations, BATCH_S, 0, 1), 1):
        trainee.step(batch, masks)
        heard += float(batch.sample_counts.sum()) / RATE
    return (time.perf_counter() - started) / heard


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="small-2d", choices=["small", "small-2d", "small-2d-sc", "5x5", "15x5"])
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        examples, noises = corpus(Path(folder), arguments.clips)
        compare(examples, noises, Trainee(arguments.preset), arguments.rounds)


def compare(examples: list[Example], noises: Path, trainee: Trainee, rounds: int) -> None:
    durations = [example.duration for example in examples]
    total_s, cores = sum(durations), torch.get_num_threads()
    plain = Loader(examples, RATE, cache_mb=1000)
    batches = list(plain.batches(plan_epoch(durations, BATCH_S, 0)))
    step_s = best_of(rounds, lambda: [trainee.step(batch) for batch in batches]) / total_s
    print(
        f"{cores} cores, training step {cores / step_s:.0f} s of audio per s, {1000 * step_s:.2f} core-ms a second of audio"
    )
    print(
        f"{'transform':14s} {'s of audio per s':>17s} {'core-ms a s':>12s} {'of a step':>10s} {'probability':>12s} {'then':>7s}"
    )
    clips = [plain.load([i]).waveforms[0].numpy() for i in range(len(examples))]
    sums = [0.0, 0.0]
    for name in (*STEPS, *FEATURE_STEPS):
        settings = chosen([name], noises, probability=1)
        if name in STEPS:
            change = steps(settings, RATE)[0].change
            rng = np.random.default_rng(0)
            seconds = best_of(rounds, lambda: [change(clip, RATE, rng, {}) for clip in clips]) / total_s  # noqa: B023
        else:
            seconds = feature_seconds(trainee, batches, settings, rounds) / total_s
        probability = getattr(chosen([name], noises), name).probability
        sums = [sums[0] + seconds, sums[1] + probability * seconds]
        print(
            f"{name:14s} {1 / seconds:17,.0f} {1000 * seconds:12.4f} {seconds / step_s:10.1%} {probability:12.2f} "
            f"{probability * seconds / step_s:7.1%}"
        )
    print(
        f"{'sum':14s} {1 / sums[0]:17,.0f} {1000 * sums[0]:12.4f} {sums[0] / step_s:10.1%} {'':12s} {sums[1] / step_s:7.1%}"
    )
    in_a_run(examples, durations, noises, trainee, rounds, plain)


def feature_seconds(trainee: Trainee, batches: list[Batch], settings: AugmentSettings, rounds: int) -> float:
    """Core-seconds for the batches' features, made beforehand."""
    with torch.no_grad():
        made = [trainee.model.features(batch.waveforms, batch.sample_counts) for batch in batches]
    augment = feature_augmentation(settings, torch.Generator().manual_seed(0))
    assert augment is not None
    return best_of(rounds, lambda: [augment(*one) for one in made])  # they may change, which costs no less


def in_a_run(
    examples: list[Example], durations: list[float], noises: Path, trainee: Trainee, rounds: int, plain: Loader
) -> None:
    """Whole epochs by turns: bare, with all waveform and feature transforms at default probabilities, and on every clip."""
    everything = (*STEPS, *FEATURE_STEPS)
    runs = {
        "bare": (chosen([], noises), durations, plain),
    }
    for title, probability in (("default probabilities", None), ("every transform on every clip", 1.0)):
        settings = chosen(everything, noises, probability)
        augmenter = Augmenter(settings, RATE, 0, durations, lambda indices, seconds: True)
        runs[title] = settings, list(augmenter.durations(1)), Loader(examples, RATE, cache_mb=1000, augment=augmenter)
    took: dict[str, list[float]] = {title: [] for title in runs}
    for turn in range(rounds + 1):
        for title, (settings, lengths, loader) in runs.items():
            seconds = epoch_seconds(trainee, loader, lengths, settings)
            if turn:  # the first fills caches
                took[title].append(seconds)
    for title, seconds_each in took.items():
        added = [seconds / bare - 1 for seconds, bare in zip(seconds_each, took["bare"], strict=True)]
        print(
            f"epoch, {title}: {1 / median(seconds_each):.0f} s of audio per s; "
            f"over bare {median(added):+.1%} (rounds {min(added):+.1%} to {max(added):+.1%})"
        )


if __name__ == "__main__":
    main()
