"""The CTC loss, and a look at the validation set between two epochs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional as F

from anadil.data.batches import Batch, Loader, plan_epoch
from anadil.training.judge import Judge, cer_by_language
from anadil.training.prepare import Prepared
from anadil.training.report import Reporter
from anadil.training.run import Run, Validation


def ctc_loss(log_probs: Tensor, frame_counts: Tensor, batch: Batch) -> Tensor:
    """Negative log-likelihood of the batch in nats a label; log-probs (batch, frames, labels + blank), blank last.

    With weights, each utterance's likelihood and its labels count as much as it weighs.
    """
    losses = F.ctc_loss(
        log_probs.transpose(0, 1),
        batch.targets,
        frame_counts,
        batch.target_counts,
        blank=log_probs.shape[2] - 1,
        reduction="sum" if batch.weights is None else "none",
    )
    if batch.weights is None:
        return losses / batch.target_counts.sum()
    return (losses * batch.weights).sum() / (batch.target_counts * batch.weights).sum()


def validate(
    fabric: Fabric, model: Any, loader: Loader, data: Prepared, judge: Judge, run: Run, report: Reporter
) -> Validation:
    """Judge the model as it is now, and say what it hears in one utterance."""
    model.eval()
    losses, n_labels = 0.0, 0
    log_probs: list[np.ndarray | None] = [None] * len(data.valid)
    plan = plan_epoch([example.duration for example in data.valid], data.config.training.batch_limit, seed=None)
    with torch.no_grad():
        for done, loaded in enumerate(loader.batches(plan), start=1):
            batch = loaded.to(fabric.device)
            output, frame_counts = model(batch.waveforms, batch.sample_counts)
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
    show = run.epoch % len(references)
    report.say(
        f"epoch {run.epoch:3d}  step {run.step:6,}  {run.minutes:5.1f} min  valid CER {found.cer:6.2%}  WER {found.wer:6.2%}\n"
        f"    said  {references[show]}\n    heard {found.hypotheses[show]}"
        + "".join(f"\n    CER {cer:6.2%}  {language}" for language, cer in by_language.items())
    )
    return Validation(losses / n_labels, found.cer, found.wer, by_language)
