"""`anadil export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from anadil.cli.console import ConsoleReporter, rich_table, verb
from anadil.cli.options import number

if TYPE_CHECKING:
    from anadil.export.gate import Choice

EXAMPLE = "Example: anadil export runs/mdw/best --out exported/mdw --int8 auto --calibrate valid.jsonl"


@verb
def export(
    model: Annotated[Path, typer.Argument(help="Model folder, NeMo archive (.nemo), or folder of transformers.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    int8: Annotated[
        Literal["never", "auto", "always"],
        typer.Option(help="auto: write int8 if it is smaller or faster and has few enough errors more."),
    ] = "never",
    calibrate: Annotated[
        Path | None, typer.Option(help="Manifest: calibrates int8, counts errors, compares texts with PyTorch.")
    ] = None,
    max_cer_increase: Annotated[
        float, number(0, 100, "Percentage points of CER that int8 or float16 may cost.", "--max-cer-increase")
    ] = 0.3,
    fp16: Annotated[bool, typer.Option("--fp16", help="Write float16, for GPUs.")] = False,
    layout: Annotated[
        Literal["anadil", "sherpa-onnx", "onnx-asr"], typer.Option(help="For which runtime the folder is.")
    ] = "anadil",
    results: Annotated[
        list[Path] | None, typer.Option(help="Figures of anadil evaluate --json for the card; may be repeated.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
) -> None:
    """Export a model to ONNX, from waveform to log-probs, with its labels and text rules; checked against PyTorch."""
    from anadil.export.onnx import ExportOptions, export_folder

    options = ExportOptions(int8, calibrate, max_cer_increase, fp16, layout, tuple(results or ()))
    with ConsoleReporter() as report:
        exported = export_folder(model, out, force, options, report.say)
    size = (out / "model.onnx").stat().st_size / 1e6
    if exported.choice:
        _print_choice(exported.choice)
    compared = f", on noise and on speech of {calibrate}" if calibrate else ""
    following = (
        f"; next: anadil transcribe {out} FILE" if layout == "anadil" else f"; how to use it: {out / 'README.md'}"
    )
    typer.echo(f"{size:.1f} MB, log-probs within {exported.difference:.1e} of PyTorch{compared}{following}", err=True)
    print(out)


def _print_choice(choice: Choice) -> None:
    """The table of versions and the reasons on stderr."""
    from rich.console import Console

    from anadil.export.gate import COLUMNS

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    title = f"{len(choice.kept.evaluation.scored):,} utterances of {choice.manifest}"
    console.print(rich_table(title, list(COLUMNS), choice.rows()))
    for reason in choice.reasons:
        console.print(reason, markup=False)


command = export
