"""Console output: messages and progress on stderr, results on stdout, errors as one message without traceback."""

from __future__ import annotations

import contextlib
import errno
import functools
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, ParamSpec, TypeVar

import typer

from anadil.errors import AnadilError, shortened

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from anadil.audio import Channel

P = ParamSpec("P")
R = TypeVar("R")

FAULT, INTERRUPTED, TERMINATED = 1, 130, 143


class _Terminated(KeyboardInterrupt):
    """SIGTERM, from a scheduler or `kill`: what cleans up after Ctrl-C cleans up after it too."""


def verb(command: Callable[P, R]) -> Callable[P, R]:
    """Turn errors of the input into a message and exit status 1, Ctrl-C into 130, SIGTERM into 143."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with _sigterm_interrupts():
                return command(*args, **kwargs)
        except AnadilError as error:
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(FAULT) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # such as `anadil transcribe ... | head`
                raise
            what = f"{error.strerror or error}" + (f": {shortened(str(error.filename), 300)}" if error.filename else "")
            print(f"error: {what}\n  next: check the path and its permissions", file=sys.stderr)
            raise typer.Exit(FAULT) from error
        except MemoryError as error:
            print("error: there is not enough memory\n  next: give a smaller input, or close programs", file=sys.stderr)
            raise typer.Exit(FAULT) from error
        except _Terminated as signal_:
            print("\nterminated", file=sys.stderr)
            raise typer.Exit(TERMINATED) from signal_
        except KeyboardInterrupt as interrupt:
            print(f"\ninterrupted: {interrupt}" if str(interrupt) else "\ninterrupted", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from interrupt

    return run


def channel_option(text: str) -> Channel | Literal["split"]:
    """Return what `--channel` means. Raises BadParameter."""
    from anadil.audio import parse_channel

    try:
        return "split" if text == "split" else parse_channel(text)
    except ValueError:
        expected = "expected mix, split, left, right or a number from 1"
        raise typer.BadParameter(f"{expected}, found {text!r}") from None


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Within the block SIGTERM raises, so that files that are half written are deleted. In the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not interrupt the cleaning up
        raise _Terminated

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class ConsoleReporter:
    """Shows messages, tables and progress bars with the time left on stderr; bars only on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        self._stages: dict[str, TaskID] = {}

    def say(self, text: str) -> None:
        self.console.print(text, markup=False)

    def warn(self, text: str) -> None:
        self.console.print(f"warning: {text}", markup=False, style="yellow")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self.console.print(rich_table(title, columns, rows))

    def progress(self, stage: str, done: float, total: float, note: str = "") -> None:
        if not self.console.is_terminal:
            return
        if self._bar is None:
            self._bar = _progress_bar(self.console)
            self._bar.start()
        if stage not in self._stages:
            self._stages[stage] = self._bar.add_task(stage, total=total, note=note)
        self._bar.update(self._stages[stage], completed=done, total=total, note=note)
        if done >= total:
            self._bar.remove_task(self._stages.pop(stage))
            if not self._stages:
                self.close()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar, self._stages = None, {}

    def __enter__(self) -> ConsoleReporter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def rich_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> object:
    """Return a table for rich: the first column is left-aligned, the others right-aligned."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def rate_with_interval(rate: float, interval: tuple[float, float] | None) -> str:
    """12.3% (10.9 to 13.8); without the interval if there are too few utterances for one."""
    return f"{rate:.1%}" + (f" ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})" if interval else "")


def _progress_bar(console: object) -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    assert isinstance(console, Console)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        transient=True,
        redirect_stdout=False,  # results must reach stdout unchanged
    )
