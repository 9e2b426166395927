"""The language model that a run adds to `best`: an n-gram of the labels of its training texts, kept only if it helps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from anadil.data.batches import Loader, plan_epoch
from anadil.data.examples import Example
from anadil.decoding.label_lm import label_tokens
from anadil.decoding.language_model import (
    LanguageModel,
    remove_language_model,
    save_greedy_confidence,
    save_language_model,
)
from anadil.errors import AnadilError
from anadil.evaluation.lm_tuning import (
    MIN_UTTERANCES,
    Tuned,
    TuningData,
    add_to_card,
    choose_utterances,
    closeness,
    tune,
)
from anadil.evaluation.word_confidence import calibrate
from anadil.lm.counts import MAX_ORDER, count_ngrams, encode
from anadil.lm.disk_sort import Store
from anadil.lm.estimate import Estimate, Pruning, check_thresholds, estimate
from anadil.lm.held_out import choose_order, highest_order, model_for
from anadil.lm.model import NGramModel
from anadil.models.acoustic import AcousticModel, load_model
from anadil.training.config import LmSettings
from anadil.training.monitoring.report import Reporter
from anadil.training.prepare import Prepared
from anadil.training.run import Run

MIN_TEXTS = 100
"""With fewer different training texts no LM is made."""
MAX_NGRAMS = 1_000_000
"""With more, rare n-grams of order 4 and above are left out: 240,000 take 1.8 MB, Mboshi's (3.8 h) at order 8."""

_NEAR_BEST = 1.005
"""The lowest order is taken whose entropy is within half a percent of the best. Mboshi: 8, which is as good as 10 at 60 %
of the size; 6 has 2.9 points of WER more."""


@dataclass(frozen=True)
class Built:
    """The n-gram of a run's training texts."""

    model: NGramModel
    n_texts: int
    entropies: dict[int, float]  # bits per label of the validation texts, by order
    n_ngrams: int
    thresholds: tuple[int, ...]  # of pruning, by order

    def describe(self) -> str:
        left_out = ", rare ones left out" if any(self.thresholds) else ""
        return f"{self.model.order}-gram of the labels of {self.n_texts:,} training texts ({self.n_ngrams:,} n-grams{left_out})"


def add_language_model(data: Prepared, run: Run, device: torch.device, report: Reporter) -> Tuned | None:
    """Estimate, tune and test a language model; save it in RUN/best if it helps. What is not done is reported.

    Raises KeyboardInterrupt with the commands that do it later.
    """
    settings = data.config.lm
    if settings is None:
        return None
    folder, started = run.out / "best", time.monotonic()
    try:
        reason = _why_no_tuning(data, run)
        if reason:
            report.say(f"no language model: {reason}")
            return None
        remove_language_model(folder)  # of an earlier part of this run
        references, valid, log_probs = _validation(data, folder, device, report)
        reason = _why_no_estimate(data)
        if reason:
            report.say(f"no language model: {reason}")
            tuned, lm = None, None
        else:
            built = build_label_ngram(data.rules.labels, data.train, data.valid, settings, report)
            spoken = [example.utterance for example in valid]
            tuned = tune(
                built.model,
                TuningData(data.rules, spoken, references, log_probs, settings.beam),
                lambda done, total: report.progress("tuning the language model", done, total),
            )
            lm = LanguageModel(tuple(data.rules.labels), tuned.weights, built.model) if tuned.helps else None
            _report(built, tuned, (time.monotonic() - started) / 60, report)
        calibration = calibrate(data.rules, lm, references, log_probs)
        if lm is not None and tuned is not None:
            save_language_model(folder, replace(lm, weights=calibration.weights(tuned.weights)))
            close = closeness(map(data.reference, data.train), list(map(data.reference, data.valid))).warning()
            if close:
                report.warn(close)
            add_to_card(
                folder, f"{built.describe()}: {lm.describe()}", tuned, f"{close.splitlines()[0]}." if close else ""
            )
            report.say(f"  kept in {folder}; recognition uses it, --no-lm does without")
        elif calibration.greedy:
            save_greedy_confidence(folder, calibration.greedy.map)
        calibration.add_to_card(folder)
        if calibration.describe():
            report.say(f"word confidence, {calibration.describe()}")
    except AnadilError as error:
        report.warn(f"no language model: {error}")
        return None
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"the training is complete and {folder} is usable; only its language model is missing. To add it:\n"
            f"  anadil lm build {data.config.data.train[0]} --model {folder} --unit {_unit(data)} --order 8 --out lm.arpa.gz\n"
            f"  anadil lm tune {folder} {data.config.data.valid[0]} --lm lm.arpa.gz"
        ) from None
    return tuned


