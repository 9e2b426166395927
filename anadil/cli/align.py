"""`anadil align`."""

from __future__ import annotations

import enum
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anadil.cli.console import FAULT, ConsoleReporter, channel_option, verb
from anadil.cli.options import number

if TYPE_CHECKING:
    from anadil.audio import Channel
    from anadil.errors import Problem
    from anadil.manifest import Utterance
    from anadil.recognition.align import Aligned
    from anadil.recognition.alignment_files import Passage
    from anadil.recognition.recognizer import Recognizer
    from anadil.recognition.segment import Segmented

EXAMPLE = "Example: anadil align exported/mdw --segment sermon.mp3 sermon.txt --out segments"

_SHOWN = 3  # examples of each kind of what is left out


class Format(enum.StrEnum):
    JSON = "json"
    CTM = "ctm"
    TEXTGRID = "textgrid"
    EAF = "eaf"
    SRT = "srt"
    VTT = "vtt"


@verb
def align(
    model: Annotated[Path, typer.Argument(help="Exported folder (fast, without PyTorch), model folder or .nemo.")],
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="MANIFEST...", help="Manifests; with --segment a recording and its text file."),
    ],
    segment: Annotated[
        bool,
        typer.Option(
            "--segment",
            help="Cut a long recording into segments at pauses: give RECORDING TEXT. Text that is not spoken and speech that "
            "is not in the text are left out and listed.",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the manifests, the reports and --format; without it, a manifest to stdout."),
    ] = None,
    form: Annotated[
        Format | None,
        typer.Option(
            "--format",
            help="Also a file per recording: textgrid (Praat) and eaf (ELAN) have tiers of utterances, "
            "words and characters. Of ctm there is one file.",
        ),
    ] = None,
    max_duration: Annotated[
        float | None, number(2, 600, "With --segment: longest segment in seconds. [default: 20]")
    ] = None,
    min_score: Annotated[
        float | None, number(0, 1, "With --segment: segments of a lower score are left out. [default: 0.1]")
    ] = None,
    channel: Annotated[
        str | None,
        typer.Option(metavar="mix|left|right|N", help="With --segment: which channel to read. [default: mix]"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace earlier files.")] = False,
) -> None:
    """Find the times of the words and characters of a text that is known, or cut a long recording and its text into segments.

    Exit status 1 if something is left out; the rest is written nevertheless.
    """
    from anadil.recognition.load import load

    own = {"--max-duration": max_duration, "--min-score": min_score, "--channel": channel}
    _require_usage(sources, segment, out, form, [name for name, value in own.items() if value is not None])
    wanted = _channel(channel)
    if segment:
        recording, text_file = sources
        text = _read_inputs(recording, text_file)
        targets = _plan_segments(recording, out, form, force)
        recognizer = load(model, lm=True)
        with ConsoleReporter() as report:
            complete = _segment(
                recognizer, recording, text_file, text, wanted, max_duration, min_score, form, targets, report
            )
    else:
        complete = _align_manifests(model, sources, out, form, force)
    if not complete:
        raise typer.Exit(FAULT)


command = align


def _require_usage(
    sources: Sequence[Path], segment: bool, out: Path | None, form: Format | None, given: Sequence[str]
) -> None:
    """Raise BadParameter for a wrong combination of arguments and options."""
    if segment and len(sources) != 2:
        raise typer.BadParameter(f"--segment takes RECORDING TEXT, found {len(sources)} paths after the model")
    if not segment and given:
        raise typer.BadParameter(f"{', '.join(given)}: only with --segment")
    if form is not None and out is None:
        raise typer.BadParameter("--format writes files: add --out DIR")


def _channel(text: str | None) -> Channel:
    found = channel_option(text or "mix")
    if found == "split":
        raise typer.BadParameter("align one channel at a time: --channel 1, then --channel 2, each with its own text")
    return found


def _read_inputs(recording: Path, text_file: Path) -> str:
    """The text. Raises AnadilError if it cannot be read or is empty, or the recording cannot be opened."""
    from anadil.audio import probe
    from anadil.corpora.text_files import read_text
    from anadil.errors import AnadilError

    probe(recording)
    text = read_text(text_file)
    if not text.strip():
        raise AnadilError(f"{text_file}: the text is empty\n  next: give RECORDING TEXT, the text as UTF-8")
    return text


def _align_manifests(
    model: Path, manifests: Sequence[Path], out: Path | None, form: Format | None, force: bool
) -> bool:
    """Align and write each manifest. Returns whether everything was aligned."""
    from anadil.errors import AnadilError
    from anadil.files import refuse_overwrite
    from anadil.manifest import read_manifest
    from anadil.recognition.align import align_manifest
    from anadil.recognition.alignment_files import Passage, manifest_report, paths_of, suffix_of
    from anadil.recognition.load import load

    loaded = {path: read_manifest(path) for path in manifests}
    repeated = [name for name, n in Counter(path.stem for path in loaded).items() if n > 1]
    if repeated and out is not None:
        raise AnadilError(
            f"several manifests are called {repeated[0]}\n  next: align them one by one, each with its own --out"
        )
    recordings: dict[Path, dict[str, Path]] = {path: {} for path in loaded}
    if out is not None:
        for path, utterances in loaded.items():
            names = list(dict.fromkeys(one.audio_filepath for one in utterances))
            if form is not None and form is not Format.CTM:
                recordings[path] = paths_of(names, out / path.stem, suffix_of(form.value))
            for target in (*_files_of(out, path.stem, form), *recordings[path].values()):
                if target.resolve() == path.resolve():
                    raise AnadilError(f"{path} is an input, and cannot be written too\n  next: choose another --out")
                refuse_overwrite(target, force)
    recognizer = load(model, lm=False)
    complete = True
    with ConsoleReporter() as report:
        for path, utterances in loaded.items():
            found = align_manifest(recognizer, utterances, report.progress)
            _say_aligned(found, path, recognizer, report)
            complete = complete and not found.problems and not found.ignored
            if not found.utterances:
                raise AnadilError(f"{path}: no utterance is aligned\n  next: correct what is listed above")
            if out is None:
                _print_manifest(found.utterances)
                continue
            passages = [Passage(one, words) for one, words in zip(found.utterances, found.words, strict=True)]
            failed = _write(out, path.stem, form, found.utterances, manifest_report(found), passages, recordings[path])
            for problem in failed:
                report.warn(str(problem))
            complete = complete and not failed
            print(out / f"{path.stem}.jsonl")
    return complete


def _say_aligned(found: Aligned, path: Path, recognizer: Recognizer, report: ConsoleReporter) -> None:
    """What a user should know of an aligned manifest."""
    from anadil.decoding.labelled_text import cuts_words
    from anadil.recognition.align import DOUBTFUL

    for problem in found.problems[:10]:
        report.warn(str(problem))
    if len(found.problems) > 10:
        report.warn(f"... and {len(found.problems) - 10:,} more")
    if found.problems:
        report.warn(f"{path}: {len(found.problems):,} of {found.total:,} utterances are not aligned")
    _warn_characters(found.ignored, report)
    if not cuts_words(recognizer.rules):
        report.warn("the model's labels have no space: words are not cut, the characters have times")
    for one, score in found.doubtful[:_SHOWN]:
        report.warn(f"{one.source or one.audio_filepath}: score {score:.3f}: the text may not be what is spoken")
    if found.doubtful:
        report.warn(f"{len(found.doubtful):,} utterances have a score below {DOUBTFUL:g}")
    n_words = sum(map(len, found.words))
    report.say(
        f"{path}: aligned {len(found.utterances):,} of {found.total:,} utterances, {n_words:,} words; the spikes are "
        f"{1000 * found.delay.start_s:.0f} ms late at the start and {1000 * found.delay.end_s:.0f} ms early at the end of "
        "words, which is corrected"
    )


def _warn_characters(ignored: Counter[str], report: ConsoleReporter) -> None:
    from anadil.text.rules import describe

    if ignored:
        listed = ", ".join(f"{describe(one)} {count:,} x" for one, count in ignored.most_common(5))
        more = f" and {len(ignored) - 5:,} others" if len(ignored) > 5 else ""
        report.warn(f"{ignored.total():,} characters have no label in the model and are not aligned: {listed}{more}")


def _plan_segments(recording: Path, out: Path | None, form: Format | None, force: bool) -> Path | None:
    """The folder. Raises AnadilError if a file in it exists."""
    from anadil.files import refuse_overwrite
    from anadil.recognition.alignment_files import suffix_of

    if out is not None:
        targets = _files_of(out, recording.stem, form)
        if form is not None and form is not Format.CTM:
            targets.append(out / (recording.stem + suffix_of(form.value)))
        for target in targets:
            refuse_overwrite(target, force)
    return out


def _segment(
    recognizer: Recognizer,
    recording: Path,
    text_file: Path,
    text: str,
    channel: Channel,
    max_duration: float | None,
    min_score: float | None,
    form: Format | None,
    out: Path | None,
    report: ConsoleReporter,
) -> bool:
    """Segment a recording and write the result. Returns whether nothing is left out."""
    from anadil.errors import AnadilError
    from anadil.recognition.alignment_files import Passage, segment_report, suffix_of
    from anadil.recognition.segment import SegmentLimits, segment_recording

    usual = SegmentLimits()
    limits = SegmentLimits(
        usual.longest_s if max_duration is None else max_duration, usual.least_score if min_score is None else min_score
    )
    try:
        found = segment_recording(recognizer, recording, text, limits, channel, report.progress)
    except AnadilError as error:
        where = "" if str(recording) in str(error) else f"{text_file}: "
        raise AnadilError(f"{where}{error}") from error
    _say_segments(found, recognizer, report)
    if not found.segments:
        raise AnadilError(
            f"{recording}: no segment is kept\n  next: check that the text belongs to it; a lower --min-score than "
            f"{limits.least_score:g} keeps doubtful ones"
        )
    if out is None:
        _print_manifest(found.segments)
        if found.left_out:
            report.say("next: add --out DIR, for a report of all that is left out")
    else:
        passages = [Passage(one, words) for one, words in zip(found.segments, found.words, strict=True)]
        target = {} if form is None else {str(recording): out / (recording.stem + suffix_of(form.value))}
        content = segment_report(found, recording, text_file)
        failed = _write(out, recording.stem, form, found.segments, content, passages, target)
        for problem in failed:
            report.warn(str(problem))
        if failed:
            return False
        if found.left_out:
            report.say(f"what is left out: {out / f'{recording.stem}.report.json'}")
        print(out / f"{recording.stem}.jsonl")
    return not found.left_out and not found.ignored


def _say_segments(found: Segmented, recognizer: Recognizer, report: ConsoleReporter) -> None:
    """What a user should know of the segments, and of what is left out."""
    from anadil.decoding.labelled_text import cuts_words
    from anadil.errors import shortened

    _warn_characters(found.ignored, report)
    if not cuts_words(recognizer.rules):
        report.warn("the model's labels have no space: words are not cut, the characters have times")
    for reason, count in Counter(one.reason for one in found.left_out).most_common():
        some = found.of(reason)
        seconds = sum(one.end - one.start for one in some if one.recognized or one.score is not None)
        report.warn(f"{reason}: {count:,} x" + (f", {seconds:.1f} s" if seconds else ""))
        for one in some[:_SHOWN]:
            line = f", line {one.line:,}" if one.line else ""
            content = shortened(one.text or f"recognised as: {one.recognized}", 100)
            report.say(f"  {one.start:.1f} to {one.end:.1f} s{line}: {content}")
    if found.n_cuts_without_pause:
        report.warn(
            f"{found.n_cuts_without_pause:,} cuts are not at a pause: the speech between two pauses is too long"
        )
    kept_s = sum(one.duration or 0.0 for one in found.segments)
    n_kept = sum(map(len, found.words))
    report.say(
        f"{len(found.segments):,} segments, {kept_s / 60:.1f} of {found.duration / 60:.1f} minutes, "
        f"{n_kept:,} of {found.n_words:,} words"
    )


def _files_of(out: Path, stem: str, form: Format | None) -> list[Path]:
    """Manifest and report, and the CTM file."""
    names = [f"{stem}.jsonl", f"{stem}.report.json", *([f"{stem}.ctm"] if form is Format.CTM else [])]
    return [out / name for name in names]


def _write(
    out: Path,
    stem: str,
    form: Format | None,
    utterances: Sequence[Utterance],
    report: dict[str, Any],
    passages: Sequence[Passage],
    targets: dict[str, Path],
) -> list[Problem]:
    """Write all files of a manifest or of a recording. Returns the recordings that the format cannot hold."""
    from anadil.errors import AnadilError, Problem
    from anadil.files import whole_file
    from anadil.manifest import write_manifest
    from anadil.recognition.alignment_files import format_recording, format_words

    failed: list[Problem] = []
    left_out = {"left_out": report["left_out"]} if "left_out" in report else {}

    def write(target: Path, content: str) -> None:
        with whole_file(target) as beside:
            beside.write_text(content, encoding="utf-8", newline="\n")

    if form is Format.CTM:
        try:
            write(out / f"{stem}.ctm", format_words(passages))
        except AnadilError as error:
            failed.append(Problem(str(out / f"{stem}.ctm"), str(error)))
    elif form is not None:
        for recording, target in targets.items():
            own = [one for one in passages if one.utterance.audio_filepath == recording]
            try:
                if own:
                    write(target, format_recording(form.value, recording, own, left_out))
            except AnadilError as error:
                failed.append(Problem(str(target), str(error)))
    write(out / f"{stem}.report.json", json.dumps(report, ensure_ascii=False, indent=1) + "\n")
    write_manifest(out / f"{stem}.jsonl", utterances)
    return failed


def _print_manifest(utterances: Sequence[Utterance]) -> None:
    from anadil.manifest import write_manifest_to

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "manifest.jsonl"
        write_manifest_to(file, Path.cwd(), utterances)
        print(file.read_text(encoding="utf-8"), end="")
