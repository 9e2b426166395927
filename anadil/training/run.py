"""A run: how far it is, and its folder."""

from __future__ import annotations

import math
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from anadil.errors import AnadilError
from anadil.training.config import TrainingSettings

# Ctrl-C, or a cluster's SIGTERM, between two steps: the run saves what it has before it ends.


class Stop:
    """`requested` turns true at the first signal."""

    def __init__(self) -> None:
        self.requested = False


@contextmanager
def stop_on_interrupt() -> Iterator[Stop]:
    """Turn the first Ctrl-C or SIGTERM into a request; a second one ends the run at once.

    Off the main thread, nothing changes.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def request(signum: int, frame: FrameType | None) -> None:
        stop.requested = True
        signal.signal(signum, before[signal.Signals(signum)])

    for number in before:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


CHECKPOINTS = "checkpoints"
BATCH = "batch_seconds.txt"
"""What `training.batch_seconds: auto` came to: a resumed run takes the same."""
EPOCHS = "epochs"
OUTPUTS = (
    BATCH, "best", "last", CHECKPOINTS, EPOCHS, "metrics.csv", "metrics.svg", "validation.txt", "hypotheses.jsonl", "tensorboard",
    "init.json", "start.safetensors",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Validation:
    """One look at the validation set. `loss` in nats a label."""

    loss: float
    cer: float
    wer: float
    cer_by_language: dict[str, float] = field(default_factory=dict)  # if the training data hold several


@dataclass
class Run:
    """How far a run is. `epoch` is the one under way, or the last one if none of a next one's batches is done."""

    out: Path
    total_steps: int
    hours: float  # of training speech
    parameters: int
    checkpoint_minutes: float  # from one to the next
    started: float = field(default_factory=time.monotonic)  # earlier by the time spent before a resumption
    minutes: float = 0.0  # since then, at the last `tick`
    step: int = 0
    epoch: int = 0
    batch: int = 0  # how many of the epoch's batches are done; 0 once it is over
    audio_s: float = 0.0
    losses: list[float] = field(default_factory=list)  # of the epoch's steps, nats a label
    norms: list[float] = field(default_factory=list)  # of the gradients of the epoch's steps, before clipping
    first_loss: float = math.nan
    best: Validation | None = None
    best_epoch: int = 0
    last: Validation | None = None
    patient_since: int = 0  # the epoch from which on patience counts, if no better one was found since
    lowest_loss: float = math.inf  # mean of an epoch of CTC
    warned: list[str] = field(default_factory=list)  # causes of a collapse that were told
    dead_looks: int = 0  # validations in a row with blanks alone,
    dead_since: int = 0  # the first of them at this step,
    dead_loss: float = math.inf  # after an epoch of this mean loss
    saved: float = field(default_factory=time.monotonic)  # when the last checkpoint was written

    def tick(self) -> None:
        """Look at the clock."""
        self.minutes = (time.monotonic() - self.started) / 60

    def progress(self, max_minutes: float | None) -> float:
        """Share of the run that is done, by steps or by the clock, whichever is further."""
        by_time = self.minutes / max_minutes if max_minutes else 0.0
        return min(1.0, max(self.step / self.total_steps, by_time))

    @property
    def epochs_done(self) -> int:
        return self.epoch if self.batch == 0 else self.epoch - 1

    def begin_epoch(self) -> None:
        """Go on with the epoch under way, or start the next one."""
        if self.batch == 0:
            self.epoch, self.losses, self.norms = self.epoch + 1, [], []

    def ended(self, settings: TrainingSettings) -> bool:
        """Whether the schedule is at its end."""
        by_clock = self.step > 0 and self.progress(settings.max_minutes) >= 1
        return by_clock or self.epochs_done >= settings.epoch_limit

    def finished(self, settings: TrainingSettings) -> bool:
        return self.ended(settings) or self.out_of_patience(settings)

    def out_of_patience(self, settings: TrainingSettings) -> bool:
        """Whether `patience` epochs went by without a better CER, the flat start and the warm-up not counted."""
        if settings.patience is None or self.batch > 0 or self.epoch % settings.validate_every:
            return False
        return self.epoch - max(self.best_epoch, self.patient_since) >= settings.patience

    def count_patience(self, settings: TrainingSettings) -> None:
        """At the end of each epoch."""
        if self.step <= settings.flat_start_steps + settings.warmup_steps:
            self.patient_since = self.epoch


def refuse_run(out: Path, force: bool) -> None:
    """Raise AnadilError if `out` holds a run and the user did not ask to replace it."""
    there = [name for name in OUTPUTS if (out / name).exists()]
    if there and not force:
        go_on = ", add --resume to go on with it" if CHECKPOINTS in there else ""
        raise AnadilError(
            f"{out} holds a run already ({', '.join(there)})\n"
            f"  next: choose another --out{go_on}, or add --force to replace it"
        )


def clear_run(out: Path) -> None:
    """Make room: an earlier run's outputs go. Raises AnadilError if they cannot."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path in (out / name for name in OUTPUTS):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise AnadilError(f"could not write to {out}: {error.strerror}\n  next: choose another --out") from error
