"""Recognising and scoring a manifest."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

from anadil.errors import AnadilError, Problem, summarize
from anadil.evaluation.evaluate import Evaluation, score
from anadil.manifest import Utterance, measured, probe_all
from anadil.recognition.recognizer import Recognizer
from anadil.text.rules import TextRules
from anadil.text.scoring import View


def evaluate_manifest(
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    view: View = str,
) -> tuple[Evaluation, Counter[str]]:
    """Recognise and score; references go through the model's own text rules, and both texts through `view`.

    Also returns how often the references hold each character that the model has no label for: these count as
    errors. Raises AnadilError listing every utterance without text or readable audio.
    """
    utterances = measure(utterances, recognizer.rules)
    references = [recognizer.rules.normalize(utterance.text) for utterance in utterances]
    unknown: Counter[str] = Counter()
    for reference in references:
        known = set(reference) - set(recognizer.rules.unknown_characters(reference))
        unknown.update(character for character in reference if character not in known)
    hypotheses = [""] * len(utterances)
    started = time.perf_counter()
    for done, (index, transcript) in enumerate(recognizer.transcribe_utterances(utterances), start=1):
        hypotheses[index] = transcript.text
        on_progress(done, len(utterances))
    elapsed_s = time.perf_counter() - started
    return score(utterances, list(map(view, references)), list(map(view, hypotheses)), elapsed_s), unknown


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
