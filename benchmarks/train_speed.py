"""Training steps of whole models on this machine: Anadil, a peer, and what the arithmetic allows, in one run.

    python benchmarks/train_speed.py [--models small 5x5] [--threads 2] [--rounds 3] [--precision bf16]
    python benchmarks/train_speed.py --peer nemo --nemo-python NEMO_ENVIRONMENT/bin/python

A step is log-mel, forward, CTC and backward of a batch of 30 s of noise in utterances of unequal length, dropout as
shown. Ours is in float32 or, with `--precision bf16`, has matrix products in bfloat16, as `training.precision: auto` has
where the CPU has them; what the peer computes in is asked for by itself, and is PyTorch's autocast. The peer is "plain",
our own network with grouped 1D convolutions, as a straightforward PyTorch program has them; or "nemo", NeMo's QuartzNet
or Citrinet of the same blocks in an environment of its own. Both take turns, the best of the rounds counts. The limit is
the network's multiply-adds, forward and twice that for backward, at the speed of a matrix product in our precision
measured in the same run. Prints a table for the README.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from anadil.models.acoustic import AcousticModel
from anadil.models.features import FeatureSettings
from anadil.models.quartznet import MaskedConv, QuartzNet, QuartzNetSettings

N_LABELS, RATE = 33, 16000
BATCH, LONGEST_S = 6, 5.0  # 30 s with padding, 5 % of it padding
STEPS = 2  # of each in a round

CITRINET = {  # Citrinet's shape (arXiv:2104.01721, table 1) with 256 channels and a third of its blocks
    "kind": "citrinet",
    "blocks": [
        {"filters": 256, "kernel": 5, "squeeze_excite": {}},
        *(
            {"filters": 256, "kernel": kernel, "repeat": 5, "residual": True, "squeeze_excite": {}}
            | ({"stride": 2, "stride_last": True} if i % 3 == 0 else {})
            for i, kernel in enumerate((11, 13, 15, 17, 19, 21, 23, 25, 27))
        ),
        {"filters": 640, "kernel": 41, "squeeze_excite": {}},
    ],
}

MODELS: dict[str, dict[str, Any]] = {
    "small": {"preset": "small", "dropout": 0.1},
    "small-2d": {"preset": "small-2d", "dropout": 0.1},
    "5x5": {"preset": "5x5"},
    "15x5": {"preset": "15x5"},
    "citrinet-256": CITRINET,
}


def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Waveforms and targets with their counts."""
    torch.manual_seed(0)
    counts = (torch.linspace(0.9, 1.0, BATCH) * LONGEST_S * RATE).long()
    target_counts = torch.full((BATCH,), int(LONGEST_S * 10))
    return 0.1 * torch.randn(BATCH, int(counts.max())), counts, torch.randint(0, N_LABELS, (BATCH, 50)), target_counts


def step_of(model: AcousticModel, bf16: bool = False) -> Callable[[], None]:
    waveforms, counts, targets, target_counts = batch()

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            log_probs, frame_counts = model(waveforms, counts)
        loss = F.ctc_loss(
            log_probs.transpose(0, 1), targets, frame_counts, target_counts, blank=N_LABELS, zero_infinity=True
        )
        model.zero_grad()
        loss.backward()

    return step


