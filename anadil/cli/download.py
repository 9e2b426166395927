"""`anadil download`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anadil.cli.console import ConsoleReporter, verb

EXAMPLE = "Example: anadil download fleurs --lang tr --out fleurs"


@verb
def download(
    corpus: Annotated[str, typer.Argument(help="A name from `anadil corpora`.")],
    out: Annotated[Path, typer.Option(help="Folder for the corpus.")],
    lang: Annotated[str | None, typer.Option(help="Language code, as the corpus writes it.")] = None,
    part: Annotated[
        list[str] | None, typer.Option(help="Part of the corpus, if it has parts; may be repeated.")
    ] = None,
) -> None:
    """Download a corpus and unpack it. If it is interrupted, run it again: it resumes where it stopped."""
    from anadil.corpora.archive import is_archive, unpack_if_archive
    from anadil.corpora.catalog import find_kind
    from anadil.errors import AnadilError

    kind = find_kind(corpus)
    fetch = kind.downloader()
    if part and not kind.parts:
        raise AnadilError(f"{kind.name} has no parts to choose from\n  next: omit --part")
    damaged = []
    with ConsoleReporter() as report:
        fetched = fetch(
            lang, part or [], out, lambda what, done, total: report.progress(what, done, total) if total else None
        )
        archives = [path for path in fetched if is_archive(path)]
        for number, archive in enumerate(archives, start=1):
            try:
                unpack_if_archive(archive, None)
            except AnadilError as error:  # one damaged archive of thousands must not stop the others
                damaged.append(error)
                report.warn(str(error))
            report.progress("unpacking", number, len(archives), archive.name)
        report.say(f"next: anadil import {kind.name} {out}{f' --lang {lang}' if lang else ''} --out DIR")
    if damaged:
        raise AnadilError(f"{len(damaged):,} of {len(archives):,} archives could not be unpacked (see above)")
    for path in fetched:
        print(path)


command = download
