"""What a run writes and prints each epoch: metrics.csv, its curves, TensorBoard logs, and samples of the validation."""

from __future__ import annotations

import contextlib
import csv
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lightning_fabric.loggers.tensorboard import TensorBoardLogger

from anadil.data.batches import Loader
from anadil.errors import AnadilError
from anadil.files import whole_file
from anadil.training.averages import PLAIN
from anadil.training.learner import Learner
from anadil.training.monitoring.chart import Chart, Points, svg
from anadil.training.monitoring.memory import peak_memory_mb
from anadil.training.monitoring.report import Reporter
from anadil.training.run import Run, ValidationResult

METRICS, PICTURE, SAMPLES, HYPOTHESES = "metrics.csv", "metrics.svg", "validation.txt", "hypotheses.jsonl"

DRAW_EVERY_S = 5.0
"""Drawing takes 0.2 s, which very short epochs would notice. The last epochs are drawn when the run ends."""

_EPOCH = "epoch "  # start of an epoch's first line in `SAMPLES`


def refuse_loggers(names: Sequence[str]) -> None:
    """Raise AnadilError if `training.loggers` is not empty. 0.1.0 wrote to two trackers, so saved configs hold the key."""
    if names:
        raise AnadilError(
            f"training.loggers: {', '.join(names)}: Anadil does not write to trackers, only [] is allowed\n"
            "  metrics.csv and TensorBoard logs are always written; Weights & Biases imports the latter "
            "(wandb sync RUN/tensorboard), MLflow takes the rows of metrics.csv (mlflow.log_metrics)\n"
            "  next: delete the key, or add training.loggers=[]"
        )


