"""Options of several verbs. Those that take a number have a lowest and a highest value, and refuse NaN."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer

MAX_SEED = 2**32 - 1
"""As in settings.py, which takes 0.1 s to import."""


class Engine(enum.StrEnum):
    """What does the shards of a large input."""

    LOCAL = "local"
    RAY = "ray"


def number(lowest: float, highest: float, text: str, name: str | None = None, **options: Any) -> Any:
    """The description of an option whose value must be from `lowest` to `highest`; `text` is its help.

    `options` are those of `typer.Option`. A value outside is wrong usage: exit status 2.
    """

    def check(value: float | None) -> float | None:
        if value is not None and math.isnan(value):  # it passes every comparison
            raise typer.BadParameter("expected a number, found nan")
        return value

    names = () if name is None else (name,)
    return typer.Option(*names, min=lowest, max=highest, callback=check, help=text, **options)


T = TypeVar("T", int, float)


def comma_separated(
    text: str, option: str, kind: Callable[[str], T], fits: Callable[[T], bool], expected: str
) -> list[T]:
    """Parse "0.1,0.5,1": one number or more, each of which `fits`. Raises BadParameter, which says what is `expected`."""
    try:
        found = [kind(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(map(fits, found)):
        raise typer.BadParameter(f"{option}: expected {expected}, joined by commas, found {text!r}")
    return found


def seed(text: str) -> Any:
    """The description of the option `--seed`."""
    return number(0, MAX_SEED, text)


PROVIDERS = ("auto", "cuda", "tensorrt", "directml", "coreml", "openvino", "xnnpack", "cpu")
"""As in recognition/providers.py, which takes 0.1 s to import; a test compares them."""


def provider() -> Any:
    """The description of the option `--provider`."""

    def check(value: str) -> str:
        if value not in PROVIDERS:
            raise typer.BadParameter(f"expected one of {', '.join(PROVIDERS)}, found {value!r}")
        return value

    return typer.Option(
        "--provider",
        metavar="NAME",
        callback=check,
        help=f"What runs an exported folder: {', '.join(PROVIDERS)}. One that fails is replaced by the CPU, with a warning.",
    )


def numbers(lowest: float, highest: float, text: str, name: str) -> Any:
    """The description of an option whose value is numbers from `lowest` to `highest`, joined by commas: a tuple of them."""

    def parse(value: str) -> tuple[float, ...]:
        expected = f"numbers from {lowest:g} to {highest:g}"
        return tuple(dict.fromkeys(comma_separated(value, name, float, lambda one: lowest <= one <= highest, expected)))

    return typer.Option(name, metavar="N,N,...", parser=parse, help=text)


JsonFile = Annotated[Path | None, typer.Option("--json", help="File for the figures.")]
"""The option `--json` of a verb that measures."""

ReportAudio = Annotated[
    Literal["link", "embed", "none"],
    typer.Option(help="Recordings in the report: linked where they are, inside the file, or none."),
]
"""The option `--audio` of a verb that writes a report."""

Force = Annotated[bool, typer.Option("--force", help="Replace earlier results.")]
"""The option `--force` of a verb that measures."""