def _report(built: Built, tuned: Tuned, minutes: float, report: Reporter) -> None:
    report.say(
        f"language model: {built.describe()}, in {minutes:.1f} minutes after the training\n  validation: {tuned.describe()}"
    )
    if not tuned.helps:
        report.say("  it does not help beyond chance, so it is not kept")


def _unit(data: Prepared) -> str:
    return "subword" if data.rules.subwords else "char"


def _why_no_tuning(data: Prepared, run: Run) -> str:
    if not data.valid or run.best is None:
        return "there is no validation data to tune it on (data.valid)"
    if len(data.valid) < MIN_UTTERANCES:
        return f"{len(data.valid):,} validation utterances are too few to test it; {MIN_UTTERANCES} are needed"
    return ""


def _why_no_estimate(data: Prepared) -> str:
    n_texts = len({example.labels for example in _spoken(data.train)})
    return f"{n_texts:,} different training texts are too few; {MIN_TEXTS} are needed" if n_texts < MIN_TEXTS else ""


def _spoken(train: Sequence[Example]) -> list[Example]:
    """The examples whose texts people wrote: a model's own texts would teach it its errors."""
    return [example for example in train if not example.utterance.is_pseudo_label and example.labels]


def build_label_ngram(
    labels: Sequence[str], train: Sequence[Example], valid: Sequence[Example], settings: LmSettings, report: Reporter
) -> Built:
    """Estimate the n-gram of the labels of all different training texts; the order is chosen on the validation texts.

    Each text counts once: copies of an utterance, and prompts that many speakers read, would pass for frequent n-grams. On
    Mboshi and on the demo the entropy is lower so. Raises AnadilError if the labels cannot be tokens.
    """
    tokens = label_tokens(labels)

    def sentences(examples: Sequence[Example]) -> list[str]:
        return [" ".join([tokens[i] for i in one]) for one in dict.fromkeys(e.labels for e in examples if e.labels)]

    texts = sentences(_spoken(train))
    with Store(1 << 30) as store:
        corpus = encode(texts, store)
        limit = min(highest_order(corpus.longest), MAX_ORDER if settings.order == "auto" else settings.order)
        counts = count_ngrams(corpus, limit, store)
        order, entropies = limit, dict[int, float]()
        if settings.order == "auto":
            best, entropies = choose_order(counts, sentences(valid), store, on_progress=report.progress)
            order = min(k for k, bits in entropies.items() if bits <= _NEAR_BEST * entropies[best])
        for threshold in range(1000):
            prune = ([0, 0, 0] + [threshold] * order)[:order]
            found: Estimate = estimate(counts, store, order, Pruning(check_thresholds(prune, order)), report.progress)
            if sum(found.n_ngrams) <= MAX_NGRAMS or order < 4:
                break
            found.free()
        return Built(model_for(found), len(texts), entropies, sum(found.n_ngrams), tuple(prune))


def _validation(
    data: Prepared, folder: Path, device: torch.device, report: Reporter
) -> tuple[list[str], list[Example], list[np.ndarray]]:
    """References, examples and the log-probs of `best` for the validation set, or for a part of it."""
    chosen = choose_utterances([example.duration for example in data.valid], data.config.training.seed)
    valid = [data.valid[i] for i in chosen]
    if len(valid) < len(data.valid):
        report.say(f"the language model is tuned on {len(valid):,} of {len(data.valid):,} validation utterances")
    log_probs = _log_probs(load_model(folder).acoustic.to(device), valid, data, device, report)
    return list(map(data.reference, valid)), valid, log_probs


def _log_probs(
    acoustic: AcousticModel, valid: Sequence[Example], data: Prepared, device: torch.device, report: Reporter
) -> list[np.ndarray]:
    """Log-probs float32 (frames, labels + blank) of each utterance."""
    loader = Loader(list(valid), acoustic.sample_rate, cache_mb=0)
    plan = plan_epoch([example.duration for example in valid], data.config.training.batch_limit, seed=None)
    found: dict[int, np.ndarray] = {}
    with torch.inference_mode():
        for done, loaded in enumerate(loader.batches(plan), start=1):
            batch = loaded.to(device)
            output, frame_counts = acoustic(batch.waveforms, batch.sample_counts)
            for index, row, count in zip(batch.indices, output.cpu().numpy(), frame_counts.tolist(), strict=True):
                found[index] = row[:count].copy()  # without the padding of the batch
            report.progress("validating for the language model", done, len(plan))
    return [found[i] for i in range(len(valid))]
