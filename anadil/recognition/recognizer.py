"""Recognizer: audio in, Transcripts out; the same for an exported folder (ONNX Runtime) and a model folder (PyTorch)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np

from anadil import audio
from anadil.data.pauses import NOT_MEASURED, PauseLimits, pauses_within, speech_pieces
from anadil.decoding.confidence import ConfidenceMap
from anadil.decoding.decoder import Decoder
from anadil.decoding.language_model import LanguageModel
from anadil.decoding.transcript import Alternative, Transcript, Word, best_of_parts, joiner
from anadil.decoding.word_lm import checked_hotwords
from anadil.errors import AnadilError
from anadil.manifest import Utterance, read_audio
from anadil.text.rules import TextRules

BATCH_SECONDS = 60.0
"""Audio per batch: enough to keep two cores busy; takes 0.3 GB with QuartzNet 15x5."""

DECODED_TOGETHER = 64
"""Pieces that are decoded at a time."""
_MOST_LOG_PROBS = 1 << 25
"""Log-probs that wait to be decoded, at most and about: 128 MB."""

_ABOVE_0 = 0.01
"""A log-prob above 0 by more than rounding (1e-6 in float32, 4e-3 in bfloat16) is none."""

Forward = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Waveforms float32 (batch, samples) and sample counts int64 (batch,) to log-probs (batch, frames, labels + blank)
and frame counts (batch,)."""


