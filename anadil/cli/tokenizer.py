"""`anadil tokenizer`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from anadil.cli.console import ConsoleReporter, verb
from anadil.cli.options import number

EXAMPLE = "Example: anadil tokenizer train.jsonl --lang mdw --kind unigram --size 200 --out tokenizers/mdw"


@verb
def tokenizer(
    manifests: Annotated[
        list[Path], typer.Argument(metavar="MANIFEST...", help="JSONL manifests with the training text.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write; set tokenizer.path to it in a config.")],
    kind: Annotated[
        Literal["char", "grapheme", "units", "bpe", "unigram"],
        typer.Option(help="Characters, grapheme clusters, letters of the alphabet (ng, mb), or subwords."),
    ],
    lang: Annotated[
        str | None,
        typer.Option(
            "--lang", help="Language of the rules, as BCP-47 or ISO 639-3 code.", show_default="the manifests' own"
        ),
    ] = None,
    size: Annotated[int, number(2, 100_000, "Number of subwords (bpe, unigram).")] = 200,
    rules: Annotated[
        Path | None, typer.Option(help="YAML file of your own that overrides rules of the language.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier folder.")] = False,
) -> None:
    """Make labels or subwords from training text, and print each label with its count, most frequent first."""
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
        languages = f"has {', '.join(named)}" if named else "is missing"
        raise AnadilError(
            f'one language is needed, but the key "language" of the manifests {languages}\n'
            "  next: add --lang, for example --lang tr (--lang und: any)"
        )
    text = text_rules(lang or named[0], settings)
    texts = [utterance.text for utterance in utterances]
    with ConsoleReporter() as report:
        report.say(describe_rules(text, settings))
        result = make_tokenizer([(text, texts)], kind, size)
        if not result.labels:
            raise AnadilError('the manifests have no text\n  next: check their key "text"')
        write_tokenizer(out, result)
        for warning in result.warnings:
            report.warn(warning)
        mean = result.counts.total() / len(texts)
        report.say(f"{len(result.labels)} labels, {mean:.1f} per text: {out}\nnext: tokenizer.path={out} in the config")
    for label, count in sorted(result.counts.items(), key=lambda item: (-item[1], item[0])):
        print(f"{label}\t{count}")


command = tokenizer
