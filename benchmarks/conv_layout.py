"""QuartzNet's training step on this machine: grouped 1D convolutions against channels-last 2D ones, in one run.

    python benchmarks/conv_layout.py [--preset 15x5] [--seconds 4] [--batch 16]

Prints seconds of audio per second for both, the ratio, and the share of the arithmetic limit (floating-point
operations of the step over the measured speed of matrix products).
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor
from torch.nn import functional as F

from anadil.models import quartznet
from anadil.models.quartznet import MaskedConv, QuartzNet, QuartzNetSettings

N_MELS, N_LABELS, FRAMES_PER_S = 64, 34, 100


def grouped_conv1d(self: MaskedConv, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The plain way, as a peer: the same sum in NCW layout."""
    conv = self.conv
    y = F.conv1d((x * mask).squeeze(2), conv.weight, None, conv.stride, self.padding[0], conv.dilation, conv.groups)
    return y.unsqueeze(2), mask[..., :: conv.stride[0]]


def step_seconds(model: QuartzNet, batch: int, n_frames: int, repeats: int = 3) -> float:
    """Median seconds of forward, CTC and backward."""
    features, counts = torch.randn(batch, N_MELS, n_frames), torch.full((batch,), n_frames)
    targets, target_counts = torch.randint(0, N_LABELS, (batch, n_frames // 10)), torch.full((batch,), n_frames // 10)
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        log_probs, frame_counts = model(features, counts)
        loss = F.ctc_loss(log_probs.transpose(0, 1), targets, frame_counts, target_counts, blank=N_LABELS)
        model.zero_grad()
        loss.backward()
        times.append(time.perf_counter() - started)
    return sorted(times[1:])[repeats // 2]


def flops_of_a_step(model: QuartzNet, n_frames: int) -> float:
    """Multiply-adds count two; backward costs twice the forward."""
    total, frames = 0.0, n_frames
    for block, settings in zip(model.encoder.encoder, model.settings.resolved_blocks, strict=True):
        convs = [module for module in block.modules() if isinstance(module, MaskedConv)]
        frames = (frames - 1) // settings.stride + 1
        total += sum(2 * module.conv.weight.numel() * frames for module in convs)
    return 3 * (total + 2 * model.encoder.width * (N_LABELS + 1) * frames)


def matrix_flops(size: int = 2048) -> float:
    """Measured floating-point operations a second of a float32 matrix product."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    a @ b
    started = time.perf_counter()
    for _ in range(5):
        a @ b
    return 5 * 2 * size**3 / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="small", choices=["small", "5x5", "15x5"])
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--batch", type=int, default=16)
    arguments = parser.parse_args()
    n_frames, audio_s = int(arguments.seconds * FRAMES_PER_S), arguments.batch * arguments.seconds
    model = QuartzNet(QuartzNetSettings(preset=arguments.preset), N_MELS, N_LABELS)
    speed = matrix_flops()
    limit = audio_s * speed / (flops_of_a_step(model, n_frames) * arguments.batch)
    ours = audio_s / step_seconds(model, arguments.batch, n_frames)
    quartznet.MaskedConv.forward = grouped_conv1d  # type: ignore[method-assign]
    peer = audio_s / step_seconds(model, arguments.batch, n_frames)
    print(f"{arguments.preset}: {torch.get_num_threads()} threads, matrix products at {speed / 1e9:.0f} GFLOP/s")
    print(f"channels-last 2D {ours:7.1f} s of audio per s, {ours / limit:.0%} of the arithmetic limit of {limit:.1f}")
    print(f"grouped 1D       {peer:7.1f} s of audio per s, ratio {ours / peer:.1f}")


if __name__ == "__main__":
    main()
