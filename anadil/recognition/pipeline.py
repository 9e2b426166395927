"""Many recordings, or long ones: reading, the network and decoding run beside each other.

Threads read recordings and look for the pieces with speech. Pieces of like length make a batch, whichever recordings they are of.
What is read ahead is bounded, so memory depends neither on the number of recordings nor on their length.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from anadil.data.pauses import Piece, pieces_of_blocks
from anadil.decoding.decoder import Decoder
from anadil.decoding.transcript import Transcript, Word, best_of_parts, joiner
from anadil.errors import AnadilError

if TYPE_CHECKING:
    from anadil.recognition.recognizer import PieceText, Recognizer

Blocks = Callable[[], Iterable[np.ndarray]]
"""Opens a recording: its blocks of float32 (samples,) at the model's sample rate, in order."""

Observe = Callable[[int, np.ndarray, np.ndarray], None]
"""Gets the index of a recording, its samples, and the log-probs (frames, labels + blank) of its speech."""

_READERS = 2  # threads; libsndfile, soxr and NumPy release the interpreter's lock
_AHEAD_BATCHES = 3  # of audio that waits for the network: among so many, pieces of like length are found
DECODED_TOGETHER, _DECODED_BATCHES = 64, 4  # pieces, or batches of audio; a beam search of many at a time takes less
_WAITING_RECORDINGS = 1000  # whose pieces may wait; without speech they fill no batch

Outcome = tuple[Transcript, ...] | AnadilError


def recognize(
    recognizer: Recognizer,
    recordings: Sequence[Blocks],
    decoders: Sequence[Decoder],
    batch_s: float,
    observe: Observe | None = None,
) -> Iterator[tuple[int, Outcome]]:
    """Recognise recordings; yields (index, a transcript by each decoder), roughly in order.

    Instead of transcripts there is an AnadilError if a recording cannot be read or recognised. Other errors are raised.
    `observe` is called before the transcripts are yielded; then the samples of a recording are kept until it is done.
    """
    pool = _Pool(round(_AHEAD_BATCHES * batch_s * recognizer.sample_rate))
    numbers = iter(range(len(recordings)))
    threads = [
        threading.Thread(target=_read, args=(recognizer, recordings, numbers, pool, observe is not None), daemon=True)
        for _ in range(min(_READERS, len(recordings)))
    ]
    pool.n_readers = len(threads)
    for thread in threads:
        thread.start()
    try:
        with ThreadPoolExecutor(1) as network:  # decoding goes on while it runs
            yield from _recognize(recognizer, pool, network, decoders, round(batch_s * recognizer.sample_rate), observe)
    finally:
        pool.stop()
        for thread in threads:
            thread.join()


def _read(
    recognizer: Recognizer, recordings: Sequence[Blocks], numbers: Iterator[int], pool: _Pool, keeps_samples: bool
) -> None:
    """Read recordings, one after the other, until none is left. Runs in several threads."""
    with suppress(_StoppedError):
        while (index := pool.next(numbers)) is not None:
            end = _End(index)
            try:
                blocks = _counted(recordings[index](), end, keeps_samples)
                pieces = pieces_of_blocks(blocks, recognizer.sample_rate, recognizer.longest_s, recognizer.pauses)
                for piece in pieces:
                    pool.put(_Waiting(index, end.n_pieces, piece))
                    end.n_pieces += 1
            except _StoppedError:
                raise
            except BaseException as error:  # raised in the thread that waits for the results
                end.error = error
            pool.end(end)
    pool.leave()


def _counted(blocks: Iterable[np.ndarray], end: _End, keeps_samples: bool) -> Iterator[np.ndarray]:
    for block in blocks:
        end.n_samples += len(block)
        if keeps_samples:
            end.samples.append(block)
        yield block


def _recognize(
    recognizer: Recognizer,
    pool: _Pool,
    network: ThreadPoolExecutor,
    decoders: Sequence[Decoder],
    batch: int,
    observe: Observe | None,
) -> Iterator[tuple[int, Outcome]]:
    running: deque[tuple[list[_Waiting], Future[list[np.ndarray]]]] = deque()
    ready: list[tuple[_Waiting, np.ndarray | AnadilError]] = []  # log-probs that wait to be decoded together
    is_greedy = all(decoder.is_greedy for decoder in decoders)
    open_: dict[int, _Recording] = {}
    while True:
        some, ends = pool.take(batch, wait=not running)
        if some:
            running.append((some, network.submit(recognizer.log_probs, [one.piece.samples for one in some])))
        for end in ends:
            if end.error is not None and not isinstance(end.error, AnadilError):
                raise end.error
            open_.setdefault(end.index, _Recording()).end = end
        touched = [end.index for end in ends]
        if running and (len(running) > 1 or not some):
            done, future = running.popleft()
            ready += zip(done, _results(recognizer, done, future), strict=True)
        n_ready = sum(len(one.piece.samples) for one, _ in ready)
        is_enough = is_greedy or len(ready) >= DECODED_TOGETHER or n_ready >= _DECODED_BATCHES * batch
        if ready and (is_enough or not running):
            for one, log_probs, found in _decoded(recognizer, decoders, ready):
                recording = open_.setdefault(one.index, _Recording())
                recording.pieces[one.number] = (one.piece.start, one.piece.lead, found)
                if observe is not None and log_probs is not None:
                    recording.log_probs[one.number] = _own_frames(log_probs, one.piece, recognizer)
            touched += [one.index for one, _ in ready]
            ready = []
        for index in dict.fromkeys(touched):
            if open_[index].is_complete:
                recording = open_.pop(index)
                if observe is not None:
                    recording.show_to(observe, index, recognizer)
                yield index, recording.outcome(recognizer, len(decoders))
        if not some and not running and not ready and pool.is_done:
            return