def plain_conv(self: MaskedConv, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The plain way: a 1D convolution of (batch, channels, frames), in groups where it is depthwise."""
    conv = self.conv
    y = F.conv1d(
        (x * mask).squeeze(2).contiguous(), conv.weight, None, conv.stride, self.padding[0], conv.dilation, conv.groups
    )
    return y.unsqueeze(2), mask[..., :: conv.stride[0]]


def plain_twin(settings: dict[str, Any]) -> AcousticModel:
    model = acoustic(settings)
    assert isinstance(model.network, QuartzNet)
    model.network.encoder.has_time_major = False
    for module in model.network.modules():
        if isinstance(module, MaskedConv):
            module.forward = plain_conv.__get__(module)  # type: ignore[method-assign]
    return model


def acoustic(settings: dict[str, Any]) -> AcousticModel:
    torch.manual_seed(0)
    return AcousticModel(FeatureSettings(), QuartzNetSettings.model_validate(settings), N_LABELS).train()


def multiply_adds(model: AcousticModel) -> float:
    """Of the network's forward pass over the batch, padding included."""
    network, counted = model.network, list[int]()
    assert isinstance(network, QuartzNet)

    def count(module: torch.nn.Module, _: object, output: Tensor | tuple[Tensor, Tensor]) -> None:
        weight = module.conv.weight if isinstance(module, MaskedConv) else module.weight
        assert isinstance(weight, Tensor)
        counted.append((output[0] if isinstance(output, tuple) else output).numel() * weight[0].numel())

    convolutions = [module for module in network.modules() if isinstance(module, MaskedConv | torch.nn.Conv2d)]
    hooks = [module.register_forward_hook(count) for module in convolutions]
    with torch.no_grad():
        log_probs = model.eval()(*batch()[:2])[0]  # in training the fast layout calls no modules
    model.train()
    for hook in hooks:
        hook.remove()
    return sum(counted) + log_probs.numel() * network.encoder.width


def matrix_flops(clock: Callable[[], float], dtype: torch.dtype, size: int = 1024, rounds: int = 12) -> float:
    """Floating-point operations a second of a matrix product, the best of the rounds."""
    a, b = torch.randn(size, size, dtype=dtype), torch.randn(size, size, dtype=dtype)
    return 2 * size**3 / min(seconds_of(lambda: a @ b, clock) for _ in range(rounds))


def seconds_of(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    started = clock()
    work()
    return clock() - started


NEMO = Path(__file__).with_name("nemo_step.py")


class NemoPeer:
    """NeMo's model in a process of its own: it is loaded once, and does a step whenever a line is sent to it."""

    def __init__(self, settings: dict[str, Any], arguments: argparse.Namespace) -> None:
        self.process = subprocess.Popen(
            [arguments.nemo_python, str(NEMO)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        blocks = [block.model_dump(mode="json") for block in QuartzNetSettings.model_validate(settings).resolved_blocks]
        given = {
            "blocks": blocks,
            "threads": arguments.threads,
            "labels": N_LABELS,
            "batch": BATCH,
            "longest_s": LONGEST_S,
        }
        given |= {"cpu_time": arguments.cpu_time, "bf16": arguments.peer_precision == "bf16"}
        self._ask(json.dumps(given))

    def _ask(self, line: str) -> str:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        for answer in self.process.stdout:
            if answer.startswith("answer "):
                return answer.removeprefix("answer ")
        raise SystemExit(f"{NEMO.name} ended with {self.process.wait()}: run it by hand to see why")

    def seconds(self) -> float:
        return float(self._ask("step"))

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def measure(name: str, arguments: argparse.Namespace) -> str:
    """A line of the table."""
    settings = MODELS[name]
    ours_model = acoustic(settings)
    bf16 = arguments.precision == "bf16"
    ours, audio_s = step_of(ours_model, bf16), float(batch()[1].sum()) / RATE
    if arguments.peer == "nemo":
        peer = NemoPeer(settings, arguments)
        peer_seconds, close = peer.seconds, peer.close
    else:
        twin = step_of(plain_twin(settings), arguments.peer_precision == "bf16")
        peer_seconds, close = lambda: seconds_of(twin, arguments.clock), lambda: None
    ours()
    peer_seconds()
    times: list[tuple[float, float]] = []
    dtype = torch.bfloat16 if bf16 else torch.float32
    flops = matrix_flops(arguments.clock, dtype)
    for _ in range(arguments.rounds):
        mine = min(seconds_of(ours, arguments.clock) for _ in range(STEPS))
        times.append((mine, min(peer_seconds() for _ in range(STEPS))))
        flops = max(flops, matrix_flops(arguments.clock, dtype, rounds=4))
    close()
    best, best_peer = (min(column) for column in zip(*times, strict=True))
    limit = 6 * multiply_adds(ours_model) / flops  # seconds: 2 operations, forward and twice that for backward
    return (
        f"| {name} | {audio_s / best:.1f} | {audio_s / best_peer:.1f} | {best_peer / best:.1f} | {limit / best:.0%} | "
        f"{flops / 1e9:.0f} |"
    )


def machine() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--peer", choices=["plain", "nemo"], default="plain")
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32", help="of ours")
    parser.add_argument("--peer-precision", choices=["float32", "bf16"], default="float32")
    parser.add_argument("--nemo-python", default="python", help="an interpreter that can import nemo")
    parser.add_argument("--cpu-time", action="store_true", help="on a busy machine: CPU time, with --threads 1")
    arguments = parser.parse_args()
    arguments.clock = time.process_time if arguments.cpu_time else time.perf_counter
    torch.set_num_threads(arguments.threads)
    print(f"{arguments.threads} threads, {machine()}, PyTorch {torch.__version__}")
    print(f"ours: {arguments.precision}, peer: {arguments.peer}, {arguments.peer_precision}\n")
    print("| model | ours, s/s | peer, s/s | ratio | share of the limit | GFLOP/s |\n|---|---|---|---|---|---|")
    for name in arguments.models:
        print(measure(name, arguments), flush=True)


if __name__ == "__main__":
    main()
