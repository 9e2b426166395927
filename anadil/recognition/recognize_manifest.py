"""Recognising and scoring a manifest."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from anadil.errors import AnadilError, Problem, summarize
from anadil.evaluation.evaluate import EmptyReferences, Evaluation, score
from anadil.evaluation.references import reference_doubt, snr_db
from anadil.manifest import Utterance, measured, probe_all
from anadil.recognition.recognizer import Change, Recognizer, unchanged
from anadil.text.rules import TextRules
from anadil.text.scoring import View


@dataclass(frozen=True)
class Results:
    """A manifest recognised and scored. `evaluation` is with the model's language model, if it has one."""

    evaluation: Evaluation
    greedy: Evaluation | None  # without it; None if it has none. Not timed
    unknown: Counter[str]  # how often the references hold each character that has no label
    n_skipped: int = 0  # utterances with an empty reference that were left out


def evaluate_manifest(
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    view: View = str,
) -> tuple[Evaluation, Counter[str]]:
    """Recognise and score as the model decodes; see `evaluate_decoders`."""
    results = evaluate_decoders(recognizer, utterances, on_progress, view, with_greedy=False)
    return results.evaluation, results.unknown


def evaluate_decoders(
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    view: View = str,
    with_greedy: bool = True,
    empty_references: EmptyReferences = "count",
    change: Change = unchanged,
) -> Results:
    """Recognise and score; references go through the model's own text rules, and both texts through `view`.

    With a language model in `recognizer`, greedy decoding of the same log-probs is scored too. Characters that the model
    has no label for count as errors. `empty_references`: whether the words recognised in an utterance whose reference is
    empty are counted as insertions, or it is skipped, or refused. Each utterance gets the keys snr_db and reference_doubt.
    `change` is applied to the samples of each utterance before all that.
    Raises AnadilError listing every utterance that is refused or has no readable audio, or if none is left.
    """
    given = utterances
    if empty_references == "skip":
        utterances = [one for one in utterances if recognizer.rules.normalize(one.text)]
        if not utterances:
            raise AnadilError("every reference is empty, so nothing is left to score\n  next: --empty-references count")
    utterances = measure(utterances, recognizer.rules, refuse_empty=empty_references == "refuse")
    references = [recognizer.rules.normalize(utterance.text) for utterance in utterances]
    unknown: Counter[str] = Counter()
    for reference in references:
        known = set(reference) - set(recognizer.rules.unknown_characters(reference))
        unknown.update(character for character in reference if character not in known)
    decoders = [recognizer.decoder]
    if with_greedy and recognizer.lm is not None:
        decoders.append(recognizer.greedy)
    hypotheses = [[""] * len(utterances) for _ in decoders]
    confidences: list[list[tuple[float, ...]]] = [[()] * len(utterances) for _ in decoders]
    found: dict[int, dict[str, float | None]] = {}
    observed_s = 0.0

    def observe(index: int, samples: np.ndarray, log_probs: np.ndarray) -> None:
        nonlocal observed_s
        before = time.perf_counter()
        doubt = reference_doubt(log_probs, references[index], recognizer.rules)
        found[index] = {"snr_db": snr_db(samples, recognizer.sample_rate), "reference_doubt": doubt}
        observed_s += time.perf_counter() - before

    started = time.perf_counter()
    for done, (index, transcripts) in enumerate(
        recognizer.transcribe_by(utterances, decoders, observe, change), start=1
    ):
        for own, sure, transcript in zip(hypotheses, confidences, transcripts, strict=True):
            own[index] = transcript.text
            sure[index] = tuple(word.confidence for word in transcript.words)
        on_progress(done, len(utterances))
    elapsed_s = time.perf_counter() - started - observed_s
    described = [_with_figures(one, found[i]) for i, one in enumerate(utterances)]
    evaluations = [
        score(described, list(map(view, references)), list(map(view, own)), seconds, sure)
        for own, sure, seconds in zip(hypotheses, confidences, [elapsed_s, 0.0], strict=False)
    ]
    n_skipped = len(given) - len(utterances)
    return Results(evaluations[0], evaluations[1] if len(evaluations) > 1 else None, unknown, n_skipped)


def _with_figures(utterance: Utterance, figures: dict[str, float | None]) -> Utterance:
    """The utterance with these keys, rounded; those that are not known are left out, and those of an earlier run go."""
    kept = {key: value for key, value in utterance.extra.items() if key not in figures}
    return replace(utterance, extra=kept | {k: round(value, 3) for k, value in figures.items() if value is not None})


def measure(utterances: Sequence[Utterance], rules: TextRules, refuse_empty: bool = True) -> list[Utterance]:
    """Fill in durations and refuse what cannot be scored; with `refuse_empty` also texts of which the rules leave nothing."""
    with_durations, problems = [], []
    infos = probe_all(utterances)
    for utterance in utterances:
        try:
            with_durations.append(measured(utterance, infos[utterance.audio_filepath]))
            if refuse_empty and not rules.normalize(utterance.text):
                raise AnadilError(f"empty text: the text rules leave nothing of {utterance.text!r} to compare with")
        except AnadilError as error:
            problems.append(Problem(utterance.source or utterance.audio_filepath, str(error)))
    if problems:
        raise AnadilError(
            summarize(problems, "utterances", len(utterances), "correct these lines, or remove them from the manifest")
        )
    return with_durations
