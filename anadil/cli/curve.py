"""`anadil curve`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anadil.cli.console import FAULT, ConsoleReporter, rich_table, verb
from anadil.cli.options import comma_separated, number

if TYPE_CHECKING:
    from anadil.studies.trials import Outcome, Outcomes

RESULTS = "curve.json"

EXAMPLE = "Example: anadil curve runs/sw/best/config.yaml training.max_minutes=15 --fractions 0.25,0.5,1 --seeds 2"


@verb
def curve(
    config: Annotated[Path, typer.Argument(help="YAML config of the trainings; it needs data.valid.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Change keys: training.max_minutes=10")
    ] = None,
    fractions: Annotated[
        str, typer.Option(help="Parts of the training speech, by hours, joined by commas.")
    ] = "0.1,0.25,0.5,1",
    seeds: Annotated[int, number(1, 100, "So many trainings for each part, each on other utterances.")] = 1,
    test: Annotated[
        Path | None,
        typer.Option(help="Manifest to test on.", show_default="data.valid, which chose the checkpoints too"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for everything.", show_default="runs/NAME-curve")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what was interrupted.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace earlier trials in --out.")] = False,
) -> None:
    """Train on parts of the speech, and say how many more hours are worth how many points of error.

    Each training takes as long as the config says. OUT/TRIAL/ has the data, run and hypotheses of each; OUT/curve.svg is the
    picture, and OUT/curve.json has the figures.
    """
    from anadil.errors import AnadilError
    from anadil.manifest import read_manifest, refuse_pseudo_labels
    from anadil.studies.curve import advice, curve_trials, draw, laws
    from anadil.studies.trials import read_data, refuse_several_devices, run_trials, with_fixed_labels
    from anadil.training.config import load_config

    parts = comma_separated(
        fractions, "--fractions", float, lambda part: 0 < part <= 1, "numbers above 0 and at most 1"
    )
    settings = load_config(config, overrides or [])
    refuse_several_devices(settings)
    if not settings.data.valid:
        raise AnadilError("data.valid is empty: no checkpoint can be chosen\n  next: data.valid=valid.jsonl")
    out = out or Path("runs") / f"{settings.name}-curve"
    with ConsoleReporter() as report:
        data = read_data(settings, report)
        settings = with_fixed_labels(settings, *data)
        tested = read_manifest(test) if test else data[1]
        refuse_pseudo_labels(tested, "--test")
        if test is None:
            report.say("tested on data.valid, which chose the checkpoints too: the rates are a little too good")
        outcomes = run_trials(curve_trials(settings, data, tested, parts, seeds), out, report, resume, force)
        if outcomes.done:
            _print_trials(outcomes.done, settings.name)
            found = laws(outcomes.done)
            for name, law in found.items():
                too_few = f"{name}: no law can be fitted; it needs three different parts and no rate of 0"
                print("\n".join(advice(law, name) if law else [too_few]))
            _write_figures(out / RESULTS, outcomes)
            report.say(f"picture: {draw(outcomes.done, out)}")
    if outcomes.failed:
        for problem in outcomes.failed:
            report.warn(f"not in the table: {problem.where}, whose training failed")
        raise typer.Exit(FAULT)


command = curve


def _print_trials(done: Sequence[Outcome], name: str) -> None:
    from rich.console import Console

    columns = ["part, seed", "hours", "CER (95 %)", "WER (95 %)", "CER greedy"]
    rows = [
        [
            one.trial.name,
            f"{one.trial.hours:.2f}",
            _rate(one.evaluation.cer, one.evaluation.cer_interval),
            _rate(one.evaluation.wer, one.evaluation.wer_interval),
            f"{(one.greedy or one.evaluation).cer:.1%}",
        ]
        for one in done
    ]
    Console(highlight=False, soft_wrap=True).print(rich_table(f"{name} on parts of its speech", columns, rows))


def _rate(rate: float, interval: tuple[float, float] | None) -> str:
    """12.3% (10.9 to 13.8); without the interval if there are too few utterances for one."""
    return f"{rate:.1%}" + (f" ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})" if interval else "")


def _write_figures(path: Path, outcomes: Outcomes) -> None:
    import json
    from dataclasses import asdict

    from anadil.files import whole_file
    from anadil.studies.curve import laws

    figures = {
        "fits": {name: asdict(law) if law else None for name, law in laws(outcomes.done).items()},
        "trials": [
            {
                "name": one.trial.name,
                "training_hours": one.trial.hours,
                "seed": one.trial.config.training.seed,
                **one.evaluation.to_dict(),
                "greedy": one.greedy.to_dict() if one.greedy else None,
            }
            for one in outcomes.done
        ],
        "failed": {problem.where: problem.what for problem in outcomes.failed},
    }
    with whole_file(path) as beside:
        beside.write_text(json.dumps(figures, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
