"""Distributed workers: the processes that train one model; how they are started, watched and kept in sync.

The batch of a step, `training.batch_seconds` long, is planned once for all ranks and split utterance by utterance. Each
rank's loss is weighted by its number of labels: the mean gradient is that of the whole batch. Why the processes are not
started by Fabric or PyTorch: docs/libraries.md.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from subprocess import DEVNULL, PIPE, Popen
from threading import Event, Thread
from typing import IO, Any

import torch
import torch.distributed
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import find_free_network_port

from anadil.errors import AnadilError
from anadil.training.config import TrainingSettings
from anadil.training.monitoring.report import Reporter
from anadil.training.run import Run, Stop

TIMEOUT = timedelta(minutes=30)
"""How long a process waits for the others: they do nothing while rank 0 validates."""

GRACE_S = 10.0
"""How long rank 0 may take to notice by itself that a process is lost, and how long it waits to learn which one."""

_THREADS_S = 0.2
"""How long gloo's threads get, at the end of a run, to free the tensors of the last collective."""

_finished_groups: list[Any] = []  # see `launch`


def world_shape(settings: TrainingSettings) -> tuple[int, int]:
    """Return devices per machine and machines: torchrun's, or `training.devices` and 1. Raises AnadilError if both differ."""
    if not torch.distributed.is_available() or not torch.distributed.is_torchelastic_launched():
        return settings.devices, 1
    n_devices, n_processes = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    if settings.devices not in (1, n_devices):
        raise AnadilError(
            f"training.devices is {settings.devices}, but torchrun started {n_devices} processes on this machine\n"
            "  next: omit training.devices; torchrun's --nproc-per-node decides"
        )
    return n_devices, n_processes // n_devices


