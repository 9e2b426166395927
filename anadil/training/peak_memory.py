"""How much memory training took."""

from __future__ import annotations

import sys

import torch


def peak_memory_mb(device: torch.device) -> float | None:
    """The most so far, in MiB: of a GPU what PyTorch had allocated, otherwise of the process; None where it is not told."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device)) / 2**20
    if sys.platform == "win32":
        return None
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB elsewhere
