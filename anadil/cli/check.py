"""`anadil check`: find what would spoil training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anadil.cli.console import FAULT, ConsoleReporter, rich_table, verb
from anadil.cli.options import Engine, number

if TYPE_CHECKING:
    from anadil.doctor.audio import AudioLimits, MeasureTasks
    from anadil.doctor.examine import CheckedManifest, Model, Report
    from anadil.doctor.findings import FindingKind
    from anadil.text.rules import RulesByLanguage
    from anadil.training.config import Config
    from anadil.training.monitoring.report import Reporter

EXAMPLE = "Example: anadil check my-speech/train.jsonl my-speech/valid.jsonl --config configs/few-hours.yaml"

WORST = 10


@verb
def check(
    manifests: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MANIFEST|KEY=VALUE]...",
            help="JSONL manifests; none: those in section data of the config. KEY=VALUE changes a key: init.from=MODEL",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Check against this config: its text rules, labels, limits and model.")
    ] = None,
    lang: Annotated[str | None, typer.Option(help="Language code.", show_default="the config's, or und")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="List every finding, as JSON on stdout.")] = False,
    audio: Annotated[
        bool, typer.Option("--audio/--no-audio", help="Decode the audio, or check only the texts.")
    ] = True,
    without: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND",
            help="Write manifests without the utterances that have this finding to --out; may be repeated.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the manifests that --without writes.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace earlier manifests in --out.")] = False,
    engine: Annotated[
        Engine | None,
        typer.Option(
            help="For much speech: measure the recordings in shards, on this machine (local) or on a cluster (ray; of "
            "RAY_ADDRESS, or of this machine's cores). The same command goes on after an interruption."
        ),
    ] = None,
    measured: Annotated[Path | None, typer.Option(help="With --engine: folder that keeps the measurements.")] = None,
    shard_size: Annotated[
        int | None, number(1, 1_000_000, "With --engine: recordings per shard.", show_default="200")
    ] = None,
) -> None:
    """Find everything in manifests, texts and audio that would spoil training. Exit status 1 if something would.

    The split of a manifest is the one under which the config lists it, or the one in its name (train, valid, dev, test).
    If no manifest is for training, the first one is.
    """
    import json

    from anadil.doctor.examine import examine, read_parts, write_without

    paths, settings = _resolve_input(manifests, config)
    _refuse_wrong_kinds(without, out, paths, force)
    measure_tasks = _measurer(engine, measured, shard_size, audio)
    train, valid = (settings.data.train, settings.data.valid) if settings else ((), ())
    with ConsoleReporter() as report:
        parts = read_parts(paths, train, valid)
        rules, model, limits = _resolve_rules(parts, settings, lang, report)
        for part in parts:
            report.say(f"{part.path}: {part.split}, {len(part.utterances):,} utterances{_pseudo_of(part)}")
        found = examine(parts, rules, limits, model, audio, report.progress, measure_tasks)
        if without and out:
            for path, n in write_without(parts, found, without, out):
                report.say(f"{path}: {n:,} utterances left out")
    if as_json:
        print(json.dumps(found.to_dict(), ensure_ascii=False, indent=1))
    else:
        _print_report(found, config, paths)
    if found.spoiled:
        raise typer.Exit(FAULT)


command = check


def _pseudo_of(part: CheckedManifest) -> str:
    return f", {len(part.pseudo):,} of them pseudo labels" if part.pseudo else ""


def _resolve_input(given: list[str] | None, config: Path | None) -> tuple[list[Path], Config | None]:
    """Return the manifests to check, and the config with the overrides of `given`, if there is one. Raises AnadilError."""
    from anadil.errors import AnadilError

    overrides = [one for one in given or [] if "=" in one and not Path(one).exists()]
    manifests = [Path(one) for one in given or [] if one not in overrides]
    if config is None:
        if overrides:
            raise typer.BadParameter(f"{overrides[0]} changes a config: give one with --config", param_hint="KEY=VALUE")
        if not manifests:
            raise typer.BadParameter("give manifests, or --config with data.train", param_hint="MANIFESTS")
        return manifests, None
    try:
        from anadil.training.config import load_config
    except ModuleNotFoundError as error:
        raise AnadilError(
            f"--config needs PyTorch to build the model ({error.name} is not installed)\n"
            "  next: pip install 'anadil[train]', or omit --config"
        ) from error
    settings = load_config(config, overrides)
    return manifests or [Path(path) for path in (*settings.data.train, *settings.data.valid)], settings


def _refuse_wrong_kinds(without: list[str] | None, out: Path | None, manifests: Sequence[Path], force: bool) -> None:
    """Raise AnadilError before any work if --without and --out cannot be followed."""
    import difflib

    from anadil.doctor.findings import KINDS
    from anadil.errors import AnadilError
    from anadil.files import refuse_overwrite

    if bool(without) != bool(out):
        raise typer.BadParameter("--without KIND and --out FOLDER go together")
    if out is None:
        return
    known = [kind.name for kind in KINDS]
    for name in without or ():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are: {', '.join(known)}"
            raise AnadilError(f"no finding is called {name!r}; {hint}")
    if len({path.name for path in manifests}) < len(manifests):
        raise AnadilError("two manifests have the same name\n  next: clean them one by one, each with its own --out")
    for path in manifests:
        refuse_overwrite(out / path.name, force)


def _measurer(engine: Engine | None, measured: Path | None, shard_size: int | None, audio: bool) -> MeasureTasks:
    """What measures the recordings. Raises BadParameter for options that do not belong together."""
    from anadil.doctor.audio import measure_here
    from anadil.doctor.shards import RECORDINGS_PER_SHARD, in_shards

    if (engine is None) != (measured is None):
        raise typer.BadParameter("--engine NAME and --measured FOLDER go together")
    if engine is None or measured is None:
        if shard_size is not None:
            raise typer.BadParameter("goes with --engine; leave it out", param_hint="--shard-size")
        return measure_here
    if not audio:
        raise typer.BadParameter("--engine measures audio, and --no-audio does not: leave out one of them")
    return in_shards(measured, engine is Engine.RAY, shard_size or RECORDINGS_PER_SHARD)


def _resolve_rules(
    manifests: Sequence[CheckedManifest], settings: Config | None, lang: str | None, report: Reporter
) -> tuple[RulesByLanguage, Model | None, AudioLimits]:
    """Text rules, model and limits as `anadil train` resolves them; without a config, rules of `lang` alone."""
    from anadil.doctor.audio import AudioLimits
    from anadil.manifest import MAX_DURATION_S, MIN_DURATION_S
    from anadil.text.rules import RulesByLanguage, TextSettings, text_rules

    if settings is None:
        rules = RulesByLanguage(text_rules(lang or "und", TextSettings(), ()))
        return rules, None, AudioLimits(MIN_DURATION_S, MAX_DURATION_S)
    from anadil.doctor.examine import Model
    from anadil.doctor.splits import TRAIN
    from anadil.manifest import read_manifests
    from anadil.training.prepare import resolve

    if lang is not None:
        settings = settings.model_copy(update={"language": lang})
    train = [one for manifest in manifests if manifest.split == TRAIN for one in manifest.utterances]
    others = [one for manifest in manifests if manifest.split != TRAIN for one in manifest.utterances]
    resolved = resolve(settings, train or read_manifests(settings.data.train), others, report)
    acoustic, data = resolved.acoustic, resolved.config.data
    limits = AudioLimits(data.min_duration, data.max_duration, acoustic.sample_rate)
    return resolved.rules, Model(acoustic.sample_rate, acoustic.frame_count, resolved.labels_from_training), limits


def _print_report(report: Report, config: Path | None, manifests: Sequence[Path]) -> None:
    """Print the counts, then the worst cases of each finding and how to mend it."""
    from rich.console import Console

    from anadil.doctor.findings import Severity

    n_utterances = sum(len(part.utterances) for part in report.parts)
    heading = f"{n_utterances:,} utterances, {report.seconds / 3600:.2f} h"
    if not report.audio_decoded:
        heading += " according to the manifests; the audio was not decoded"
    rows = []
    for kind, some in report.by_kind():
        affected = report.seconds_of(some)
        share = f"{affected / report.seconds:.1%}" if report.seconds else ""
        spoils = any(one.severity is Severity.SPOILS for one in some)
        rows.append(
            [kind.name, f"{len(some):,}", f"{affected / 3600:.2f}", share, Severity.SPOILS if spoils else Severity.LOOK]
        )
    if not rows:
        print(f"{heading}: nothing found")
        return
    print(heading)
    Console(highlight=False).print(rich_table("", ["finding", "number", "hours", "share", ""], rows))
    for kind, some in report.by_kind():
        print(f"{kind.name}: {kind.title}")
        for one in some[:WORST]:
            print(f"  {one.where}: {one.what}")
        if len(some) > WORST:
            print(f"  ... and {len(some) - WORST:,} more; --json lists all")
        print(f"  mend: {mend(kind, config, manifests)}\n")
    if report.intended:
        listed = "  ".join(f"{letter}:{n:,}" for letter, n in report.intended.most_common())
        print(f"letters of a second script that are too frequent to be mistakes: {listed}")


def mend(kind: FindingKind, config: Path | None, manifests: Sequence[Path]) -> str:
    """Return how to mend a finding, with the user's own file names in the command."""
    import shlex

    files = shlex.join(map(str, manifests))
    return kind.mend.replace("CONFIG", shlex.quote(str(config)) if config else "CONFIG").replace("MANIFESTS", files)
