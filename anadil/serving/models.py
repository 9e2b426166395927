"""Models by name, each in processes of its own, and the queues from which these take batches.

Short recordings and long ones wait in different queues. The process for long ones runs at a low priority, so an hour of speech
does not hold up a sentence. Streams have a third process.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import math
import os
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from anadil.decoding.transcript import Transcript, Word
from anadil.errors import AnadilError
from anadil.recognition.pipeline import joined
from anadil.serving.child import Child, ChildDiedError

LONG_S = 60.0
"""Recordings above this are long."""

BATCH_S, SEARCHED_S = 24.0, 96.0
"""Audio with its padding that a process takes at a time, without and with a language model: long enough to be efficient, short
enough not to wait for. A beam search of 16 pieces at a time takes two thirds of what one of 8 takes for a piece."""

_FULL, _FILL_S, _ENOUGH = 16, 0.05, 4
"""With a language model, a process waits for so many pieces and so long, if another one works and the decoders have so many
recordings to decode meanwhile."""

_LOW_PRIORITY = 15
_LOAD_S, _BATCH_LIMIT_S = 300.0, 300.0


class LaneClosedError(Exception):
    """The model was loaded again; its new version takes the job."""


class BusyError(Exception):
    """The queue is full; `retry_s` is when a place may be free."""

    def __init__(self, retry_s: float) -> None:
        super().__init__(f"the queue is full; try again in {retry_s:.0f} s")
        self.retry_s = retry_s


@dataclass(frozen=True)
class Facts:
    """What the server needs to know of a model."""

    name: str
    language: str | None
    sample_rate: int
    longest_s: float
    pauses: list[float]  # of PauseLimits
    joiner: str
    labels: list[str]
    batch_s: float  # audio with its padding that a process takes at a time


Stretch = tuple[int, int, int]
"""A piece of a recording: its first sample, the one after its last, and how many it shares with the piece before."""


@dataclass(eq=False)
class Job:
    """A recording to recognise: float32 samples in a file, and the pieces of it with speech.

    `on_words` gets words as soon as they are settled: in order, each once.
    """

    samples: Path
    pieces: Sequence[Stretch]
    sample_rate: int
    on_words: Callable[[Sequence[Word]], None] = lambda words: None
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    n_answered: int = 0
    _words: dict[int, list[Word]] = field(default_factory=dict)  # of pieces after one that is not answered yet
    _joined: list[Word] = field(default_factory=list)
    _n_joined: int = 0
    _n_settled: int = 0

    def give(self, index: int, words: list[Word]) -> None:
        """Take the words of a piece."""
        if self.done.done():
            return
        self._words[index] = words
        self.n_answered += 1
        while self._n_joined in self._words:
            start, _, lead = self.pieces[self._n_joined]
            following = self._words.pop(self._n_joined)
            self._joined = joined(
                self._joined, following, start / self.sample_rate, (start + 2 * lead) / self.sample_rate
            )
            self._n_joined += 1
        settled = self._settled()
        self.on_words(self._joined[self._n_settled : settled])
        self._n_settled = max(settled, self._n_settled)
        if self.n_answered == len(self.pieces):
            self.done.set_result(None)

    def _settled(self) -> int:
        """How many of the joined words the next piece cannot change: those before what it shares."""
        if self._n_joined == len(self.pieces) or not self.pieces[self._n_joined][2]:
            return len(self._joined)
        start_s = self.pieces[self._n_joined][0] / self.sample_rate
        return sum(word.end <= start_s for word in self._joined)

    @property
    def words(self) -> list[Word]:
        """In order, when it is done."""
        return self._joined


@dataclass(eq=False)
class Piece:
    job: Job
    index: int
    tried: int = 0  # how many processes died over a batch that it was in

    @property
    def seconds(self) -> float:
        start, end, _ = self.job.pieces[self.index]
        return (end - start) / self.job.sample_rate


class Lane:
    """A queue of pieces, and the processes that take batches from it."""

    def __init__(
        self,
        children: Sequence[Child],
        in_turns: bool,
        batch_s: float = BATCH_S,
        n_coming: Callable[[], int] = lambda: 0,
    ) -> None:
        """`n_coming`: how many recordings are decoded now; their pieces may be here soon."""
        self._n_coming = n_coming
        self._waiting: deque[Piece] = deque()
        self._changed = asyncio.Condition()
        self._in_turns, self._batch_s, self._n_working, self._closed = in_turns, batch_s, 0, False
        self.children = children
        self._workers = [asyncio.create_task(self._work(child)) for child in children]

    @property
    def n_waiting(self) -> int:
        """Pieces that no process has taken yet."""
        return len(self._waiting)

    async def recognize(self, job: Job) -> list[Word]:
        """The words of a job, in order. Raises ChildDiedError if processes died over it, AnadilError if the model fails.

        If the caller is cancelled, what is left of the job is not done.
        """
        async with self._changed:
            if self._closed:
                raise LaneClosedError
            self._waiting.extend(Piece(job, index) for index in range(len(job.pieces)))
            self._changed.notify_all()
        try:
            if job.pieces:
                await job.done
        finally:
            if job.n_answered < len(job.pieces):
                self._drop(job)
        return job.words

    async def close(self) -> None:
        """Finish what is in the queue, then end the processes."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()
        await asyncio.gather(*self._workers)
        await asyncio.gather(*(child.close() for child in self.children))

    def _drop(self, job: Job) -> None:
        self._waiting = deque(piece for piece in self._waiting if piece.job is not job)

    async def _work(self, child: Child) -> None:
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._waiting or self._closed)
                await self._fill()
                if not self._waiting:  # another process took them
                    if self._closed:
                        return
                    continue
                batch = self._take()
                self._n_working += 1
            question = {
                "op": "recognize",
                "pieces": [[str(piece.job.samples), *piece.job.pieces[piece.index][:2]] for piece in batch],
            }
            try:
                answer = await child.ask(question, _BATCH_LIMIT_S)
            except (ChildDiedError, AnadilError) as failure:
                await self._try_again(batch, failure)
            except Exception as error:  # each asker gets it; the lane goes on
                for piece in batch:
                    _fail(piece.job, error)
            else:
                for piece, words in zip(batch, answer["words"], strict=True):
                    piece.job.give(piece.index, [Word(*word) for word in words])
            finally:
                self._n_working -= 1

    async def _fill(self) -> None:
        """Wait for more pieces, if they are worth it and no core is idle meanwhile."""

        def has_enough() -> bool:
            is_worth_it = self._batch_s > BATCH_S and self._n_working > 0 and self._n_coming() >= _ENOUGH
            return self._closed or not is_worth_it or not 0 < len(self._waiting) < _FULL

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FILL_S):
                await self._changed.wait_for(has_enough)

    def _take(self) -> list[Piece]:
        """The next pieces for a process: no more than its share, if others have nothing to do."""
        if self._in_turns:
            return take_in_turns(self._waiting, self._batch_s)
        share = math.ceil(len(self._waiting) / (len(self.children) - self._n_working))
        return take_by_length(self._waiting, self._batch_s, share)

    async def _try_again(self, batch: Sequence[Piece], failure: ChildDiedError | AnadilError) -> None:
        """Put pieces back whose process died or failed, to be taken alone.

        A piece is given up when it fails alone, or is alone in a batch the second time that a process dies.
        """
        async with self._changed:
            for piece in reversed(batch):
                piece.tried += 1
                if len(batch) == 1 and (piece.tried > 1 or isinstance(failure, AnadilError)):
                    _fail(piece.job, failure)
                elif not piece.job.done.done():
                    self._waiting.appendleft(piece)
            self._changed.notify_all()


