"""metrics.csv and TensorBoard: the figures of each epoch."""

from __future__ import annotations

import csv
from pathlib import Path

from lightning_fabric import Fabric

from anadil.errors import AnadilError


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
