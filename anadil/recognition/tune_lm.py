"""`anadil lm tune`: the weights of a language model for a recogniser, on speech with text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from anadil.decoding.beam import BEAM
from anadil.decoding.label_lm import check_alphabet
from anadil.errors import AnadilError
from anadil.evaluation.lm_tuning import MIN_UTTERANCES, Tuned, choose_utterances, tune
from anadil.lm.counts import Progress
from anadil.lm.model import NGramModel, read_model
from anadil.manifest import Utterance
from anadil.recognition.recognize_manifest import measure
from anadil.recognition.recognizer import Recognizer


def ngram_to_tune(recognizer: Recognizer, path: Path | None, warn: Callable[[str], None]) -> NGramModel:
    """The n-gram in an ARPA file, or without one the recogniser's own.

    Labels that it has never seen are named in a warning. Raises AnadilError if there is none, or it is one of other labels.
    """
    if path is None:
        if recognizer.lm is None:
            raise AnadilError(
                "the model has no language model of its own\n  next: give one: --lm FILE; anadil lm build makes it"
            )
        return recognizer.lm.model
    model = read_model(path)
    try:
        missing = check_alphabet(model, recognizer.rules.labels)
    except AnadilError as error:
        raise AnadilError(f"{path}: {error}") from None
    if missing:
        warn(
            f"{path} has never seen {len(missing):,} of the labels, which will be rare in hypotheses: {' '.join(missing)}"
        )
    return model


def tune_on_manifest(
    recognizer: Recognizer,
    model: NGramModel,
    utterances: Sequence[Utterance],
    beam: int | None = None,
    on_progress: Progress = lambda *_: None,
    say: Callable[[str], None] = lambda text: None,
) -> Tuned:
    """Recognise at most 20 minutes of the utterances once, and tune on their log-probs. `beam`: None keeps the present one.

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
    return tune(
        model,
        recognizer.rules,
        some,
        [recognizer.rules.normalize(one.text) for one in some],
        [log_probs[i] for i in range(len(some))],
        beam or (recognizer.lm.weights.beam if recognizer.lm else BEAM),
        lambda done, total: on_progress("tuning", done, total),
    )
