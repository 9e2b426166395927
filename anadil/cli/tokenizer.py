"""`anadil tokenizer`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from anadil.cli.console import ConsoleReporter, verb

EXAMPLE = "Example: anadil tokenizer train.jsonl --lang mdw --kind unigram --size 200 --out tokenizers/mdw"


@verb
def tokenizer(
    manifests: Annotated[list[Path], typer.Argument(metavar="MANIFEST...", help="JSONL manifests of training text.")],
    out: Annotated[Path, typer.Option(help="Folder to write, for tokenizer.path in a config.")],
    kind: Annotated[
        Literal["char", "grapheme", "units", "bpe", "unigram"],
        typer.Option(help="Characters, grapheme clusters, the alphabet's letters (ng, mb), or subwords."),
    ],
    lang: Annotated[
        str | None,
        typer.Option("--lang", help="Language of the rules: BCP-47 or ISO 639-3.", show_default="the manifests' own"),
    ] = None,
    size: Annotated[int, typer.Option(min=2, help="How many subwords (bpe, unigram).")] = 200,
    rules: Annotated[Path | None, typer.Option(help="Your own YAML over the language's rules.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier folder.")] = False,
) -> None:
    """Make labels or subwords from training text; prints each label with its count, the commonest first."""
    from anadil.errors import AnadilError
    from anadil.files import refuse_overwrite
    from anadil.manifest import read_manifests
    from anadil.text.rules import TextSettings, describe_rules, text_rules
    from anadil.text.tokenizer import make_tokenizer, write_tokenizer

    refuse_overwrite(out, force)
    settings = TextSettings(rules=str(rules) if rules else None)
    utterances = read_manifests(manifests)
    named = sorted({utterance.language for utterance in utterances if utterance.language})
    if lang is None and len(named) != 1:
        found = f"they name {', '.join(named)}" if named else "the manifests name none"
        raise AnadilError(f"which language is it? {found}\n  next: add --lang, for example --lang tr (--lang und: any)")
    text = text_rules(lang or named[0], settings)
    texts = [utterance.text for utterance in utterances]
    with ConsoleReporter() as report:
        report.say(describe_rules(text, settings))
        made = make_tokenizer([(text, texts)], kind, size)
        if not made.labels:
            raise AnadilError('the manifests hold no text\n  next: check their "text"')
        write_tokenizer(out, made)
        for warning in made.warnings:
            report.warn(warning)
        mean = made.counts.total() / len(texts)
        report.say(f"{len(made.labels)} labels, {mean:.1f} a text: {out}\nnext: tokenizer.path={out} in the config")
    for label, count in sorted(made.counts.items(), key=lambda item: (-item[1], item[0])):
        print(f"{label}\t{count}")


command = tokenizer
