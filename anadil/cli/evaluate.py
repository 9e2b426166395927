"""`anadil evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from anadil.cli.console import ConsoleReporter, rich_table, verb
from anadil.cli.options import provider

if TYPE_CHECKING:
    from anadil.evaluation.analysis import Analysis
    from anadil.evaluation.evaluate import EmptyReferences
    from anadil.evaluation.leakage import Leakage
    from anadil.manifest import Utterance
    from anadil.text.rules import TextRules

SCHEMA_VERSION = 1
"""Of the file of `--json`, which docs/evaluation.md describes. It is raised when a key changes its meaning or goes."""

_GROUPS_SHOWN = 6

EXAMPLE = "Example: anadil evaluate runs/mdw/best test.jsonl --out runs/mdw/test --report runs/mdw/report"


@verb
def evaluate(
    model: Annotated[
        Path,
        typer.Argument(
            help="Model folder, exported folder, NeMo archive (.nemo), or a hypotheses.jsonl of any system."
        ),
    ],
    manifests: Annotated[
        list[Path] | None, typer.Argument(help="JSONL manifests with text; a hypotheses.jsonl may do without.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for hypotheses.jsonl: every reference and hypothesis.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="File for the figures.")] = None,
    report_folder: Annotated[
        Path | None, typer.Option("--report", help="Folder for report.html, which opens offline.")
    ] = None,
    audio: Annotated[
        Literal["link", "embed", "none"],
        typer.Option(help="Recordings in the report: linked where they are, inside the file, or none."),
    ] = "link",
    scoring: Annotated[
        str,
        typer.Option(
            help="plain, or what to ignore, joined by commas: no-case,no-punctuation,no-tone,no-diacritics,no-spaces."
        ),
    ] = "plain",
    empty_references: Annotated[
        Literal["count", "skip", "refuse"],
        typer.Option(help="References without words (silence): count all that is recognised as insertions, or not."),
    ] = "count",
    by: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="Error rates by this key of the manifest; may be repeated.")
    ] = None,
    train: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="MANIFEST",
            help="Training data, to find test sentences and speakers in it.",
            show_default="those of the model's card",
        ),
    ] = None,
    lang: Annotated[
        str | None, typer.Option(help="For a hypotheses.jsonl: apply this language's text rules to both texts.")
    ] = None,
    no_lm: Annotated[bool, typer.Option("--no-lm", help="Leave out the model's language model.")] = False,
    provider_name: Annotated[str, provider()] = "cpu",
    force: Annotated[bool, typer.Option("--force", help="Replace earlier results.")] = False,
) -> None:
    """Word and character error rates with 95 % intervals over all manifests together: greedy, and with the model's LM.

    hypotheses.jsonl has the texts with the LM as pred_text, and the greedy ones as pred_text_greedy.
    """
    from anadil.evaluation.evaluate import write_hypotheses
    from anadil.evaluation.hypotheses import is_hypotheses
    from anadil.files import refuse_overwrite

    hypotheses = out / "hypotheses.jsonl" if out else None
    for path in filter(None, (hypotheses, json_file, report_folder)):
        refuse_overwrite(path, force)
    if report_folder:
        from anadil.evaluation.report import require_report_libraries

        require_report_libraries()
    from_file = is_hypotheses(model)
    if not from_file and not manifests:
        raise typer.BadParameter("give at least one manifest", param_hint="MANIFESTS")
    if lang is not None and not from_file:
        raise typer.BadParameter(
            "a model has its own text rules; --lang is for a hypotheses.jsonl", param_hint="--lang"
        )
    if provider_name != "cpu" and from_file:
        raise typer.BadParameter("nothing is recognised: the texts are in the file", param_hint="--provider")
    with ConsoleReporter() as report:
        run = (_score_file if from_file else _recognise)(
            model, manifests or [], scoring, empty_references, not no_lm, lang, report, provider_name
        )
        leakage, notes = _compare_with_training(model, train, run, from_file, report)
        run.find(by or [])
        _warn(run, notes, report)
    analyses, main = run.analyses, run.analyses[-1]
    if hypotheses:
        greedy = analyses[0].evaluation.scored if len(analyses) > 1 else None
        write_hypotheses(hypotheses, main.evaluation.scored, greedy)
        report.say(f"hypotheses: {hypotheses}")
    if json_file:
        _write_figures(json_file, run, model, manifests or [], scoring, leakage)
    title = f"{model}" + (f" on {', '.join(path.name for path in manifests)}" if manifests else "")
    if report_folder:
        from anadil.evaluation.report import write_report

        curves = model.parent / "metrics.svg" if not from_file else None
        page = write_report(report_folder, title, analyses, run.notes, audio=audio, curves=curves)
        report.say(f"report: {page}")
    _print_rates(analyses, title + ("" if scoring == "plain" else f", scoring {scoring}"))


class _Run:
    """What was scored, one analysis for each way to decode, the main one last."""

    def __init__(self, ways: Sequence[tuple[str, Any]], rules: TextRules, lm: dict[str, Any] | None) -> None:
        self.ways, self.rules, self.lm = ways, rules, lm
        self.training_words: set[str] | None = None
        self.normalize: Callable[[str], str] = str
        self.unknown: dict[str, int] = {}
        self.n_skipped = 0
        self.provider: str | None = None  # None: texts of a file
        self.analyses: list[Analysis] = []
        self.notes: list[str] = []

    def find(self, by: Sequence[str]) -> None:
        from anadil.evaluation.analysis import Analysis

        self.analyses = [
            Analysis(name, evaluation, self.rules, tuple(by), self.training_words) for name, evaluation in self.ways
        ]


def _recognise(
    model: Path,
    manifests: Sequence[Path],
    scoring: str,
    empty_references: EmptyReferences,
    with_lm: bool,
    lang: str | None,
    report: ConsoleReporter,
    provider_name: str,
) -> _Run:
    from anadil.manifest import read_manifests
    from anadil.recognition.load import load
    from anadil.recognition.recognize_manifest import evaluate_decoders
    from anadil.text.scoring import scoring_view

    utterances = read_manifests(manifests)
    recognizer = load(model, lm=with_lm, provider=provider_name, warn=report.warn)
    if provider_name != "cpu":
        report.say(f"provider: {recognizer.provider}")
    view = scoring_view(recognizer.rules, scoring)
    results = evaluate_decoders(
        recognizer,
        utterances,
        lambda done, total: report.progress("recognising", done, total),
        view,
        empty_references=empty_references,
    )
    lm = recognizer.lm
    ways = [(f"with LM: {lm.describe()}" if lm else "greedy, no LM", results.evaluation)]
    if results.greedy:
        ways.insert(0, ("greedy, no LM", results.greedy))
    run = _Run(ways, recognizer.rules, lm.to_dict() if lm else None)
    run.provider = recognizer.provider
    run.unknown, run.n_skipped = dict(results.unknown.most_common()), results.n_skipped
    run.normalize = lambda text: view(recognizer.rules.normalize(text))
    return run


def _score_file(
    model: Path,
    manifests: Sequence[Path],
    scoring: str,
    empty_references: EmptyReferences,
    with_lm: bool,
    lang: str | None,
    report: ConsoleReporter,
    provider_name: str,
) -> _Run:
    import unicodedata

    from anadil.evaluation.evaluate import evaluation_of
    from anadil.evaluation.hypotheses import score_hypotheses
    from anadil.manifest import read_manifests
    from anadil.text.rules import TextSettings, text_rules
    from anadil.text.scoring import scoring_view

    rules = text_rules(lang or "und", TextSettings())
    view = scoring_view(rules, scoring)

    def normalize(text: str) -> str:
        return rules.normalize(text) if lang else " ".join(unicodedata.normalize("NFC", text).split())

    references = read_manifests(manifests) if manifests else None
    found = score_hypotheses(model, references, normalize, view, empty_references)
    ways = [("pred_text", evaluation_of(found.scored))]
    if found.greedy and with_lm:
        ways.insert(0, ("pred_text_greedy", evaluation_of(found.greedy)))
    elif found.greedy:
        ways = [("pred_text_greedy", evaluation_of(found.greedy))]
    run = _Run(ways, rules, None)
    run.n_skipped = found.n_skipped
    run.normalize = lambda text: view(normalize(text))
    return run


def _compare_with_training(
    model: Path, train: Sequence[Path] | None, run: _Run, from_file: bool, report: ConsoleReporter
) -> tuple[Leakage | None, list[str]]:
    """What the test set shares with the training manifests: those given, or those of the model's card."""
    from anadil.evaluation.leakage import find_leakage, listed_training_manifests
    from anadil.manifest import read_manifests

    paths = list(train or ())
    if not paths:
        listed = [] if from_file else listed_training_manifests(model)
        missing = [str(path) for path in listed if not path.is_file()]
        if missing:
            return None, [
                f"not checked whether test sentences or speakers are in the training data: {', '.join(missing)} (named by "
                "the model's card) is not here; --train MANIFEST names it"
            ]
        paths = listed
    if not paths:
        return None, []
    training: list[Utterance] = read_manifests(paths)
    run.training_words = {word for one in training for word in run.normalize(one.text).split()}
    leakage = find_leakage(run.ways[-1][1].scored, training, run.normalize)
    return leakage, leakage.warnings()


