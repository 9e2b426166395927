"""`anadil transcribe --stream` and `--mic`: results while the audio goes on."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import typer

from anadil.cli.console import FAULT

if TYPE_CHECKING:
    import numpy as np

    from anadil.audio import Channel
    from anadil.recognition.recognizer import Recognizer
    from anadil.recognition.stream import Latency, Result

STDIN = Path("-")
_CHUNK_S = 0.1
_LINE = 100  # characters of a partial result that fit on the line of a terminal that does not tell its width


def parse_latency(text: str) -> Latency | float:
    """Return what `--latency` means: a setting, or seconds. Raises BadParameter."""
    from anadil.recognition.stream import LOOK_AHEAD_S

    if text in LOOK_AHEAD_S:
        return text  # type: ignore[return-value]
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.1 <= seconds <= 60:
        raise typer.BadParameter(f"expected {', '.join(LOOK_AHEAD_S)} or seconds from 0.1 to 60, found {text!r}")
    return seconds


class LivePrinter:
    """Final results to stdout: a line each, or JSON. Partial ones in JSON too, or on one line of stderr if it is a terminal."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._n_shown = 0  # characters of the partial result on the terminal
        self._is_terminal = sys.stderr.isatty()

    def show(self, results: list[Result]) -> None:
        """Print results as they come."""
        for result in results:
            if self._as_json:
                print(json.dumps(result.to_dict(), ensure_ascii=False), flush=True)
            elif result.final:
                self.clear()
                print(result.text, flush=True)
            elif self._is_terminal:
                self._show_partial(result.text)

    def clear(self) -> None:
        """Remove the partial result from the terminal."""
        if self._n_shown:
            print("\r" + " " * self._n_shown + "\r", end="", file=sys.stderr, flush=True)
            self._n_shown = 0

    def _show_partial(self, text: str) -> None:
        import shutil
        import unicodedata

        width = shutil.get_terminal_size((_LINE, 24)).columns - 1
        # wide characters take two columns, combining ones none
        columns = [
            0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "WF")
            for letter in text
        ]
        first = len(text)
        while first > 0 and sum(columns[first - 1 :]) <= width:
            first -= 1
        self.clear()
        print(text[first:], end="", file=sys.stderr, flush=True)
        self._n_shown = sum(columns[first:])


def stream_file(
    recognizer: Recognizer, source: Path, channel: Channel, latency: Latency | float, as_json: bool
) -> None:
    """Recognise a file, or raw samples from stdin, as if it were live. Ctrl-C ends with the text so far, and status 130."""
    from anadil.audio import read_blocks

    blocks = read_blocks(source, recognizer.sample_rate, channel, block_s=_CHUNK_S)
    _stream(recognizer, recognizer.sample_rate, blocks, latency, as_json)


def stream_stdin(recognizer: Recognizer, rate: int, latency: Latency | float, as_json: bool) -> None:
    """Recognise raw samples from stdin: 16-bit signed integers, little-endian, mono."""
    _stream(recognizer, rate, raw_blocks(sys.stdin.buffer, rate), latency, as_json)


def raw_blocks(file: BinaryIO, rate: int) -> Iterator[np.ndarray]:
    """Blocks of float32 (samples,) from 16-bit little-endian integers; what has come is not kept waiting for more.

    Raises AnadilError if a header shows that it is a file of another format, or if half a sample is left at the end.
    """
    import numpy as np

    from anadil.errors import AnadilError

    size, rest, is_start = 2 * max(1, round(_CHUNK_S * rate)), b"", True
    read = getattr(file, "read1", file.read)
    while data := read(size):
        rest += data
        if is_start and len(rest) >= 4:
            is_start = False
            if rest[:4] in (b"RIFF", b"fLaC", b"OggS", b"FORM", b"caff") or rest[:3] == b"ID3":
                raise AnadilError(
                    f"stdin has a file of another format (it begins with {rest[:4]!r}); expected are raw samples\n"
                    "  next: give the file itself, or convert: ffmpeg -i FILE -f s16le -ac 1 -ar 16000 - | anadil transcribe "
                    "MODEL - --stream"
                )
        whole = len(rest) // 2 * 2
        if whole:
            yield np.frombuffer(rest[:whole], dtype="<i2").astype(np.float32) / 32768
        rest = rest[whole:]
    if rest:
        raise AnadilError(
            "stdin ended in the middle of a sample\n  next: send 16-bit signed little-endian samples, mono (s16le)"
        )


def stream_microphone(recognizer: Recognizer, device: str | None, latency: Latency | float, as_json: bool) -> None:
    """Recognise an input device until Ctrl-C, which ends with the last results and status 0."""
    from anadil.recognition.microphone import Microphone

    is_number = device is not None and device.isdecimal() and len(device) <= 9
    microphone = Microphone(recognizer.sample_rate, int(device) if device and is_number else device)
    with microphone:
        print(f"listening to {microphone.name}; Ctrl-C ends", file=sys.stderr, flush=True)
        try:
            _stream(recognizer, microphone.sample_rate, microphone.blocks(), latency, as_json)
        except KeyboardInterrupt as interrupt:
            if type(interrupt) is not KeyboardInterrupt:  # SIGTERM
                raise
    lost = microphone.lost_s > 0 or microphone.n_overflows > 0
    if lost:
        print(
            f"warning: the computer was too slow: {microphone.lost_s:.1f} s of audio were lost, and "
            f"{microphone.n_overflows:,} blocks have gaps",
            file=sys.stderr,
        )
        raise typer.Exit(FAULT)


def _stream(
    recognizer: Recognizer, rate: int, blocks: Iterator[np.ndarray], latency: Latency | float, as_json: bool
) -> None:
    """Print the results of all blocks. However they end, what was taken is printed as final text first."""
    printer = LivePrinter(as_json)
    stream = recognizer.stream(rate, latency, partial=as_json or sys.stderr.isatty())
    try:
        for block in blocks:
            printer.show(stream.feed(block))
    finally:
        printer.clear()
        printer.show(stream.finish())
