"""`anadil pseudo-label`."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anadil.cli.console import ConsoleReporter, verb
from anadil.cli.options import number

if TYPE_CHECKING:
    from anadil.manifest import Utterance
    from anadil.recognition.pseudo_labels import Calibration, DurationLimits, PseudoLabels
    from anadil.recognition.recognizer import Recognizer

HALF_WRONG = 0.5  # above this character error rate no threshold is suggested

EXAMPLE = (
    "Example: anadil pseudo-label exported/mdw recordings/ --calibrate valid.jsonl --max-cer 0.15 --out pseudo.jsonl"
)


@verb
def pseudo_label(
    model: Annotated[Path, typer.Argument(help="Exported folder (fast, without PyTorch), model folder or .nemo.")],
    speech: Annotated[
        list[Path], typer.Argument(help="Manifests, audio files, and folders that are searched for some.")
    ],
    out: Annotated[
        Path, typer.Option(help="Manifest of the kept utterances; NAME.rejected.jsonl beside it has the others.")
    ],
    calibrate: Annotated[
        list[Path] | None,
        typer.Option(metavar="MANIFEST", help="Labelled validation data, to find the threshold for --max-cer."),
    ] = None,
    max_cer: Annotated[
        float | None,
        number(0.001, 1, "Largest character error rate of the kept texts: 0.15 is 15 %."),
    ] = None,
    min_confidence: Annotated[
        float | None,
        number(
            0,
            1,
            "Instead of --calibrate: keep texts of at least this confidence; their error rate is then unknown.",
        ),
    ] = None,
    exclude: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="MANIFEST", help="Speech that must not be labelled: a test set, or speech that has texts."
        ),
    ] = None,
    max_duration: Annotated[float, number(2, 60, "Seconds; longer recordings are cut at pauses.")] = 20.0,
    min_duration: Annotated[float, number(0, 60, "Seconds; shorter ones are rejected.")] = 0.1,
    force: Annotated[bool, typer.Option("--force", help="Replace earlier files.")] = False,
) -> None:
    """Transcribe speech that has no text, and keep the texts of high confidence as training data.

    The threshold is calibrated: it is the lowest confidence at which the kept validation utterances have at most the
    wanted character error rate, including its 95 % interval. Language, speaker and licence of the input are kept.
    """
    from anadil.manifest import read_manifests, write_manifest
    from anadil.recognition.load import load
    from anadil.recognition.pseudo_labels import DurationLimits, stretches_of
    from anadil.recognition.pseudo_labels import pseudo_label as label

    _require_threshold(calibrate, max_cer, min_confidence)
    rejected = _plan_rejected(out, [*speech, *(calibrate or ()), *(exclude or ())], force)
    valid, known = read_manifests(calibrate or ()), read_manifests(exclude or ())
    recognizer = load(model)
    utterances = read_speech(speech, recognizer.rules.language)
    limits = DurationLimits(min_duration, max_duration)
    with ConsoleReporter() as report:
        least = min_confidence
        if least is None:
            assert max_cer is not None
            least = calibrated(recognizer, valid, limits, max_cer, report)
        else:
            report.warn("the threshold is not calibrated: the error rate of the kept texts is unknown")
        found = label(
            recognizer, utterances, least, recognizer.name, limits, stretches_of([*valid, *known]), report.progress
        )
        write_manifest(rejected, found.rejected)
        _report_labels(found, recognizer, least, rejected, report)
        write_manifest(out, found.kept)
        report.say(f"next: anadil train CONFIG data.train=[train.jsonl,{out}] (docs/self-training.md)")
    print(out)


command = pseudo_label


def _require_threshold(calibrate: Sequence[Path] | None, max_cer: float | None, min_confidence: float | None) -> None:
    """Raise BadParameter unless the threshold is either calibrated or given."""
    if min_confidence is not None and (calibrate or max_cer is not None):
        raise typer.BadParameter("give either --calibrate MANIFEST with --max-cer RATE, or --min-confidence")
    if min_confidence is None and not (calibrate and max_cer is not None):
        raise typer.BadParameter(
            "give --calibrate MANIFEST (labelled validation data) with --max-cer RATE, "
            "or --min-confidence, which is not calibrated"
        )


def _plan_rejected(out: Path, inputs: Sequence[Path], force: bool) -> Path:
    """Return the path for rejected utterances. Raises AnadilError if it or `out` exists without --force, or is an input."""
    from anadil.errors import AnadilError
    from anadil.files import refuse_overwrite

    rejected = out.with_name(f"{out.name.removesuffix('.jsonl')}.rejected.jsonl")
    for path in (out, rejected):
        if path.resolve() in {given.resolve() for given in inputs}:
            raise AnadilError(f"{path} is an input, and cannot be written too\n  next: choose another --out")
        refuse_overwrite(path, force)
    return rejected


def read_speech(paths: Sequence[Path], language: str | None) -> list[Utterance]:
    """Return the utterances of manifests, and one per audio file; these get the model's language."""
    from anadil.cli.transcribe import find_audio
    from anadil.errors import AnadilError
    from anadil.manifest import Utterance, read_manifest

    found: list[Utterance] = []
    for path in paths:
        if not path.exists():
            raise AnadilError(
                f"{path} is not there\n  next: give a manifest (JSONL), an audio file, or a folder of audio files"
            )
        if path.is_file() and _is_manifest(path):
            found += read_manifest(path)
        else:
            found += [Utterance(str(file), language=language) for file in find_audio([path])]
    return found


