"""`anadil evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anadil.cli.console import ConsoleReporter, rich_table, verb
from anadil.cli.options import provider

if TYPE_CHECKING:
    from anadil.evaluation.evaluate import Evaluation

_SHOWN = {"lm_weight", "label_bonus", "beam"}

EXAMPLE = "Example: anadil evaluate runs/mdw/best test.jsonl --out runs/mdw/test --json runs/mdw/test.json"


@verb
def evaluate(
    model: Annotated[Path, typer.Argument(help="Model folder, exported folder or NeMo archive (.nemo).")],
    manifests: Annotated[list[Path], typer.Argument(help="JSONL manifests with text.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for hypotheses.jsonl: every reference and hypothesis.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="File for the figures.")] = None,
    scoring: Annotated[
        str, typer.Option(help="plain, or what to ignore, joined by commas: no-case,no-punctuation,no-tone.")
    ] = "plain",
    no_lm: Annotated[bool, typer.Option("--no-lm", help="Leave out the model's language model.")] = False,
    provider_name: Annotated[str, provider()] = "cpu",
    force: Annotated[bool, typer.Option("--force", help="Replace earlier results.")] = False,
) -> None:
    """Word and character error rates with 95 % intervals over all manifests together: greedy, and with the model's LM.

    hypotheses.jsonl has the texts with the LM as pred_text, and the greedy ones as pred_text_greedy.
    """
    import json

    from anadil.evaluation.evaluate import write_hypotheses
    from anadil.files import refuse_overwrite, whole_file
    from anadil.manifest import read_manifests
    from anadil.recognition.load import load
    from anadil.recognition.recognize_manifest import evaluate_decoders
    from anadil.text.rules import describe
    from anadil.text.scoring import scoring_view

    hypotheses = out / "hypotheses.jsonl" if out else None
    for path in filter(None, (hypotheses, json_file)):
        refuse_overwrite(path, force)
    utterances = read_manifests(manifests)
    with ConsoleReporter() as report:
        recognizer = load(model, lm=not no_lm, provider=provider_name, warn=report.warn)
        lm = recognizer.lm
        results = evaluate_decoders(
            recognizer,
            utterances,
            lambda done, total: report.progress("recognising", done, total),
            scoring_view(recognizer.rules, scoring),
        )
        result, unknown = results.evaluation, results.unknown
        n_pseudo = sum(one.utterance.is_pseudo_label for one in result.scored)
        if n_pseudo:
            report.warn(
                f"{n_pseudo:,} of {len(result.scored):,} reference texts are pseudo labels, which a model wrote: the rates "
                "show how far the two models agree, not the errors of this one"
            )
        if unknown:
            listed = ", ".join(f"{describe(character)} x {count:,}" for character, count in unknown.most_common(10))
            report.warn(f"the references hold characters the model has no label for; they count as errors: {listed}")
    if hypotheses:
        write_hypotheses(hypotheses, result.scored, results.greedy.scored if results.greedy else None)
        report.say(f"hypotheses: {hypotheses}")
    if json_file:
        with whole_file(json_file) as beside:
            figures = {
                "model": str(model),
                "manifests": [str(path) for path in manifests],
                "provider": recognizer.provider,
                "lm": {"order": lm.model.order} | lm.weights.model_dump(include=_SHOWN) if lm else None,
                "scoring": scoring,
                "pseudo_labels": n_pseudo,
            } | result.to_dict()
            if results.greedy:
                figures["greedy"] = results.greedy.to_dict()
            beside.write_text(json.dumps(figures, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    scored = "" if scoring == "plain" else f", scoring {scoring}"
    if provider_name != "cpu":
        scored += f", on {recognizer.provider}"
    rows: list[tuple[str, Evaluation]] = [(f"with LM: {lm.describe()}" if lm else "greedy, no LM", result)]
    if results.greedy:
        rows.insert(0, ("greedy, no LM", results.greedy))
    _print_rates(rows, f"{model} on {', '.join(path.name for path in manifests)}{scored}")


def _print_rates(results: Sequence[tuple[str, Evaluation]], title: str) -> None:
    """Print a table of error rates on stdout, with a part for each way to decode; the last one was timed."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    columns = ["", "error rate", "95 % interval", "ref", "sub", "del", "ins"]
    for name, result in results:
        rows = []
        for unit, counts, interval in (
            ("words", result.words, result.wer_interval),
            ("characters", result.characters, result.cer_interval),
        ):
            between = f"{interval[0]:.2%} to {interval[1]:.2%}" if interval else "too few utterances"
            figures = [counts.reference, counts.substitutions, counts.deletions, counts.insertions]
            rows.append([unit, f"{counts.rate:.2%}", between, *(f"{figure:,}" for figure in figures)])
        console.print(rich_table(f"{title}, {name}", columns, rows))
    result = results[-1][1]
    factor = result.real_time_factor
    speed = f", real-time factor {factor:.4f}" if factor else ""
    console.print(f"{len(result.scored):,} utterances, {result.audio_s / 3600:.2f} h{speed}")


command = evaluate
