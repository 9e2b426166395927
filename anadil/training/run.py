"""Run: the progress of a training run, and its folder."""

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
from anadil.evaluation.evaluate import Scored
from anadil.training.config import TrainingSettings


class Stop:
    """`requested` becomes true at the first signal."""

    def __init__(self) -> None:
        self.requested = False


@contextmanager
def stop_on_interrupt() -> Iterator[Stop]:
    """Turn the first Ctrl-C or SIGTERM into a request, so that the run saves between two steps. A second one ends it at once.

    Outside the main thread it does nothing.
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
"""Holds the value found for `training.batch_seconds: auto`: a resumed run uses the same."""
EPOCHS = "epochs"
OUTPUTS = (
    BATCH, "best", "last", CHECKPOINTS, EPOCHS, "metrics.csv", "metrics.svg", "validation.txt", "hypotheses.jsonl", "tensorboard",
    "init.json", "start.safetensors",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Validation:
    """The figures of one validation. `loss` in nats per label."""

    loss: float
    cer: float
    wer: float
    cer_by_language: dict[str, float] = field(default_factory=dict)  # if the training data hold several


@dataclass(frozen=True)
class ValidationResult:
    """The figures of one validation, and each utterance's reference and hypothesis in the order of the manifest."""

    validation: Validation
    scored: tuple[Scored, ...]

    @property
    def references(self) -> list[str]:
        return [one.reference for one in self.scored]

    @property
    def hypotheses(self) -> list[str]:
        return [one.hypothesis for one in self.scored]


@dataclass
class Run:
    """Progress of a run. `epoch` is the current one, or the last one if no batch of the next one is done."""

    out: Path
    total_steps: int
    hours: float  # of training speech
    parameters: int
    checkpoint_minutes: float  # between two checkpoints
    started: float = field(default_factory=time.monotonic)  # moved back by the time spent before a resumption
    minutes: float = 0.0  # since then, at the last `tick`
    step: int = 0
    epoch: int = 0
    batch: int = 0  # batches done of the epoch; 0 at its end
    audio_s: float = 0.0
    losses: list[float] = field(default_factory=list)  # of the epoch's steps, nats a label
    norms: list[float] = field(default_factory=list)  # of the gradients of the epoch's steps, before clipping
    first_loss: float = math.nan
    best: Validation | None = None
    best_epoch: int = 0
    last: Validation | None = None
    patient_since: int = 0  # patience counts from this epoch, or from the best one if that is later
    lowest_loss: float = math.inf  # mean of an epoch of CTC
    warned: list[str] = field(default_factory=list)  # names of the causes that the user was warned of
    dead_looks: int = 0  # consecutive validations with blanks alone
    dead_since: int = 0  # step of the first of them
    dead_loss: float = math.inf  # mean loss of the epoch before it
    saved: float = field(default_factory=time.monotonic)  # when the last checkpoint was written

    def tick(self) -> None:
        """Update `minutes`."""
        self.minutes = (time.monotonic() - self.started) / 60

    def progress(self, max_minutes: float | None) -> float:
        """Return the share of the run that is done, by steps or by time, whichever is larger."""
        by_time = self.minutes / max_minutes if max_minutes else 0.0
        return min(1.0, max(self.step / self.total_steps, by_time))

    def record_step(self, loss: float, norm: float, audio_s: float) -> None:
        """Count one optimiser step: its loss in nats, the norm of its gradients and its audio in seconds."""
        self.step, self.batch = self.step + 1, self.batch + 1
        self.audio_s += audio_s
        self.losses.append(loss)
        self.norms.append(norm)
        if self.step == 1:
            self.first_loss = loss

    @property
    def epochs_done(self) -> int:
        return self.epoch if self.batch == 0 else self.epoch - 1

    def begin_epoch(self) -> None:
        """Continue the current epoch, or start the next one."""
        if self.batch == 0:
            self.epoch, self.losses, self.norms = self.epoch + 1, [], []

    def ended(self, settings: TrainingSettings) -> bool:
        """Whether the schedule has ended, by epochs or by time."""
        by_clock = self.step > 0 and self.progress(settings.max_minutes) >= 1
        return by_clock or self.epochs_done >= settings.epoch_limit

    def finished(self, settings: TrainingSettings) -> bool:
        return self.ended(settings) or self.out_of_patience(settings)

    def out_of_patience(self, settings: TrainingSettings) -> bool:
        """Whether `patience` epochs brought no better CER; epochs of flat start and warm-up do not count."""
        if settings.patience is None or self.batch > 0 or self.epoch % settings.validate_every:
            return False
        return self.epoch - max(self.best_epoch, self.patient_since) >= settings.patience

    def count_patience(self, settings: TrainingSettings) -> None:
        """Record whether patience counts yet; call it at the end of each epoch."""
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
    """Delete the outputs of an earlier run. Raises AnadilError if they cannot be deleted."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path in (out / name for name in OUTPUTS):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise AnadilError(f"could not write to {out}: {error.strerror}\n  next: choose another --out") from error
