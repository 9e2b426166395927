"""`anadil push`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anadil.cli.console import ConsoleReporter, verb

EXAMPLE = "Example: anadil push exported/mdw ayse/asr-mdw --private"


@verb
def push(
    model: Annotated[Path, typer.Argument(help="Model folder or exported folder, with its card.")],
    repo: Annotated[str, typer.Argument(help="Repository on the hub of Hugging Face: USER/NAME.")],
    private: Annotated[bool, typer.Option("--private", help="If the repository is made now, make it private.")] = False,
) -> None:
    """Upload a model with its card to Hugging Face, with your own token (hf auth login, or HF_TOKEN).

    Only files that Anadil wrote are uploaded; others are listed.
    """
    from anadil.export.push import push as push_folder

    pushed = push_folder(model, repo, private)
    with ConsoleReporter() as report:
        report.say(f"uploaded {', '.join(pushed.files)}")
        if pushed.left_out:
            report.warn(f"left out, because Anadil did not write them: {', '.join(pushed.left_out)}")
        if not pushed.has_licence:
            report.warn("the card names no licence: set `license` at the top of its README.md on the hub")
    print(pushed.url)


command = push
