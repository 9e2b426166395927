"""Recognizer: audio in, Transcripts out; the same for an exported folder (ONNX Runtime) and a model folder (PyTorch)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from anadil import audio
from anadil.data.pauses import NOT_MEASURED, WHOLE_S, PauseLimits, pauses_within
from anadil.decoding.confidence import ConfidenceMap
from anadil.decoding.decoder import Decoder
from anadil.decoding.language_model import LanguageModel
from anadil.decoding.transcript import Alternative, Transcript, Word
from anadil.decoding.word_lm import checked_hotwords
from anadil.errors import AnadilError
from anadil.manifest import Utterance, read_audio
from anadil.recognition.pipeline import Blocks, Observe, recognize
from anadil.recognition.second_look import gap_ids, labelled_parts
from anadil.text.rules import TextRules

if TYPE_CHECKING:
    from anadil.recognition.stream import Latency, Stream

BATCH_SECONDS = 30.0
"""Audio per batch, with padding. Batches of 8 to 60 s take the same time per second of audio, and memory grows with them."""

_ABOVE_0 = 0.01
"""A log-prob above 0 by more than rounding (1e-6 in float32, 4e-3 in bfloat16) is none."""

Forward = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Waveforms float32 (batch, samples) and sample counts int64 (batch,) to log-probs (batch, frames, labels + blank)
and frame counts (batch,)."""

Change = Callable[[Utterance, np.ndarray], np.ndarray]
"""From an utterance and its float32 (samples,) to the samples that are recognised, such as with noise."""


