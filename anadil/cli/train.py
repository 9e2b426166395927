"""`anadil train`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anadil.cli.console import ConsoleReporter, verb

if TYPE_CHECKING:
    from anadil.training.config import Config

EXAMPLE = "Example: anadil train configs/few-hours.yaml language=mdw data.train=train.jsonl data.valid=valid.jsonl --out runs/mdw"


@verb
def train(
    config: Annotated[Path, typer.Argument(help="YAML config; configs/ has some to start from.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Change keys: training.epochs=20")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run.", show_default="runs/NAME")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out that was interrupted or killed.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier run in --out.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Try the longest batch; report memory, speed and the expected end. Writes nothing."
        ),
    ] = False,
    find_lr: Annotated[
        bool, typer.Option("--find-lr", help="Test learning rates and suggest one; OUT/find-lr.svg shows the losses.")
    ] = False,
) -> None:
    """Train a model: writes OUT/best and OUT/last (model folders), OUT/metrics.csv and TensorBoard logs."""
    from anadil.training.config import load_config
    from anadil.training.distributed.workers import is_first
    from anadil.training.train import train as train_model

    if sum((resume, dry_run, find_lr)) > 1:
        raise typer.BadParameter("--resume, --dry-run and --find-lr exclude each other")
    settings = load_config(config, overrides or [])
    out = out or Path("runs") / settings.name
    if dry_run:
        return _try(settings, out)
    if find_lr:
        return _find(settings, out, force)
    with ConsoleReporter() as report:
        worker = [sys.executable, "-m", "anadil.cli.main", *sys.argv[1:]]
        run = train_model(settings, out, report, force, resume, worker)
    name = "best" if run.best else "last"
    if is_first():  # torchrun starts several processes
        report.say(f"\n{run.minutes:.1f} minutes; next: anadil export {out / name} --out {out / 'exported'}")
        print(out / name)


command = train


def _try(settings: Config, out: Path) -> None:
    from datetime import datetime

    from anadil.training.monitoring.dry_run import dry_run

    with ConsoleReporter() as report:
        found = dry_run(settings, out, report)
    print("\n".join(found.lines(datetime.now())))


def _find(settings: Config, out: Path, force: bool) -> None:
    from anadil.training.monitoring.find_lr import PICTURE, explain, find_lr, table_of

    with ConsoleReporter() as report:
        found = find_lr(settings, out, report, force)
        for test in found.tests:
            report.table(f"Loss by learning rate, {test.phase}", ["lr", "loss", "smoothed"], table_of(test))
        report.say(f"{explain(found)}\npicture: {out / PICTURE}")
    if found.suggestion is not None:
        print(f"training.lr={found.suggestion:g}")
