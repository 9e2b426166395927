"""`anadil crossval`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anadil.cli.console import ConsoleReporter, rich_table, verb
from anadil.cli.options import number
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
    from anadil.evaluation.evaluate import Evaluation
    from anadil.studies.trials import Outcome, Outcomes

RESULTS = "crossval.json"

EXAMPLE = "Example: anadil crossval configs/few-hours.yaml language=sw data.train=train.jsonl data.valid=valid.jsonl --by speaker"


@verb
def crossval(
    config: StudyConfig,
    overrides: Overrides = None,
    by: Annotated[
        str, typer.Option(help="What is left out: speaker, language, or another key of the manifests.")
    ] = "speaker",
    folds: Annotated[
        int | None,
        number(
            2, 1000, "So many trainings, each without several speakers.", show_default="one per speaker, at most 10"
        ),
    ] = None,
    new_texts: Annotated[
        bool, typer.Option("--new-texts", help="Leave sentences of the test out of the training too.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for everything.", show_default="runs/NAME-crossval")] = None,
    resume: Resume = False,
    force: ForceTrials = False,
) -> None:
    """Leave each speaker out of one training and test on that speaker: the error rate on people the model never heard.

    Each training takes as long as the config says. OUT/FOLD/ has the data, run and hypotheses of each, OUT/hypotheses.jsonl
    all hypotheses, and OUT/crossval.json the figures.
    """
    from anadil.evaluation.evaluate import write_hypotheses
    from anadil.studies.crossval import crossval_trials, pooled
    from anadil.studies.trials import read_data, run_trials, with_fixed_labels

    settings = study_config(config, overrides)
    out = out or Path("runs") / f"{settings.name}-crossval"
    with ConsoleReporter() as report:
        data = read_data(settings, report)
        settings = with_fixed_labels(settings, *data)
        trials = crossval_trials(settings, data, report, by, folds, new_texts)
        report.say(f"{len(trials)} trainings, each without: {', '.join(trial.name for trial in trials)}")
        outcomes = run_trials(trials, out, report, resume, force)
        if outcomes.done:
            together, greedy = pooled(outcomes.done)
            write_hypotheses(out / "hypotheses.jsonl", together.scored, greedy.scored if greedy else None)
            _write_figures(out / RESULTS, by, outcomes, together, greedy)
            _print_folds(outcomes.done, together, greedy, f"{settings.name}, each {by} left out once")
            report.say(f"hypotheses: {out / 'hypotheses.jsonl'}")
    exit_if_failed(outcomes, report)


command = crossval


def _print_folds(done: Sequence[Outcome], together: Evaluation, greedy: Evaluation | None, title: str) -> None:
    from rich.console import Console

    from anadil.studies.trials import hours_of

    columns = ["left out", "training h", "test h", "CER", "WER", "CER greedy", "WER greedy"]
    rows = [
        [
            one.trial.name,
            f"{one.trial.hours:.2f}",
            f"{hours_of(one.trial.test):.2f}",
            *_rates(one.evaluation, one.greedy),
        ]
        for one in done
    ]
    tested = sum(hours_of(one.trial.test) for one in done)
    rows.append(["all", "", f"{tested:.2f}", *_rates(together, greedy)])
    console = Console(highlight=False, soft_wrap=True)
    console.print(rich_table(title, columns, rows))
    for name, interval in (("CER", together.cer_interval), ("WER", together.wer_interval)):
        if interval:
            console.print(f"{name}, 95 % interval: {interval[0]:.2%} to {interval[1]:.2%}")


def _rates(evaluation: Evaluation, greedy: Evaluation | None) -> list[str]:
    """CER and WER as the model decodes, then greedy; a model without a language model decodes greedily anyway."""
    plain = greedy or evaluation
    with_lm = [f"{evaluation.cer:.1%}", f"{evaluation.wer:.1%}"] if greedy else ["no LM", "no LM"]
    return [*with_lm, f"{plain.cer:.1%}", f"{plain.wer:.1%}"]


def _write_figures(path: Path, by: str, outcomes: Outcomes, together: Evaluation, greedy: Evaluation | None) -> None:
    from anadil.files import write_json

    figures = {
        "by": by,
        "all": together.to_dict(),
        "all_greedy": greedy.to_dict() if greedy else None,
        "folds": [figures_of(one) for one in outcomes.done],
        "failed": {problem.where: problem.what for problem in outcomes.failed},
    }
    write_json(path, figures)
