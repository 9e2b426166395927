"""`anadil compare`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from anadil.cli.console import ConsoleReporter, rich_table, verb
from anadil.cli.options import Force, JsonFile, ReportAudio

if TYPE_CHECKING:
    from anadil.evaluation.evaluate import Scored
    from anadil.evaluation.paired import Comparison, Difference

SCHEMA_VERSION = 1
"""Of the file of `--json`."""

_AGAINST = "against"

EXAMPLE = (
    "Example: anadil compare runs/a/test runs/b/test    or, several seeds: anadil compare runs/a-*/ against runs/b-*/"
)


@verb
def compare(
    systems: Annotated[
        list[Path],
        typer.Argument(
            metavar="A... [against] B...",
            help="hypotheses.jsonl of the same manifest, or folders that hold one: two of them, or the runs (seeds) of A, the "
            "word against, and the runs of B.",
        ),
    ],
    json_file: JsonFile = None,
    report_folder: Annotated[
        Path | None, typer.Option("--report", help="Folder for report.html: the first runs of A and B side by side.")
    ] = None,
    audio: ReportAudio = "link",
    force: Force = False,
) -> None:
    """Whether A or B makes fewer errors on the same utterances: difference, interval, and what could be shown at all.

    With one run each: an interval over speakers or utterances, and the test MAPSSWE. With several runs each, the variance
    between seeds is part of the interval.
    """
    from anadil.evaluation.paired import compare_systems
    from anadil.files import refuse_overwrite, write_json

    names = [str(path) for path in systems]
    if _AGAINST in names:
        place = names.index(_AGAINST)
        paths_a, paths_b = systems[:place], systems[place + 1 :]
    else:
        paths_a, paths_b = systems[:1], systems[1:]
    if not paths_a or not paths_b or (_AGAINST not in names and len(systems) != 2):
        raise typer.BadParameter("give two, or several, the word against, and several", param_hint="A B")
    for path in filter(None, (json_file, report_folder)):
        refuse_overwrite(path, force)
    if report_folder:
        from anadil.evaluation.report import require_report_libraries

        require_report_libraries()
    runs_a, runs_b = [_scored(path) for path in paths_a], [_scored(path) for path in paths_b]
    found = compare_systems(runs_a, runs_b)
    with ConsoleReporter() as report:
        notes = _notes(found)
        for note in notes:
            report.say(f"note: {note}")
        if json_file:
            figures = {
                "schema_version": SCHEMA_VERSION,
                "a": [str(path) for path in paths_a],
                "b": [str(path) for path in paths_b],
                "notes": notes,
            } | found.to_dict()
            write_json(json_file, figures)
        if report_folder:
            page = _write_report(report_folder, (paths_a[0], paths_b[0]), (runs_a[0], runs_b[0]), found, notes, audio)
            report.say(f"report: {page}")
    _print(found, paths_a, paths_b)


def _scored(path: Path) -> tuple[Scored, ...]:
    """The hypotheses of a file as they were scored: its `text` is the reference already."""
    from anadil.evaluation.hypotheses import score_hypotheses

    return score_hypotheses(path, None, lambda text: " ".join(text.split())).scored


def _notes(found: Comparison) -> list[str]:
    from anadil.evaluation.intervals import uncovered

    notes = [uncovered(found.n_utterances, found.n_speakers)]
    if found.n_runs == (1, 1):
        notes.append(
            "this compares two models, not two methods: another seed moves each of them; give several runs of each to "
            "include that"
        )
    return [note for note in notes if note]


def _print(found: Comparison, paths_a: Sequence[Path], paths_b: Sequence[Path]) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    rows = [_row("words", found.words), _row("characters", found.characters)]
    runs = ["" if n == 1 else f" (mean of {n} runs)" for n in found.n_runs]
    title = f"A: {paths_a[0]}{runs[0]}; B: {paths_b[0]}{runs[1]}"
    console.print(rich_table(title, ["", "A", "B", "A - B, points", "95 % interval"], rows))
    for unit, one in (("WER", found.words), ("CER", found.characters)):
        if one.probability_a_better is not None:
            least = f"; a difference of {100 * one.smallest:.2f} points would show in 80 %" if one.smallest else ""
            console.print(f"probability that A has the lower {unit}: {one.probability_a_better:.1%}{least}")
    if (test := found.mapsswe) is not None:
        console.print(f"MAPSSWE: {test.n_segments:,} segments, z {test.z:+.2f}, p {test.p:.2g}")
    console.print(found.verdict(), markup=False)
    console.print(f"{found.n_utterances:,} utterances; the interval is over {found.resamples}")


def _row(unit: str, one: Difference) -> list[str]:
    interval = f"{100 * one.interval[0]:+.2f} to {100 * one.interval[1]:+.2f}" if one.interval else "too few utterances"
    return [unit, f"{one.rate_a:.2%}", f"{one.rate_b:.2%}", f"{100 * one.difference:+.2f}", interval]


def _write_report(
    folder: Path,
    paths: tuple[Path, Path],
    runs: tuple[tuple[Scored, ...], tuple[Scored, ...]],
    found: Comparison,
    notes: Sequence[str],
    audio: Literal["link", "embed", "none"],
) -> Path:
    from anadil.evaluation.analysis import Analysis
    from anadil.evaluation.evaluate import evaluation_of
    from anadil.evaluation.paired import in_same_order
    from anadil.evaluation.report import write_report
    from anadil.text.rules import TextSettings, text_rules

    rules = text_rules("und", TextSettings())
    analyses = [
        Analysis(f"{name}: {path}", evaluation_of(run), rules)
        for name, path, run in zip("AB", paths, in_same_order(*runs), strict=True)
    ]
    return write_report(folder, f"{paths[0]} against {paths[1]}", analyses, notes, audio=audio, comparison=found)


command = compare
