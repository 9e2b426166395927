"""Training step with a frozen encoder against the whole model's: the backward pass that it saves.

    python benchmarks/frozen_encoder.py [--preset small] [--rounds 5]

Both in the same run, in turns, on the same batch of 16 x 4 s; best of the rounds, which other work disturbs least.
"""

from __future__ import annotations

import argparse
import time

import torch

from anadil.data.batches import Batch
from anadil.models.acoustic import AcousticModel
from anadil.models.features import FeatureSettings
from anadil.models.quartznet import QuartzNetSettings
from anadil.training.config import TrainingSettings
from anadil.training.optimizers import build_optimizer
from anadil.training.step import ctc_loss
from anadil.training.transfer.freezing import apply_freezing
from anadil.training.transfer.settings import InitSettings

N_UTTERANCES, SECONDS, N_LABELS = 16, 4, 32


def step_s(acoustic: AcousticModel, optimizer: torch.optim.Optimizer, batch: Batch) -> float:
    started = time.perf_counter()
    optimizer.zero_grad()
    ctc_loss(*acoustic(batch.waveforms, batch.sample_counts), batch).backward()
    optimizer.step()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="small", choices=["small", "small-2d", "small-2d-sc", "5x5", "15x5"])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    waveforms = torch.randn(N_UTTERANCES, SECONDS * 16000)
    counts = torch.full((N_UTTERANCES,), SECONDS * 16000)
    targets = torch.randint(0, N_LABELS, (N_UTTERANCES, 40))
    batch = Batch(waveforms, counts, targets, torch.full((N_UTTERANCES,), 40), tuple(range(N_UTTERANCES)))
    best: dict[str, float] = {}
    for _ in range(arguments.rounds):
        for freeze in ("none", "encoder_except_norm", "encoder"):
            acoustic = AcousticModel(FeatureSettings(), QuartzNetSettings(preset=arguments.preset), N_LABELS).train()
            init = InitSettings.model_validate({"from": "nowhere", "freeze": freeze})
            optimizer = build_optimizer(acoustic.network, TrainingSettings(), init)
            apply_freezing(acoustic.network, init, epoch=1)
            step_s(acoustic, optimizer, batch)  # makes the optimiser's moments
            best[freeze] = min(best.get(freeze, float("inf")), step_s(acoustic, optimizer, batch))
    for freeze, seconds in best.items():
        print(
            f"freeze {freeze:20s} {1000 * seconds:7.1f} ms a step, {best['none'] / seconds:.2f} times as fast as none"
        )


if __name__ == "__main__":
    main()
