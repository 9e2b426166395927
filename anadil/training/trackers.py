"""Weights & Biases and MLflow, where they are installed and asked for (`training.loggers`)."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from anadil.errors import AnadilError
from anadil.files import whole_file
from anadil.training.report import Reporter
from anadil.training.run import TRACKERS

Result = TypeVar("Result")

PROJECT = "anadil"
LONGEST_PARAMETER = 500


class Tracker(Protocol):
    id: str

    def log(self, figures: Mapping[str, float], step: int) -> None: ...

    def close(self, failed: bool) -> None: ...


class WandbTracker:
    """The project is "anadil" unless WANDB_PROJECT names another."""

    def __init__(self, name: str, settings: Mapping[str, Any], out: Path, known: str | None) -> None:
        wandb = importlib.import_module("wandb")
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        self._run = wandb.init(
            project=project, name=name, config=dict(settings), dir=str(out), id=known, resume="allow" if known else None
        )
        self.id = str(self._run.id)

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self._run.log(dict(figures), step=step)

    def close(self, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


class MlflowTracker:
    """The experiment is "anadil" unless MLFLOW_EXPERIMENT_NAME or MLFLOW_EXPERIMENT_ID names another."""

    def __init__(self, name: str, settings: Mapping[str, Any], out: Path, known: str | None) -> None:
        self._mlflow: Any = importlib.import_module("mlflow")
        if not {"MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"} & os.environ.keys():
            self._mlflow.set_experiment(PROJECT)
        self.id = str(self._mlflow.start_run(run_id=known, run_name=name).info.run_id)
        if known is None:
            self._mlflow.log_params({key: str(value)[:LONGEST_PARAMETER] for key, value in settings.items()})

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self._mlflow.log_metrics(dict(figures), step=step)

    def close(self, failed: bool) -> None:
        self._mlflow.end_run(status="FAILED" if failed else "FINISHED")


KINDS: dict[str, Callable[[str, Mapping[str, Any], Path, str | None], Tracker]] = {
    "wandb": WandbTracker,
    "mlflow": MlflowTracker,
}


def require_trackers(names: Sequence[str]) -> None:
    """Raise AnadilError if one that is asked for is not installed."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise AnadilError(
            f"training.loggers: {', '.join(missing)} is not installed\n  next: pip install {' '.join(missing)}, "
            "or leave it out: metrics.csv and TensorBoard are always written"
        )


class Trackers:
    """All that are asked for. What goes wrong with one is told once, and costs its figures, not the run."""

    def __init__(
        self, names: Sequence[str], name: str, settings: Mapping[str, Any], out: Path, report: Reporter
    ) -> None:
        self._report = report
        self._open: dict[str, Tracker] = {}
        known = _read(out / TRACKERS)  # of the run that is resumed
        for kind in names:
            tracker = self._try(kind, partial(KINDS[kind], name, settings, out, known.get(kind)))
            if tracker is not None:
                self._open[kind] = tracker
        ids = known | {kind: tracker.id for kind, tracker in self._open.items()}
        if ids != known:
            with whole_file(out / TRACKERS) as beside:
                beside.write_text(json.dumps(ids) + "\n", encoding="utf-8")

    def log(self, figures: Mapping[str, float], step: int) -> None:
        for kind, tracker in list(self._open.items()):
            self._try(kind, partial(tracker.log, figures, step))

    def close(self, failed: bool) -> None:
        for kind, tracker in list(self._open.items()):
            self._try(kind, partial(tracker.close, failed))
        self._open.clear()

    def _try(self, kind: str, action: Callable[[], Result]) -> Result | None:
        try:
            return action()
        except Exception as error:  # whatever a network and two foreign libraries can raise
            self._open.pop(kind, None)
            self._report.warn(f"{kind} gets no more figures: {type(error).__name__}: {error}")
            return None


def _read(path: Path) -> dict[str, str]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in data.items()} if isinstance(data, dict) else {}
