"""`anadil corpora`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from anadil.cli.console import verb

if TYPE_CHECKING:
    from anadil.corpora.catalog import CorpusKind

EXAMPLE = "Example: anadil corpora    or: anadil corpora common-voice"


@verb
def corpora(
    name: Annotated[str | None, typer.Argument(help="Show everything about this corpus or format.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the corpora, layouts and annotation formats that Anadil reads: languages, size, licence, how to get them."""
    import json
    from dataclasses import asdict

    from anadil.corpora.catalog import KINDS, find_kind

    chosen = [find_kind(name)] if name else list(KINDS)
    if as_json:
        listed = [asdict(kind) for kind in chosen]
        print(json.dumps(listed[0] if name else listed, ensure_ascii=False, indent=1))
    elif name:
        _print_details(chosen[0])
    else:
        _print_tables(chosen)


command = corpora


def _print_details(kind: CorpusKind) -> None:
    """Print everything that the catalogue knows about one kind."""
    from anadil.corpora.importing import option_flag

    facts = {
        "languages": kind.languages,
        "size": kind.size,
        "licence": kind.license or "-",
        "terms": kind.terms,
        "get it": kind.get,
        "parts": kind.parts,
        "source": kind.source,
        "options": " ".join(option_flag(option) for option in kind.takes),
        "example": kind.example,
        "then": "anadil split, as it has no splits that can be used as they are" if not kind.splits else "",
    }
    print(f"{kind.name}: {kind.title}")
    for key, value in facts.items():
        if value:
            print(f"  {key:10} " + value.replace("\n", "\n" + " " * 13))


def _print_tables(kinds: list[CorpusKind]) -> None:
    """Print one line per kind: public corpora first, then layouts and annotation formats."""
    from anadil.corpora.importing import option_flag

    public = [kind for kind in kinds if kind.sort == "corpus"]
    rows = [
        [kind.name, kind.title, kind.languages, kind.size, kind.license, "anadil download" if kind.fetched else "-"]
        for kind in public
    ]
    _print_wide_table("public corpora", ["name", "what", "languages", "size", "licence", "get it"], rows)
    rows = [
        [kind.name, kind.title, kind.source, " ".join(option_flag(option) for option in kind.takes)]
        for kind in kinds
        if kind not in public
    ]
    _print_wide_table("your own recordings", ["name", "what", "SOURCE", "options"], rows)
    print("Details: anadil corpora NAME")


def _print_wide_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table of text columns; in a pipe it is 140 characters wide, instead of `rich`'s 80."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    for number, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=number == 0)
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 140
    console.print(table)
