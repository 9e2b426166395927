"""Recognition while someone speaks: audio bit by bit in, partial and final results out.

Works with every model, also those that were not made for streaming: the last seconds are recognised again and again. The
log-probs of a frame are kept once `look_ahead_s` of later audio has been seen, so windows overlap and are joined frame by frame,
at blanks and spaces: no word is lost or doubled. docs/streaming.md has what that costs.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import soxr

from anadil.data.live_pauses import LivePieces
from anadil.data.pauses import BOUNDARY_S, Piece, pauses_within
from anadil.decoding.decoder import Decoded
from anadil.decoding.transcript import Word, joiner, words_from_tokens
from anadil.errors import AnadilError
from anadil.recognition.second_look import gap_ids

if TYPE_CHECKING:
    from anadil.recognition.recognizer import Recognizer

Latency = Literal["low", "medium", "high"]

LOOK_AHEAD_S: dict[str, float] = {"low": 0.6, "medium": 2.0, "high": math.inf}
"""Seconds of later audio that a word waits for until it is final. Infinite: until its piece has ended."""
HOP_S: dict[str, float] = {"low": 0.3, "medium": 0.6, "high": 0.6}
"""Seconds from one recognition to the next."""

WINDOW_S = 8.0
"""Audio that is recognised again at each hop."""
CONTEXT_S = 4.0
"""A shorter window is filled up with earlier speech, so that the statistics of the features are not those of a few words."""
_PARTIAL_LOOK_AHEAD_S = 2.0  # of partial results, where the final ones do not need windows
_SEAM_S = 1.0  # a frame between two blanks is looked for so far before the end of what is kept
_HIGHEST_S = 60.0

_LOWEST_RATE, _HIGHEST_RATE = 4000, 384_000


@dataclass(frozen=True, slots=True)
class Result:
    """What has been recognised. Times are in seconds from the start of the stream.

    A final result follows the earlier final ones and never changes. A partial one is all that follows the final ones so far; the
    next result, partial or final, replaces it. Its text is empty if what seemed to be speech is none.
    """

    text: str
    words: tuple[Word, ...]
    final: bool
    start: float
    end: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; times in seconds to 3 decimals, confidences to 4."""
        times = {"start": round(self.start, 3), "end": round(self.end, 3)}
        return {"text": self.text, "final": self.final, **times, "words": [word.to_dict() for word in self.words]}


