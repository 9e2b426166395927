"""Memory of training: its peak, how much audio fits into a batch (`training.batch_seconds: auto`), and running out of it."""

from __future__ import annotations

import copy
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from anadil.data.batches import Batch
from anadil.errors import AnadilError
from anadil.files import whole_file
from anadil.models.acoustic import AcousticModel
from anadil.training.monitoring.report import Reporter
from anadil.training.run import BATCH

if TYPE_CHECKING:
    from anadil.training.prepare import Prepared  # which asks here how much memory is free

FEWEST_S, MOST_S = 30.0, 240.0
"""Batches of 30 s were best for 1 to 4 hours of speech (docs/LOG.md): the number of steps counts, not the seconds of audio."""

STEPS_PER_EPOCH = 2400
"""Batches grow only as far as an epoch keeps this many steps: from 20 hours of speech on."""

SHARE = 0.5
"""Of the free memory; the rest is for other programs, the log-probs of the validation set and fragmentation."""

PEAK = 2.0
"""Peak memory of a step, relative to what forward keeps for backward; measured: 1.2 to 1.3 (docs/LOG.md)."""


def peak_memory_mb(device: torch.device) -> float | None:
    """Peak memory so far in MiB: what PyTorch allocated on a GPU, else that of the process. None where it is unknown."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device)) / 2**20
    if sys.platform == "win32":
        return None
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB elsewhere


def resolve_batch_seconds(
    data: Prepared, device: torch.device, out: Path, resume: bool, report: Reporter, writes: bool = True
) -> Prepared:
    """Return `data` with a number for `training.batch_seconds: auto`: that of the resumed run, or one that fits.

    Writes it to `out`, unless `writes` is false. Raises AnadilError if not even the longest utterance fits into memory.
    """
    if data.config.training.batch_seconds != "auto":
        return data
    file = out / BATCH
    try:
        seconds = float(file.read_text()) if resume else 0.0
    except (OSError, ValueError):
        seconds = 0.0
    if not seconds > 0:
        longest = max(example.duration for example in data.train)
        hours = sum(example.duration for example in data.train) / 3600
        wanted = max(min(max(FEWEST_S, 3600 * hours / STEPS_PER_EPOCH), MOST_S) / data.config.training.views, longest)
        cache_bytes = int(data.config.data.cache_mb * 2**20)
        fitting = _fitting_seconds(data.acoustic, device, wanted, longest, cache_bytes, data.config.training.views)
        seconds = float(f"{fitting:.3g}")
        report.say(f"batches of {seconds:g} s of audio (training.batch_seconds: auto; {wanted:.3g} if memory allows)")
        if writes:
            with whole_file(file) as beside:
                beside.write_text(f"{seconds!r}\n")
    return with_batch_seconds(data, seconds)


def with_batch_seconds(data: Prepared, seconds: float) -> Prepared:
    """Return `data` with this `training.batch_seconds`."""
    training = data.config.training.model_copy(update={"batch_seconds": seconds})
    return replace(data, config=data.config.model_copy(update={"training": training}))


def _fitting_seconds(
    acoustic: AcousticModel, device: torch.device, wanted: float, longest: float, cache_bytes: int, views: int
) -> float:
    """At most `wanted` seconds of audio; found by trial on a GPU, by counting bytes on a CPU."""
    if device.type == "cuda":
        trial = copy.deepcopy(acoustic).to(device).train()
        fits = halve_until_it_fits(lambda seconds: _try(trial, views * seconds, longest, device), wanted, longest)
        del trial
        torch.cuda.empty_cache()
        return fits
    free = available_bytes()
    if free is None:
        return wanted
    room = SHARE * max(0, free - cache_bytes)
    fits = room / (PEAK * views * bytes_kept(acoustic, longest) / longest)
    if fits < longest:
        raise AnadilError(_too_little(longest, f"{free / 2**30:.1f} GiB are free"))
    return min(wanted, fits)


def halve_until_it_fits(attempt: Callable[[float], None], wanted: float, longest: float) -> float:
    """Return the first of `wanted`, `wanted` / 2, / 4, ... (at least `longest`) at which `attempt` does not run out of memory.

    Raises AnadilError if it does even at `longest`.
    """
    seconds = wanted
    while True:
        try:
            attempt(seconds)
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            if seconds <= longest:
                raise AnadilError(_too_little(longest, "the GPU's memory is too small")) from error
            seconds = max(seconds / 2, longest)
        else:
            return seconds


def bytes_kept(acoustic: AcousticModel, seconds: float) -> int:
    """Bytes that forward keeps for backward, for one utterance of this length. `acoustic` is not changed."""
    model = copy.deepcopy(acoustic).train()
    kept = {parameter.data_ptr(): 0 for parameter in model.parameters()}  # weights are not counted

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept.setdefault(storage.data_ptr(), storage.nbytes())
        return tensor

    with torch.random.fork_rng(devices=[]), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        waveform = torch.randn(1, max(round(seconds * model.sample_rate), model.min_samples))
        output = model(waveform, torch.tensor([waveform.shape[1]]))
    del output
    return sum(kept.values())


def _try(model: AcousticModel, seconds: float, longest: float, device: torch.device) -> None:
    """Run forward and backward on a random batch of `seconds`, made of utterances of `longest` seconds."""
    n_samples = max(round(longest * model.sample_rate), model.min_samples)
    batch = max(1, int(seconds / longest))
    with torch.random.fork_rng(devices=[device]):
        waveforms = torch.randn(batch, n_samples, device=device)
        counts = torch.full((batch,), n_samples, device=device)
        model(waveforms, counts)[0].sum().backward()
    model.zero_grad()


def available_bytes(root: Path = Path("/")) -> int | None:
    """Memory that can be allocated, with the limit of a container; None if the system does not report it."""
    limits = []
    meminfo = _read(root / "proc/meminfo")
    match = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo, re.MULTILINE)
    if match:
        limits.append(1024 * int(match[1]))
    elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    for folder, limit_name, usage_name in _control_groups(root):
        limit, usage = _read(folder / limit_name).strip(), _read(folder / usage_name).strip()
        if limit.isdigit() and usage.isdigit():
            files = re.search(r"^(?:total_)?inactive_file (\d+)", _read(folder / "memory.stat"), re.MULTILINE)
            limits.append(
                max(0, int(limit) - int(usage) + (int(files[1]) if files else 0))
            )  # cached files can be dropped
    return min(limits, default=None)


def _control_groups(root: Path) -> list[tuple[Path, str, str]]:
    """Folders of the control groups of this process and of their parents, with the names of the limit and usage files."""
    groups = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "memory" not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
        inside = [part for part in path.split("/") if part not in ("", "..", ".")]
        groups += [(base.joinpath(*inside[:depth]), *names) for depth in range(len(inside) + 1)]
    return groups


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means too little memory. PyTorch has a class for the GPU's, and only messages for the CPU's."""
    words = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )


