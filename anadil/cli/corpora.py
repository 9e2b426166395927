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
    name: Annotated[str | None, typer.Argument(help="Tell all about this one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """The corpora, layouts and annotation files that Anadil reads: languages, size, licence, how to get them."""
    import json
    from dataclasses import asdict

    from anadil.corpora.catalog import KINDS, find

    chosen = [find(name)] if name else list(KINDS)
    if as_json:
        listed = [asdict(kind) for kind in chosen]
        print(json.dumps(listed[0] if name else listed, ensure_ascii=False, indent=1))
    elif name:
        tell(chosen[0])
    else:
        show_table(chosen)


command = corpora


def tell(kind: CorpusKind) -> None:
    """All that is known of one kind."""
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
        "then": "anadil split: it has no splits of its own, or none that may be used" if not kind.splits else "",
    }
    print(f"{kind.name}: {kind.title}")
    for key, value in facts.items():
        if value:
            print(f"  {key:10} " + value.replace("\n", "\n" + " " * 13))


def show_table(kinds: list[CorpusKind]) -> None:
    """One line a kind, corpora first, then what has no size and no licence of its own."""
    from anadil.corpora.importing import option_flag

    public = [kind for kind in kinds if kind.sort == "corpus"]
    rows = [
        [kind.name, kind.title, kind.languages, kind.size, kind.license, "anadil download" if kind.fetched else "-"]
        for kind in public
    ]
    print_wide("public corpora", ["name", "what", "languages", "size", "licence", "get it"], rows)
    rows = [
        [kind.name, kind.title, kind.source, " ".join(option_flag(option) for option in kind.takes)]
        for kind in kinds
        if kind not in public
    ]
    print_wide("your own recordings", ["name", "what", "SOURCE", "options"], rows)
    print("All about one: anadil corpora NAME")


def print_wide(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Columns of text; in a pipe too, they are not squeezed into 80 characters."""
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
