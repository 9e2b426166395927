"""`anadil lm`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from anadil.cli.console import ConsoleReporter, rich_table, verb
from anadil.cli.options import number

if TYPE_CHECKING:
    from anadil.evaluation.lm_tuning import Tuned
    from anadil.lm.build import Built
    from anadil.lm.held_out import HeldOut
    from anadil.lm.texts import Tokenization
    from anadil.text.rules import TextRules

EXAMPLE = "Example: anadil lm build text.txt --lang sw --order 3 --valid valid.jsonl --out lm.arpa"

app = typer.Typer(no_args_is_help=True, help="Make n-gram language models, and tune them for a recogniser.")

_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_MIN_MEMORY = 16 << 20


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,15})?)\s*([KMG]?)B?", text.strip().upper())
    if match is None:
        raise typer.BadParameter(f"{text[:50]!r} is no amount of memory; for example 500M or 2G")
    n_bytes = int(float(match[1]) * _SIZES[match[2]])
    if n_bytes < _MIN_MEMORY:
        raise typer.BadParameter(f"{text!r} is too little; at least 16M are needed")
    return n_bytes


def _order(text: str) -> int | None:
    from anadil.lm.counts import MAX_ORDER

    if text == "auto":
        return None
    orders = {str(order): order for order in range(1, MAX_ORDER + 1)}
    if text not in orders:
        raise typer.BadParameter(f"{text[:50]!r} is no order; give a number from 1 to {MAX_ORDER}, or auto")
    return orders[text]


def _words(path: Path) -> list[str]:
    """The words of a file. Raises AnadilError if it is no text."""
    from anadil.errors import AnadilError
    from anadil.lm.texts import read_lines

    bad: list[object] = []
    words = [word for _, line in read_lines([str(path)], bad.append) for word in line.split()]
    if bad:
        raise AnadilError(f"{bad[0]}\n  next: give a text file with the words")
    return words


@app.command(epilog=EXAMPLE)
@verb
def build(
    texts: Annotated[
        list[str],
        typer.Argument(
            metavar="TEXT...",
            help='Text files with a sentence per line, or JSONL files with a "text" per line (manifests); also gzip, bzip2, '
            "xz or zstd. - is standard input.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="ARPA file to write; gzipped if its name ends with .gz.")],
    order: Annotated[
        str, typer.Option(help="Longest n-gram, 1 to 10; auto: the one that predicts --valid best.")
    ] = "3",
    unit: Annotated[Literal["word", "char", "subword"], typer.Option(help="What an n-gram consists of.")] = "word",
    model: Annotated[
        Path | None, typer.Option(help="Take the text through the rules and labels of this model.")
    ] = None,
    lang: Annotated[
        str | None, typer.Option("--lang", help="Take it through the rules of a language: tr, mdw.")
    ] = None,
    rules: Annotated[Path | None, typer.Option(help="With --lang: YAML file of your own that overrides rules.")] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="With --lang: folder of labels or subwords that anadil tokenizer made.")
    ] = None,
    prune: Annotated[
        str,
        typer.Option(
            help="Leave out n-grams seen so often or less, by order from 1: '0 0 1' leaves out 3-grams and longer ones that "
            "are seen once."
        ),
    ] = "",
    vocabulary: Annotated[int | None, number(1, 100_000_000, "Keep the N most frequent words.", metavar="N")] = None,
    words: Annotated[
        Path | None, typer.Option(help="Keep only the words in this file, which whitespace separates.")
    ] = None,
    valid: Annotated[
        list[str] | None,
        typer.Option(
            help="Held-out text, of the same kinds as TEXT: its perplexity and worst predicted words. Repeatable."
        ),
    ] = None,
    memory: Annotated[str, typer.Option(help="Sort on disk what needs more than this: 500M, 2G.")] = "2G",
    temp: Annotated[
        Path | None, typer.Option(help="Folder for temporary files.", show_default="the folder of --out")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="JSON file for the figures.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace earlier files.")] = False,
) -> None:
    """Estimate an n-gram language model (interpolated modified Kneser-Ney) and write it as ARPA.

    Without --model or --lang the text is taken as it is. With them, lines that cannot be written in the model's labels or
    the language's letters are left out, counted and named. The result is that of KenLM's lmplz --discount_fallback.
    KenLM's binary format is not written, since no installable library can; KenLM's build_binary makes it from the ARPA file.
    """
    import json

    from anadil.files import refuse_overwrite, whole_file
    from anadil.lm.build import build_lm
    from anadil.lm.texts import Tokenization

    n_bytes, n_order, thresholds = _bytes(memory), _order(order), _thresholds(prune)
    for path in filter(None, (out, json_file)):
        refuse_overwrite(path, force)
    if temp is None:
        temp = next(folder for folder in out.absolute().parents if folder.is_dir())
    with ConsoleReporter() as report:
        text_rules, said = _rules(model, lang, rules, tokenizer)
        report.say(said)
        tokenization = Tokenization(unit, text_rules)
        kept = None if words is None else _words(words)
        built = build_lm(
            texts, out, tokenization, n_order, thresholds, vocabulary, kept, valid or (), n_bytes, temp, report.progress
        )
        for warning in built.warnings:
            report.warn(warning)
    if json_file:
        with whole_file(json_file) as beside:
            figures = built.to_dict() | {"rules": tokenization.normalized.changes.to_dict() if text_rules else None}
            beside.write_text(json.dumps(figures, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    _print_report(built, out, unit, tokenization)


TUNE_EXAMPLE = "Example: anadil lm tune runs/sw/best valid.jsonl --lm characters.arpa.gz"


@app.command(epilog=TUNE_EXAMPLE)
@verb
def tune(
    model: Annotated[Path, typer.Argument(help="Model folder or exported folder. The language model is saved in it.")],
    manifests: Annotated[
        list[Path], typer.Argument(metavar="MANIFEST...", help="Speech with text that the model was not trained on.")
    ],
    lm: Annotated[
        Path | None,
        typer.Option(
            help="ARPA file of the model's labels or of words (anadil lm build --model MODEL).",
            show_default="the model's own",
        ),
    ] = None,
    beam: Annotated[
        int | None,
        typer.Option(min=1, max=1024, help="Prefixes that decoding keeps.", show_default="the model's own, or 16"),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="JSON file for the figures.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the language model of MODEL, or its weights.")
    ] = False,
) -> None:
    """Choose the language model's weights on validation speech, and save it with them in MODEL.

    A model of words is added to MODEL's model of labels, if it has one, and can still write words that it does not know. The
    speech is recognised once, at most 20 minutes of it, and decoded with a dozen choices of weights. To test them
    honestly, each half is scored with the weights that the other half chose. If the language model does not lower CER or WER
    beyond chance, nothing is saved, and the exit status is 1.
    """
    import json

    from anadil.decoding.language_model import SETTINGS, save_language_model
    from anadil.errors import AnadilError
    from anadil.evaluation.lm_tuning import add_to_card
    from anadil.files import refuse_overwrite, whole_file
    from anadil.manifest import read_manifests
    from anadil.recognition.load import load
    from anadil.recognition.tune_lm import ngrams_to_tune, tune_on_manifest

    if json_file:
        refuse_overwrite(json_file, force)
    recognizer = load(model)
    if not model.is_dir():
        raise AnadilError(
            f"{model} is a file, and a language model needs a folder\n  next: anadil export {model} --out DIR"
        )
    if (model / SETTINGS).exists() and not force:
        raise AnadilError(f"{model} has a language model already\n  next: add --force to replace it or its weights")
    with ConsoleReporter() as report:
        given = ngrams_to_tune(recognizer, lm, report.warn)
        tuned, found, calibration = tune_on_manifest(
            recognizer, given, read_manifests(manifests), beam, report.progress, report.say
        )
    if json_file:
        with whole_file(json_file) as beside:
            figures = tuned.to_dict() | {"word_confidence": calibration.to_dict()}
            beside.write_text(json.dumps(figures, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    _print_tuned(tuned)
    if not tuned.helps:
        raise AnadilError(
            f"don't use this language model: it does not lower CER or WER beyond chance. {model} is as it was\n"
            "  next: make one of text that is closer to the speech, or give more validation speech"
        )
    save_language_model(model, found)
    add_to_card(model, found.describe(), tuned)
    calibration.add_to_card(model)
    if calibration.describe():
        typer.echo(f"word confidence, {calibration.describe()}", err=True)
    typer.echo(f"saved in {model}; transcribe and evaluate use it, --no-lm does without", err=True)


def _print_tuned(tuned: Tuned) -> None:
    from rich.console import Console

    (cer, wer), (lm_cer, lm_wer) = tuned.rates
    columns = {
        "lm_weight": "LM weight",
        "label_bonus": "label bonus",
        "word_weight": "word weight",
        "word_bonus": "word bonus",
        "unknown_word": "unknown word",
    }
    used = [name for name in columns if any(getattr(weights, name) for weights, _, _ in tuned.tried)]
    was = "greedy" if tuned.was == "greedy" else "without the model of words"
    rows = [[was, *("" for _ in used), f"{cer:.2%}", f"{wer:.2%}"]] + [
        [
            "chosen" if weights == tuned.weights else "tried",
            *(f"{getattr(weights, name):g}" for name in used),
            f"{one:.2%}",
            f"{other:.2%}",
        ]
        for weights, one, other in tuned.tried
    ]
    rows.append(["each half with the weights of the other", *("" for _ in used), f"{lm_cer:.2%}", f"{lm_wer:.2%}"])
    console = Console(highlight=False, soft_wrap=True)
    title = f"{len(tuned.before):,} utterances, beam {tuned.weights.beam}"
    console.print(rich_table(title, ["", *(columns[name] for name in used), "CER", "WER"], rows))
    console.print(tuned.describe())


def _thresholds(prune: str) -> tuple[int, ...]:
    try:
        return tuple(map(int, prune.replace(",", " ").split()))
    except ValueError:
        raise typer.BadParameter(f"--prune {prune[:50]!r}: expected whole numbers, for example '0 0 1'") from None


def _rules(
    model: Path | None, lang: str | None, rules: Path | None, tokenizer: Path | None
) -> tuple[TextRules | None, str]:
    """The text rules that the options ask for, and a line about them."""
    from anadil.text.rules import TextSettings, describe_rules, text_rules
    from anadil.text.tokenizer import read_tokenizer

    if model is not None:
        if lang or rules or tokenizer:
            raise typer.BadParameter("--model brings its own rules; leave out --lang, --rules and --tokenizer")
        from anadil.recognition.load import load

        found = load(model).rules
        return (
            found,
            f"text rules and {len(found.labels)} labels of {model} ({found.language_rules.name or found.language})",
        )
    if lang is None:
        if rules or tokenizer:
            raise typer.BadParameter("--rules and --tokenizer need --lang")
        return None, "the text is taken as it is (--model or --lang normalises it)"
    settings = TextSettings(rules=str(rules) if rules else None)
    labels, subwords = ([], b"") if tokenizer is None else read_tokenizer(tokenizer)[1:]
    found = text_rules(lang, settings, labels, subwords)
    return found, describe_rules(found, settings)


def _print_report(built: Built, out: Path, unit: str, tokenization: Tokenization) -> None:
    from rich.console import Console
    from rich.markup import escape

    tokens = {"word": "words", "char": "characters", "subword": "subwords"}[unit]
    rows = [
        ["sentences", f"{built.n_sentences:,}"],
        [tokens, f"{built.n_tokens:,}"],
        [f"different {tokens}", f"{built.n_words:,}"],
        *([f"{k}-grams", f"{n:,}"] for k, n in enumerate(built.n_ngrams, start=1)),
        *(
            [f"order {order}: bits per token of the held-out text", f"{bits:.3f}"]
            for order, bits in built.entropies.items()
        ),
    ]
    if built.held_out:
        held_out = built.held_out
        rows += [
            ["held-out sentences", f"{held_out.n_sentences:,}"],
            ["perplexity with OOV", f"{held_out.perplexity:.2f}"],
            ["perplexity without OOV", f"{held_out.known_perplexity:.2f}"],
            ["OOV", f"{held_out.n_unknown:,} ({held_out.unknown_share:.1%})"],
        ]
    console = Console(highlight=False, soft_wrap=True)
    console.print(rich_table(escape(f"{out} (order {built.order})"), ["text and model", "number"], rows))
    if built.held_out:
        console.print(_worst(built.held_out))
    changed = [row for row in tokenization.normalized.changes.listed() if row[1] != "(left: not in the alphabet)"]
    if changed:
        shown = [[escape(cell) for cell in (source, what, f"{count:,}")] for source, what, count in changed[:10]]
        title = f"changed by the rules ({len(changed):,} kinds; --json has all)"
        console.print(rich_table(title, ["written", "became", "times"], shown))


def _worst(held_out: HeldOut) -> object:
    from rich.markup import escape

    rows = [
        [
            escape(cost.word) + ("" if cost.is_known else " (OOV)"),
            f"{cost.count:,}",
            f"{cost.bits:.1f}",
            f"{cost.bits / cost.count:.1f}",
        ]
        for cost in held_out.costs[:10]
    ]
    return rich_table("worst predicted, by their bits in all", ["word", "times", "bits", "bits each"], rows)