@contextmanager
def explaining_out_of_memory(batches: Sequence[Batch], sample_rate: int, batch_seconds: float) -> Iterator[None]:
    """Turn running out of memory inside the block into an AnadilError that names the number to lower."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        largest = max(batches, key=lambda batch: batch.waveforms.numel())
        raise AnadilError(_explain_out_of_memory(largest, sample_rate, batch_seconds)) from error


def _explain_out_of_memory(batch: Batch, sample_rate: int, batch_seconds: float) -> str:
    n, longest = len(batch.indices), float(batch.sample_counts.max()) / sample_rate
    what = f"out of memory in a batch of {n * longest:.1f} s of audio ({n} x {longest:.1f} s with padding)"
    if n == 1:
        return f"{what}\n  next: lower data.max_duration below {longest:.1f}, or take a smaller model"
    return (
        f"{what}\n  next: lower training.batch_seconds, which is {batch_seconds:g}, to {batch_seconds / 2:g}; or, with "
        "--resume, training.accumulate=2: the same batch in two pieces"
    )


def _too_little(longest: float, why: str) -> str:
    return (
        f"the longest training utterance, {longest:.1f} s, does not fit into memory: {why}\n"
        "  next: lower data.max_duration, take a smaller model, or set training.batch_seconds to try it all the same"
    )
