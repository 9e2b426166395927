"""Several processes that train one model: who they are, how they agree, and what becomes of a run that loses one.

The batch of a step is planned once for all (`training.batch_seconds` is its audio, whatever the number of processes)
and dealt to them utterance by utterance. Gradients are weighed by what each process has heard, so that their mean is
the gradient of the whole batch. What depends on a clock or a signal is decided by the first process for all.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from anadil.data.batches import Batch
from anadil.errors import AnadilError
from anadil.training.config import TrainingSettings
from anadil.training.monitoring.report import Reporter
from anadil.training.run import Run, Stop

TIMEOUT = timedelta(minutes=30)
"""How long a process waits for the others: the first one validates alone meanwhile."""

GRACE_S = 10.0
"""How long the first process may take to notice by itself that another is lost, before it is ended."""


def members(settings: TrainingSettings) -> tuple[int, int]:
    """Devices of this machine, and machines: as torchrun says, or `training.devices` of one. Raises AnadilError."""
    if not torch.distributed.is_available() or not torch.distributed.is_torchelastic_launched():
        return settings.devices, 1
    here, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    if settings.devices not in (1, here):
        raise AnadilError(
            f"training.devices is {settings.devices}, but torchrun started {here} processes on this machine\n"
            "  next: leave training.devices out, torchrun's --nproc-per-node counts"
        )
    return here, world // here


def is_first() -> bool:
    """Whether this process writes, speaks and validates; known before anything is set up."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0


def ddp(may_skip: bool) -> DDPStrategy:
    """`may_skip`: some parameters get no gradient in some steps."""
    return DDPStrategy(timeout=TIMEOUT, find_unused_parameters=may_skip)


class Others:
    """The other processes on this machine, started by the first one with its own command line."""

    def __init__(self, n_devices: int, report: Reporter) -> None:
        self._report, self._done = report, threading.Event()
        self.lost: str = ""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(n_devices), "NODE_RANK": "0"}
        self._told = [
            tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - closed in `end`
            for _ in range(1, n_devices)
        ]
        self._processes = [
            subprocess.Popen(
                _command(), env=os.environ | shared | {"LOCAL_RANK": str(rank)}, stdout=subprocess.DEVNULL, stderr=told
            )
            for rank, told in enumerate(self._told, start=1)
        ]
        os.environ.update(shared | {"LOCAL_RANK": "0"})
        threading.Thread(target=self._watch, daemon=True).start()

    def check(self) -> None:
        """Fill in `lost` if a process has failed."""
        for rank, (process, told) in enumerate(zip(self._processes, self._told, strict=True), start=1):
            if process.poll():
                told.seek(0)
                last = told.read()[-2000:].strip().splitlines()[-5:]
                code = process.returncode
                how = f"killed by signal {-code}" if code < 0 else f"ended with exit status {code}"
                self.lost = "\n".join([f"process {rank} of {len(self._processes) + 1} was {how}", *last])
                return

    def end(self) -> None:
        """All of them are to end now."""
        self._done.set()
        for process in self._processes:
            try:
                process.wait(timeout=GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for told in self._told:
            told.close()
        for name in ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "NODE_RANK", "LOCAL_RANK"):
            os.environ.pop(name, None)

    def _watch(self) -> None:
        """A GPU's collective operations wait for a lost process for ever; those of a CPU fail at once."""
        while not self._done.wait(0.5):
            self.check()
            if self.lost and not self._done.wait(GRACE_S):
                self._report.warn(_lost(self.lost))
                for process in self._processes:
                    process.kill()
                os._exit(1)


@contextmanager
def together(settings: TrainingSettings, report: Reporter) -> Iterator[None]:
    """Start the other processes if they are wanted; a lost one ends the block with AnadilError."""
    n_devices, n_machines = members(settings)
    started = "LOCAL_RANK" in os.environ
    others = Others(n_devices, report) if n_devices * n_machines > 1 and not started else None
    try:
        yield
    except RuntimeError as error:  # of the collective operations: they have no class of their own on all versions
        if n_devices * n_machines == 1 or not _is_of_connection(error):
            raise
        if others is not None:
            time.sleep(0.5)  # the process that broke the connection ends
            others.check()
        lost = others.lost if others is not None else ""
        raise AnadilError(_lost(lost or f"a process was lost: {str(error).splitlines()[0]}")) from error
    finally:
        if n_devices * n_machines > 1 and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        if others is not None:
            others.end()


def _lost(what: str) -> str:
    return (
        f"training stopped: {what}\n"
        "  next: the same command with --resume goes on from the last checkpoint, with any number of processes "
        "(training.devices, or torchrun's)"
    )


def _is_of_connection(error: RuntimeError) -> bool:
    told = str(error).lower()
    words = ("connection", "gloo", "nccl", "timed out", "timeout", "peer", "socket", "broken pipe")
    return isinstance(error, torch.distributed.DistError) or any(word in told for word in words)


def _command() -> list[str]:
    import __main__

    spec = getattr(__main__, "__spec__", None)
    if spec is not None:
        return [sys.executable, "-m", spec.name.removesuffix(".__main__"), *sys.argv[1:]]
    return [sys.executable, os.path.abspath(sys.argv[0]), *sys.argv[1:]]


@dataclass(frozen=True, slots=True)
class Share:
    """What one process hears of one step's batch, in `pieces`, of which all have as many: they meet in each.

    `idle`: the last so many are not its own, it hears them for company.
    """

    pieces: list[list[int]]
    idle: int


def share_of(batch: Sequence[int], rank: int, n_processes: int, accumulate: int) -> Share:
    """Every n-th utterance, so that lengths are alike; then every k-th of these to a piece."""
    n_pieces = min(accumulate, -(-len(batch) // n_processes))  # as many as the first process has
    mine = list(batch[rank::n_processes])
    pieces = [mine[i::n_pieces] for i in range(min(n_pieces, len(mine)))]
    idle = n_pieces - len(pieces)
    return Share(pieces + [list(batch[:1])] * idle, idle)


def pieces_of(batches: Iterable[Batch], shares: Sequence[Share]) -> Iterator[tuple[Share, list[Batch]]]:
    """Loaded pieces, put together by steps."""
    loaded = iter(batches)
    for share in shares:
        yield share, [next(loaded) for _ in share.pieces]


def summed(fabric: Fabric, *numbers: float) -> list[float]:
    """Sums over all processes."""
    if fabric.world_size == 1:
        return list(numbers)
    total = fabric.all_reduce(torch.tensor(numbers, dtype=torch.float64, device=fabric.device), reduce_op="sum")
    assert isinstance(total, torch.Tensor)
    return [float(number) for number in total.tolist()]


def agree(fabric: Fabric, run: Run, stop: Stop) -> tuple[bool, bool]:
    """Look at the clock; whether to stop, and whether a checkpoint is due, the same for all processes."""
    run.tick()
    minutes_since = (time.monotonic() - run.saved) / 60
    if fabric.world_size == 1:
        return stop.requested, minutes_since >= run.checkpoint_minutes
    first = fabric.is_global_zero
    due = float(first and minutes_since >= run.checkpoint_minutes)
    run.minutes, due, stops = summed(fabric, run.minutes if first else 0.0, due, float(stop.requested))
    return stops > 0, due > 0


def gathered(fabric: Fabric, mine: Any) -> list[Any]:
    """What each process has, for the first one; the others get nothing."""
    if fabric.world_size == 1:
        return [mine]
    everyone: list[Any] | None = [None] * fabric.world_size if fabric.is_global_zero else None
    torch.distributed.gather_object(mine, everyone)
    return everyone or []
