"""`anadil augment`: augmented copies as files, or a page with examples of the transforms."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anadil.cli.console import ConsoleReporter, verb

if TYPE_CHECKING:
    from anadil.data.augment.copies import AugmentResult
    from anadil.data.augment.settings import AugmentSettings

EXAMPLE = "Example: anadil augment train.jsonl speed.rate=[0.9,1.1] reverb.probability=0.3 --out augmented"


@verb
def augment(
    manifest: Annotated[Path, typer.Argument(help="JSONL manifest.")],
    out: Annotated[Path, typer.Option(help="Folder for the manifest of originals and copies, and the copies' audio.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Transforms, as in the section augment of a config: white_noise.snr_db=[5,20]",
            show_default="all that need no recordings of your own",
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML config whose section augment names the transforms.")] = None,
    copies: Annotated[int, typer.Option(min=1, help="Copies of each utterance.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same copies.")] = 0,
    preview: Annotated[
        int, typer.Option(min=0, metavar="N", help="Write only OUT/preview.html: N examples as audio and spectrograms.")
    ] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace earlier copies in --out.")] = False,
) -> None:
    """Write augmented copies of a training set: speed, tempo, pitch, reverberation, noise, gain, clipping, telephone, codecs."""
    from anadil.data.augment.copies import augment_manifest
    from anadil.data.augment.preview import write_preview

    settings = read_settings(config, overrides or [])
    with ConsoleReporter() as report:
        if preview:
            page = out / "preview.html"
            write_preview(
                manifest, page, settings, preview, seed, force, lambda n, of: report.progress("drawing", n, of)
            )
            report.say(f"{page.stat().st_size / 1e6:.1f} MB; next: open it in a browser")
            print(page)
            return
        result = augment_manifest(
            manifest, out, settings, copies, seed, force, lambda n, of: report.progress("augmenting", n, of)
        )
        _report_result(result, report)
        if ignored := training_only(settings):
            report.say(f"not in the copies, because they act in training only: {', '.join(ignored)}")
    print(result.manifest)


command = augment


def read_settings(config: Path | None, overrides: list[str]) -> AugmentSettings:
    """Section `augment` of a config with `KEY=VALUE` overrides; without both, all transforms that need no recordings."""
    from anadil.data.augment.settings import AugmentSettings
    from anadil.data.augment.steps import STEPS
    from anadil.errors import AnadilError
    from anadil.settings import override, parse, read_yaml

    section = {} if config is None else read_yaml(config).get("augment") or {}
    if not isinstance(section, dict):
        raise AnadilError(f"{config}: augment: expected `key: value` lines, found {type(section).__name__}")
    if config is None and not overrides:
        section = {name: {} for name in STEPS if name != "background"}
    where = "command line" if config is None else f"{config}: augment"
    changed = override(section, [key.removeprefix("augment.") for key in overrides])
    return parse(AugmentSettings, changed, where)


def training_only(settings: AugmentSettings) -> list[str]:
    """The sections that were given and that make no copies: they need several utterances, or features."""
    from anadil.data.augment.steps import STEPS

    given = [name for name in type(settings).model_fields if name in settings.model_fields_set and name not in STEPS]
    return [name for name in given if getattr(settings, name) is not None]


def _report_result(result: AugmentResult, report: ConsoleReporter) -> None:
    """Report what was written, and what was not."""
    listed = ", ".join(f"{name} {count:,}" for name, count in result.counts.most_common())
    report.say(
        f"{result.originals:,} originals and {result.copies:,} copies ({result.audio_s / 3600:.2f} h): {listed or 'none'}"
    )
    if result.scaled:
        report.say(f"{result.scaled:,} copies were scaled down to stay within [-1, 1]")
    if result.unchanged:
        report.warn(
            f"{result.unchanged:,} copies were not written, as no transform was drawn for them: "
            "raise a probability for more"
        )
    report.say("next: anadil train with data.train=" + str(result.manifest))
