"""One look at the validation set: loss, error rates, and what was heard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from anadil.data.batches import Loader, plan_epoch
from anadil.text.rules import TextRules
from anadil.training.learner import Learner
from anadil.training.monitoring.report import Reporter
from anadil.training.run import Validation
from anadil.training.step import ctc_loss

# What the training loop asks of its caller: to decode and score a validation set.


@dataclass(frozen=True, slots=True)
class Judgement:
    """Corpus-level error rates of a validation set, and the hypotheses behind them."""

    cer: float
    wer: float
    hypotheses: list[str]


class Judge(Protocol):
    """Decodes log-probs (frames, labels + blank) of each utterance and scores them; given by the caller."""

    def __call__(self, log_probs: Sequence[np.ndarray], rules: TextRules, references: Sequence[str]) -> Judgement: ...


def cer_by_language(
    judge: Judge,
    log_probs: Sequence[np.ndarray],
    rules: TextRules,
    references: Sequence[str],
    languages: Sequence[str],
) -> dict[str, float]:
    """CER of the utterances of each language, by name; nothing if `languages` (of each utterance) is empty."""
    rates = {}
    for language in sorted(set(languages)):
        spoken = [i for i, name in enumerate(languages) if name == language]
        rates[language] = judge([log_probs[i] for i in spoken], rules, [references[i] for i in spoken]).cer
    return rates


@dataclass(frozen=True)
class Look:
    """`hypotheses` of each validation utterance, beside the reference that each is held against."""

    validation: Validation
    references: list[str]
    hypotheses: list[str]


def validate(learner: Learner, loader: Loader, judge: Judge, report: Reporter) -> Look:
    """Score the weights as they are now; the model is left in evaluation mode."""
    data = learner.data
    # one process validates for all, so it must not wait for the others in a forward pass
    model = learner.model if learner.fabric.world_size == 1 else data.acoustic
    model.eval()
    losses, n_labels = 0.0, 0
    log_probs: list[np.ndarray | None] = [None] * len(data.valid)
    plan = plan_epoch([example.duration for example in data.valid], learner.settings.batch_limit, seed=None)
    with torch.no_grad(), learner.fabric.autocast():
        for done, loaded in enumerate(loader.batches(plan), start=1):
            batch = loaded.to(learner.fabric.device)
            output, frame_counts = model(batch.waveforms, batch.sample_counts)
            output = output.float()
            n = int(batch.target_counts.sum())
            losses, n_labels = losses + ctc_loss(output, frame_counts, batch).item() * n, n_labels + n
            for index, row, count in zip(batch.indices, output.cpu().numpy(), frame_counts.tolist(), strict=True):
                log_probs[index] = row[:count]
            report.progress("validating", done, len(plan))
    references = [data.reference(example) for example in data.valid]
    rows = [row for row in log_probs if row is not None]
    found = judge(rows, data.rules, references)
    languages = [data.language(example) for example in data.valid] if data.rules_of else []
    by_language = cer_by_language(judge, rows, data.rules, references, languages)
    return Look(Validation(losses / n_labels, found.cer, found.wer, by_language), references, found.hypotheses)