def _results(
    recognizer: Recognizer, some: Sequence[_Waiting], future: Future[list[np.ndarray]]
) -> list[np.ndarray | AnadilError]:
    """The log-probs of a batch; if it fails, of each piece alone, so that one at fault costs its own recording."""
    try:
        return list(future.result())
    except AnadilError as error:
        return [error] if len(some) == 1 else [_log_probs_alone(recognizer, one) for one in some]


def _log_probs_alone(recognizer: Recognizer, one: _Waiting) -> np.ndarray | AnadilError:
    try:
        return recognizer.log_probs([one.piece.samples])[0]
    except AnadilError as error:
        return error


def _decoded(
    recognizer: Recognizer, decoders: Sequence[Decoder], ready: Sequence[tuple[_Waiting, np.ndarray | AnadilError]]
) -> list[tuple[_Waiting, np.ndarray | None, list[PieceText] | AnadilError]]:
    """Each piece with its log-probs and what each decoder finds, or its error."""
    good = [(one, found) for one, found in ready if not isinstance(found, AnadilError)]
    failed = [(one, None, found) for one, found in ready if isinstance(found, AnadilError)]
    pieces = [(one.piece.samples, one.piece.start) for one, _ in good]
    try:
        texts = recognizer.decode_pieces(decoders, [found for _, found in good], pieces)
    except AnadilError as error:
        if len(good) == 1:
            return [*failed, (good[0][0], None, error)]
        return [*failed, *(triple for one in good for triple in _decoded(recognizer, decoders, [one]))]
    return [*failed, *((one, found, own) for (one, found), own in zip(good, texts, strict=True))]


@dataclass(eq=False, slots=True)
class _Waiting:
    """A piece that waits for the network: the `number`-th of a recording."""

    index: int
    number: int
    piece: Piece


@dataclass(slots=True)
class _End:
    """A recording was read to its end, or as far as it goes."""

    index: int
    n_pieces: int = 0
    n_samples: int = 0
    error: BaseException | None = None
    samples: list[np.ndarray] = field(default_factory=list)  # if somebody observes


@dataclass(slots=True)
class _Recording:
    """What is known of a recording so far: start and lead of each piece in samples, and what each decoder found, or an error."""

    pieces: dict[int, tuple[int, int, list[PieceText] | AnadilError]] = field(default_factory=dict)
    log_probs: dict[int, np.ndarray] = field(default_factory=dict)  # of each piece, if somebody observes
    end: _End | None = None

    @property
    def is_complete(self) -> bool:
        return self.end is not None and self.end.n_pieces == len(self.pieces)

    def show_to(self, observe: Observe, index: int, recognizer: Recognizer) -> None:
        assert self.end is not None
        if self.end.error is None and len(self.log_probs) == self.end.n_pieces:
            samples = self.end.samples or [np.zeros(0, np.float32)]
            nothing = np.zeros((0, len(recognizer.rules.labels) + 1), np.float32)
            observe(
                index,
                np.concatenate(samples),
                np.concatenate([nothing, *(self.log_probs[n] for n in range(self.end.n_pieces))]),
            )

    def outcome(self, recognizer: Recognizer, n_decoders: int) -> Outcome:
        assert self.end is not None
        if isinstance(self.end.error, AnadilError):
            return self.end.error
        in_order: list[tuple[int, int, list[PieceText]]] = []
        for number in range(self.end.n_pieces):
            start, lead, found = self.pieces[number]
            if isinstance(found, AnadilError):
                return found
            in_order.append((start, lead, found))
        rate, rules = recognizer.sample_rate, recognizer.rules
        between = joiner(rules.labels)
        overlap = any(lead for _, lead, _ in in_order)
        transcripts = []
        for n in range(n_decoders):
            words: list[Word] = []
            for start, lead, of_each in in_order:
                words = joined(words, of_each[n].words, start / rate, (start + 2 * lead) / rate)
            text = between.join(word.text for word in words)
            # the texts of pieces that overlap cannot be put together: words would be there twice
            parts = [] if overlap else [part for _, _, of_each in in_order for part in of_each[n].alternatives]
            best = best_of_parts(parts, between)
            transcripts.append(Transcript(text, tuple(words), self.end.n_samples / rate, rules.language, best))
        return tuple(transcripts)