class Stream:
    """A recording that is recognised while it goes on. `Recognizer.stream` makes it.

    Memory does not grow with the recording. Final results do not depend on how the audio is cut into chunks. Several streams of
    one Recognizer may run in several threads; calls of one stream wait for each other.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        sample_rate: int,
        latency: Latency | float = "medium",
        hop_s: float | None = None,
        partial: bool = True,
    ) -> None:
        check_rate(sample_rate)
        self.sample_rate = sample_rate
        self.look_ahead_s = _look_ahead(latency, recognizer.longest_s)
        self.hop_s = HOP_S[_nearest(self.look_ahead_s)] if hop_s is None else hop_s
        if not 0.05 <= self.hop_s <= _HIGHEST_S:
            raise AnadilError(f"hop_s must be seconds from 0.05 to {_HIGHEST_S:g}, found {hop_s}")
        self._recognizer, self._decoder, self._partial = recognizer, recognizer.decoder, partial
        self._lock = threading.Lock()
        self._is_finished = False
        self._resampler = None
        if sample_rate != recognizer.sample_rate:
            self._resampler = soxr.ResampleStream(sample_rate, recognizer.sample_rate, 1, dtype="float32", quality="HQ")
        self._hop = max(1, round(self.hop_s * recognizer.sample_rate))
        self._frame = max(1, round(recognizer.frame_s * recognizer.sample_rate))
        self._waiting = np.zeros(0, dtype=np.float32)
        self._n_samples = 0  # that were looked at
        self._pieces = LivePieces(recognizer.sample_rate, recognizer.longest_s, recognizer.pauses)
        self._gaps = gap_ids(recognizer.rules)
        self._piece = _OpenPiece(0, self._gaps)
        self._earlier = np.zeros(0, dtype=np.float32)  # the last speech before the piece
        self._settled_s = 0.0  # words up to here are final
        self._rest: tuple[Word, ...] = ()  # words of the piece that are not final
        self._shown = ""  # the last partial text
        self._joiner = joiner(recognizer.rules.labels)

    def feed(self, samples: np.ndarray, sample_rate: int | None = None) -> list[Result]:
        """Take the next samples, of any number; return the new final results, then at most one partial one.

        `samples` are mono floats (samples,) in [-1, 1] at the stream's sample rate. `sample_rate` is checked if it is given.
        Raises AnadilError if they are something else, and then takes none of them.
        """
        with self._lock:
            self._check(samples, sample_rate)
            return self._take(samples.astype(np.float32), is_last=False)

    def finish(self) -> list[Result]:
        """The audio has ended: return the last final results. Afterwards the stream takes no more."""
        with self._lock:
            if self._is_finished:
                return []
            self._is_finished = True
            return self._take(np.zeros(0, dtype=np.float32), is_last=True)

    @property
    def duration(self) -> float:
        """Seconds of audio that were looked at; up to one hop waits for more."""
        return self._n_samples / self._recognizer.sample_rate

    def _check(self, samples: np.ndarray, sample_rate: int | None) -> None:
        if self._is_finished:
            raise AnadilError("the stream has ended\n  next: make a new one with Recognizer.stream()")
        if sample_rate is not None and sample_rate != self.sample_rate:
            raise AnadilError(
                f"the stream has {self.sample_rate:,} samples per second, and these have {sample_rate:,}\n"
                "  next: finish this stream, and make a new one with the other sample rate"
            )
        from anadil.recognition.recognizer import check_samples

        check_samples(samples)

    def _take(self, samples: np.ndarray, is_last: bool) -> list[Result]:
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples, last=is_last)
        self._waiting = np.concatenate([self._waiting, np.clip(samples, -1.0, 1.0)])
        found: list[Result] = []
        while len(self._waiting) >= self._hop:
            block, self._waiting = self._waiting[: self._hop], self._waiting[self._hop :]
            found += self._advance(block, is_newest=len(self._waiting) < self._hop)
        self._waiting = self._waiting.copy()  # not a view of all that was fed
        if is_last:
            self._n_samples += len(self._waiting)
            pieces = self._pieces.push(self._waiting) + self._pieces.finish()
            return found + [result for piece in pieces for result in self._end(piece)]
        return found + self._show(has_final=bool(found))

    def _advance(self, block: np.ndarray, is_newest: bool) -> list[Result]:
        """Take one hop. Partial results are of interest only after the newest one."""
        self._n_samples += len(block)
        found = [result for piece in self._pieces.push(block) for result in self._end(piece)]
        is_needed = self.look_ahead_s < math.inf or (is_newest and self._partial)
        speech = self._pieces.speech if is_needed else None
        if speech is None:
            self._rest = () if is_needed or not self._partial else self._rest
            return found
        keep_s = min(self.look_ahead_s, _PARTIAL_LOOK_AHEAD_S) if self.look_ahead_s == math.inf else self.look_ahead_s
        self._recognize(speech, keep_s)
        words, self._rest = self._decode(speech, is_ended=False)
        return found + self._final(words)

    def _recognize(self, speech: Piece, look_ahead_s: float) -> None:
        """Run the network on the last seconds of a piece."""
        rate, piece = self._recognizer.sample_rate, self._piece
        if piece.start != speech.start:
            self._piece = piece = piece.moved(speech.start, self._frame)
        n_frames = len(speech.samples) // self._frame
        window, context = round(WINDOW_S * rate) // self._frame, round(CONTEXT_S * rate) // self._frame
        first = max(0, min(n_frames - window, len(piece.kept) - window // 4))
        n_before = min(max(0, context - (n_frames - first)), len(self._earlier) // self._frame)
        before = self._earlier[len(self._earlier) - n_before * self._frame :]
        (log_probs,) = self._recognizer.log_probs([np.concatenate([before, speech.samples[first * self._frame :]])])
        piece.put(log_probs[n_before:], first)
        seam = round(_SEAM_S / self._recognizer.frame_s)
        piece.keep(math.floor(n_frames - look_ahead_s / self._recognizer.frame_s), seam)

    def _end(self, piece: Piece) -> list[Result]:
        """The final results of a piece that has ended."""
        if self.look_ahead_s == math.inf:
            (log_probs,) = self._recognizer.log_probs([piece.samples])
            ((text,),) = self._recognizer.decode_pieces([self._decoder], [log_probs], [(piece.samples, piece.start)])
            words = text.words
        else:
            self._recognize(piece, look_ahead_s=0.0)
            words, _ = self._decode(piece, is_ended=True)
        rate = self._recognizer.sample_rate
        self._earlier = np.concatenate([self._earlier, piece.samples])[-round(CONTEXT_S * rate) :].copy()
        self._piece, self._rest = _OpenPiece(piece.end, self._gaps), ()
        found = self._final(words)
        self._settled_s = max(self._settled_s, piece.end / rate)
        return found

    def _decode(self, speech: Piece, is_ended: bool) -> tuple[tuple[Word, ...], tuple[Word, ...]]:
        """The words of the open piece that become final, and those after them that do not."""
        rate, frame_s = self._recognizer.sample_rate, self._recognizer.frame_s
        start_s = self._piece.start / rate
        pauses = [
            (speech.start / rate + one, speech.start / rate + other)
            for one, other in pauses_within(speech.samples, rate)
        ]
        decoded = self._decoder.decode(self._piece.log_probs, start_s, pauses)
        words = self._units(decoded, start_s, pauses)
        words = [word for word in words if (word.start + word.end) / 2 > self._settled_s]
        n_final = len(words)
        if not is_ended and self.look_ahead_s == math.inf:
            n_final = 0
        elif not is_ended:
            kept_s = start_s + len(self._piece.kept) * frame_s
            n_final = _n_final(words, kept_s, needs_next=bool(self._joiner))
        return tuple(words[:n_final]), self._merged(words[n_final:])

    def _units(self, decoded: Decoded, start_s: float, pauses: Sequence[tuple[float, float]]) -> list[Word]:
        """What becomes final as a whole: words; in a language that writes no spaces, tokens."""
        if self._joiner:
            return list(decoded.words)
        rules, frame_s = self._recognizer.rules, self._recognizer.frame_s
        return [
            word
            for token in decoded.tokens
            for word in words_from_tokens([token], rules.labels, frame_s, start_s, pauses)
        ]

    def _merged(self, words: Sequence[Word]) -> tuple[Word, ...]:
        """The same words; in a language that writes no spaces, as one."""
        if self._joiner or not words:
            return tuple(words)
        confidence = sum(word.confidence for word in words) / len(words)
        return (Word("".join(word.text for word in words), words[0].start, words[-1].end, confidence),)

    def _final(self, words: Sequence[Word]) -> list[Result]:
        words = self._merged(words)
        if not words:
            return []
        self._settled_s = words[-1].end
        return [Result(self._joiner.join(word.text for word in words), words, True, words[0].start, words[-1].end)]

    def _show(self, has_final: bool) -> list[Result]:
        """The partial result, if it is another than the last."""
        text = self._joiner.join(word.text for word in self._rest) if self._partial else ""
        is_new = text != ("" if has_final else self._shown)
        self._shown = text
        if not is_new:
            return []
        ends = (self._rest[0].start, self._rest[-1].end) if self._rest else (self.duration, self.duration)
        return [Result(text, self._rest, False, *ends)]


class _OpenPiece:
    """The log-probs of a piece that has not ended: those that are kept, and those after them that are found anew each hop."""

    def __init__(self, start: int, gaps: Sequence[int], kept: np.ndarray | None = None) -> None:
        self.start, self._gaps = start, gaps
        self.kept = np.zeros((0, 0), dtype=np.float32) if kept is None else kept  # (frames, labels + blank)
        self._open = self.kept[:0]

    @property
    def log_probs(self) -> np.ndarray:
        """All of them, (frames, labels + blank)."""
        return np.concatenate([self.kept, self._open]) if len(self.kept) else self._open

    def moved(self, start: int, frame: int) -> _OpenPiece:
        """The piece from another start on; its frames are kept if they still lie in it."""
        n_frames, rest = divmod(start - self.start, frame)
        kept = self.kept[n_frames:] if rest == 0 and 0 <= n_frames < len(self.kept) else None
        return _OpenPiece(start, self._gaps, kept)

    def put(self, log_probs: np.ndarray, first: int) -> None:
        """Take the newest log-probs, which begin at frame `first` of the piece."""
        self._open = log_probs[len(self.kept) - first :]

    def keep(self, n_frames: int, seam: int) -> None:
        """Keep the first `n_frames`, or up to `seam` fewer, so that the last is in the middle of blanks or spaces."""
        n_new = min(n_frames - len(self.kept), len(self._open))
        if n_new <= 0:
            return
        is_gap = np.isin(self._open[: n_new + 2].argmax(axis=1), self._gaps)
        candidates = range(n_new, max(0, n_new - seam), -1)
        among = [n for n in candidates if is_gap[max(0, n - 2) : n + 2].all()]
        n_new = next(iter(among or [n for n in candidates if is_gap[n - 1]]), max(0, n_new - seam))
        fresh, self._open = self._open[:n_new], self._open[n_new:]
        self.kept = np.concatenate([self.kept, fresh]) if len(self.kept) else fresh.copy()


def _n_final(words: Sequence[Word], kept_s: float, needs_next: bool) -> int:
    """How many words are complete in the log-probs up to `kept_s`: the space after them is kept too, or a pause."""
    n_ended = sum(word.end <= kept_s for word in words)
    if not needs_next or n_ended == 0 or (n_ended < len(words) and words[n_ended].start < kept_s):
        return n_ended
    return n_ended if kept_s - words[n_ended - 1].end >= BOUNDARY_S else n_ended - 1


def _look_ahead(latency: Latency | float, longest_s: float) -> float:
    if isinstance(latency, str):
        if latency not in LOOK_AHEAD_S:
            raise AnadilError(f"latency must be {', '.join(LOOK_AHEAD_S)} or seconds, found {latency!r}")
        return LOOK_AHEAD_S[latency]
    if isinstance(latency, bool) or not 0.1 <= latency <= _HIGHEST_S:
        raise AnadilError(f"latency must be low, medium, high or seconds from 0.1 to {_HIGHEST_S:g}, found {latency!r}")
    return math.inf if latency >= longest_s else float(latency)


def _nearest(look_ahead_s: float) -> str:
    """The setting whose hop fits a look-ahead."""
    return next(name for name, limit in LOOK_AHEAD_S.items() if look_ahead_s <= limit)


def check_rate(sample_rate: int) -> None:
    """Raise AnadilError if this is no sample rate."""
    if isinstance(sample_rate, bool) or not _LOWEST_RATE <= sample_rate <= _HIGHEST_RATE:
        raise AnadilError(
            f"the sample rate must be from {_LOWEST_RATE:,} to {_HIGHEST_RATE:,} per second, found {sample_rate!r}"
        )
