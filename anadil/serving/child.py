"""A child process that answers one question at a time: killed when it takes too long, started again when it has died.

Decoders and models run in children, so that neither a damaged file nor a crash in native code stops the server. Questions and
answers are JSON, a line each; samples pass through files. A child writes an empty line when it has read a question: a process
that ends before was killed while it had nothing to do, and a new one gets the question.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

from anadil.errors import AnadilError

Question = dict[str, Any]
Answer = dict[str, Any]

_LONGEST_LINE = 256 * 2**20
_FINISH_S = 1.0
"""A question whose asker has gone may take so long; then the child is killed."""


class ChildDiedError(Exception):
    """The child ended, or was killed because it took too long, before it answered."""

    def __init__(self, reason: str, timed_out: bool = False) -> None:
        super().__init__(reason)
        self.timed_out = timed_out


class _UnreadError(ChildDiedError):
    """It ended before it had read the question."""


class Child:
    """The parent's side of `python -m MODULE ARGUMENTS`. It starts when it is first asked.

    `on_death` is called with a reason each time that the process ends without being closed.
    """

    def __init__(
        self,
        module: str,
        arguments: list[str],
        on_death: Callable[[str], None] = lambda reason: None,
        quiet: bool = False,
    ) -> None:
        self._command = [sys.executable, "-P", "-m", module, *arguments]
        self._on_death, self._quiet = on_death, quiet
        self._process: asyncio.subprocess.Process | None = None
        self._busy = asyncio.Lock()
        self._exchanges: set[asyncio.Task[Answer]] = set()
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Of the running process."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else None

    async def ask(self, question: Question, timeout_s: float) -> Answer:
        """The answer. Raises ChildDiedError if the process ends or takes longer, AnadilError if the input is at fault.

        If the asker is cancelled, the child has a second to finish; then it is killed. Other questions wait meanwhile.
        """
        task = asyncio.create_task(self._exchange(question, timeout_s))
        self._exchanges.add(task)
        task.add_done_callback(self._exchanges.discard)
        try:
            answer = await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody reads its exception
            asyncio.get_running_loop().call_later(_FINISH_S, lambda: task.done() or task.cancel())
            raise
        if "error" in answer:
            raise AnadilError(answer["error"])
        return answer

    async def close(self) -> None:
        """End the process when it has answered what it was asked."""
        async with self._busy:
            self._closed = True
            process, self._process = self._process, None
        if process is not None and process.returncode is None:
            assert process.stdin is not None
            process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), 5)
            except TimeoutError:
                _kill(process)
                await process.wait()

    async def _exchange(self, question: Question, timeout_s: float) -> Answer:
        line = json.dumps(question).encode() + b"\n"
        async with self._busy:
            if self._closed:
                raise ChildDiedError("it was closed")
            was_started_before = self._process is not None
            try:
                return await self._answer(line, timeout_s)
            except _UnreadError:
                if not was_started_before:
                    raise
                return await self._answer(line, timeout_s)

    async def _answer(self, question: bytes, timeout_s: float) -> Answer:
        process = await self._running()
        assert process.stdin is not None and process.stdout is not None
        has_read = False
        try:
            async with asyncio.timeout(timeout_s):
                process.stdin.write(question)
                await process.stdin.drain()
                has_read = await process.stdout.readline() == b"\n"
                line = await process.stdout.readline()
            if has_read and line.endswith(b"\n"):
                answer: Answer = json.loads(line)
                return answer
            raise ConnectionResetError
        except TimeoutError:
            reason = f"no answer in {timeout_s:.0f} s"
            await self._lose(process, reason)
            raise ChildDiedError(reason, timed_out=True) from None
        except (OSError, ValueError) as error:  # ValueError: a line beyond all limits, or none of JSON
            status = await self._lose(process, "")
            timed_out = status == -getattr(signal, "SIGALRM", 0)
            died = ChildDiedError if has_read else _UnreadError
            raise died(f"its exit status is {status}", timed_out) from error
        except asyncio.CancelledError:
            await asyncio.shield(self._lose(process, "its client has gone"))
            raise

    async def _running(self) -> asyncio.subprocess.Process:
        if (
            self._process is not None and self._process.returncode is not None
        ):  # it was killed while it had nothing to do
            self._on_death(f"exit status {self._process.returncode}")
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL if self._quiet else None,
                limit=_LONGEST_LINE,
                start_new_session=True,  # Ctrl-C in a terminal is for the server, which finishes what it has
            )
        return self._process

    async def _lose(self, process: asyncio.subprocess.Process, reason: str) -> int:
        """Kill the process, if it is still there, and forget it."""
        if not reason:  # it has ended by itself; `kill` would take its exit status from the event loop
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _FINISH_S)
        _kill(process)
        status = await process.wait()
        if self._process is process:
            self._process = None
        self._on_death(reason or f"exit status {status}")
        return status


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()


def answer_questions(answer: Callable[[Question], Answer]) -> None:
    """The child's side: answer the questions of standard input, until it is closed. What else is printed goes to stderr."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin.buffer:
        try:
            _send(answers, b"\n")
            try:
                reply = answer(json.loads(line))
            except AnadilError as error:
                reply = {"error": str(error)}
            except MemoryError:
                reply = {
                    "error": "the recording needs more memory than is allowed\n"
                    "  next: send a shorter one, or fewer channels"
                }
            _send(answers, json.dumps(reply).encode() + b"\n")
        except BrokenPipeError:
            return


def _send(answers: BinaryIO, line: bytes) -> None:
    answers.write(line)
    answers.flush()
