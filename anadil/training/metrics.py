"""metrics.csv and TensorBoard: the figures of each epoch."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from lightning_fabric import Fabric

from anadil.errors import AnadilError
from anadil.files import whole_file
from anadil.training.run import Run, Validation

METRICS = "metrics.csv"


def row_of(
    run: Run, lr: float, speed: float, data_wait: float, validation: Validation | None, languages: Sequence[str]
) -> dict[str, float | int | None]:
    """The figures of the epoch that has ended; speed in seconds of audio a second."""
    row: dict[str, float | int | None] = {
        "epoch": run.epoch,
        "step": run.step,
        "minutes": round(run.minutes, 3),
        "lr": lr,
        "train_loss": float(np.mean(run.losses)),
        "audio_s_per_s": round(speed, 1),
        "data_wait": round(data_wait, 4),  # share of the time in which steps waited for audio
        "valid_loss": validation.loss if validation else None,
        "valid_cer": validation.cer if validation else None,
        "valid_wer": validation.wer if validation else None,
    }
    by_language = validation.cer_by_language if validation else {}
    return row | {f"valid_cer_{language}": by_language.get(language) for language in languages}


def log_metrics(fabric: Fabric, path: Path, row: dict[str, float | int | None], step: int) -> None:
    """Append a row, with a header if the file is new; None stays empty. Raises AnadilError if it cannot be written."""
    new = not path.exists()
    try:
        with open(path, "a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)
        fabric.log_dict({key: value for key, value in row.items() if value is not None}, step=step)
    except (OSError, ValueError) as error:  # TensorBoard's writer turns a full disk into a ValueError
        raise AnadilError(f"could not write the logs in {path.parent}: {error}\n  next: free disk space") from error


def drop_metrics_after(path: Path, epoch: int) -> None:
    """Take out the rows of epochs that a resumed run goes through again. Raises AnadilError if it cannot be written."""
    if not path.is_file():
        return
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = [row for row in reader if (row.get("epoch") or "").isdigit() and int(row["epoch"]) <= epoch]
        columns = reader.fieldnames or []
    with whole_file(path) as beside, open(beside, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=columns)
        writer.writeheader()
        writer.writerows(rows)
