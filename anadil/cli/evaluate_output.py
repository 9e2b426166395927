"""What `anadil evaluate` prints, and the file of its `--json`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anadil.cli.console import rate_with_interval, rich_table

if TYPE_CHECKING:
    from anadil.evaluation.analysis import Analysis
    from anadil.evaluation.paired import Difference
    from anadil.evaluation.several import Part
    from anadil.recognition.evaluate_model import Run, Task

SCHEMA_VERSION = 1
"""Of the file of `--json`, which docs/evaluation.md describes. It is raised when a key changes its meaning or goes."""

_GROUPS_SHOWN = 6


def write_figures(path: Path, task: Task, run: Run) -> None:
    """Write the file of `--json`, whole or not at all."""
    from anadil.files import write_json
    from anadil.recognition.evaluate_model import n_pseudo_labels

    main = run.analyses[-1]
    figures: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "model": str(task.model),
        "manifests": [str(manifest) for manifest in task.manifests],
        "provider": run.provider,
        "lm": run.lm,
        "scoring": task.scoring,
        "pseudo_labels": n_pseudo_labels(main.evaluation),
        "skipped_empty_references": run.n_skipped,
        "notes": run.all_notes,
        "leakage": run.leakage and run.leakage.to_dict(),
    } | main.to_dict()
    if len(run.analyses) > 1:
        figures["greedy"] = run.analyses[0].to_dict()
    if run.together and run.parts:
        figures["repeated_utterances"] = run.together.n_repeated
        figures["by_manifest"] = parts_to_list(run.parts)
    if run.in_noise:
        figures["noise"] = str(task.noise)
        figures["in_noise"] = [one.to_dict() for one in run.in_noise]
    write_json(path, figures)


def parts_to_list(parts: Sequence[tuple[str, Sequence[Part]]]) -> list[dict[str, Any]]:
    """JSON-ready: an object for each manifest, in the main way to decode, with the key greedy if there is another."""
    found = [one.to_dict() for one in parts[-1][1]]
    if len(parts) > 1:
        for figures, greedy in zip(found, parts[0][1], strict=True):
            figures["greedy"] = greedy.evaluation and greedy.evaluation.to_dict()
    return found


def print_rates(task: Task, run: Run) -> None:
    """Print a table of error rates on stdout, with a part for each way to decode; the last one was timed."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    title = task.title + ("" if task.scoring == "plain" else f", scoring {task.scoring}")
    for analysis in run.analyses:
        columns = ["", "error rate", "95 % interval", "ref", "sub", "del", "ins"]
        console.print(rich_table(f"{title}, {analysis.name}", columns, _rates(analysis)))
    for line in _details(run.analyses[-1], left_out="manifest" if run.parts else ""):
        console.print(line, markup=False)
    result = run.analyses[-1].evaluation
    factor = result.real_time_factor
    speed = f", real-time factor {factor:.4f}" if factor else ""
    console.print(f"{len(result.scored):,} utterances, {result.audio_s / 3600:.2f} h{speed}")
    if run.parts:
        console.print(_manifest_table(run.parts))
    if run.in_noise:
        for number in range(len(run.ways)):
            console.print(_noise_table(run, number))


def _rates(analysis: Analysis) -> list[list[str]]:
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
    return rows


def _manifest_table(parts: Sequence[tuple[str, Sequence[Part]]]) -> object:
    """A row for each manifest; with two ways to decode a second row below it."""
    ways, rows = [name.split(",")[0].split(":")[0] for name, _ in parts], []
    for row in zip(*(own for _, own in parts), strict=True):
        for way, part in zip(ways, row, strict=True):
            found = part.evaluation
            first = [part.name, f"{len(found.scored):,}" if found else "skipped"] if part is row[0] else ["", ""]
            rates = [(found.wer, found.wer_interval), (found.cer, found.cer_interval)] if found else []
            rows.append([*first, way, *(rate_with_interval(*one) for one in rates)])
    return rich_table("Each manifest alone, 95 % intervals", ["manifest", "utterances", "", "WER", "CER"], rows)


def _noise_table(run: Run, number: int) -> object:
    """WER and CER of one way to decode, clean and at each signal-to-noise ratio, with the difference to clean in points."""
    name, clean = run.ways[number]
    rows = [
        ["clean", "WER", rate_with_interval(clean.wer, clean.wer_interval), ""],
        ["", "CER", rate_with_interval(clean.cer, clean.cer_interval), ""],
    ]
    for one in run.in_noise:
        found, compared = one.ways[number][1], one.to_clean[number]
        rates = rate_with_interval(found.wer, found.wer_interval), rate_with_interval(found.cer, found.cer_interval)
        rows.append([one.name, "WER", rates[0], _points(compared.words)])
        rows.append(["", "CER", rates[1], _points(compared.characters)])
    return rich_table(f"In noise, {name}", ["SNR", "", "95 % interval", "points more than clean"], rows)


def _points(found: Difference) -> str:
    between = f" ({100 * found.interval[0]:+.1f} to {100 * found.interval[1]:+.1f})" if found.interval else ""
    return f"{100 * found.difference:+.1f}{between}"


def _details(analysis: Analysis, left_out: str) -> list[str]:
    """One line for each further measure, and each key to group by but one."""
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
        if key == left_out:
            continue
        shown = ", ".join(f"{one.name} {one.words.rate:.1%} ({one.n_utterances:,})" for one in groups[:_GROUPS_SHOWN])
        lines.append(f"WER by {key}: {shown}" + ", ..." * (len(groups) > _GROUPS_SHOWN))
    return lines
