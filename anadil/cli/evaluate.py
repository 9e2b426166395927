"""`anadil evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from anadil.cli.console import ConsoleReporter, verb
from anadil.cli.evaluate_output import print_rates, write_figures
from anadil.cli.options import Force, JsonFile, ReportAudio, numbers, provider

if TYPE_CHECKING:
    from anadil.evaluation.report import Audio
    from anadil.recognition.evaluate_model import Run, Task

EXAMPLE = "Example: anadil evaluate runs/mdw/best test.jsonl --out runs/mdw/test --report runs/mdw/report"


@verb
def evaluate(
    model: Annotated[
        Path,
        typer.Argument(
            help="Model folder, exported folder, NeMo archive (.nemo), or a hypotheses.jsonl of any system."
        ),
    ],
    manifests: Annotated[
        list[Path] | None, typer.Argument(help="JSONL manifests with text; a hypotheses.jsonl may do without.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for hypotheses.jsonl: every reference and hypothesis.")
    ] = None,
    json_file: JsonFile = None,
    report_folder: Annotated[
        Path | None, typer.Option("--report", help="Folder for report.html, which opens offline.")
    ] = None,
    audio: ReportAudio = "link",
    scoring: Annotated[
        str,
        typer.Option(
            help="plain, or what to ignore, joined by commas: no-case,no-punctuation,no-tone,no-diacritics,no-spaces."
        ),
    ] = "plain",
    empty_references: Annotated[
        Literal["count", "skip", "refuse"],
        typer.Option(help="References without words (silence): count all that is recognised as insertions, or not."),
    ] = "count",
    by: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="Error rates by this key of the manifest; may be repeated.")
    ] = None,
    train: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="MANIFEST",
            help="Training data, to find test sentences and speakers in it.",
            show_default="those of the model's card",
        ),
    ] = None,
    noise: Annotated[
        Path | None, typer.Option(metavar="MANIFEST", help="Recordings of noise: evaluate in it too, at each --snr.")
    ] = None,
    snr: Annotated[
        Any, numbers(-20, 60, "Signal-to-noise ratios in dB for --noise, joined by commas: 20,10,5,0.", "--snr")
    ] = None,
    lang: Annotated[
        str | None, typer.Option(help="For a hypotheses.jsonl: apply this language's text rules to both texts.")
    ] = None,
    no_lm: Annotated[bool, typer.Option("--no-lm", help="Leave out the model's language model.")] = False,
    provider_name: Annotated[str, provider()] = "cpu",
    force: Force = False,
) -> None:
    """Word and character error rates with 95 % intervals: greedy and with the model's LM, over all manifests and for each.

    hypotheses.jsonl has the texts with the LM as pred_text, and the greedy ones as pred_text_greedy. With --noise and --snr the
    same utterances are recognised in noise too.
    """
    from anadil.recognition.evaluate_model import Task, run_task

    task = Task(
        model,
        tuple(manifests or ()),
        scoring=scoring,
        empty_references=empty_references,
        with_lm=not no_lm,
        lang=lang,
        provider=provider_name,
        by=tuple(by or ()),
        train=tuple(train or ()),
        noise=noise,
        snrs_db=snr or (),
    )
    _refuse_wrong_usage(task)
    files = _Files(out, json_file, report_folder, audio)
    files.check(task, force)
    with ConsoleReporter() as report:
        run = run_task(task, report)
        files.write(task, run, report)
    print_rates(task, run)


def _refuse_wrong_usage(task: Task) -> None:
    if not task.from_file and not task.manifests:
        raise typer.BadParameter("give at least one manifest", param_hint="MANIFESTS")
    if task.lang is not None and not task.from_file:
        raise typer.BadParameter(
            "a model has its own text rules; --lang is for a hypotheses.jsonl", param_hint="--lang"
        )
    if bool(task.noise) != bool(task.snrs_db):
        given, missing = ("--noise", "--snr") if task.noise else ("--snr", "--noise")
        raise typer.BadParameter(f"{given} needs {missing}: --noise noise.jsonl --snr 20,10,5,0", param_hint=given)
    if task.noise and task.from_file:
        raise typer.BadParameter("nothing is recognised: the texts are in the file", param_hint="--noise")
    if task.provider != "cpu" and task.from_file:
        raise typer.BadParameter("nothing is recognised: the texts are in the file", param_hint="--provider")


class _Files(NamedTuple):
    """Where the results go."""

    out: Path | None
    json_file: Path | None
    report_folder: Path | None
    audio: Audio

    def hypotheses(self, snrs_db: Sequence[float]) -> list[Path]:
        """The files of hypotheses in --out: the clean ones, and those at each signal-to-noise ratio."""
        folders = [self.out, *(self.out / f"snr{snr_db:g}" for snr_db in snrs_db)] if self.out else []
        return [folder / "hypotheses.jsonl" for folder in folders]

    def check(self, task: Task, force: bool) -> None:
        """Raise AnadilError if one of them is there and not `force`, or a library that the report needs is not."""
        from anadil.files import refuse_overwrite

        for path in filter(None, (*self.hypotheses(task.snrs_db), self.json_file, self.report_folder)):
            refuse_overwrite(path, force)
        if self.report_folder:
            from anadil.evaluation.report import require_report_libraries

            require_report_libraries()

    def write(self, task: Task, run: Run, report: ConsoleReporter) -> None:
        from anadil.evaluation.evaluate import write_hypotheses

        conditions = [run.ways, *(one.ways for one in run.in_noise)]
        for path, ways in zip(self.hypotheses(task.snrs_db), conditions, strict=False):
            write_hypotheses(path, ways[-1][1].scored, ways[0][1].scored if len(ways) > 1 else None)
            report.say(f"hypotheses: {path}")
        if self.json_file:
            write_figures(self.json_file, task, run)
        if self.report_folder:
            from anadil.evaluation.report import write_report

            curves = None if task.from_file else task.model.parent / "metrics.svg"
            page = write_report(
                self.report_folder,
                task.title,
                run.analyses,
                run.all_notes,
                self.audio,
                curves,
                parts=run.parts,
                in_noise=run.in_noise,
            )
            report.say(f"report: {page}")


command = evaluate