def _warn(run: _Run, notes: Sequence[str], report: ConsoleReporter) -> None:
    """Say, and keep for the report, what a reader of the figures must know."""
    from anadil.evaluation.intervals import uncovered
    from anadil.text.rules import describe

    result = run.analyses[-1].evaluation
    n_pseudo = sum(one.utterance.is_pseudo_label for one in result.scored)
    if n_pseudo:
        run.notes.append(
            f"{n_pseudo:,} of {len(result.scored):,} reference texts are pseudo labels, which a model wrote: the rates "
            "show how far the two models agree, not the errors of this one"
        )
    if run.unknown:
        listed = ", ".join(f"{describe(character)} x {count:,}" for character, count in list(run.unknown.items())[:10])
        run.notes.append(f"the references hold characters the model has no label for; they count as errors: {listed}")
    if result.n_empty:
        run.notes.append(
            f"{result.n_empty:,} of {len(result.scored):,} references are empty; the "
            f"{sum(one.words.insertions for one in result.scored if not one.words.reference):,} words recognised there count "
            "as insertions (--empty-references skip leaves them out)"
        )
    if run.n_skipped:
        run.notes.append(f"{run.n_skipped:,} utterances with an empty reference were skipped (--empty-references skip)")
    run.notes += notes
    for note in run.notes:
        report.warn(note)
    limits = uncovered(len(result.scored), result.n_speakers)
    if limits:
        run.notes.append(limits)
        report.say(f"note: {limits}")


