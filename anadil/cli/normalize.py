"""`anadil normalize`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anadil.cli.console import ConsoleReporter, rich_table, verb

if TYPE_CHECKING:
    from anadil.text.changes import Changes

EXAMPLE = "Example: anadil normalize train.jsonl --lang tr --out normal/train.jsonl"


@verb
def normalize(
    manifest: Annotated[Path, typer.Argument(help="JSONL manifest; with --lines a text file, one sentence per line.")],
    lang: Annotated[str, typer.Option("--lang", help="Language of the rules, as BCP-47 or ISO 639-3 code: tr, mdw.")],
    out: Annotated[Path, typer.Option(help="File to write, with normalised text.")],
    rules: Annotated[
        Path | None, typer.Option(help="YAML file of your own that overrides rules of the language.")
    ] = None,
    lines: Annotated[bool, typer.Option("--lines", help="Read and write plain text, one sentence per line.")] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Omit texts that cannot be normalised, such as numbers without rules.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="JSON file for the counts.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace earlier files.")] = False,
) -> None:
    """Apply a language's text rules, and report every character that was removed or changed, with counts."""
    import json

    from anadil.errors import AnadilError, summarize
    from anadil.files import refuse_overwrite, whole_file
    from anadil.text.changes import normalize_lines, normalize_manifest
    from anadil.text.rules import TextSettings, describe_rules, text_rules

    if out.resolve() == manifest.resolve():
        raise AnadilError(f"{out} is the input\n  next: choose another --out")
    for path in filter(None, (out, json_file)):
        refuse_overwrite(path, force)
    settings = TextSettings(rules=str(rules) if rules else None)
    text = text_rules(lang, settings)
    normalize_file = normalize_lines if lines else normalize_manifest
    with ConsoleReporter() as report:
        report.say(describe_rules(text, settings))
        result = normalize_file(
            manifest, out, text, skip_bad, lambda n, total: report.progress("normalising", n, total)
        )
        if result.problems:
            report.warn(
                summarize(result.problems, "texts", result.total, "they are omitted from the file (--skip-bad)")
            )
        if result.changes.outside:
            report.warn(
                f"characters outside the alphabet of {text.language_rules.name} remain: "
                + "  ".join(f"{character}:{count:,}" for character, count in result.changes.outside.most_common(20))
            )
        report.say(f"{result.total - len(result.problems):,} texts, {result.changes.n_changed:,} changed: {out}")
    if json_file:
        with whole_file(json_file) as beside:
            beside.write_text(
                json.dumps(result.changes.to_dict(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
            )
    _print_changes(result.changes)


def _print_changes(changes: Changes) -> None:
    """Print the table of removed, changed and spelled-out characters."""
    from rich.console import Console
    from rich.markup import escape

    rows = [
        [escape(cell) for cell in (_shown(source), what, f"{count:,}", changes.examples.get(source, ""))]
        for source, what, count in changes.listed()
    ]
    console = Console(highlight=False, soft_wrap=True)
    if rows:
        console.print(rich_table("", ["written", "became", "times", "example"], rows))
    else:
        console.print("only capitals and spaces changed")


def _shown(text: str) -> str:
    return text if text.isprintable() else " ".join(f"U+{ord(character):04X}" for character in text)


command = normalize
