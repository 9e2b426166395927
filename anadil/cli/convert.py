"""`anadil convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anadil.cli.console import ConsoleReporter, verb

EXAMPLE = (
    "Example: anadil convert stt_en_quartznet15x5.nemo --out models/english    or back: "
    "anadil convert runs/mdw/best --out mdw.nemo"
)


@verb
def convert(
    source: Annotated[
        Path,
        typer.Argument(
            help="NeMo archive (.nemo), Lightning checkpoint (.ckpt), NeMo YAML, model folder, hama (the model in that package), "
            "a .hama file, or a model of Hugging Face: folder or id (facebook/mms-1b-all)."
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Model folder to write; for a NeMo YAML, a config; for a model folder, a .nemo.")
    ],
    lang: Annotated[str, typer.Option(help="Language code of the model; its text rules depend on it.")] = "und",
    config: Annotated[Path | None, typer.Option(help="NeMo YAML, for a .ckpt that does not hold its config.")] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Folder with tokenizer.model, for a .ckpt with subwords.")
    ] = None,
    adapter: Annotated[
        str | None, typer.Option(help="For MMS: the language of its adapter and head, such as tur.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing --out.")] = False,
) -> None:
    """Convert models from NeMo and Hugging Face, and back to NeMo. Code in them never runs; what is left out is listed."""
    from anadil.training.transfer.convert import Hints
    from anadil.training.transfer.convert import convert as convert_model

    with ConsoleReporter() as report:
        kind = convert_model(source, out, report, Hints(lang, config, tokenizer, adapter), force)
        next_step = {
            "model folder": f"anadil evaluate {out} MANIFEST, or anadil export {out} --out DIR",
            "NeMo archive": f'EncDecCTCModel.restore_from("{out}") in NeMo',
            "config": f"anadil train {out} --out RUN",
        }[kind]
        report.say(f"{kind}; next: {next_step}")
    print(out)


command = convert