def unchanged(utterance: Utterance, samples: np.ndarray) -> np.ndarray:
    """The samples as they were read."""
    return samples


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
    provider: str = "cpu"  # what computes: a name of recognition/providers.py

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
        alone = isinstance(source, str | Path | np.ndarray)
        sources = [source] if isinstance(source, str | Path | np.ndarray) else source
        found: dict[int, Transcript] = {}
        for index, outcome in self.transcribe_each([self._blocks(one, sample_rate) for one in sources], decoder):
            if isinstance(outcome, AnadilError):
                raise outcome
            found[index] = outcome
        return found[0] if alone else [found[index] for index in range(len(sources))]

    def transcribe_files(
        self, files: Sequence[tuple[str | Path, audio.Channel]], decoder: Decoder | None = None
    ) -> Iterator[tuple[int, Transcript | AnadilError]]:
        """Recognise (file, channel); yields (index, transcript), or the error of a file that cannot be read, roughly in order.

        Files are read while others are recognised, in batches of like length. Memory depends neither on their number nor on their
        length. `decoder`: another than the model's own.
        """
        yield from self.transcribe_each(
            [partial(audio.read_blocks, path, self.sample_rate, channel, whole_s=WHOLE_S) for path, channel in files],
            decoder,
        )

    def transcribe_each(
        self, recordings: Sequence[Blocks], decoder: Decoder | None = None
    ) -> Iterator[tuple[int, Transcript | AnadilError]]:
        """As `transcribe_files`, of recordings that are functions: each opens its blocks of float32 (samples,)."""
        for index, outcome in recognize(self, recordings, [decoder or self.decoder], BATCH_SECONDS):
            yield index, outcome if isinstance(outcome, AnadilError) else outcome[0]

    def transcribe_utterances(self, utterances: Sequence[Utterance]) -> Iterator[tuple[int, Transcript]]:
        """Recognise a manifest's utterances in batches, shortest first; yields (index, transcript).

        Raises AnadilError naming the utterance whose audio cannot be read.
        """
        for index, (transcript,) in self.transcribe_by(utterances, [self.decoder]):
            yield index, transcript

    def transcribe_by(
        self,
        utterances: Sequence[Utterance],
        decoders: Sequence[Decoder],
        observe: Observe | None = None,
        change: Change = unchanged,
    ) -> Iterator[tuple[int, tuple[Transcript, ...]]]:
        """As `transcribe_utterances`, with a transcript by each of several decoders; the network runs once.

        `observe` is called for each utterance before its transcripts are yielded. `change` is applied to its samples first,
        in the threads that read.
        """
        order = sorted(range(len(utterances)), key=lambda i: utterances[i].duration or 0.0)
        readers = [partial(_utterance_blocks, utterances[i], self.sample_rate, change) for i in order]

        def at_its_place(place: int, samples: np.ndarray, log_probs: np.ndarray) -> None:
            if observe is not None:
                observe(order[place], samples, log_probs)

        for place, outcome in recognize(self, readers, decoders, BATCH_SECONDS, observe and at_its_place):
            utterance = utterances[order[place]]
            if isinstance(outcome, AnadilError):
                raise AnadilError(f"{utterance.source}: {outcome}") from outcome
            yield order[place], outcome

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
        self, utterances: Sequence[Utterance], reject: Callable[[int, AnadilError], None]
    ) -> Iterator[list[tuple[int, np.ndarray]]]:
        order = sorted(range(len(utterances)), key=lambda i: utterances[i].duration or 0.0)
        batch: list[tuple[int, np.ndarray]] = []
        for index in order:
            utterance = utterances[index]
            try:
                samples = read_audio(utterance, self.sample_rate)
            except AnadilError as error:
                reject(index, error)
                continue
            if batch and len(samples) * (len(batch) + 1) > BATCH_SECONDS * self.sample_rate:
                yield batch
                batch = []
            batch.append((index, samples))
        yield batch

    def log_probs_by_length(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """As `log_probs`, in batches of similar length; the results are in the order of the waveforms."""
        found: dict[int, np.ndarray] = {}
        some: list[int] = []
        for number in sorted(range(len(waveforms)), key=lambda n: len(waveforms[n])):
            if some and len(waveforms[number]) * (len(some) + 1) > BATCH_SECONDS * self.sample_rate:
                found.update(zip(some, self.log_probs([waveforms[n] for n in some]), strict=True))
                some = []
            some.append(number)
        found.update(zip(some, self.log_probs([waveforms[n] for n in some]), strict=True))
        return [found[n] for n in range(len(waveforms))]

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

    def stream(
        self,
        sample_rate: int = 16000,
        latency: Latency | float = "medium",
        hop_s: float | None = None,
        partial: bool = True,
    ) -> Stream:
        """Recognise audio while it comes: a Stream that takes chunks at `sample_rate` and returns partial and final results.

        `latency`: how long a word waits for later audio until it is final: "low", "medium", "high" (until the next pause, as
        `transcribe` does) or seconds. `hop_s`: seconds from one recognition to the next. Without `partial` only final
        results are returned, which at "high" takes less time. Raises AnadilError if one of these is out of range.
        """
        from anadil.recognition.stream import Stream

        return Stream(self, sample_rate, latency, hop_s, partial)

    def _blocks(self, source: str | Path | np.ndarray, sample_rate: int | None) -> Blocks:
        if not isinstance(source, np.ndarray):
            return partial(audio.read_blocks, source, self.sample_rate, whole_s=WHOLE_S)
        check_samples(source)
        return lambda: [audio.resample(source.astype(np.float32), sample_rate or self.sample_rate, self.sample_rate)]

    def decode_pieces(
        self, decoders: Sequence[Decoder], log_probs: Sequence[np.ndarray], pieces: Sequence[tuple[np.ndarray, int]]
    ) -> list[list[PieceText]]:
        """What each decoder finds in each piece: float32 (samples,) that start at a sample, and log_probs of them.

        What has no labels for long, such as music, is cut out, and the rest recognised again (`second_look.py`).
        """
        gaps, frame = gap_ids(self.rules), self.frame_s * self.sample_rate
        parts: list[tuple[int, np.ndarray, np.ndarray, int]] = []  # piece, log-probs, samples, first sample
        for n, (own, (samples, start)) in enumerate(zip(log_probs, pieces, strict=True)):
            found = labelled_parts(own, gaps, self.frame_s, self.pauses)
            if not found or found == [(0, len(own))]:
                parts.append((n, own, samples, start))
                continue
            cuts = [(round(first * frame), min(round(last * frame), len(samples))) for first, last in found]
            again = self.log_probs([samples[first:last] for first, last in cuts])
            parts += [
                (n, part, samples[first:last], start + first) for part, (first, last) in zip(again, cuts, strict=True)
            ]
        parts = [part for part in parts if len(part[2])]
        starts_s = [start / self.sample_rate for *_, start in parts]
        pauses = [
            [(at_s + one, at_s + other) for one, other in pauses_within(samples, self.sample_rate)]
            for at_s, (_, _, samples, _) in zip(starts_s, parts, strict=True)
        ]
        texts = [[PieceText() for _ in decoders] for _ in pieces]
        for which, decoder in enumerate(decoders):
            decoded = decoder.decode_many([part for _, part, _, _ in parts], starts_s, pauses)
            for at_s, (n, _, samples, _), one in zip(starts_s, parts, decoded, strict=True):
                texts[n][which].words += _within(one.words, at_s + len(samples) / self.sample_rate)
                texts[n][which].alternatives.append(one.alternatives)
        return texts


@dataclass(slots=True)
class PieceText:
    """The words of a piece, and the best texts of each of its parts, if the decoder was asked for them."""

    words: tuple[Word, ...] = ()
    alternatives: list[tuple[Alternative, ...]] = field(default_factory=list)


def _within(words: tuple[Word, ...], end_s: float) -> tuple[Word, ...]:
    """The words of a piece that ends at `end_s`: the last frame may reach past it, a word does not."""
    return tuple(replace(word, start=min(word.start, end_s), end=min(word.end, end_s)) for word in words)


def _utterance_blocks(utterance: Utterance, sample_rate: int, change: Change) -> list[np.ndarray]:
    return [change(utterance, read_audio(utterance, sample_rate))]


def check_samples(samples: np.ndarray) -> None:
    """Raise AnadilError if these are not finite mono floats (samples,)."""
    if not isinstance(samples, np.ndarray) or samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
        what = f"{samples.dtype} {samples.shape}" if isinstance(samples, np.ndarray) else type(samples).__name__
        raise AnadilError(
            f"expected mono floats (samples,) in [-1, 1], found {what}\n"
            "  next: average the channels, and divide 16-bit integers by 32768"
        )
    if not np.isfinite(samples).all():
        raise AnadilError("the samples contain values that are not numbers (NaN or infinity)")