class Logs:
    """Writes the metrics and samples of each epoch below the folder `out`; does nothing unless `enabled`.

    A context manager: leaving the block draws the last epochs and closes TensorBoard's file.
    """

    def __init__(self, out: Path, enabled: bool = True) -> None:
        self._out, self.path = out, out / METRICS
        self._tensorboard = TensorBoardLogger(root_dir=out, name="tensorboard", version="") if enabled else None
        self._drawn_at, self._is_drawn = -math.inf, True

    def __enter__(self) -> Logs:
        return self

    def __exit__(self, *_: object) -> None:
        if self._tensorboard is None:
            return
        if not self._is_drawn:
            with contextlib.suppress(AnadilError):  # a full disk is reported by the run itself
                self._draw()
        self._tensorboard.finalize("")

    def epoch(self, row: dict[str, float | int | None], samples: str | None, step: int) -> None:
        """Write the row of an epoch (None stays empty) and its samples. Raises AnadilError if they cannot be written."""
        if self._tensorboard is None:
            return
        new = not self.path.exists()
        try:
            with open(self.path, "a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, fieldnames=list(row))
                if new:
                    writer.writeheader()
                writer.writerow(row)
            self._tensorboard.log_metrics({key: value for key, value in row.items() if value is not None}, step=step)
            if samples:
                with open(self._out / SAMPLES, "a", encoding="utf-8") as file:
                    file.write(samples)
                self._tensorboard.experiment.add_text("validation", f"```\n{samples}```", step)
        except (OSError, ValueError) as error:  # TensorBoard's writer turns a full disk into a ValueError
            raise AnadilError(f"could not write the logs in {self._out}: {error}\n  next: free disk space") from error
        self._is_drawn = False
        if time.monotonic() - self._drawn_at >= DRAW_EVERY_S:
            self._draw()

    def _draw(self) -> None:
        _draw_metrics(self.path)
        self._drawn_at, self._is_drawn = time.monotonic(), True

    def drop_after(self, epoch: int) -> None:
        """Remove the epochs that a resumed run repeats. Raises AnadilError if files cannot be written."""
        if self._tensorboard is not None:
            _drop_metrics_after(self.path, epoch)
            _drop_samples_after(self._out / SAMPLES, epoch)


def _draw_metrics(path: Path) -> None:
    """Draw the curves of metrics.csv as metrics.svg beside it. Raises AnadilError if it cannot be written."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))

    def curves(columns: Mapping[str, str]) -> dict[str, Points]:
        points = {
            name: [(float(row["epoch"]), float(row[column])) for row in rows if row.get(column)]
            for name, column in columns.items()
        }
        return {name: curve for name, curve in points.items() if curve}

    rates = {
        "CER": "valid_cer",
        "CER, moving average": "ema_cer",
        "CER, mean of epochs": "average_cer",
        "WER": "valid_wer",
    }
    losses = {"training": "train_loss", "validation": "valid_loss"}
    charts = [
        Chart("Error rates in validation", "epoch", curves(rates), percent=True),
        Chart("Loss (nats per label; in the flat start, per frame)", "epoch", curves(losses)),
        Chart("Learning rate", "epoch", curves({"lr": "lr"})),
    ]
    with whole_file(path.with_name(PICTURE)) as beside:
        beside.write_text(svg(charts), encoding="utf-8")


def _drop_metrics_after(path: Path, epoch: int) -> None:
    """Remove the rows of epochs that a resumed run repeats. Raises AnadilError if the file cannot be written."""
    if not path.is_file():
        return
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.DictReader(file)
        rows = [row for row in reader if (row.get("epoch") or "").isdigit() and int(row["epoch"]) <= epoch]
        columns = reader.fieldnames or []
    if not rows:  # even the header may have been cut off
        path.unlink()
        return
    with whole_file(path) as beside, open(beside, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=columns)
        writer.writeheader()
        writer.writerows(rows)


def pick_samples(result: ValidationResult) -> dict[str, int]:
    """Index of the utterance for each kind of sample: three by length, the same each epoch, and three by CER."""
    n = len(result.references)
    by_length = sorted(range(n), key=lambda i: (len(result.references[i]), i))
    by_errors = sorted(range(n), key=lambda i: (result.scored[i].characters.rate, i))
    indices = {"short": by_length[0], "usual": by_length[n // 2], "long": by_length[-1]}
    return indices | {"best": by_errors[0], "middling": by_errors[n // 2], "worst": by_errors[-1]}


def describe_samples(result: ValidationResult, run: Run) -> str:
    """Return an epoch's text for `SAMPLES`; an utterance of several kinds is listed once."""
    kinds: dict[int, list[str]] = {}
    for kind, index in pick_samples(result).items():
        kinds.setdefault(index, []).append(kind)
    lines = [f"{_EPOCH}{run.epoch}, step {run.step}: CER {result.validation.cer:.2%}, WER {result.validation.wer:.2%}"]
    for index, names in kinds.items():
        scored = result.scored[index]
        lines += [
            f"  {', '.join(names)} (CER {scored.characters.rate:.0%})",
            f"    reference   {scored.reference}",
            f"    hypothesis  {scored.hypothesis}",
        ]
    return "\n".join(lines) + "\n"


def _drop_samples_after(path: Path, epoch: int) -> None:
    """Remove the epochs that a resumed run repeats. Raises AnadilError if the file cannot be written."""
    if not path.is_file():
        return
    kept: list[str] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        number = line.removeprefix(_EPOCH).split(",")[0]
        if line.startswith(_EPOCH) and number.isdigit() and int(number) > epoch:
            break
        kept.append(line)
    with whole_file(path) as beside:
        beside.write_text("".join(kept), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Pace:
    """The speed of an epoch's training: seconds of audio per second, and the share of the time spent waiting for audio."""

    audio_s_per_s: float
    data_wait: float


class Stopwatch:
    """Measures the pace of an epoch, from its construction to `read`."""

    def __init__(self, run: Run, loader: Loader) -> None:
        self._started, self._audio_s, self._waited_s = time.monotonic(), run.audio_s, loader.waited_s

    def read(self, run: Run, loader: Loader) -> Pace:
        elapsed_s = time.monotonic() - self._started
        return Pace((run.audio_s - self._audio_s) / elapsed_s, (loader.waited_s - self._waited_s) / elapsed_s)


def report_epoch(results: Mapping[str, ValidationResult], chosen: str, run: Run, report: Reporter) -> None:
    """Report an epoch's error rates, by weights and by language, and one utterance, a different one each epoch."""
    result = results[chosen]
    index = run.epoch % len(result.references)
    others = "".join(f"  {name or 'plain'} {other.validation.cer:6.2%}" for name, other in results.items())
    report.say(
        f"epoch {run.epoch:3d}  step {run.step:6,}  {run.minutes:5.1f} min"
        f"  valid CER {result.validation.cer:6.2%}  WER {result.validation.wer:6.2%}"
        + (f"  (CER by weights:{others})" if len(results) > 1 else "")
        + f"\n    reference   {result.references[index]}\n    hypothesis  {result.hypotheses[index]}"
        + "".join(f"\n    CER {cer:6.2%}  {name}" for name, cer in result.validation.cer_by_language.items())
    )


def metrics_row(
    learner: Learner, run: Run, pace: Pace, results: Mapping[str, ValidationResult]
) -> dict[str, float | int | None]:
    """Return a row of metrics.csv. Columns `valid_` are of the network's own weights; averages have their own columns."""
    validation = results[PLAIN].validation if results else None
    memory = peak_memory_mb(learner.fabric.device)
    row: dict[str, float | int | None] = {
        "epoch": run.epoch,
        "step": run.step,
        "minutes": round(run.minutes, 3),
        "lr": max(group["lr"] for group in learner.optimizer.param_groups),
        "train_loss": float(np.mean(run.losses)),
        "gradient_norm": float(np.mean(run.norms)),
        "audio_s_per_s": round(pace.audio_s_per_s, 1),
        "data_wait": round(pace.data_wait, 4),
        "memory_mb": None if memory is None else round(memory),
        "valid_loss": validation.loss if validation else None,
        "valid_cer": validation.cer if validation else None,
        "valid_wer": validation.wer if validation else None,
    }
    for name, wanted in (
        ("ema", learner.settings.ema_decay is not None),
        ("average", learner.settings.average_last > 1),
    ):
        if wanted:
            row[f"{name}_cer"] = results[name].validation.cer if name in results else None
    by_language = validation.cer_by_language if validation else {}
    return row | {f"valid_cer_{name}": by_language.get(name) for name in learner.data.rules_by_language.by_language}