def _write_figures(
    path: Path, run: _Run, model: Path, manifests: Sequence[Path], scoring: str, leakage: Leakage | None
) -> None:
    import json

    from anadil.files import whole_file

    main = run.analyses[-1]
    figures = {
        "schema_version": SCHEMA_VERSION,
        "model": str(model),
        "manifests": [str(manifest) for manifest in manifests],
        "provider": run.provider,
        "lm": run.lm,
        "scoring": scoring,
        "pseudo_labels": sum(one.utterance.is_pseudo_label for one in main.evaluation.scored),
        "skipped_empty_references": run.n_skipped,
        "notes": run.notes,
        "leakage": leakage and leakage.to_dict(),
    } | main.to_dict()
    if len(run.analyses) > 1:
        figures["greedy"] = run.analyses[0].to_dict()
    with whole_file(path) as beside:
        beside.write_text(json.dumps(figures, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _print_rates(analyses: Sequence[Analysis], title: str) -> None:
    """Print a table of error rates on stdout, with a part for each way to decode; the last one was timed."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    columns = ["", "error rate", "95 % interval", "ref", "sub", "del", "ins"]
    for analysis in analyses:
        result, rows = analysis.evaluation, []
        for unit, counts, interval in (
            ("words", result.words, result.wer_interval),
            ("characters", result.characters, result.cer_interval),
            ("letters with their marks", analysis.graphemes, None),
        ):
            if counts is None:
                continue
            between = f"{interval[0]:.2%} to {interval[1]:.2%}" if interval else "too few utterances"
            figures = [counts.reference, counts.substitutions, counts.deletions, counts.insertions]
            between = "" if counts is analysis.graphemes else between
            rows.append([unit, f"{counts.rate:.2%}", between, *(f"{figure:,}" for figure in figures)])
        console.print(rich_table(f"{title}, {analysis.name}", columns, rows))
    for line in _details(analyses[-1]):
        console.print(line, markup=False)
    result = analyses[-1].evaluation
    factor = result.real_time_factor
    speed = f", real-time factor {factor:.4f}" if factor else ""
    console.print(f"{len(result.scored):,} utterances, {result.audio_s / 3600:.2f} h{speed}")


def _details(analysis: Analysis) -> list[str]:
    """One line for each further measure."""
    result = analysis.evaluation
    words, n = result.words, len(result.scored)
    lines = [
        f"MER {words.match_error_rate:.2%}, WIL {words.information_lost:.2%}, sentences with an error "
        f"{result.wrong_sentences:,} of {n:,} ({result.wrong_sentences / n:.2%})"
    ]
    for one in analysis.forgiven:
        rates = f"CER {one.characters.rate:.2%}" + (f", WER {one.words.rate:.2%}" if one.words else "")
        share = (
            f" ({one.share_of_characters:.1%} of the character errors)" if one.share_of_characters is not None else ""
        )
        lines.append(f"{one.name} forgiven: {rates}{share}")
    if (unseen := analysis.unseen) and unseen.unseen:
        lines.append(
            f"words not in the training texts: {unseen.unseen:,} of {unseen.seen + unseen.unseen:,}; wrong "
            f"{unseen.unseen_wrong / unseen.unseen:.1%}, of the others {unseen.seen_wrong / max(unseen.seen, 1):.1%}"
        )
    for key, groups in analysis.groups.items():
        shown = ", ".join(f"{one.name} {one.words.rate:.1%} ({one.n_utterances:,})" for one in groups[:_GROUPS_SHOWN])
        lines.append(f"WER by {key}: {shown}" + ", ..." * (len(groups) > _GROUPS_SHOWN))
    return lines


command = evaluate
