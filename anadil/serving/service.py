"""What the routes share: models, decoders, the folder of the project, and how many requests may be in it at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from anadil.audio import Channel
from anadil.decoding.transcript import Transcript, Word
from anadil.errors import AnadilError
from anadil.serving.archive import Archive, Recording
from anadil.serving.child import ChildDiedError
from anadil.serving.decoders import DISK_FULL, Decoded, Decoders
from anadil.serving.limits import Limits
from anadil.serving.metrics import Metrics
from anadil.serving.models import BusyError, Facts, Job, Model
from anadil.serving.uploads import Spool

log = logging.getLogger("anadil.serve")

T = TypeVar("T")
Receive = Callable[[], Awaitable[Any]]

_KEPT_AT_A_TIME = 2
"""Recordings of the project that are recognised at a time: the samples of each are on the disk meanwhile."""

_SPEED = 0.2
"""Of the moving average of how long requests take, for Retry-After."""


class Queue:
    """So many requests at a time; those beyond are refused at once."""

    def __init__(self, size: int) -> None:
        self._size, self.n = size, 0
        self._seconds = 1.0  # that a request takes, averaged

    def refuse_if_full(self) -> None:
        """Raises BusyError."""
        if self.n >= self._size:
            raise BusyError(min(60, max(1, math.ceil(self._seconds))))

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """A place until the block ends. Raises BusyError if there is none."""
        self.refuse_if_full()
        self.n += 1
        begun = time.monotonic()
        try:
            yield
            self._seconds += _SPEED * (time.monotonic() - begun - self._seconds)
        finally:
            self.n -= 1


class Service:
    """Everything that a running server holds. Made inside the event loop."""

    def __init__(
        self, folders: Mapping[str, Path], archive: Archive, limits: Limits, n_workers: int, metrics: Metrics
    ) -> None:
        """`folders`: models by name, the first is the default one."""
        self.limits, self.metrics = limits, metrics
        self.archive = archive
        self.spool = Spool(archive.folder / ".spool", limits.spool_bytes)
        self.decoders = Decoders(limits.max_s, self._died)
        self.models = {
            name: Model(name, folder, n_workers, self._died, lambda: self.decoders.n_short)
            for name, folder in folders.items()
        }
        self.default = next(iter(self.models))
        self.queue, self.long_queue = Queue(limits.queue), Queue(limits.long_queue)
        self.streams = Queue(limits.streams)
        self.is_closing = False
        self.problem = ""  # of the disk, since the last time that it worked
        self._tasks: set[asyncio.Task[None]] = set()
        self._few_kept = asyncio.Semaphore(_KEPT_AT_A_TIME)
        self._kept: set[str] = set()  # ids of recordings that a task recognises
        self._writing = asyncio.Lock()
        self._are_manifests_due = False
        if self.archive.unreadable:
            log.warning(
                "%d recordings cannot be read: %s", len(self.archive.unreadable), ", ".join(self.archive.unreadable)
            )
        self.in_background(self.decoders.start())
        for id in self.archive.waiting():
            self.recognize_kept(id)

    def _died(self, kind: str, reason: str) -> None:
        self.metrics.deaths.labels(kind).inc()
        log.warning("a %s process ended: %s", kind, reason)

    async def transcribe(
        self,
        path: Path,
        name: str,
        folder: Path,
        model: Model,
        channel: Channel = "mix",
        on_words: Callable[[Sequence[Word]], None] | None = None,
    ) -> Transcript:
        """Decode and recognise an uploaded file, with samples in `folder`.

        `on_words` gets the words as they are settled. Raises BusyError if too many wait, AnadilError if the file or
        the model is at fault, ChildDiedError if a process died twice, OSError if the disk is full, TimeoutError.
        """
        async with asyncio.timeout(self.limits.answer_s):
            with self.queue.place():
                facts = await model.facts()
                decoded = await self.decoders.decode(path, name, folder / "samples", facts, channel)
                if not decoded.is_long:
                    return await self._recognize(decoded, facts, model, on_words)
            with self.long_queue.place():
                return await self._recognize(decoded, facts, model, on_words)

    async def _recognize(
        self,
        decoded: Decoded,
        facts: Facts,
        model: Model,
        on_words: Callable[[Sequence[Word]], None] | None = None,
    ) -> Transcript:
        job = Job(decoded.samples, decoded.pieces, facts.sample_rate)
        if on_words is not None:
            job.on_words = on_words
        transcript = await model.recognize(job, decoded.is_long)
        self.metrics.audio_seconds.labels(model.name).inc(transcript.duration)
        return transcript

    def recognize_kept(self, id: str) -> None:
        """Recognise a recording of the project in the background."""
        if id in self._kept:
            return
        self._kept.add(id)
        self.in_background(self._recognize_kept(id))

    async def _recognize_kept(self, id: str) -> None:
        try:
            async with self._few_kept:
                await self._recognize_one(self.archive.get(id))
        except KeyError:  # it was deleted
            pass
        finally:
            self._kept.discard(id)

    async def _recognize_one(self, one: Recording) -> None:
        id = one.id
        try:
            model = self.models.get(one.model) or self.models[self.default]
            with self.spool.place() as folder:
                facts = await model.facts()
                decoded = await self.decoders.decode(
                    one.folder / one.audio, one.name, folder / "samples", facts, flac=one.folder / "playback.flac"
                )
                transcript = await self._recognize(decoded, facts, model)
            result = (transcript, facts.joiner, decoded.peaks, decoded.notes)
            await self.write(self.archive.recognized, id, *result)
        except AnadilError as error:
            await self._keep_failure(id, str(error))
        except ChildDiedError:
            await self._keep_failure(id, "the process that recognises it died; try again")
        except OSError as error:
            await self._keep_failure(id, f"it could not be written: {error.strerror}; free disk space and try again")

    async def _keep_failure(self, id: str, message: str) -> None:
        try:
            await self.write(self.archive.failed, id, message)
        except (AnadilError, OSError, KeyError) as error:  # the disk is full, or the recording was deleted
            log.warning("the state of a recording could not be kept: %s", type(error).__name__)

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def write(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a method of the archive that writes, in a thread: one after the other, as each waits for the disk."""
        async with self._writing:
            return await asyncio.to_thread(function, *arguments)

    async def write_manifests(self) -> None:
        """Bring the manifests up to date. Raises AnadilError if the disk is full."""
        await self.write(self.archive.write_manifests)

    def manifests_soon(self) -> None:
        """The same within two seconds, once for all changes until then."""
        if not self._are_manifests_due:
            self._are_manifests_due = True
            self.in_background(self._write_soon())

    async def _write_soon(self) -> None:
        await asyncio.sleep(2.0)
        self._are_manifests_due = False
        try:
            await self.write_manifests()
        except AnadilError:
            log.warning("the manifests could not be written: is the disk full?")

    async def reload(self) -> None:
        """Load all models again; one that cannot be loaded stays as it is."""
        for model in self.models.values():
            try:
                await model.reload()
                log.info("model %s: loaded again", model.name)
            except (AnadilError, ChildDiedError) as error:
                log.warning("model %s: could not be loaded again, the earlier version stays: %s", model.name, error)

    def is_ready(self) -> tuple[bool, str]:
        """Whether requests are taken, and if not, why."""
        if self.is_closing:
            return False, "the server is ending"
        failed = [model for model in self.models.values() if model.failure]
        if failed:
            return False, f"model {failed[0].name} cannot be loaded"
        if self.queue.n >= self.limits.queue:
            return False, "the queue is full"
        return True, "ready"

    async def close(self) -> None:
        """Finish what is in the queues; then end all processes. A recording that is not done waits for the next start."""
        self.is_closing = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(model.close() for model in self.models.values()), self.decoders.close())
        with contextlib.suppress(AnadilError):  # they are made again at the next start
            self.archive.close()
        self.spool.remove()


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the client goes away. Raises ClientGoneError then."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGoneError
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class ClientGoneError(Exception):
    """Nobody waits for the answer."""


def is_disk_full(error: OSError) -> bool:
    return error.errno in DISK_FULL