@dataclass(frozen=True)
class Recognizer:
    """A model that recognises speech. `anadil.load` makes it."""

    name: str
    rules: TextRules
    sample_rate: int
    frame_s: float  # seconds from one frame of log-probs to the next
    min_samples: int
    forward: Forward
    longest_s: float = 20.0  # longer recordings are cut at pauses
    pauses: PauseLimits = NOT_MEASURED  # what the model knows of silence
    lm: LanguageModel | None = None  # decoding is greedy without one
    greedy_confidence: ConfidenceMap | None = None  # of words found without it

    @cached_property
    def decoder(self) -> Decoder:
        """From this model's log-probs to words, with its language model if it has one."""
        confidence = self.lm.weights.confidence if self.lm else self.greedy_confidence
        return Decoder(self.rules, self.frame_s, self.lm, word_confidence=confidence)

    def decoder_with(self, n_best: int = 0, hotwords: Iterable[str] | Mapping[str, float] = ()) -> Decoder:
        """The same with `n_best` alternatives, and with hotwords: lines `word` or `word:weight`, or weights by word.

        Raises AnadilError if a hotword has a character that the model has no label for.
        """
        if isinstance(hotwords, Mapping):
            hotwords = [f"{word}:{weight}" for word, weight in hotwords.items()]
        given = list(hotwords)
        return replace(self.decoder, n_best=n_best, hotwords=checked_hotwords(given, self.rules) if given else None)

    @property
    def greedy(self) -> Decoder:
        """The same without a language model."""
        return Decoder(self.rules, self.frame_s, word_confidence=self.greedy_confidence)

    @overload
    def transcribe(
        self,
        source: str | Path | np.ndarray,
        sample_rate: int | None = None,
        n_best: int = 0,
        hotwords: Iterable[str] | Mapping[str, float] = (),
    ) -> Transcript: ...

    @overload
    def transcribe(
        self,
        source: list[Any],
        sample_rate: int | None = None,
        n_best: int = 0,
        hotwords: Iterable[str] | Mapping[str, float] = (),
    ) -> list[Transcript]: ...

    def transcribe(
        self,
        source: str | Path | np.ndarray | list[Any],
        sample_rate: int | None = None,
        n_best: int = 0,
        hotwords: Iterable[str] | Mapping[str, float] = (),
    ) -> Transcript | list[Transcript]:
        """Recognise a file, an array, or a list of these.

        An array is mono float (samples,) in [-1, 1] at `sample_rate` (default: the model's own). Recordings may have any
        length. `n_best`, `hotwords`: see `decoder_with`. Raises AnadilError if a file is missing or no audio.
        """
        decoder = self.decoder_with(n_best, hotwords) if n_best or hotwords else self.decoder
        if isinstance(source, str | Path | np.ndarray):
            return self.transcribe_samples([self._samples(source, sample_rate)], decoder)[0]
        found: list[Transcript] = []
        waiting: list[np.ndarray] = []
        for one in source:
            waiting.append(self._samples(one, sample_rate))
            if self.is_a_batch(waiting):
                found += self.transcribe_samples(waiting, decoder)
                waiting = []
        return found + self.transcribe_samples(waiting, decoder)

    def transcribe_samples(self, many: Sequence[np.ndarray], decoder: Decoder) -> list[Transcript]:
        """Recognise recordings, float32 (samples,) each at the model's sample rate, with one of its decoders.

        Short ones together take less time than one by one (`is_a_batch`).
        """
        return [transcript for _, (transcript,) in self._recognize_batch(list(enumerate(many)), [decoder])]

    def is_a_batch(self, many: Sequence[np.ndarray]) -> bool:
        """Whether more recordings at a time would not be faster."""
        return sum(map(len, many)) >= BATCH_SECONDS * self.sample_rate

    def transcribe_utterances(self, utterances: Sequence[Utterance]) -> Iterator[tuple[int, Transcript]]:
        """Recognise a manifest's utterances in batches, shortest first; yields (index, transcript).

        Raises AnadilError naming the utterance whose audio cannot be read.
        """
        for index, (transcript,) in self.transcribe_by(utterances, [self.decoder]):
            yield index, transcript

    def transcribe_by(
        self, utterances: Sequence[Utterance], decoders: Sequence[Decoder]
    ) -> Iterator[tuple[int, tuple[Transcript, ...]]]:
        """As `transcribe_utterances`, with a transcript by each of several decoders; the network runs once."""
        for batch in self._batches(utterances, None):
            yield from self._recognize_batch(batch, decoders)

    def log_probs_of_utterances(
        self, utterances: Sequence[Utterance], reject: Callable[[int, AnadilError], None]
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Log-probs (frames, labels + blank) of a manifest's utterances in batches, shortest first; none is cut.

        Yields (index, log-probs); the index of one whose audio cannot be read goes to `reject`, with the reason.
        """
        for batch in self._batches(utterances, reject):
            found = self.log_probs([samples for _, samples in batch])
            yield from zip((index for index, _ in batch), found, strict=True)

    def _batches(
        self, utterances: Sequence[Utterance], reject: Callable[[int, AnadilError], None] | None
    ) -> Iterator[list[tuple[int, np.ndarray]]]:
        order = sorted(range(len(utterances)), key=lambda i: utterances[i].duration or 0.0)
        batch: list[tuple[int, np.ndarray]] = []
        for index in order:
            utterance = utterances[index]
            try:
                samples = read_audio(utterance, self.sample_rate)
            except AnadilError as error:
                if reject is None:
                    raise AnadilError(f"{utterance.source}: {error}") from error
                reject(index, error)
                continue
            if batch and len(samples) * (len(batch) + 1) > BATCH_SECONDS * self.sample_rate:
                yield batch
                batch = []
            batch.append((index, samples))
        yield batch

    def _recognize_batch(
        self, batch: list[tuple[int, np.ndarray]], decoders: Sequence[Decoder]
    ) -> Iterator[tuple[int, tuple[Transcript, ...]]]:
        """Recognise the speech of each recording; the pieces of all of them are recognised in batches."""
        pieces = [
            (n, start, end)
            for n, (_, samples) in enumerate(batch)
            for start, end in speech_pieces(samples, self.sample_rate, self.longest_s, self.pauses)
        ]
        found: list[list[list[tuple[int, tuple[Word, ...], tuple[Alternative, ...]]]]] = [
            [[] for _ in decoders] for _ in batch
        ]
        for some, log_probs in self._groups(batch, pieces):
            starts_s = [start / self.sample_rate for _, start, _ in some]
            pauses = [
                [(at + one, at + other) for one, other in pauses_within(batch[n][1][start:end], self.sample_rate)]
                for at, (n, start, end) in zip(starts_s, some, strict=True)
            ]
            for which, decoder in enumerate(decoders):
                decoded = decoder.decode_many(log_probs, starts_s, pauses)
                for (n, start, end), one in zip(some, decoded, strict=True):
                    if end > start:
                        found[n][which].append((start, _within(one.words, end / self.sample_rate), one.alternatives))
        for (index, samples), of_each in zip(batch, found, strict=True):
            yield index, tuple(self._transcript(parts, len(samples)) for parts in of_each)

    def _groups(
        self, batch: list[tuple[int, np.ndarray]], pieces: list[tuple[int, int, int]]
    ) -> Iterator[tuple[list[tuple[int, int, int]], list[np.ndarray]]]:
        """Pieces with their log-probs, as many as are decoded at a time."""
        waiting: list[tuple[int, int, int]] = []
        log_probs: list[np.ndarray] = []
        for some in self._by_length(pieces):
            waiting += some
            log_probs += self.log_probs([batch[n][1][start:end] for n, start, end in some])
            if len(waiting) >= DECODED_TOGETHER or sum(one.size for one in log_probs) >= _MOST_LOG_PROBS:
                yield waiting, log_probs
                waiting, log_probs = [], []
        if waiting:
            yield waiting, log_probs

    def _by_length(self, pieces: list[tuple[int, int, int]]) -> Iterator[list[tuple[int, int, int]]]:
        """Batches of at most BATCH_SECONDS with padding, shortest pieces first."""
        some: list[tuple[int, int, int]] = []
        for piece in sorted(pieces, key=lambda piece: piece[2] - piece[1]):
            if some and (piece[2] - piece[1]) * (len(some) + 1) > BATCH_SECONDS * self.sample_rate:
                yield some
                some = []
            some.append(piece)
        if some:
            yield some

    def log_probs(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Log-probs (frames, labels + blank) of each float32 (samples,) at the model's sample rate."""
        if not waveforms:
            return []
        counts = np.array([max(len(waveform), self.min_samples) for waveform in waveforms], dtype=np.int64)
        padded = np.zeros((len(waveforms), counts.max()), dtype=np.float32)
        for row, waveform in zip(padded, waveforms, strict=True):
            row[: len(waveform)] = waveform
        log_probs, frame_counts = self.forward(padded, counts)
        rows = [row[:count] for row, count in zip(log_probs, frame_counts, strict=True)]
        for row in rows:
            if not row.max(initial=-np.inf) <= _ABOVE_0:  # `not <=`, so that NaN is refused too
                what = "NaN" if np.isnan(row).any() else f"{row.max():g}, above 0: it may return logits"
                raise AnadilError(
                    f"model {self.name}: its log-probs hold {what}\n"
                    "  next: check the recording with anadil check; if others fail too, export the model again"
                )
        return rows

    def _samples(self, source: str | Path | np.ndarray, sample_rate: int | None) -> np.ndarray:
        if not isinstance(source, np.ndarray):
            return audio.read(source, self.sample_rate)
        if source.ndim != 1 or not np.issubdtype(source.dtype, np.floating):
            raise AnadilError(
                f"expected mono floats (samples,) in [-1, 1], found {source.dtype} {source.shape}\n"
                "  next: average the channels, and divide 16-bit integers by 32768"
            )
        return audio.resample(source.astype(np.float32), sample_rate or self.sample_rate, self.sample_rate)

    def _transcript(
        self, parts: Sequence[tuple[int, tuple[Word, ...], tuple[Alternative, ...]]], n_samples: int
    ) -> Transcript:
        """The transcript of a recording from those of its pieces, which start at samples, in any order."""
        in_order = sorted(parts, key=lambda part: part[0])
        words = tuple(word for _, own, _ in in_order for word in own)
        joined = joiner(self.rules.labels)
        text = joined.join(word.text for word in words)
        alternatives = best_of_parts([own for _, _, own in in_order], joined)
        return Transcript(text, words, n_samples / self.sample_rate, self.rules.language, alternatives)


def _within(words: tuple[Word, ...], end_s: float) -> tuple[Word, ...]:
    """The words of a piece that ends at `end_s`: the last frame may reach past it, a word does not."""
    return tuple(replace(word, start=min(word.start, end_s), end=min(word.end, end_s)) for word in words)
