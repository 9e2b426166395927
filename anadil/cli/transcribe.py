"""`anadil transcribe`."""

from __future__ import annotations

import enum
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anadil.cli.console import FAULT, ConsoleReporter, verb

if TYPE_CHECKING:
    from anadil.decoding.transcript import Transcript

EXAMPLE = "Example: anadil transcribe exported/mdw recordings/ --format json --out transcripts"


class Format(enum.StrEnum):
    TEXT = "text"
    JSON = "json"
    SRT = "srt"
    VTT = "vtt"
    TEXTGRID = "textgrid"
    EAF = "eaf"
    AUDACITY = "audacity"
    CTM = "ctm"


_SUFFIXES = {Format.TEXT: ".txt", Format.TEXTGRID: ".TextGrid", Format.AUDACITY: ".txt"}
"""File suffixes of the formats for which it is not the format's name."""
_ONE_RECORDING = (Format.SRT, Format.VTT, Format.TEXTGRID, Format.EAF, Format.AUDACITY)
"""Formats in which a file holds the transcript of one recording only."""


@verb
def transcribe(
    model: Annotated[Path, typer.Argument(help="Exported folder (fast, without PyTorch), model folder or .nemo.")],
    audio: Annotated[list[Path], typer.Argument(help="Audio files, and folders to search for them.")],
    form: Annotated[
        Format,
        typer.Option(
            "--format",
            help="json has word times and confidences; srt and vtt are subtitles; textgrid (Praat) and eaf (ELAN) have "
            "tiers of utterances and words.",
        ),
    ] = Format.TEXT,
    out: Annotated[
        Path | None, typer.Option(help="Folder for one file per recording; without it, everything goes to stdout.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace earlier transcripts.")] = False,
) -> None:
    """Recognise recordings of any length. One that cannot be read is named, the others are still recognised (exit status 1)."""
    from anadil.audio import file_notes, probe
    from anadil.errors import AnadilError
    from anadil.recognition.load import load

    sources = find_audio(audio)
    targets = plan_outputs(sources, form, out, force)
    recognizer = load(model)
    notes: Counter[str] = Counter()
    failed = 0
    with ConsoleReporter() as report:
        for done, source in enumerate(sources, start=1):
            try:
                notes.update(file_notes(probe(source)))
                _deliver(recognizer.transcribe(source), source, form, targets.get(source), alone=len(sources) == 1)
            except AnadilError as error:
                failed += 1
                report.warn(str(error))
            report.progress("transcribing", done, len(sources), source.name)
        for note, count in notes.items():
            report.warn(f"{count:,} x {note}")
    if failed:
        report.warn(f"{failed:,} of {len(sources):,} recordings could not be read")
        raise typer.Exit(FAULT)


def find_audio(paths: list[Path]) -> list[Path]:
    """Return the files, and in folders those that libsndfile reads, by name. Raises AnadilError if a folder has none."""
    from anadil.audio import EXTENSIONS
    from anadil.errors import AnadilError

    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in EXTENSIONS and file.is_file())
        if not inside:
            raise AnadilError(f"no audio in {path}: looked for {', '.join(sorted(EXTENSIONS))}\n  next: check the path")
        found += inside
    return list(dict.fromkeys(found))


def plan_outputs(sources: list[Path], form: Format, out: Path | None, force: bool) -> dict[Path, Path]:
    """Return the output file of each recording. Raises AnadilError before any work if names clash or files exist."""
    from anadil.errors import AnadilError
    from anadil.files import refuse_overwrite

    spaced = [str(source) for source in sources if form is Format.CTM and len(source.stem.split()) != 1]
    if spaced:
        raise AnadilError(
            f"CTM names cannot contain white space: {', '.join(spaced[:3])}\n  next: rename these recordings"
        )
    if out is None:
        if form in _ONE_RECORDING and len(sources) > 1:
            raise AnadilError(
                f"a file of format {form} holds one recording only, and there are {len(sources):,}\n"
                "  next: add --out DIR, to write one file per recording"
            )
        return {}
    suffix = _SUFFIXES.get(form, f".{form}")
    targets = {source: out / (source.stem + suffix) for source in sources}
    clashes = [str(target) for target, count in Counter(targets.values()).items() if count > 1]
    if clashes:
        targets = {source: out / (source.name + suffix) for source in sources}
        if len(set(targets.values())) < len(sources):
            raise AnadilError(
                f"several recordings would be written to {clashes[0]}\n"
                "  next: transcribe one folder at a time, each with its own --out"
            )
    for target in targets.values():
        refuse_overwrite(target, force)
    return targets


def _deliver(transcript: Transcript, source: Path, form: Format, target: Path | None, alone: bool) -> None:
    """Write one transcript to its file, or print it. With `alone`, text is printed without the file name."""
    from anadil.files import whole_file

    if form is Format.TEXT:
        content = (transcript.text if alone or target else f"{source}\t{transcript.text}") + "\n"
    else:
        content = _format(transcript, source, form)
    if target is None:
        print(content, end="", flush=True)
        return
    with whole_file(target) as beside:
        beside.write_text(content, encoding="utf-8", newline="\n")


def _format(transcript: Transcript, source: Path, form: Format) -> str:
    """The transcript as text in one of the formats with times."""
    if form is Format.JSON:
        import json

        return json.dumps({"audio_filepath": str(source)} | transcript.to_dict(), ensure_ascii=False) + "\n"
    from anadil.corpora import audacity, ctm, elan, subtitles, textgrid
    from anadil.decoding.cues import cues, word_segments

    if form is Format.CTM:
        words = ((word, max(0.0, word.end - word.start)) for word in transcript.words)
        return ctm.format_ctm(
            [ctm.TimedWord(source.stem, "1", word.start, length, word.text, word.confidence) for word, length in words]
        )
    utterances = cues(transcript)
    cue_formats = {
        Format.SRT: subtitles.format_srt,
        Format.VTT: subtitles.format_vtt,
        Format.AUDACITY: audacity.format_audacity,
    }
    if form in cue_formats:
        return cue_formats[form](utterances)
    tiers = {"utterances": utterances, "words": word_segments(transcript)}
    if form is Format.EAF:
        return elan.format_eaf(tiers, source)
    return textgrid.format_textgrid(tiers, transcript.duration)


command = transcribe
