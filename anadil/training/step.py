"""One step of training: loss, gradients, and the optimiser's move."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from anadil.data.batches import Batch
from anadil.data.spec_augment import feature_augmentation
from anadil.errors import AnadilError
from anadil.training import diagnosis
from anadil.training.flat_start import flat_start_loss, speech_frames
from anadil.training.learner import Learner
from anadil.training.optimizers import set_learning_rates
from anadil.training.report import Reporter
from anadil.training.run import Run


@dataclass(frozen=True, slots=True)
class Gradients:
    """What is known before the optimiser moves."""

    loss: float  # nats a label; in the flat start, a frame
    norm: float  # of all gradients together, before clipping
    log_probs: Tensor  # (batch, frames, labels + blank)
    frame_counts: Tensor

    @property
    def finite(self) -> bool:
        return math.isfinite(self.loss) and math.isfinite(self.norm)


def take_step(learner: Learner, batch: Batch, run: Run, report: Reporter) -> None:
    """One optimiser step, noted in `run`. Raises AnadilError if the loss is not finite, or memory is out."""
    settings = learner.settings
    set_learning_rates(learner.optimizer, settings, run.step, run.progress(settings.max_minutes))
    found = gradients(learner, batch, flat_start=run.step < settings.flat_start_steps)
    if not math.isfinite(found.loss) or (not found.finite and settings.precision != "16-mixed"):
        where = [learner.data.train[i].utterance.source for i in batch.indices]
        raise AnadilError(diagnosis.explain_not_finite(found.loss, found.norm, run.step, settings, where))
    move(learner)
    run.step, run.batch = run.step + 1, run.batch + 1
    run.audio_s += float(batch.sample_counts.sum()) / learner.data.acoustic.sample_rate
    run.losses.append(found.loss)
    run.norms.append(found.norm)
    if run.step == 1:
        run.first_loss = found.loss
    look = run.step - diagnosis.LOOK_AT_STEP in (0, settings.flat_start_steps)
    if look and diagnosis.only_blanks(found.log_probs, found.frame_counts):
        density = float(batch.target_counts.sum() / found.frame_counts.sum())
        report.warn(diagnosis.explain_blanks(run.step, settings, density, found.loss, run.first_loss))


def gradients(learner: Learner, batch: Batch, flat_start: bool) -> Gradients:
    """Forward and backward, gradients clipped. Raises AnadilError if memory is out."""
    try:
        return _gradients(learner, batch.to(learner.fabric.device), flat_start)
    except (RuntimeError, MemoryError) as error:  # PyTorch has a class for a GPU's memory alone
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error):
            raise AnadilError(_out_of_memory(learner, batch)) from error
        raise


def _gradients(learner: Learner, batch: Batch, flat_start: bool) -> Gradients:
    fabric, acoustic = learner.fabric, learner.data.acoustic
    augment = feature_augmentation(learner.data.config.augment, learner.masks)
    log_probs, frame_counts = learner.model(batch.waveforms, batch.sample_counts, augment)
    if flat_start:
        samples_per_frame = round(acoustic.frame_s * acoustic.sample_rate)
        speech = speech_frames(batch.waveforms, frame_counts, log_probs.shape[1], samples_per_frame)
        loss = flat_start_loss(log_probs, frame_counts, batch.targets, batch.target_counts, speech)
    else:
        loss = ctc_loss(log_probs, frame_counts, batch)
    learner.optimizer.zero_grad()
    fabric.backward(loss)
    norm = fabric.clip_gradients(
        learner.model, learner.optimizer, max_norm=learner.settings.clip_norm, error_if_nonfinite=False
    )
    return Gradients(loss.item(), float(norm) if norm is not None else 0.0, log_probs.detach(), frame_counts)


def move(learner: Learner) -> None:
    """Let the optimiser use the gradients."""
    learner.optimizer.step()
    if learner.pull is not None:
        learner.pull.step(learner.optimizer)


def ctc_loss(log_probs: Tensor, frame_counts: Tensor, batch: Batch) -> Tensor:
    """Negative log-likelihood of the batch in nats a label; log-probs (batch, frames, labels + blank), blank last."""
    total = F.ctc_loss(
        log_probs.transpose(0, 1),
        batch.targets,
        frame_counts,
        batch.target_counts,
        blank=log_probs.shape[2] - 1,
        reduction="sum",
    )
    return total / batch.target_counts.sum()


def padded_seconds(durations: Sequence[float], indices: Sequence[int]) -> float:
    """Audio of a batch as the model sees it: the longest utterance's length for each."""
    return max(durations[i] for i in indices) * len(indices)


def _out_of_memory(learner: Learner, batch: Batch) -> str:
    seconds = batch.waveforms.numel() / learner.data.acoustic.sample_rate
    where = "GPU" if learner.fabric.device.type == "cuda" else "machine"
    return (
        f"the {where}'s memory is too small for a batch of {seconds:.0f} s of audio "
        f"({len(batch.indices)} utterances, padding counted)\n"
        f"  next: a smaller training.batch_seconds (it is {learner.settings.batch_seconds:g}), or a smaller "
        "data.max_duration if one utterance alone is too long; --dry-run tries the longest batch"
    )
