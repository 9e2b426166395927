"""The decoders: processes that turn what clients send into samples. One that dies over a file is started again."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anadil.audio import Channel
from anadil.errors import AnadilError
from anadil.serving.child import Child, ChildDiedError
from anadil.serving.models import LONG_S, Facts, Stretch

_SHORT_S = 30.0
"""Time for LONG_S seconds of audio: a slow machine takes 1 s for them, and 1 s to start the process."""

_LOW_PRIORITY = 15
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Decoded:
    """A recording whose float32 samples are in a file."""

    samples: Path
    n_samples: int
    pieces: list[Stretch]  # with speech
    is_long: bool
    peaks: list[float]  # of the waveform, if it is kept for the page
    notes: list[str]  # what a user should know of how the file was read


class Decoders:
    """Two processes for short recordings, and one of low priority for long ones."""

    def __init__(self, max_s: float, on_death: Callable[[str, str], None]) -> None:
        self._max_s = max_s
        self._short: asyncio.Queue[Child] = asyncio.Queue()
        self._long: asyncio.Queue[Child] = asyncio.Queue()
        self._children: list[Child] = []
        self.n_short = 0  # recordings that wait for the first two, or that they decode
        for queue, arguments in ((self._short, []), (self._short, []), (self._long, [str(_LOW_PRIORITY)])):
            child = Child(
                "anadil.serving.decode_child",
                [str(max_s), *arguments],
                lambda reason: on_death("decoder", reason),
                quiet=True,  # codecs print what they think of damaged files
            )
            self._children.append(child)
            queue.put_nowait(child)

    async def decode(
        self, path: Path, name: str, samples: Path, facts: Facts, channel: Channel = "mix", flac: Path | None = None
    ) -> Decoded:
        """Decode a file to `samples`, and for the page to `flac`; `name` stands for the file in messages.

        Raises AnadilError if it is no audio, too long, or kills the decoder; ChildDiedError if the decoder is being closed;
        OSError if the disk is full.
        """
        question: dict[str, Any] = {
            "path": str(path),
            "pcm": str(samples),
            "name": name,
            "rate": facts.sample_rate,
            "channel": channel,
            "max_s": self._max_s,
            "longest_s": facts.longest_s,
            "pauses": facts.pauses,
            "flac": None if flac is None else str(flac),
        }
        short = {"long_s": min(LONG_S, self._max_s + 1), "time_s": _SHORT_S}
        self.n_short += 1
        try:
            answer = await self._ask(self._short, question | short, name)
        finally:
            self.n_short -= 1
        is_long = answer.get("long", False)
        if is_long:
            time_s = _SHORT_S + 0.2 * self._max_s
            answer = await self._ask(self._long, question | {"long_s": 2 * self._max_s, "time_s": time_s}, name)
        if "errno" in answer:
            raise OSError(answer["errno"], os.strerror(answer["errno"] or 0))
        pieces = [(start, end, lead) for start, end, lead in answer["pieces"]]
        return Decoded(samples, answer["n_samples"], pieces, is_long, answer.get("peaks", []), answer.get("notes", []))

    async def start(self) -> None:
        """Start the processes, which takes a second each; otherwise the first requests do."""
        with contextlib.suppress(ChildDiedError, AnadilError):
            await asyncio.gather(*(child.ask({"op": "start"}, _SHORT_S) for child in self._children))

    async def close(self) -> None:
        await asyncio.gather(*(child.close() for child in self._children))

    def pids(self) -> list[int]:
        """Of the running processes."""
        return [child.pid for child in self._children if child.pid]

    async def _ask(self, queue: asyncio.Queue[Child], question: dict[str, Any], name: str) -> dict[str, Any]:
        """The answer; a question over which a process died is asked once more, because something else may have killed it."""
        for is_last in (False, True):
            try:
                async with _taken(queue) as child:
                    return await child.ask(question, question["time_s"] + 5)
            except ChildDiedError as death:
                if death.timed_out:
                    raise AnadilError(
                        f"{name} takes longer to decode than the allowed {question['time_s']:.0f} s\n"
                        "  next: convert it to WAV or FLAC"
                    ) from death
                if is_last:
                    raise AnadilError(
                        f"{name} cannot be decoded: the decoder ended twice\n  next: convert it to WAV or FLAC"
                    ) from death
        raise AssertionError


@asynccontextmanager
async def _taken(queue: asyncio.Queue[Child]) -> AsyncIterator[Child]:
    child = await queue.get()
    try:
        yield child
    finally:
        queue.put_nowait(child)
