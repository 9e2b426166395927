"""Validation: loss, error rates and hypotheses of the weights as they are now."""

from __future__ import annotations

import numpy as np
import torch

from anadil.data.batches import Loader, plan_epoch
from anadil.decoding.decoder import Decoder
from anadil.evaluation.errors import total
from anadil.evaluation.evaluate import Scored, compare
from anadil.training.learner import Learner
from anadil.training.monitoring.report import Reporter
from anadil.training.run import Validation, ValidationResult
from anadil.training.step import ctc_loss


def validate(learner: Learner, loader: Loader, report: Reporter) -> ValidationResult:
    """Decode and score the validation set; the model is left in evaluation mode."""
    data = learner.data
    loss, log_probs = _run_model(learner, loader, report)
    decoder = Decoder(data.rules, data.acoustic.frame_s)
    scored = compare(
        [example.utterance for example in data.valid],
        [data.reference(example) for example in data.valid],
        [decoder.decode(row).text for row in log_probs],
    )
    cer = total(one.characters for one in scored).rate
    wer = total(one.words for one in scored).rate
    return ValidationResult(Validation(loss, cer, wer, _cer_by_language(learner, scored)), scored)


def _run_model(learner: Learner, loader: Loader, report: Reporter) -> tuple[float, list[np.ndarray]]:
    """Mean loss in nats per label, and the log-probs (frames, labels + blank) of each utterance."""
    data = learner.data
    # the first process validates alone, so its forward pass must not wait for the other processes
    model = learner.model if learner.fabric.world_size == 1 else data.acoustic
    model.eval()
    losses, n_labels = 0.0, 0
    log_probs: dict[int, np.ndarray] = {}
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
    return losses / n_labels, [log_probs[index] for index in range(len(data.valid))]


def _cer_by_language(learner: Learner, scored: tuple[Scored, ...]) -> dict[str, float]:
    """CER of each language, sorted by name; empty if the training data hold one language."""
    data = learner.data
    if not data.rules_by_language.by_language:
        return {}
    languages = [data.language(example) for example in data.valid]
    return {
        language: total(one.characters for one, its in zip(scored, languages, strict=True) if its == language).rate
        for language in sorted(set(languages))
    }
