"""What `anadil crossval`, `anadil curve` and `anadil ablate` have in common: options, and how they end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anadil.cli.console import FAULT, ConsoleReporter

if TYPE_CHECKING:
    from anadil.studies.trials import Outcome, Outcomes
    from anadil.training.config import Config

StudyConfig = Annotated[Path, typer.Argument(help="YAML config of the trainings; it needs data.valid.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Change keys: training.max_minutes=10")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with what was interrupted.")]
ForceTrials = Annotated[bool, typer.Option("--force", help="Replace earlier trials in --out.")]


def study_config(config: Path, overrides: list[str] | None) -> Config:
    """The config with its overrides. Raises AnadilError if it wants several devices: trainings run one after another."""
    from anadil.studies.trials import refuse_several_devices
    from anadil.training.config import load_config

    settings = load_config(config, overrides or [])
    refuse_several_devices(settings)
    return settings


def figures_of(one: Outcome) -> dict[str, Any]:
    """JSON-ready figures of a training, as the model decodes and greedily."""
    return {
        "name": one.trial.name,
        "training_hours": one.trial.hours,
        **one.evaluation.to_dict(),
        "greedy": one.greedy.to_dict() if one.greedy else None,
    }


def exit_if_failed(outcomes: Outcomes, report: ConsoleReporter) -> None:
    """Name the trainings that failed, and exit with status 1; return if there are none."""
    for problem in outcomes.failed:
        report.warn(f"not in the table: {problem.where}, whose training failed")
    if outcomes.failed:
        raise typer.Exit(FAULT)