def _is_manifest(path: Path) -> bool:
    """Whether a file is to be read as a manifest: it is empty or begins like text. No audio file does.

    Text that is no manifest (UTF-16, a table) is an error of the reader, which says what it is.
    """
    with open(path, "rb") as file:
        start = file.read(4096)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, b"{\0", b"\0{")):
        return True
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(start)  # not final: a letter may be cut off
    return "\0" not in text and "\ufffd" not in text


def calibrated(
    recognizer: Recognizer, valid: Sequence[Utterance], limits: DurationLimits, max_cer: float, report: ConsoleReporter
) -> float:
    """Return the threshold for `max_cer`, and show a table of all. Raises AnadilError that names the best CER possible."""
    from anadil.errors import AnadilError
    from anadil.evaluation.calibration import MIN_CHARACTERS, MIN_UTTERANCES, lowest_within
    from anadil.recognition.pseudo_labels import calibrate

    found = calibrate(recognizer, valid, limits, report.progress)
    if found.n_set_aside:
        report.warn(f"{found.n_set_aside:,} validation utterances are not used: too short or too long")
    if not found.thresholds:
        raise AnadilError(
            f"too little validation data to calibrate on: {found.n_utterances:,} utterances, "
            f"{found.characters.reference:,} characters; at least {MIN_UTTERANCES} with {MIN_CHARACTERS} characters, "
            "and a hypothesis that is not empty, are needed\n"
            "  next: give --calibrate more manifests; or set --min-confidence, without a known error rate"
        )
    chosen = lowest_within(found.thresholds, max_cer)
    show(found, None if chosen is None else chosen.confidence, report)
    if chosen is not None:
        report.say(
            f"confidence {chosen.confidence:g} keeps {chosen.share:.0%} of the validation utterances, with a CER of "
            f"{chosen.cer:.1%}, at most {chosen.high:.1%} (95 %)"
        )
        return chosen.confidence
    best = min(found.thresholds, key=lambda one: one.high)
    unsure = (
        f"; {max_cer:.1%} may be possible, but there is too little validation data to know"
        if best.cer <= max_cer
        else ""
    )
    reachable = min(1.0, (int(best.high * 1000) + 1) / 1000)
    step = f"--max-cer {reachable:g}, more validation data, or a better model first"
    if reachable > HALF_WRONG:
        step = "a better model first: training on texts with so many errors does not help"
    raise AnadilError(
        f"no threshold reaches a character error rate of {max_cer:.1%}: the best, confidence {best.confidence:g}, keeps "
        f"{best.share:.0%} of the validation utterances with {best.cer:.1%}, at most {best.high:.1%} (95 %){unsure}\n"
        f"  next: {step}"
    )


def show(found: Calibration, chosen: float | None, report: ConsoleReporter) -> None:
    """Table of thresholds, the strictest first."""
    rows = [
        [
            f"{one.confidence:.4f}",
            f"{one.kept:,}",
            f"{one.share:.0%}",
            f"{one.cer:.1%}",
            f"{one.low:.1%} to {one.high:.1%}",
            "chosen" if one.confidence == chosen else "",
        ]
        for one in found.thresholds
    ]
    title = f"{found.n_utterances:,} validation utterances, {found.characters.rate:.1%} character errors"
    report.table(title, ["confidence from", "kept", "share", "CER of the kept", "95 % interval", ""], rows)


def _report_labels(
    found: PseudoLabels, recognizer: Recognizer, least: float, rejected: Path, report: ConsoleReporter
) -> None:
    """Report what was kept and rejected. Raises AnadilError if nothing was kept."""
    from anadil.errors import AnadilError

    if found.n_texts:
        report.warn(
            f"{found.n_texts:,} utterances already have a text: it was not used, and is kept as original_text; "
            "--exclude MANIFEST excludes such speech"
        )
    if found.n_cut:
        report.say(f"{found.n_cut:,} longer recordings were cut at pauses")
    kept_s, rejected_s = (sum(one.duration or 0.0 for one in some) for some in (found.kept, found.rejected))
    for reason, count in found.reasons.most_common():
        report.say(f"rejected: {count:,} x {reason}")
    if found.rejected:
        report.say(f"rejected utterances: {rejected}")
    if not found.kept:
        raise AnadilError(
            f"nothing is kept: all {len(found.rejected):,} utterances are rejected\n"
            f"  next: look at {rejected}; a larger --max-cer or a smaller --min-confidence than {least:g} keeps more"
        )
    for language, count in found.languages.most_common():
        report.warn(
            f"{count:,} kept utterances are of language {language}, and the model's is {recognizer.rules.language}"
        )
    total = len(found.kept) + len(found.rejected)
    report.say(
        f"kept {len(found.kept):,} of {total:,} utterances, {kept_s / 3600:.2f} of {(kept_s + rejected_s) / 3600:.2f} h"
    )