def _own_frames(log_probs: np.ndarray, piece: Piece, recognizer: Recognizer) -> np.ndarray:
    """The frames of a piece without those that the pieces beside it have too."""
    lead, tail = (round(n / recognizer.sample_rate / recognizer.frame_s) for n in (piece.lead, piece.tail))
    return log_probs[lead : len(log_probs) - tail]


def joined(words: list[Word], following: Sequence[Word], start_s: float, end_s: float) -> list[Word]:
    """The words of two pieces that overlap from `start_s` to `end_s`, each word once.

    The seam is the middle of the widest gap between words of either piece in the overlap, so that a word whose time differs by
    some frames is on one side in both. Without an overlap nothing is left out.
    """
    if end_s <= start_s:
        return [*words, *following]
    both = [word for word in (*words, *following) if word.end > start_s and word.start < end_s]
    times = (min(max(edge, start_s), end_s) for word in both for edge in (word.start, word.end))
    edges = sorted({start_s, end_s, *times})
    gaps = [gap for gap in itertools.pairwise(edges) if not _is_in_word(sum(gap) / 2, both)]
    one, other = max(gaps, key=lambda gap: gap[1] - gap[0], default=(start_s, end_s))
    seam = (one + other) / 2
    return [
        *(word for word in words if (word.start + word.end) / 2 < seam),
        *(word for word in following if (word.start + word.end) / 2 >= seam),
    ]


def _is_in_word(time_s: float, words: Sequence[Word]) -> bool:
    return any(word.start <= time_s <= word.end for word in words)


class _StoppedError(Exception):
    """The results are no longer wanted."""


class _Pool:
    """The pieces between the threads that read and the one that recognises."""

    def __init__(self, limit: int) -> None:
        self._limit = limit  # samples
        self._changed = threading.Condition()
        self._pieces: list[_Waiting] = []  # oldest first
        self._n_samples = 0
        self._ends: list[_End] = []
        self._is_stopped = False
        self.n_readers = 0

    def next(self, numbers: Iterator[int]) -> int | None:
        """The next recording to read, or None; the threads share `numbers`."""
        with self._changed:
            return None if self._is_stopped else next(numbers, None)

    def put(self, waiting: _Waiting) -> None:
        """Add a piece once there is room."""
        with self._changed:
            self._changed.wait_for(lambda: self._n_samples < self._limit or self._is_stopped)
            if self._is_stopped:
                raise _StoppedError
            self._pieces.append(waiting)
            self._n_samples += len(waiting.piece.samples)
            self._changed.notify_all()

    def end(self, end: _End) -> None:
        """A recording has no more pieces."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._ends) < _WAITING_RECORDINGS or self._is_stopped)
            self._ends.append(end)
            self._changed.notify_all()

    def leave(self) -> None:
        """A thread has nothing more to read."""
        with self._changed:
            self.n_readers -= 1
            self._changed.notify_all()

    def stop(self) -> None:
        """Nobody takes any more: let the threads end."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    @property
    def is_done(self) -> bool:
        """Whether nothing is left, nor will come."""
        with self._changed:
            return self.n_readers == 0 and not self._pieces and not self._ends

    def take(self, batch: int, wait: bool) -> tuple[list[_Waiting], list[_End]]:
        """A batch, and the recordings that ended. The batch is empty if too few pieces are there; with `wait`, not for long.

        The oldest piece is always in it, so that no recording waits for ever.
        """
        with self._changed:
            if wait:
                self._changed.wait_for(self._is_ready)
            ends, self._ends = self._ends, []
            if not self._pieces or not (self._n_samples >= self._limit // 2 or self.n_readers == 0):
                self._changed.notify_all()
                return [], ends
            some = _like_the_first(self._pieces, batch)
            chosen = {id(one) for one in some}
            self._pieces = [one for one in self._pieces if id(one) not in chosen]
            self._n_samples -= sum(len(one.piece.samples) for one in some)
            self._changed.notify_all()
            return some, ends

    def _is_ready(self) -> bool:
        is_enough = self._n_samples >= self._limit // 2 or len(self._ends) >= _WAITING_RECORDINGS
        return is_enough or self.n_readers == 0


def _like_the_first(pieces: Sequence[_Waiting], batch: int) -> list[_Waiting]:
    """The first piece and those nearest to it in length, with padding at most `batch` samples, or this piece alone."""

    def length(one: _Waiting) -> int:
        return len(one.piece.samples)

    in_order = sorted(pieces, key=length)
    first = last = next(i for i, one in enumerate(in_order) if one is pieces[0])
    own = length(pieces[0])
    while True:
        shorter = own - length(in_order[first - 1]) if first > 0 else None
        longer = length(in_order[last + 1]) - own if last + 1 < len(in_order) else None
        n = last - first + 2
        if longer is not None and (shorter is None or longer <= shorter) and (own + longer) * n <= batch:
            last += 1
        elif shorter is not None and length(in_order[last]) * n <= batch:
            first -= 1
        else:
            return in_order[first : last + 1]
