"""`anadil export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anadil.cli.console import verb

EXAMPLE = "Example: anadil export runs/mdw/best --out exported/mdw"


@verb
def export(
    model: Annotated[Path, typer.Argument(help="Model folder, NeMo archive (.nemo), or folder of transformers.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
) -> None:
    """Export a model to ONNX, from waveform to log-probs, with its labels and text rules; checked against PyTorch."""
    from anadil.export.onnx import export_folder

    difference = export_folder(model, out, force)
    size = (out / "model.onnx").stat().st_size / 1e6
    typer.echo(
        f"{size:.1f} MB, log-probs within {difference:.1e} of PyTorch; next: anadil transcribe {out} FILE", err=True
    )
    print(out)


command = export
