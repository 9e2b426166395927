"""Real speech for an export: a manifest that is read and checked once, and recognised by the graphs to compare."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anadil.decoding.decoder import Decoder
from anadil.errors import AnadilError, Problem, summarize
from anadil.evaluation.evaluate import Evaluation, score
from anadil.evaluation.lm_tuning import choose_utterances
from anadil.export.layout import INPUTS, OUTPUTS
from anadil.manifest import Utterance, measured, probe_all, read_audio, read_manifest, refuse_pseudo_labels
from anadil.text.rules import TextRules, describe

MIN_UTTERANCES = 30
"""With fewer, a third for calibration and the rest for measuring say nothing."""

_BATCH_SECONDS = 60.0
_UNKNOWN_SHARE = 0.05
"""Of the characters; a text in the model's language has hardly any character without a label."""

SECONDS_TIMED = 60.0
"""Audio of one timed run: 0.1 s with small-2d on one core, 1 s with QuartzNet 15x5."""


@dataclass(frozen=True)
class Speech:
    """Utterances with their audio, float32 (samples,), and their references as the model's rules write them."""

    manifest: str
    utterances: tuple[Utterance, ...]  # with durations
    waveforms: tuple[np.ndarray, ...]
    references: tuple[str, ...]
    n_found: int  # in the manifest; more than `utterances` if some were drawn

    def part(self, indices: Sequence[int]) -> Speech:
        """Some of the utterances."""
        utterances, waveforms, references = (
            tuple(whole[i] for i in indices) for whole in (self.utterances, self.waveforms, self.references)
        )
        return Speech(self.manifest, utterances, waveforms, references, self.n_found)  # type: ignore[arg-type]


def read_speech(manifest: Path, rules: TextRules, sample_rate: int, at_least: int = 1) -> Speech:
    """Read a manifest in the model's language; of a long one a part is drawn at random, always the same.

    Raises AnadilError listing utterances without text or audio, and if there are fewer than `at_least`, or if language
    or letters are not the model's.
    """
    utterances = read_manifest(manifest)
    refuse_pseudo_labels(utterances, "to measure errors")
    if len(utterances) < at_least:
        raise AnadilError(
            f"{manifest} has {len(utterances)} utterances; at least {at_least} are needed: a third calibrates the "
            "quantisation, and errors are counted on the rest\n  next: give validation data, such as --calibrate valid.jsonl"
        )
    _require_language(manifest, utterances, rules)
    infos, problems, found = probe_all(utterances), list[Problem](), list[Utterance]()
    for utterance in utterances:
        try:
            found.append(measured(utterance, infos[utterance.audio_filepath]))
            if not rules.normalize(utterance.text):
                raise AnadilError("empty text")
        except AnadilError as error:
            problems.append(Problem(utterance.source or utterance.audio_filepath, str(error)))
    if problems:
        raise AnadilError(summarize(problems, "utterances", len(utterances), "correct these lines, or remove them"))
    chosen = [found[i] for i in choose_utterances([utterance.duration or 0.0 for utterance in found])]
    waveforms = tuple(read_audio(utterance, sample_rate) for utterance in chosen)
    references = tuple(rules.normalize(utterance.text) for utterance in chosen)
    return Speech(str(manifest), tuple(chosen), waveforms, references, len(found))


def _require_language(manifest: Path, utterances: Sequence[Utterance], rules: TextRules) -> None:
    others = Counter(one.language for one in utterances if one.language and one.language != rules.language)
    if others and "und" not in (rules.language, *others):
        named = ", ".join(f"{language} ({n:,} utterances)" for language, n in others.most_common(5))
        raise AnadilError(
            f"{manifest}: its language is {named}, but the model's is {rules.language}\n"
            "  next: give speech in the model's language"
        )
    unknown: Counter[str] = Counter()
    n_characters = 0
    for utterance in utterances:
        text = rules.normalize(utterance.text)
        known = set(text) - set(rules.unknown_characters(text))
        n_characters += len(text)
        unknown.update(character for character in text if character not in known)
    if unknown.total() > _UNKNOWN_SHARE * n_characters:
        listed = ", ".join(describe(character) for character, _ in unknown.most_common(5))
        raise AnadilError(
            f"{manifest}: the model has no label for {unknown.total() / n_characters:.0%} of the characters ({listed}): is it "
            "another language, or are the texts written by other rules?\n  next: give speech in the model's language"
        )


def batches(waveforms: Sequence[np.ndarray], sample_rate: int, min_samples: int) -> Iterator[tuple[list[int], Feed]]:
    """Indices and graph inputs of batches of at most 60 s with padding, shortest first."""
    order = sorted(range(len(waveforms)), key=lambda i: len(waveforms[i]))
    some: list[int] = []
    for i in order:
        if some and len(waveforms[i]) * (len(some) + 1) > _BATCH_SECONDS * sample_rate:
            yield some, feed([waveforms[one] for one in some], min_samples)
            some = []
        some.append(i)
    if some:
        yield some, feed([waveforms[one] for one in some], min_samples)


Feed = Mapping[str, np.ndarray]


def feed(waveforms: Sequence[np.ndarray], min_samples: int) -> Feed:
    """The inputs of an exported graph for these waveforms, padded."""
    counts = np.array([max(len(waveform), min_samples) for waveform in waveforms], dtype=np.int64)
    padded = np.zeros((len(waveforms), counts.max()), dtype=np.float32)
    for row, waveform in zip(padded, waveforms, strict=True):
        row[: len(waveform)] = waveform
    return dict(zip(INPUTS, (padded, counts), strict=True))


def recognise(
    session: Any, speech: Speech, rules: TextRules, frame_s: float, min_samples: int, rate: int
) -> Evaluation:
    """Greedy texts of a graph (an ONNX Runtime session), scored."""
    decoder = Decoder(rules, frame_s)
    texts = [""] * len(speech.waveforms)
    for indices, inputs in batches(speech.waveforms, rate, min_samples):
        log_probs, counts = session.run(list(OUTPUTS), inputs)
        found = decoder.texts([row[:count] for row, count in zip(log_probs, counts, strict=True)])
        for i, text in zip(indices, found, strict=True):
            texts[i] = text
    return score(speech.utterances, speech.references, texts)


def speeds(sessions: Mapping[str, Any], speech: Speech, min_samples: int, rate: int, runs: int = 5) -> dict[str, float]:
    """Seconds of audio per second of processor time of each session, in turns, the best of `runs`.

    The processor time of one thread hardly depends on what else runs on the machine. Sessions must have one thread.
    """
    waveforms, n = list[np.ndarray](), 0
    for waveform in sorted(speech.waveforms, key=len, reverse=True):
        if n and n + len(waveform) > SECONDS_TIMED * rate:
            break
        waveforms.append(waveform)
        n += len(waveform)
    inputs = feed(waveforms, min_samples)
    best = dict.fromkeys(sessions, float("inf"))
    for turn in range(runs + 1):
        for name, session in sessions.items():
            started = time.process_time()
            session.run(list(OUTPUTS), inputs)
            if turn:  # the first run allocates memory
                best[name] = min(best[name], time.process_time() - started)
    return {name: n / rate / seconds for name, seconds in best.items()}
