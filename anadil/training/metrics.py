"""metrics.csv and TensorBoard: the figures of each epoch."""

from __future__ import annotations

import csv
from pathlib import Path

from lightning_fabric.loggers.tensorboard import TensorBoardLogger

from anadil.errors import AnadilError
from anadil.files import whole_file

METRICS = "metrics.csv"


class Logs:
    """Where a run's figures go: `out`/metrics.csv and `out`/tensorboard."""

    def __init__(self, out: Path) -> None:
        self.path = out / METRICS
        self.tensorboard = TensorBoardLogger(root_dir=out, name="tensorboard", version="")

    def row(self, row: dict[str, float | int | None], step: int) -> None:
        """The figures of an epoch; None stays empty. Raises AnadilError if they cannot be written."""
        new = not self.path.exists()
        try:
            with open(self.path, "a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, fieldnames=list(row))
                if new:
                    writer.writeheader()
                writer.writerow(row)
            self.tensorboard.log_metrics({key: value for key, value in row.items() if value is not None}, step=step)
        except (OSError, ValueError) as error:  # TensorBoard's writer turns a full disk into a ValueError
            raise AnadilError(
                f"could not write the logs in {self.path.parent}: {error}\n  next: free disk space"
            ) from error

    def close(self) -> None:
        """TensorBoard's file: a later run may clear the folder."""
        self.tensorboard.finalize("")


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
