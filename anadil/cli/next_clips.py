"""`anadil next`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anadil.cli.console import FAULT, ConsoleReporter, rich_table, verb
from anadil.cli.options import number

if TYPE_CHECKING:
    from anadil.manifest import Utterance

SHOWN = 10

EXAMPLE = "Example: anadil next exported/mdw recordings/ --transcribed train.jsonl --minutes 60 --out next.jsonl"


@verb
def next_clips(
    model: Annotated[Path, typer.Argument(help="Exported folder (fast, without PyTorch), model folder or .nemo.")],
    speech: Annotated[
        list[Path], typer.Argument(help="Manifests, audio files, and folders that are searched for some.")
    ],
    out: Annotated[Path, typer.Option(help="Manifest of the clips in the order to transcribe them.")],
    transcribed: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="MANIFEST", help="Speech that has texts: it is left out, and what it says counts as known."
        ),
    ] = None,
    minutes: Annotated[
        float | None, number(0.01, 1e6, "So much speech at most.", show_default="all of it, in order")
    ] = None,
    max_duration: Annotated[float, number(2, 60, "Seconds; longer recordings are cut at pauses.")] = 20.0,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier file.")] = False,
) -> None:
    """Rank untranscribed clips by what transcribing them would teach: the model is unsure of them, and they say something new.

    Each line has the model's text as pred_text, a draft to correct. Speakers are balanced where the manifest names them.
    Utterances of a manifest that have a text count as transcribed. Exit status 1 if a recording could not be read.
    """
    from dataclasses import replace

    from anadil.cli.pseudo_label import read_speech
    from anadil.errors import AnadilError
    from anadil.files import refuse_overwrite
    from anadil.manifest import read_manifests, write_manifest
    from anadil.recognition.load import load
    from anadil.recognition.next_clips import ranked
    from anadil.recognition.pseudo_labels import DurationLimits, pseudo_label, stretches_of

    refuse_overwrite(out, force)
    known = read_manifests(transcribed or ())
    recognizer = load(model)
    utterances = read_speech(speech, recognizer.rules.language)
    known += [one for one in utterances if one.text.strip()]
    without_text = [one for one in utterances if not one.text.strip()]
    with ConsoleReporter() as report:
        if len(without_text) < len(utterances):
            report.say(f"{len(utterances) - len(without_text):,} utterances have a text: they count as transcribed")
        limits = DurationLimits(longest_s=max_duration)
        found = pseudo_label(
            recognizer, without_text, 0.0, recognizer.name, limits, stretches_of(known), report.progress
        )
        known = [replace(one, text=recognizer.rules.normalize(one.text)) for one in known]
        order = ranked(found.kept, known, float("inf") if minutes is None else 60 * minutes)
        for reason, count in found.reasons.most_common():
            report.say(f"left out: {count:,} x {reason}")
        damaged = [one for one in found.rejected if one.extra["reason"].startswith("not readable")]
        for one in damaged[:SHOWN]:
            report.warn(f"{one.extra['where']}: {one.extra['reason']}")
        if not order:
            raise AnadilError(
                f"no clip is left to transcribe, of {len(utterances):,} given\n"
                "  next: give more recordings, or fewer with --transcribed"
            )
        write_manifest(out, order)
        _print_first(order)
        total_s = sum(one.duration or 0.0 for one in order)
        report.say(f"{len(order):,} clips, {total_s / 60:.1f} minutes, in the order to transcribe them: {out}")
        report.say(
            "next: write each clip's text into the key text (pred_text is the model's draft), then train on both manifests"
        )
    print(out)
    if damaged:
        raise typer.Exit(FAULT)


next_clips.__name__ = "next"  # the verb is a builtin of Python, which a function should not hide
command = next_clips


def _print_first(order: Sequence[Utterance]) -> None:
    from rich.console import Console

    from anadil.manifest import CONFIDENCE

    rows = [
        [
            str(one.extra["rank"]),
            f"{Path(one.audio_filepath).name} {one.offset:.1f}",
            f"{one.duration:.1f}",
            one.speaker or "",
            f"{one.extra[CONFIDENCE]:.2f}",
            one.extra["pred_text"][:40],
        ]
        for one in order[:SHOWN]
    ]
    columns = ["rank", "clip, from s", "s", "speaker", "confidence", "draft"]
    Console(highlight=False, soft_wrap=True, stderr=True).print(rich_table("The first to transcribe", columns, rows))