def take_by_length(waiting: deque[Piece], batch_s: float = BATCH_S, most: float = math.inf) -> list[Piece]:
    """Take the piece that came first, and those nearest to it in length: up to `batch_s` with padding, at most `most`.

    A piece over which a process died or failed is taken alone.
    """
    first = waiting.popleft()
    batch, longest = [first], first.seconds
    if first.tried:
        return batch
    for piece in sorted(waiting, key=lambda piece: abs(piece.seconds - first.seconds)):
        longest_then = max(longest, piece.seconds)
        if longest_then * (len(batch) + 1) > batch_s or len(batch) >= most:
            break
        if not piece.tried:
            batch.append(piece)
            longest = longest_then
    taken = set(map(id, batch))
    rest = [piece for piece in waiting if id(piece) not in taken]
    waiting.clear()
    waiting.extend(rest)
    return batch


def take_in_turns(waiting: deque[Piece], batch_s: float = BATCH_S) -> list[Piece]:
    """Take the next pieces of the recording that is first, up to `batch_s` with padding; then it is another's turn."""
    job, batch, longest = waiting[0].job, [waiting.popleft()], 0.0
    if batch[0].tried:
        return batch
    longest = batch[0].seconds
    rest: list[Piece] = []
    mine: list[Piece] = []
    for piece in waiting:
        if piece.job is not job:
            rest.append(piece)
        elif mine or piece.tried or max(longest, piece.seconds) * (len(batch) + 1) > batch_s:
            mine.append(piece)
        else:
            batch.append(piece)
            longest = max(longest, piece.seconds)
    waiting.clear()
    waiting.extend([*rest, *mine])
    return batch


def _fail(job: Job, error: BaseException) -> None:
    if not job.done.done():
        job.done.set_exception(error)


