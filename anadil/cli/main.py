"""`anadil`: the verbs, in the order in which people use them. Nothing heavy is imported until a verb needs it."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from anadil import __version__
from anadil.cli import (
    ablate,
    align,
    augment,
    check,
    compare,
    convert,
    corpora,
    crossval,
    curve,
    demo,
    download,
    evaluate,
    export,
    import_speech,
    lm,
    next_clips,
    normalize,
    pseudo_label,
    push,
    serve,
    split,
    tokenizer,
    train,
    transcribe,
)


class _Verbs(TyperGroup):
    """Typer lists verbs that have verbs of their own last; `lm` belongs after `train`."""

    def list_commands(self, ctx: Any) -> list[str]:
        names = super().list_commands(ctx)
        names.insert(names.index("train") + 1, names.pop(names.index("lm")))
        return names


app = typer.Typer(
    cls=_Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: anadil train configs/few-hours.yaml language=sw data.train=train.jsonl --out runs/first",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"anadil {__version__}")
        raise typer.Exit


@app.callback()
def anadil(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """A working speech recogniser for a language that has few recordings."""


for module in (
    demo,
    corpora,
    download,
    import_speech,
    normalize,
    check,
    split,
    augment,
    tokenizer,
    pseudo_label,
    train,
    evaluate,
    compare,
    crossval,
    curve,
    ablate,
    next_clips,
    export,
    convert,
    push,
    transcribe,
    align,
    serve,
):
    app.command(epilog=module.EXAMPLE, cls=getattr(module, "CLASS", None))(module.command)
app.add_typer(lm.app, name="lm", epilog=lm.EXAMPLE)


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
