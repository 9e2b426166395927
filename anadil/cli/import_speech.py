"""`anadil import`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anadil.cli.console import ConsoleReporter, rich_table, verb

if TYPE_CHECKING:
    from anadil.corpora.catalog import CorpusKind
    from anadil.corpora.importing import ImportResult

EXAMPLE = "Example: anadil import common-voice cv-corpus-tr.tar.gz --out data/tr"

SHOWN_REASONS, SHOWN_EXAMPLES = 20, 3
OVERLAPPING = ("validated", "invalidated", "other")  # Common Voice: the first holds its splits, the others no good ones


@verb
def import_speech(
    kind: Annotated[str, typer.Argument(help="What SOURCE is: a name that `anadil corpora` lists.")],
    source: Annotated[Path, typer.Argument(help="Folder, file or archive.")],
    out: Annotated[Path, typer.Option(help="Folder for the manifests.")],
    lang: Annotated[str | None, typer.Option(help="Language code, where the source does not tell it.")] = None,
    audio: Annotated[Path | None, typer.Option(help="Recording, or folder of them, if not beside the source.")] = None,
    tier: Annotated[str | None, typer.Option(help="Name of the tier with the text.")] = None,
    tier_type: Annotated[str | None, typer.Option(help="Linguistic type of the tiers with the text (ELAN).")] = None,
    audio_column: Annotated[str | None, typer.Option(help="Column of a table with the audio files.")] = None,
    text_column: Annotated[str | None, typer.Option(help="Column with the texts.")] = None,
    speaker_column: Annotated[str | None, typer.Option(help="Column with the speakers.")] = None,
    wav: Annotated[bool, typer.Option("--wav", help="Convert the audio to 16 kHz mono WAV below --out.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace earlier manifests.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the tables as JSON.")] = False,
) -> None:
    """Corpus, annotation files or a table to manifests; what cannot be used is listed with its reason."""
    import json

    from anadil.corpora.catalog import find
    from anadil.corpora.importing import import_speech as run
    from anadil.corpora.reader import Options
    from anadil.errors import AnadilError

    known = find(kind)
    options = Options(lang, audio, tier, tier_type, audio_column, text_column, speaker_column)
    with ConsoleReporter() as report:
        found = run(known, source, options, out, wav, force, report.progress)
    if not found.splits:
        reasons = "\n".join(f"  {reason} ({n:,}), as {examples[0]}" for reason, n, examples in summary(found))
        raise AnadilError(
            f"nothing of {source} can be used, all {len(found.rejected):,} are rejected:\n{reasons}\n"
            f"  next: mend these (all are in {out / 'rejected.jsonl'}), or check KIND and SOURCE: anadil corpora {known.name}"
        )
    if as_json:
        print(json.dumps(figures(known, source, out, found), ensure_ascii=False, indent=1))
    else:
        show(out, found)
    say_next(known, out, found, report)


import_speech.__name__ = "import"  # the verb, which is no name for a function
command = import_speech


def summary(found: ImportResult) -> list[tuple[str, int, list[str]]]:
    """Reason, count and examples, the most frequent first."""
    return [
        (reason, len(problems), [str(problem).partition("\n")[0] for problem in problems[:SHOWN_EXAMPLES]])
        for reason, problems in list(found.reasons.items())[:SHOWN_REASONS]
    ]


def figures(kind: CorpusKind, source: Path, out: Path, found: ImportResult) -> dict[str, Any]:
    """The tables as JSON."""
    from anadil.corpora.importing import total_hours

    return {
        "kind": kind.name,
        "source": str(source),
        "splits": {
            split: {
                "manifest": str(found.manifests[split]),
                "utterances": len(utterances),
                "hours": round(total_hours(utterances), 6),
                "speakers": len({utterance.speaker for utterance in utterances if utterance.speaker}),
            }
            for split, utterances in found.splits.items()
        },
        "rejected": {
            "count": len(found.rejected),
            "list": str(out / "rejected.jsonl"),
            "reasons": [{"reason": reason, "count": n, "examples": examples} for reason, n, examples in summary(found)],
        },
    }


def show(out: Path, found: ImportResult) -> None:
    """Table of splits, and of what was rejected, on stdout."""
    from rich.console import Console

    from anadil.corpora.importing import total_hours

    console = Console(highlight=False, markup=False)
    rows = []
    for split, utterances in found.splits.items():
        speakers = {utterance.speaker for utterance in utterances if utterance.speaker}
        length = total_hours(utterances)
        told = f"{len(speakers):,}" if speakers else "not told"
        counts = [f"{len(utterances):,}", f"{length:.2f}" if length >= 0.1 else f"{length:.4f}", told]
        rows.append([found.manifests[split].name, *counts])
    print(f"imported to {out}")
    console.print(rich_table("", ["manifest", "utterances", "hours", "speakers"], rows))
    if not found.rejected:
        return
    print(f"rejected: {len(found.rejected):,}, all listed in {out / 'rejected.jsonl'}")
    for reason, n, examples in summary(found):
        print(f"  {n:,} x {reason}")
        for example in examples:
            print(f"      {example}")


def say_next(kind: CorpusKind, out: Path, found: ImportResult, report: ConsoleReporter) -> None:
    """The commands that follow. Splits that overlap with others are not checked against these."""
    official = {split: path for split, path in found.manifests.items() if split not in OVERLAPPING}
    manifests = " ".join(str(path) for path in (official or found.manifests).values())
    report.say(f"next: anadil check {manifests}")
    if not kind.splits:
        report.say(f"then: anadil split {manifests} --out {out / 'split'} (no speaker and no sentence in two of them)")
    elif "validated" in found.splits:
        report.say(
            "most of validated.jsonl is in no split of the release; to use all of it:\n"
            f"      anadil split {found.manifests['validated']} --out {out / 'split'}"
        )
