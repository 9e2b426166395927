"""`anadil split`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anadil.cli.console import ConsoleReporter, rich_table, verb
from anadil.cli.options import number
from anadil.cli.options import seed as seed_option

if TYPE_CHECKING:
    from anadil.manifest import Utterance
    from anadil.splitting.split import Plan, SplitResult

EXAMPLE = (
    "Example: anadil split validated.jsonl --out splits    later, with more speech: "
    "anadil split validated.jsonl more.jsonl --keep splits --out splits-2"
)

_RECORD = "split.json"
"""File in the folder of a split with the options that made it."""


@verb
def split(
    manifests: Annotated[list[Path], typer.Argument(help="JSONL manifests; they are split together.")],
    out: Annotated[Path, typer.Option(help="Folder for train.jsonl, valid.jsonl, test.jsonl.")],
    valid: Annotated[float, number(0, 1, "Share of the hours for valid.jsonl; 0 for none.")] = 0.1,
    test: Annotated[float, number(0, 1, "Share of the hours for test.jsonl; 0 for none.")] = 0.1,
    disjoint: Annotated[
        str, typer.Option(help="What no two splits may share: speaker, text, or speaker,text.")
    ] = "speaker,text",
    valid_disjoint: Annotated[
        str | None, typer.Option(help="What valid and train must not share.", show_default="as --disjoint")
    ] = None,
    test_speaker: Annotated[
        list[str] | None,
        typer.Option(help="This speaker is the test set (repeat for several). --valid is then a share of the others."),
    ] = None,
    set_aside: Annotated[
        bool, typer.Option("--set-aside", help="Exclude utterances that link two splits; they go to set_aside.jsonl.")
    ] = False,
    keep: Annotated[
        Path | None, typer.Option(help="Folder of an earlier split: its utterances stay, only new ones are assigned.")
    ] = None,
    lang: Annotated[
        str | None, typer.Option(help="Language of the texts, for lower-casing.", show_default="as in the manifests")
    ] = None,
    seed: Annotated[int, seed_option("Seed of the random choice.")] = 0,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace the split in --out. Made with the same options, its utterances stay."),
    ] = False,
) -> None:
    """Train, valid and test sets that share no speaker and no sentence (compared without case, punctuation, spaces).

    Each speaker's split is drawn from the name, so it stays when the corpus grows, unless the group gains a speaker.

    Where the draw would miss a share by half, groups are chosen by size: with few speakers, use --keep to add speech.

    With --keep, or --force and the options that --out was made with, no utterance moves to another split.
    """
    from anadil.manifest import read_manifests, refuse_pseudo_labels
    from anadil.splitting.split import measure
    from anadil.splitting.tradeoffs import split as split_utterances

    plan = _make_plan(valid, test, disjoint, valid_disjoint, test_speaker or [], set_aside, lang, seed)
    targets = _plan_files(out, manifests, keep, force)
    with ConsoleReporter() as report:
        utterances = read_manifests(manifests)
        refuse_pseudo_labels(utterances, "valid and test")
        keep = keep or _same_options(out, plan, utterances)
        earlier = _read_split(keep) if keep else None
        utterances, n_measured = measure(utterances, lambda done, total: report.progress("measuring", done, total))
        if n_measured:
            report.say(f"measured {n_measured:,} utterances that had no duration")
        result = split_utterances(utterances, plan, earlier)
        _write_split(out, targets, result, plan)
        _report_warnings(report, result, plan, n_earlier=sum(map(len, earlier.values())) if earlier else 0)
    _print_split(result, out, plan)


def _make_plan(
    valid: float,
    test: float,
    disjoint: str,
    valid_disjoint: str | None,
    test_speakers: list[str],
    set_aside: bool,
    language: str | None,
    seed: int,
) -> Plan:
    """Raises typer.BadParameter for wrong usage."""
    from anadil.splitting.links import BOTH
    from anadil.splitting.split import Plan

    for name, share in (("--valid", valid), ("--test", test)):
        if not 0 <= share < 1:
            raise typer.BadParameter(f"{name} is a share of the hours: 0 or more and less than 1, not {share:g}")
    if valid + (0 if test_speakers else test) >= 1:
        raise typer.BadParameter("--valid and --test together leave nothing for train")
    if valid == 0 and test == 0 and not test_speakers:
        raise typer.BadParameter("--valid 0 --test 0 makes no split")
    apart = _parse_links("--disjoint", disjoint)
    if set_aside and apart != BOTH:
        raise typer.BadParameter("--set-aside is for --disjoint speaker,text: less needs no exclusions")
    inner = _parse_links("--valid-disjoint", valid_disjoint) if valid_disjoint is not None else None
    return Plan(valid, test, apart, inner, seed, set_aside, tuple(test_speakers), language)


def _parse_links(option: str, value: str) -> frozenset[str]:
    from anadil.splitting.links import BOTH

    names = frozenset(name.strip() for name in value.split(","))
    if not names <= BOTH:
        raise typer.BadParameter(f"{option} is speaker, text or speaker,text, not {value!r}")
    return names


def _plan_files(out: Path, manifests: list[Path], keep: Path | None, force: bool) -> dict[str, Path]:
    """The path of each split. Raises AnadilError if one exists or is an input."""
    from anadil.errors import AnadilError
    from anadil.splitting.split import NAMES

    targets = {name: out / f"{name}.jsonl" for name in NAMES}
    existing = [path for path in targets.values() if path.exists()]
    inputs = {path.resolve() for path in manifests}
    for path in existing:
        if path.resolve() in inputs:
            raise AnadilError(f"{path} is an input and cannot be replaced\n  next: choose another --out")
    if existing and not force:
        raise AnadilError(
            f"{existing[0]} exists already\n  next: add --force: its utterances stay, and only new ones are assigned; "
            "or choose another --out"
        )
    return targets


def _read_split(folder: Path) -> dict[str, list[Utterance]]:
    """The manifests of an earlier split, as far as they exist. Raises AnadilError if none exists."""
    from anadil.errors import AnadilError
    from anadil.manifest import read_manifest
    from anadil.splitting.split import TEST, TRAIN, VALID

    paths = {name: folder / f"{name}.jsonl" for name in (TRAIN, VALID, TEST)}
    manifests = {name: read_manifest(path) for name, path in paths.items() if path.is_file()}
    if not manifests:
        raise AnadilError(
            f"no split in {folder}: looked for train.jsonl, valid.jsonl, test.jsonl\n  next: check --keep"
        )
    return manifests


def _same_options(out: Path, plan: Plan, utterances: list[Utterance]) -> Path | None:
    """`out` if it holds a split made with the same options that has some of these utterances; else None."""
    import json

    from anadil.splitting.links import absolute_paths

    try:
        written = json.loads((out / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if plan.test_speakers or not isinstance(written, dict) or written.get("options") != plan.to_dict():
        return None
    before = {path for old in _read_split(out).values() for path in absolute_paths(old)}
    return out if before & set(absolute_paths(utterances)) else None


def _write_split(out: Path, targets: dict[str, Path], result: SplitResult, plan: Plan) -> None:
    """Write all files or none. Files of an earlier split that this one lacks are deleted, so that no two are mixed."""
    import json

    from anadil import __version__
    from anadil.files import whole_file
    from anadil.manifest import write_manifest

    with contextlib.ExitStack() as stack:
        for name, path in targets.items():
            if result.mask(name).any():
                write_manifest(stack.enter_context(whole_file(path)), result.part(name))
        record = {"options": plan.to_dict(), "anadil": __version__}
        beside = stack.enter_context(whole_file(out / _RECORD))
        beside.write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    for name, path in targets.items():
        if not result.mask(name).any():
            path.unlink(missing_ok=True)


def _report_warnings(report: ConsoleReporter, result: SplitResult, plan: Plan, n_earlier: int) -> None:
    """Report what a user should know about how the split was made."""
    from anadil.splitting.tradeoffs import off_target

    links, n = result.links, len(result.utterances)
    if links.n_unnamed:
        report.warn(
            f"{links.n_unnamed:,} of {n:,} utterances have no speaker: each recording counts as a speaker of its own"
        )
    if links.n_repeated:
        report.warn(f"{links.n_repeated:,} utterances repeat the clip (file and offset) of another line; all are kept")
    if links.n_wordless and plan.disjoint != {"speaker"}:
        report.warn(f"{links.n_wordless:,} of {n:,} utterances have no text to compare")
    if n_earlier:
        report.say(f"{result.n_kept:,} utterances stay where they were, {n - result.n_kept:,} are new")
        if n_earlier > result.n_kept:
            report.warn(f"{n_earlier - result.n_kept:,} utterances of the split to keep are no longer in the manifests")
    for reason, count in result.set_aside_reasons().items():
        report.say(f"set aside, {count:,} utterances: {reason}")
    for problem in off_target(result, plan):
        report.warn(problem)
    if result.by_size:
        report.say(
            f"{' and '.join(result.by_size)} chosen by size, because the draw alone would have missed the share or made "
            "one speaker most of it. When the corpus grows, use --keep, or utterances may move"
        )


def _print_split(result: SplitResult, out: Path, plan: Plan) -> None:
    """Print the table, what the splits share, and the next command."""
    import shlex

    from rich.console import Console

    from anadil.splitting.split import NAMES, SET_ASIDE, TEST, TRAIN, VALID
    from anadil.splitting.tradeoffs import hours_text

    rows = []
    for name in NAMES:
        one = result.figures(name)
        if one.n_utterances:
            share = "" if name == SET_ASIDE else f"{one.share:.1%}"
            hours = f"{one.hours:.{2 if one.hours >= 1 else 3}f}"
            counts = [f"{one.n_speakers:,}", f"{one.n_sentences:,}", f"{one.median_s:.1f}"]
            rows.append([name, f"{one.n_utterances:,}", hours, share, *counts])
    console = Console(highlight=False, soft_wrap=True)
    columns = ["", "utterances", "hours", "share", "speakers", "sentences", "median s"]
    console.print(rich_table(f"{out}, seed {plan.seed}", columns, rows))
    for name, others in ((TEST, "train or valid"), (VALID, "train")):
        leak = result.leak(name)
        if leak.n_speakers:
            print(
                f"{name}: {leak.shared_speakers:,} of {leak.n_speakers:,} speakers and {leak.shared_sentences:,} of "
                f"{leak.n_sentences:,} sentences ({hours_text(leak.shared_hours)}) are in {others} too"
            )
    languages = {one.language for one in result.utterances}
    language = plan.language or (languages.pop() if len(languages) == 1 else None) or "CODE"
    made = {name: shlex.quote(str(out / f"{name}.jsonl")) for name in (TRAIN, VALID, TEST) if result.mask(name).any()}
    print(f"next: anadil check {' '.join(made.values())}")
    if VALID in made:
        print(
            f"      anadil train configs/few-hours.yaml language={language} data.train={made[TRAIN]} "
            f"data.valid={made[VALID]}"
        )


command = split
