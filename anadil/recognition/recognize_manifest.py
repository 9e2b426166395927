"""Recognising and scoring a manifest."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from anadil.errors import AnadilError, Problem, summarize
from anadil.evaluation.evaluate import Evaluation, score
from anadil.manifest import Utterance, measured, probe_all
from anadil.recognition.recognizer import Recognizer
from anadil.text.rules import TextRules
from anadil.text.scoring import View


@dataclass(frozen=True)
class Results:
    """A manifest recognised and scored. `evaluation` is with the model's language model, if it has one."""

    evaluation: Evaluation
    greedy: Evaluation | None  # without it; None if it has none. Not timed
    unknown: Counter[str]  # how often the references hold each character that has no label


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
) -> Results:
    """Recognise and score; references go through the model's own text rules, and both texts through `view`.

    With a language model in `recognizer`, greedy decoding of the same log-probs is scored too. Characters that the model
    has no label for count as errors. Raises AnadilError listing every utterance without text or readable audio.
    """
    utterances = measure(utterances, recognizer.rules)
    references = [recognizer.rules.normalize(utterance.text) for utterance in utterances]
    unknown: Counter[str] = Counter()
    for reference in references:
        known = set(reference) - set(recognizer.rules.unknown_characters(reference))
        unknown.update(character for character in reference if character not in known)
    decoders = [recognizer.decoder]
    if with_greedy and recognizer.lm is not None:
        decoders.append(recognizer.greedy)
    hypotheses = [[""] * len(utterances) for _ in decoders]
    started = time.perf_counter()
    for done, (index, transcripts) in enumerate(recognizer.transcribe_by(utterances, decoders), start=1):
        for own, transcript in zip(hypotheses, transcripts, strict=True):
            own[index] = transcript.text
        on_progress(done, len(utterances))
    elapsed_s = time.perf_counter() - started
    found = [
        score(utterances, list(map(view, references)), list(map(view, own)), seconds)
        for own, seconds in zip(hypotheses, [elapsed_s, 0.0], strict=False)
    ]
    return Results(found[0], found[1] if len(found) > 1 else None, unknown)


def measure(utterances: Sequence[Utterance], rules: TextRules) -> list[Utterance]:
    """Fill in durations and refuse what cannot be scored."""
    with_durations, problems = [], []
    infos = probe_all(utterances)
    for utterance in utterances:
        try:
            with_durations.append(measured(utterance, infos[utterance.audio_filepath]))
            if not rules.normalize(utterance.text):
                raise AnadilError(f"empty text: the text rules leave nothing of {utterance.text!r} to compare with")
        except AnadilError as error:
            problems.append(Problem(utterance.source or utterance.audio_filepath, str(error)))
    if problems:
        raise AnadilError(
            summarize(problems, "utterances", len(utterances), "correct these lines, or remove them from the manifest")
        )
    return with_durations
