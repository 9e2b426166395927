"""The figures of each epoch: metrics.csv, a picture of its curves, TensorBoard, and trackers that are asked for."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from lightning_fabric.loggers.tensorboard import TensorBoardLogger

from anadil.errors import AnadilError
from anadil.files import whole_file
from anadil.training.chart import Chart, Points, svg
from anadil.training.samples import SAMPLES, drop_samples_after
from anadil.training.trackers import Trackers

METRICS, PICTURE = "metrics.csv", "metrics.svg"


class Logs:
    """Where a run's figures go, all in the folder `out` and to `trackers`."""

    def __init__(self, out: Path, trackers: Trackers) -> None:
        self.path, self.trackers = out / METRICS, trackers
        self.tensorboard = TensorBoardLogger(root_dir=out, name="tensorboard", version="")

    def row(self, row: dict[str, float | int | None], step: int) -> None:
        """The figures of an epoch; None stays empty. Raises AnadilError if they cannot be written."""
        new = not self.path.exists()
        figures = {key: value for key, value in row.items() if value is not None}
        try:
            with open(self.path, "a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, fieldnames=list(row))
                if new:
                    writer.writeheader()
                writer.writerow(row)
            self.tensorboard.log_metrics(figures, step=step)
        except (OSError, ValueError) as error:  # TensorBoard's writer turns a full disk into a ValueError
            raise self._no_space(error) from error
        draw_metrics(self.path)
        self.trackers.log(figures, step)

    def samples(self, text: str, step: int) -> None:
        """A few sentences and what was heard. Raises AnadilError if they cannot be written."""
        try:
            with open(self.path.parent / SAMPLES, "a", encoding="utf-8") as file:
                file.write(text)
            self.tensorboard.experiment.add_text("validation", f"```\n{text}```", step)
        except (OSError, ValueError) as error:
            raise self._no_space(error) from error

    def drop_after(self, epoch: int) -> None:
        """Take out the epochs that a resumed run goes through again. Raises AnadilError if files cannot be written."""
        drop_metrics_after(self.path, epoch)
        drop_samples_after(self.path.parent / SAMPLES, epoch)

    def close(self, failed: bool = False) -> None:
        """TensorBoard's file: a later run may clear the folder."""
        self.trackers.close(failed)
        self.tensorboard.finalize("")

    def _no_space(self, error: Exception) -> AnadilError:
        return AnadilError(f"could not write the logs in {self.path.parent}: {error}\n  next: free disk space")


def draw_metrics(path: Path) -> None:
    """The curves of metrics.csv as metrics.svg beside it. Raises AnadilError if it cannot be written."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))

    def curve(column: str) -> Points:
        return [(float(row["epoch"]), float(row[column] or math.nan)) for row in rows if row.get(column)]

    rates = {
        "CER": "valid_cer",
        "CER, moving average": "ema_cer",
        "CER, mean of epochs": "average_cer",
        "WER": "valid_wer",
    }
    curves = {name: curve(column) for name, column in rates.items()}
    with whole_file(path.with_name(PICTURE)) as beside:
        beside.write_text(
            svg(
                [
                    Chart(
                        "Error rates in validation", "epoch", {name: c for name, c in curves.items() if c}, percent=True
                    ),
                    Chart(
                        "Loss (nats a label; of the flat start, a frame)",
                        "epoch",
                        {"training": curve("train_loss"), "validation": curve("valid_loss")},
                    ),
                    Chart("Learning rate", "epoch", {"lr": curve("lr")}),
                ]
            ),
            encoding="utf-8",
        )


def drop_metrics_after(path: Path, epoch: int) -> None:
    """Take out the rows of epochs that a resumed run goes through again. Raises AnadilError if it cannot be written."""
    if not path.is_file():
        return
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.DictReader(file)
        rows = [row for row in reader if (row.get("epoch") or "").isdigit() and int(row["epoch"]) <= epoch]
        columns = reader.fieldnames or []
    if not rows:  # the header itself may have been cut off
        path.unlink()
        return
    with whole_file(path) as beside, open(beside, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=columns)
        writer.writeheader()
        writer.writerows(rows)
