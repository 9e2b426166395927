"""`anadil curve`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anadil.cli.console import ConsoleReporter, rate_with_interval, rich_table, verb
from anadil.cli.options import comma_separated, number
from anadil.cli.study_options import (
    ForceTrials,
    Overrides,
    Resume,
    StudyConfig,
    exit_if_failed,
    figures_of,
    study_config,
)

if TYPE_CHECKING:
    from anadil.studies.trials import Outcome, Outcomes

RESULTS = "curve.json"

EXAMPLE = "Example: anadil curve runs/sw/best/config.yaml training.max_minutes=15 --fractions 0.25,0.5,1 --seeds 2"


@verb
def curve(
    config: StudyConfig,
    overrides: Overrides = None,
    fractions: Annotated[
        str, typer.Option(help="Parts of the training speech, by hours, joined by commas.")
    ] = "0.1,0.25,0.5,1",
    seeds: Annotated[int, number(1, 100, "So many trainings for each part, each on other utterances.")] = 1,
    test: Annotated[
        Path | None,
        typer.Option(help="Manifest to test on.", show_default="data.valid, which chose the checkpoints too"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for everything.", show_default="runs/NAME-curve")] = None,
    resume: Resume = False,
    force: ForceTrials = False,
) -> None:
    """Train on parts of the speech, and say how many more hours are worth how many points of error.

    Each training takes as long as the config says. OUT/TRIAL/ has the data, run and hypotheses of each; OUT/curve.svg is the
    picture, and OUT/curve.json has the figures.
    """
    from anadil.errors import AnadilError
    from anadil.manifest import read_manifest, refuse_pseudo_labels
    from anadil.studies.curve import advice, curve_trials, draw, laws
    from anadil.studies.trials import read_data, run_trials, with_fixed_labels

    parts = comma_separated(
        fractions, "--fractions", float, lambda part: 0 < part <= 1, "numbers above 0 and at most 1"
    )
    settings = study_config(config, overrides)
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
    exit_if_failed(outcomes, report)


command = curve


def _print_trials(done: Sequence[Outcome], name: str) -> None:
    from rich.console import Console

    columns = ["part, seed", "hours", "CER (95 %)", "WER (95 %)", "CER greedy"]
    rows = [
        [
            one.trial.name,
            f"{one.trial.hours:.2f}",
            rate_with_interval(one.evaluation.cer, one.evaluation.cer_interval),
            rate_with_interval(one.evaluation.wer, one.evaluation.wer_interval),
            f"{(one.greedy or one.evaluation).cer:.1%}",
        ]
        for one in done
    ]
    Console(highlight=False, soft_wrap=True).print(rich_table(f"{name} on parts of its speech", columns, rows))


def _write_figures(path: Path, outcomes: Outcomes) -> None:
    from dataclasses import asdict

    from anadil.files import write_json
    from anadil.studies.curve import laws

    figures = {
        "fits": {name: asdict(law) if law else None for name, law in laws(outcomes.done).items()},
        "trials": [figures_of(one) | {"seed": one.trial.config.training.seed} for one in outcomes.done],
        "failed": {problem.where: problem.what for problem in outcomes.failed},
    }
    write_json(path, figures)
