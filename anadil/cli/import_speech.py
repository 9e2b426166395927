"""`anadil import`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anadil.cli.console import ConsoleReporter, channel_option, rich_table, verb

if TYPE_CHECKING:
    from anadil.corpora.catalog import CorpusKind
    from anadil.corpora.importing import ImportResult

EXAMPLE = "Example: anadil import common-voice cv-corpus-tr.tar.gz --out data/tr"

_SHOWN_REASONS, _SHOWN_EXAMPLES = 20, 3
_NOT_OFFICIAL = ("validated", "invalidated", "other")
"""Common Voice: `validated` contains the official splits; the clips of the other two are not validated."""


@verb
def import_speech(
    kind: Annotated[str, typer.Argument(help="Kind of source: a name from `anadil corpora`.")],
    source: Annotated[Path, typer.Argument(help="Folder, file or archive.")],
    out: Annotated[Path, typer.Option(help="Folder for the manifests.")],
    lang: Annotated[str | None, typer.Option(help="Language code, if the source does not give it.")] = None,
    audio: Annotated[
        Path | None,
        typer.Option(help="The recording, or the folder with the recordings, if they are not beside the source."),
    ] = None,
    tier: Annotated[
        list[str] | None,
        typer.Option(help='Name of a tier with the text, a list A,B, or a pattern such as "tx@*"; may be repeated.'),
    ] = None,
    tier_type: Annotated[
        list[str] | None, typer.Option(help="Type of the tiers with the text (ELAN: linguistic type); may be repeated.")
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Encoding of text files that are not UTF-8, such as cp1252 or mac_roman.")
    ] = None,
    audio_column: Annotated[str | None, typer.Option(help="Column of a table that names the audio files.")] = None,
    text_column: Annotated[str | None, typer.Option(help="Column with the texts.")] = None,
    speaker_column: Annotated[str | None, typer.Option(help="Column with the speakers.")] = None,
    wav: Annotated[bool, typer.Option("--wav", help="Convert the audio to 16 kHz mono WAV below --out.")] = False,
    channel: Annotated[
        str | None,
        typer.Option(
            metavar="mix|split|left|right|N",
            help="Channel of all utterances; mix averages. split takes for each the channel that is louder in it, by 3 dB "
            "or more: for two speakers on two channels. Without it, as the source says, or mix.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace earlier manifests.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the tables as JSON.")] = False,
) -> None:
    """Turn a corpus, annotation files or a table into manifests; list what cannot be used, with the reason."""
    import json

    from anadil.corpora.catalog import find_kind
    from anadil.corpora.importing import import_speech as run
    from anadil.corpora.reader import Options
    from anadil.errors import AnadilError

    wanted = None if channel is None else channel_option(channel)
    corpus_kind = find_kind(kind)
    options = Options(lang, audio, tier or None, tier_type or None, audio_column, text_column, speaker_column, encoding)
    with ConsoleReporter() as report:
        result = run(corpus_kind, source, options, out, wav, force, report.progress, wanted)
    if not result.splits:
        reasons = "\n".join(
            f"  {reason} ({n:,}), for example {examples[0]}" for reason, n, examples in _summarize_rejected(result)
        )
        raise AnadilError(
            f"nothing in {source} can be used: all {len(result.rejected):,} entries were rejected:\n{reasons}\n"
            f"  next: correct these (listed in {out / 'rejected.jsonl'}), or check KIND and SOURCE: "
            f"anadil corpora {corpus_kind.name}"
        )
    if as_json:
        print(json.dumps(_to_json(corpus_kind, source, out, result), ensure_ascii=False, indent=1))
    else:
        _print_tables(out, result)
        print(end="".join(f"{line}\n" for line in describe_notes(result)))
    _report_next_steps(corpus_kind, out, result, report)


import_speech.__name__ = "import"  # the verb is a Python keyword, which cannot name a function
command = import_speech


def _summarize_rejected(result: ImportResult) -> list[tuple[str, int, list[str]]]:
    """Reason, count and examples of what was rejected, the most frequent reason first."""
    return [
        (reason, len(problems), [str(problem).partition("\n")[0] for problem in problems[:_SHOWN_EXAMPLES]])
        for reason, problems in list(result.reasons.items())[:_SHOWN_REASONS]
    ]


def describe_notes(result: ImportResult) -> list[str]:
    """Lines about what was assumed or removed, and at the end how many utterances of which tiers there are."""
    notes, lines = result.notes, []
    for remark, n_files in notes.remarks.most_common(_SHOWN_REASONS):
        lines.append(remark if n_files == 1 else f"{remark} ({n_files:,} files)")
    if len(notes.remarks) > _SHOWN_REASONS:
        lines.append(f"... and {len(notes.remarks) - _SHOWN_REASONS:,} more remarks like these")
    if notes.removed:
        lines.append(f"removed from texts: {_counts(notes.removed)}")
    if result.annotations:
        lines.append(f'kept beside the texts, as "annotations": {_counts(result.annotations)}')
    if result.tiers:
        n, m = result.tiers.total(), notes.left.total()
        left = f": {_counts(notes.left)}" if m else ""
        of = f"utterance{'s' * (n != 1)} of tier{'s' * (len(result.tiers) != 1)} {_counts(result.tiers)}"
        lines.append(f"{n:,} {of}; {m:,} annotation{'s' * (m != 1)} of other tiers left{left}")
    return lines


def _counts(counter: Counter[str]) -> str:
    """Names with their counts, the most frequent first; what follows the first 20 is counted together."""
    shown = [f"{name!r} ({n:,})" for name, n in counter.most_common(_SHOWN_REASONS) if n]
    n_more = counter.total() - sum(n for _, n in counter.most_common(_SHOWN_REASONS))
    return ", ".join(shown) + (f" and others ({n_more:,})" if n_more else "")


def _to_json(kind: CorpusKind, source: Path, out: Path, result: ImportResult) -> dict[str, Any]:
    """The printed tables as data for JSON."""
    from anadil.corpora.importing import total_hours

    return {
        "kind": kind.name,
        "source": str(source),
        "splits": {
            split: {
                "manifest": str(result.manifests[split]),
                "utterances": len(utterances),
                "hours": round(total_hours(utterances), 6),
                "speakers": len({utterance.speaker for utterance in utterances if utterance.speaker}),
            }
            for split, utterances in result.splits.items()
        },
        "channels": {str(channel): n for channel, n in sorted(result.channels.items())},
        "tiers": {
            "taken": dict(result.tiers),
            "left": dict(result.notes.left),
            "kept_in_annotations": dict(result.annotations),
        },
        "removed_from_texts": dict(result.notes.removed),
        "remarks": list(result.notes.remarks),
        "rejected": {
            "count": len(result.rejected),
            "list": str(out / "rejected.jsonl"),
            "reasons": [
                {"reason": reason, "count": n, "examples": examples}
                for reason, n, examples in _summarize_rejected(result)
            ],
        },
    }


def _print_tables(out: Path, result: ImportResult) -> None:
    """Print the table of splits, and what was rejected."""
    from rich.console import Console

    from anadil.corpora.importing import total_hours

    console = Console(highlight=False, markup=False)
    rows = []
    for split, utterances in result.splits.items():
        speakers = {utterance.speaker for utterance in utterances if utterance.speaker}
        length = total_hours(utterances)
        n_speakers = f"{len(speakers):,}" if speakers else "unknown"
        counts = [f"{len(utterances):,}", f"{length:.2f}" if length >= 0.1 else f"{length:.4f}", n_speakers]
        rows.append([result.manifests[split].name, *counts])
    print(f"imported to {out}")
    console.print(rich_table("", ["manifest", "utterances", "hours", "speakers"], rows))
    if result.channels:
        print(
            "channels:", ", ".join(f"{n:,} utterances of channel {one}" for one, n in sorted(result.channels.items()))
        )
    if not result.rejected:
        return
    print(f"rejected: {len(result.rejected):,}, listed in {out / 'rejected.jsonl'}")
    for reason, n, examples in _summarize_rejected(result):
        print(f"  {n:,} x {reason}")
        for example in examples:
            print(f"      {example}")


def _report_next_steps(kind: CorpusKind, out: Path, result: ImportResult, report: ConsoleReporter) -> None:
    """Report the next commands. `anadil check` gets the official splits alone, as `validated` overlaps with them."""
    official = {split: path for split, path in result.manifests.items() if split not in _NOT_OFFICIAL}
    manifests = " ".join(str(path) for path in (official or result.manifests).values())
    report.say(f"next: anadil check {manifests}")
    if not kind.splits:
        report.say(
            f"then: anadil split {manifests} --out {out / 'split'} (splits that share no speaker and no sentence)"
        )
    elif "validated" in result.splits:
        report.say(
            "the release's splits contain only a part of validated.jsonl; to use all of it:\n"
            f"      anadil split {result.manifests['validated']} --out {out / 'split'}"
        )
