"""`anadil ablate`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperCommand

from anadil.cli.console import ConsoleReporter, rich_table, verb
from anadil.cli.options import MAX_SEED, comma_separated, number
from anadil.cli.study_options import ForceTrials, Resume, exit_if_failed

if TYPE_CHECKING:
    from anadil.studies.ablation import Row, Variant
    from anadil.studies.trials import Outcomes

RESULTS = "ablate.json"

EXAMPLE = (
    "Example: anadil ablate configs/mboshi.yaml --variant base --variant wide model.dropout=0.1 training.lr=0.002 --seeds 0,1,2 "
    "--epochs 8"
)

_WIDTH = 120
"""Of the tables in a file."""

_RATES = ("CER greedy", "WER greedy", "CER", "WER")

_OPTION, _JOINT = "--variant", "\0"


class _Variants(TyperCommand):
    """Takes everything from `--variant` to the next option for its value, where click takes a fixed number of words."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        joined: list[str] = []
        taking = False
        for word in args:
            if taking and not word.startswith("-"):
                joined[-1] += (_JOINT if joined[-1] != f"{_OPTION}=" else "") + word
                continue
            taking = word == _OPTION or word.startswith(f"{_OPTION}=")
            joined.append(f"{_OPTION}=" if word == _OPTION else word)
        return super().parse_args(ctx, joined)


CLASS = _Variants


@verb
def ablate(
    config: Annotated[Path, typer.Argument(help="YAML config that all trainings share.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Change keys for all: data.train=train.jsonl")
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME [KEY=VALUE]...",
            help="A variant and the keys that it changes; give it again for each. The others are compared with the first one.",
        ),
    ] = None,
    seeds: Annotated[str, typer.Option(help="A training of each variant for each of them, joined by commas.")] = "0",
    epochs: Annotated[
        int | None,
        number(1, 1_000_000, "So many for each training, without a limit of time.", show_default="as the config says"),
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option(help="Manifest to test on.", show_default="data.valid, which chose the checkpoints too"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for everything.", show_default="runs/NAME-ablate")] = None,
    resume: Resume = False,
    force: ForceTrials = False,
) -> None:
    """Train variants of one config with several seeds, and say which of them makes fewer errors.

    OUT/VARIANT-seed-N/ has the data, run and hypotheses of each training, and OUT/ablate.json the figures. With --resume, what
    is finished is kept, so a variant or a seed can be added.
    """
    from anadil.manifest import read_manifest, refuse_pseudo_labels
    from anadil.settings import override, read_yaml
    from anadil.studies.ablation import ablation_trials, rows_of
    from anadil.studies.trials import run_trials

    wanted = comma_separated(
        seeds, "--seeds", int, lambda seed: 0 <= seed <= MAX_SEED, "different whole numbers from 0"
    )
    if len(set(wanted)) < len(wanted):
        raise typer.BadParameter(f"--seeds: expected different whole numbers from 0, found {seeds!r}")
    variants = _variants(variant or [])
    base = override(read_yaml(config), overrides or [])
    with ConsoleReporter() as report:
        tested = read_manifest(test) if test else None
        refuse_pseudo_labels(tested or [], "--test")
        trials = ablation_trials(base, str(config), variants, wanted, report, epochs, tested)
        name = trials[0].config.name
        out = out or Path("runs") / f"{name}-ablate"
        if test is None:
            report.say(
                "tested on data.valid, which chose the checkpoints and tuned the language models too: the rates are a little "
                "too good, those of all variants alike"
            )
        outcomes = run_trials(trials, out, report, resume, force)
        if outcomes.done:
            rows = rows_of(variants, outcomes.done, out, report)
            _write_figures(out / RESULTS, rows, outcomes, wanted, epochs)
            _print_rows(rows, f"{name}, means over {len(wanted)} seed{'s' * (len(wanted) > 1)}")
            report.say(f"figures: {out / RESULTS}")
    exit_if_failed(outcomes, report)


command = ablate


def _variants(given: Sequence[str]) -> list[Variant]:
    """The values of `--variant`. Raises BadParameter."""
    from anadil.studies.ablation import Variant

    found: list[Variant] = []
    for one in given:
        name, *changes = one.split(_JOINT)
        if not re.fullmatch(r"\w[\w.-]{0,79}", name):
            raise typer.BadParameter(
                f"--variant: expected a NAME of letters, digits, dots, dashes and underscores, then KEY=VALUE, found {name!r}"
            )
        found.append(Variant(name, tuple(changes)))
    names = [one.name for one in found]
    if not found or len(set(names)) < len(names):
        raise typer.BadParameter(f"--variant: expected one or more, each with a name of its own, found {names}")
    return found


def _print_rows(rows: Sequence[Row], title: str) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:  # 80 columns, which would cut names
        console = Console(highlight=False, soft_wrap=True, width=_WIDTH)
    columns = ["variant", "seeds", *_RATES, "training s", "audio s/s"]
    console.print(rich_table(title, columns, [_results(row) for row in rows]))
    if len(rows) > 1:
        heading = f"Difference to {rows[0].variant.name}, points; below it the 95 % interval"
        console.print(rich_table(heading, ["variant", *_RATES], [_differences(row) for row in rows[1:]]))
    if not any(row.has_language_model for row in rows):
        console.print("no model has a language model: CER and WER are greedy too")


def _results(row: Row) -> list[str]:
    from statistics import fmean

    name = row.variant.name
    if not row.outcomes:
        return [name, "0", *[""] * 6]
    rates = [f"{row.rate(rate, greedy):.2%}" for greedy in (True, False) for rate in ("cer", "wer")]
    seconds, speed = (fmean(getattr(cost, key) for cost in row.costs) for key in ("seconds", "audio_s_per_s"))
    return [name, str(len(row.outcomes)), *rates, f"{seconds:.0f}", f"{speed:.0f}"]


def _differences(row: Row) -> list[str]:
    """Two lines in each cell; without an interval if there are too few utterances for one."""
    cells = [row.variant.name]
    for found in (row.greedy, row.decoded):
        for difference in (found.characters, found.words) if found else ():
            interval = difference.interval
            below = f"\n{100 * interval[0]:+.2f} to {100 * interval[1]:+.2f}" if interval else ""
            cells.append(f"{100 * difference.difference:+.2f}{below}")
    return cells + [""] * (5 - len(cells))


def _write_figures(
    path: Path, rows: Sequence[Row], outcomes: Outcomes, seeds: Sequence[int], epochs: int | None
) -> None:
    from anadil.files import write_json

    figures = {
        "seeds": list(seeds),
        "epochs": epochs,
        "variants": [row.to_dict() for row in rows],
        "failed": {problem.where: problem.what for problem in outcomes.failed},
    }
    write_json(path, figures)