class Model:
    """A model that is served: loaded when it is first asked, loaded again by `reload`."""

    def __init__(
        self,
        name: str,
        folder: Path,
        n_workers: int,
        on_death: Callable[[str, str], None],
        n_coming: Callable[[], int] = lambda: 0,
    ) -> None:
        self.name, self.folder, self._n_coming = name, folder, n_coming
        self._n_workers, self._on_death = n_workers, on_death
        self._loading = asyncio.Lock()
        self._loaded: _Loaded | None = None
        self._closing: set[asyncio.Task[None]] = set()  # earlier versions that still have something to do
        self.failure = ""  # why it could not be loaded the last time

    async def facts(self) -> Facts:
        """What it is. Raises AnadilError if it cannot be loaded, ChildDiedError if its process dies."""
        return (await self._get()).facts

    async def recognize(self, job: Job, is_long: bool) -> Transcript:
        """The transcript of a job whose pieces cover `n_samples` of a recording; see `Lane.recognize`."""
        while True:
            loaded = await self._get()
            if job.sample_rate != loaded.facts.sample_rate:
                raise ChildDiedError("the model was replaced by one with another sample rate")
            try:
                words = tuple(await (loaded.long if is_long else loaded.short).recognize(job))
                break
            except LaneClosedError:
                continue
        n_samples = job.samples.stat().st_size // 4
        text = loaded.facts.joiner.join(word.text for word in words)
        return Transcript(text, words, n_samples / job.sample_rate, loaded.facts.language)

    async def stream(self, sample_rate: int) -> Stream:
        """Open a stream of samples at `sample_rate`."""
        loaded = await self._get()
        stream = Stream(loaded, uuid.uuid4().hex)
        loaded.open_streams.add(stream.name)
        try:
            await loaded.streams.ask({"op": "open", "stream": stream.name, "sample_rate": sample_rate}, _LOAD_S)
        except BaseException:
            loaded.open_streams.discard(stream.name)
            raise
        return stream

    @property
    def n_waiting(self) -> int:
        """Pieces that wait for a process."""
        return self._loaded.short.n_waiting + self._loaded.long.n_waiting if self._loaded else 0

    @property
    def is_loaded(self) -> bool:
        return self._loaded is not None

    def pids(self) -> list[int]:
        """Of the running processes."""
        return [child.pid for child in self._loaded.children() if child.pid] if self._loaded else []

    async def reload(self) -> None:
        """Load the folder again, if it was loaded; requests that wait are still answered by the earlier version.

        Raises AnadilError or ChildDiedError if it cannot be loaded; then the earlier version stays.
        """
        async with self._loading:
            if self._loaded is None:
                return
            fresh = await self._load()
            old, self._loaded = self._loaded, fresh
        closing = asyncio.create_task(old.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """End the processes when they have finished what waits."""
        async with self._loading:
            if self._loaded is not None:
                await self._loaded.close()
                self._loaded = None
        await asyncio.gather(*self._closing)

    async def _get(self) -> _Loaded:
        async with self._loading:
            if self._loaded is None:
                self._loaded = await self._load()
            return self._loaded

    async def _load(self) -> _Loaded:
        threads = max(1, (os.cpu_count() or 1) // self._n_workers)
        short = [self._child(threads, 0) for _ in range(self._n_workers)]
        try:
            facts = Facts(**await short[0].ask({"op": "describe"}, _LOAD_S))
        except Exception as error:
            self.failure = str(error)
            await short[0].close()
            raise
        self.failure = ""
        long, streams = self._child(os.cpu_count() or 1, _LOW_PRIORITY), self._child(threads, 0)
        lanes = Lane(short, False, facts.batch_s, self._n_coming), Lane([long], True, facts.batch_s)
        return _Loaded(facts, *lanes, streams)

    def _child(self, threads: int, priority: int) -> Child:
        return Child(
            "anadil.serving.model_child",
            [str(self.folder), str(threads), str(priority)],
            lambda reason: self._on_death("model", reason),
        )


@dataclass
class _Loaded:
    facts: Facts
    short: Lane
    long: Lane
    streams: Child
    open_streams: set[str] = field(default_factory=set)

    def children(self) -> Iterator[Child]:
        yield from (*self.short.children, *self.long.children, self.streams)

    async def close(self) -> None:
        await asyncio.gather(self.short.close(), self.long.close())
        while self.open_streams:
            await asyncio.sleep(0.1)
        await self.streams.close()


@dataclass(frozen=True)
class Stream:
    """A stream of samples to a model, and the results that come back as JSON-ready mappings."""

    loaded: _Loaded
    name: str

    async def feed(self, samples: np.ndarray) -> list[dict[str, Any]]:
        """Results of float32 (samples,). Raises ChildDiedError; the stream is lost then."""
        return await self._ask({"op": "feed", "samples": base64.b64encode(samples.tobytes()).decode()})

    async def finish(self) -> list[dict[str, Any]]:
        """The last results."""
        return await self._ask({"op": "finish"})

    async def forget(self) -> None:
        """Free the stream, whether it was finished or its client has gone."""
        self.loaded.open_streams.discard(self.name)
        with contextlib.suppress(ChildDiedError):
            await self.loaded.streams.ask({"op": "forget", "stream": self.name}, _BATCH_LIMIT_S)

    async def _ask(self, question: dict[str, Any]) -> list[dict[str, Any]]:
        answer = await self.loaded.streams.ask(question | {"stream": self.name}, _BATCH_LIMIT_S)
        found: list[dict[str, Any]] = answer["results"]
        return found