def is_first() -> bool:
    """Return whether this is rank 0, which writes, reports and validates. Known before anything is set up."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0


@contextmanager
def launch(settings: TrainingSettings, report: Reporter, command: Sequence[str] = ()) -> Iterator[None]:
    """Start ranks 1, 2, ... with `command`, unless there is one rank only or a launcher has started them.

    Raises AnadilError if there is no command, or if a process is lost before the block ends.
    """
    n_processes, workers = math.prod(world_shape(settings)), None
    if "ANADIL_WORKER" in os.environ:  # exit with rank 0: even if that is killed, its end of this pipe gets closed
        Thread(target=lambda: os.read(0, 1) or os._exit(1), daemon=True).start()
    elif n_processes > 1 and "LOCAL_RANK" not in os.environ:
        if not command:
            raise AnadilError(
                f"training.devices is {n_processes}, but train() in a Python program starts no other processes\n"
                f"  next: anadil train CONFIG training.devices={n_processes}, "
                f"or start the program with torchrun --nproc-per-node {n_processes}"
            )
        workers = Workers(n_processes, command, report)
    try:
        yield
    except RuntimeError as error:
        if n_processes == 1 or not _is_lost_connection(error):
            raise
        lost = f"a process was lost: {str(error).splitlines()[0]}"
        raise AnadilError(_stopped(workers.failure if workers and workers.failed.wait(GRACE_S) else lost)) from error
    finally:
        if n_processes > 1 and torch.distributed.is_initialized():
            # Keep a reference. DDP's reducer would free the group with the GIL held, joining gloo's threads; one of them
            # may need the GIL to free the tensors of the last collective: a deadlock, met in 7 of 14 short runs.
            _finished_groups.append(torch.distributed.group.WORLD)
            torch.distributed.destroy_process_group()
            # And let that thread have the GIL: at the interpreter's exit it would abort the process instead (1 of some 40 runs).
            time.sleep(_THREADS_S)
        if workers:
            workers.end()


class Workers:
    """Ranks 1, 2, ... on this machine, each watched by a thread of rank 0."""

    def __init__(self, n_processes: int, command: Sequence[str], report: Reporter) -> None:
        self.failed, self.failure = Event(), ""  # which process failed first, how, and its last lines
        self._ended, self._report, self._processes = Event(), report, []
        port = str(find_free_network_port())
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": "0", "LOCAL_RANK": "0"}
        for rank in range(1, n_processes):
            log = tempfile.TemporaryFile()  # noqa: SIM115 - `_watch` closes it
            environment = os.environ | {"LOCAL_RANK": str(rank), "ANADIL_WORKER": "1"}
            process = Popen(command, env=environment, stdin=PIPE, stdout=DEVNULL, stderr=log)
            self._processes.append(process)
            name = f"process {rank} of {n_processes}"
            Thread(target=self._watch, args=(name, process, log), daemon=True).start()

    def end(self) -> None:
        """Kill what still runs: only rank 0 has anything to finish."""
        self._ended.set()
        for process in self._processes:
            process.kill()
            process.wait()
        for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK"):
            os.environ.pop(name, None)

    def _watch(self, name: str, process: Popen[bytes], log: IO[bytes]) -> None:
        """If the process fails, end rank 0 after GRACE_S: collective operations fail at once on CPUs, but hang on GPUs."""
        code = process.wait()
        with log:
            log.seek(0)
            last_lines = log.read().decode(errors="replace")[-2000:].strip().splitlines()[-5:]
        if code == 0 or self._ended.is_set() or self.failed.is_set():
            return
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit status {code}"
        self.failure = "\n".join([f"{name} {how}", *last_lines])
        self.failed.set()
        if not self._ended.wait(GRACE_S):
            self._report.warn(_stopped(self.failure))
            os._exit(1)  # the other processes follow


def _stopped(what: str) -> str:
    return (
        f"training stopped: {what}\n"
        "  next: the same command with --resume goes on from the last checkpoint, with any number of processes "
        "(training.devices, or torchrun's)"
    )


def _is_lost_connection(error: RuntimeError) -> bool:
    """Collective operations raise a class of their own in some versions of PyTorch and back ends only."""
    words = ("connection", "gloo", "nccl", "timed out", "timeout", "peer", "socket", "broken pipe")
    return isinstance(error, torch.distributed.DistError) or any(word in str(error).lower() for word in words)


def split_batch(batch: Sequence[int], rank: int, n_processes: int, accumulate: int) -> tuple[list[list[int]], int]:
    """Return the micro-batches of a rank, at most `accumulate`, and how many of them, at the end, are dummies.

    Every rank gets the same number of micro-batches, because sharded ranks meet in each; the dummies have weight 0.
    A rank has every n-th utterance and a micro-batch every k-th of these, so that lengths are alike.
    """
    n_micro_batches = min(accumulate, -(-len(batch) // n_processes))  # no more than rank 0 has utterances
    own = list(batch[rank::n_processes])
    micro_batches = [own[i::n_micro_batches] for i in range(min(n_micro_batches, len(own)))]
    n_dummies = n_micro_batches - len(micro_batches)
    return micro_batches + [list(batch[:1])] * n_dummies, n_dummies


def summed(fabric: Fabric, *numbers: float) -> list[float]:
    """Return the sum of each number over all ranks."""
    if fabric.world_size == 1:
        return list(numbers)
    total = fabric.all_reduce(torch.tensor(numbers, dtype=torch.float64, device=fabric.device), reduce_op="sum")
    assert isinstance(total, torch.Tensor)
    return [float(number) for number in total.tolist()]


def sync_clock_and_stop(fabric: Fabric, run: Run, stop: Stop) -> tuple[bool, bool]:
    """Update `run.minutes`; return whether to stop and whether a checkpoint is due, the same on all ranks.

    The clock is rank 0's; a signal to any rank stops all.
    """
    run.tick()
    due = (time.monotonic() - run.saved) / 60 >= run.checkpoint_minutes
    first = fabric.is_global_zero
    run.minutes, n_due, n_stops = summed(fabric, run.minutes * first, due and first, stop.requested)
    return n_stops > 0, n_due > 0


def gathered(fabric: Fabric, value: Any) -> list[Any]:
    """Return the value of each rank, on all ranks."""
    if fabric.world_size == 1:
        return [value]
    values: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(values, value)
    return values
