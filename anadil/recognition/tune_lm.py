"""`anadil lm tune`: the weights of a language model for a recogniser, on speech with text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from anadil.decoding.beam import BEAM
from anadil.decoding.label_lm import check_alphabet
from anadil.decoding.language_model import LanguageModel, check_words, kind_of
from anadil.errors import AnadilError
from anadil.evaluation.lm_tuning import MIN_UTTERANCES, Tuned, TuningData, choose_utterances, tune, tune_words
from anadil.evaluation.word_confidence import Calibration, calibrate
from anadil.lm.counts import Progress
from anadil.lm.model import NGramModel, read_model
from anadil.manifest import Utterance
from anadil.recognition.recognize_manifest import measure
from anadil.recognition.recognizer import Recognizer


@dataclass(frozen=True)
class ToTune:
    """The n-grams whose weights are wanted: of labels, of words, or both."""

    labels: NGramModel | None
    words: NGramModel | None


def ngrams_to_tune(recognizer: Recognizer, path: Path | None, warn: Callable[[str], None]) -> ToTune:
    """The n-gram in an ARPA file, of labels or of words, or without one the recogniser's own.

    Labels that it has never seen, and words that cannot be spelled, are named in a warning. Raises AnadilError if there is
    none, or it is one of other labels and words.
    """
    if path is None:
        if recognizer.lm is None:
            raise AnadilError(
                "the model has no language model of its own\n  next: give one: --lm FILE; anadil lm build makes it"
            )
        return ToTune(recognizer.lm.labels, recognizer.lm.words)
    model, labels = read_model(path), recognizer.rules.labels
    try:
        if kind_of(model, labels) == "words":
            foreign = check_words(model, labels)
            if foreign:
                warn(
                    f"{path} has {len(foreign):,} words of {len(model.words):,} with characters that are no labels, and will not "
                    f"be in hypotheses: {' '.join(foreign[:10])}"
                )
            return ToTune(None, model)
        missing = check_alphabet(model, labels)
    except AnadilError as error:
        raise AnadilError(f"{path}: {error}") from None
    if missing:
        warn(
            f"{path} has never seen {len(missing):,} of the labels, which will be rare in hypotheses: {' '.join(missing)}"
        )
    return ToTune(model, None)


def tune_on_manifest(
    recognizer: Recognizer,
    given: ToTune,
    utterances: Sequence[Utterance],
    beam: int | None = None,
    on_progress: Progress = lambda *_: None,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[Tuned, LanguageModel, Calibration]:
    """Recognise at most 20 minutes of the utterances once, and tune on their log-probs. `beam`: None keeps the present one.

    A model of words is tuned beside the recogniser's model of labels, if it has one. Returns what was found, the language
    model with the best weights, and the confidence of words with and without it, which is in these weights too.
    Raises AnadilError if an utterance cannot be scored, or if they are too few.
    """
    if len(utterances) < MIN_UTTERANCES:
        raise AnadilError(
            f"{len(utterances):,} utterances are too few to tune on\n  next: give {MIN_UTTERANCES} or more, better 200"
        )
    utterances = measure(utterances, recognizer.rules)
    chosen = choose_utterances([one.duration or 0.0 for one in utterances])
    if len(chosen) < len(utterances):
        say(f"tuning on {len(chosen):,} of {len(utterances):,} utterances, drawn at random")
    some = [utterances[i] for i in chosen]
    log_probs: dict[int, np.ndarray] = {}

    def reject(index: int, error: AnadilError) -> None:
        raise AnadilError(f"{some[index].source}: {error}") from error

    for index, one in recognizer.log_probs_of_utterances(some, reject):
        log_probs[index] = one.copy()  # without the padding of its batch
        on_progress("recognising", len(log_probs), len(some))
    present, rules = recognizer.lm, recognizer.rules
    data = TuningData(
        rules,
        some,
        [rules.normalize(one.text) for one in some],
        [log_probs[i] for i in range(len(some))],
        beam or (present.weights.beam if present else BEAM),
    )
    alphabet = tuple(rules.labels)
    tuned: Tuned | None = None
    if given.labels is not None:
        tuned = tune(given.labels, data, lambda done, total: on_progress("tuning", done, total))
        present = LanguageModel(alphabet, tuned.weights, given.labels)
    if given.words is not None and (tuned is None or tuned.helps):
        tuned = tune_words(present, given.words, data, lambda done, total: on_progress("tuning words", done, total))
        present = LanguageModel(alphabet, tuned.weights, present.labels if present else None, given.words)
    assert tuned is not None and present is not None
    calibration = calibrate(rules, present, data.references, data.log_probs)
    return tuned, replace(present, weights=calibration.weights(tuned.weights)), calibration
