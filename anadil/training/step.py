"""One step of training: loss, gradients, and the update of the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn import functional as F

from anadil.data.augment.spec_augment import feature_augmentation
from anadil.data.batches import Batch
from anadil.errors import AnadilError
from anadil.models.quartznet import QuartzNet
from anadil.training.config import TrainingSettings
from anadil.training.distributed.workers import summed
from anadil.training.learner import Learner
from anadil.training.monitoring import diagnosis
from anadil.training.monitoring.memory import explaining_out_of_memory
from anadil.training.monitoring.report import Reporter
from anadil.training.optimizers import set_learning_rates
from anadil.training.run import Run

# A start for CTC: a few steps of frame-wise cross-entropy against letters spread evenly over the speech.
# From random weights CTC first learns to emit blanks alone and stays there for long, or it settles on an alignment that
# is off by a letter. An even segmentation, the flat start of HMM training (Young et al., The HTK Book, section 3.2), is
# wrong in detail and right on average. Here it is even over the loud frames; pauses get blanks (figures in docs/LOG.md).

LOUD = 0.4
"""A frame is speech if its level in dB is above this share of the way from the utterance's 5th to its 95th percentile."""


def flat_start_loss(
    log_probs: Tensor,
    frame_counts: Tensor,
    targets: Tensor,
    target_counts: Tensor,
    speech: Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    """Return the mean negative log-prob in nats per frame; `weights` (batch,) weigh the frames of each utterance.

    Log-probs (batch, frames, labels + blank), targets (batch, labels) int64; counts (batch,); `speech` boolean
    (batch, frames) from `speech_frames`.
    """
    wanted = even_segmentation(speech, targets, target_counts, blank=log_probs.shape[2] - 1)
    valid = torch.arange(log_probs.shape[1], device=log_probs.device).unsqueeze(0) < frame_counts.unsqueeze(1)
    picked = log_probs.gather(2, wanted.unsqueeze(2)).squeeze(2)
    if weights is None:
        return -(picked * valid).sum() / valid.sum()
    counted = valid * weights.unsqueeze(1)
    return -(picked * counted).sum() / counted.sum()


def speech_frames(waveforms: Tensor, frame_counts: Tensor, n_frames: int, samples_per_frame: int) -> Tensor:
    """Return which output frames are loud: boolean (batch, n_frames), false beyond each utterance."""
    power = F.avg_pool1d(waveforms.float().square().unsqueeze(1), samples_per_frame, ceil_mode=True).squeeze(1)
    level = 10 * torch.log10(power + 1e-10)
    level = F.pad(level, (0, max(0, n_frames - level.shape[1])), value=-100.0)[:, :n_frames]
    valid = torch.arange(n_frames, device=level.device).unsqueeze(0) < frame_counts.unsqueeze(1)
    level = level.masked_fill(~valid, torch.nan)
    quiet, loud = level.nanquantile(0.05, dim=1, keepdim=True), level.nanquantile(0.95, dim=1, keepdim=True)
    return valid & (level >= quiet + LOUD * (loud - quiet))


def even_segmentation(speech: Tensor, targets: Tensor, target_counts: Tensor, blank: int) -> Tensor:
    """Return the label of every frame (batch, frames): equal shares of the speech frames for each label, blanks elsewhere."""
    passed = speech.cumsum(dim=1) - 0.5
    share = passed / speech.sum(dim=1, keepdim=True).clamp(min=1)
    index = (share * target_counts.unsqueeze(1)).floor().long()
    letters = targets.gather(1, index.clamp(min=0).minimum(target_counts.unsqueeze(1) - 1))
    return torch.where(speech, letters, torch.full_like(letters, blank))


@dataclass(frozen=True, slots=True)
class Gradients:
    """What is known of a step before the optimiser uses its gradients."""

    loss: float  # nats per label; in the flat start, per frame
    norm: float  # of all gradients together, before clipping
    audio_s: float  # of all processes
    log_probs: Tensor  # (batch, frames, labels + blank) of the last micro-batch
    frame_counts: Tensor

    def broken(self, settings: TrainingSettings) -> bool:
        """Whether the step must be given up. The loss scaler of 16-bit floats skips overflowing steps by itself."""
        return not math.isfinite(self.loss) or (not math.isfinite(self.norm) and settings.precision != "16-mixed")


def take_step(learner: Learner, micro_batches: Sequence[Batch], run: Run, report: Reporter, n_dummies: int = 0) -> None:
    """Take one optimiser step and record it in `run`.

    Raises AnadilError if the loss is not finite, or memory runs out.
    """
    settings = learner.settings
    set_learning_rates(learner.optimizer, settings, run.step, run.progress(settings.max_minutes))
    found = gradients(learner, micro_batches, run.step < settings.flat_start_steps, n_dummies)
    if found.broken(settings):
        where = [learner.data.train[i].utterance.source for batch in micro_batches for i in batch.indices]
        raise AnadilError(diagnosis.explain_not_finite(found.loss, found.norm, run.step, settings, where))
    optimizer_step(learner)
    run.record_step(found.loss, found.norm, found.audio_s)
    check_blanks = run.step - diagnosis.LOOK_AT_STEP in (0, settings.flat_start_steps)
    if check_blanks and diagnosis.only_blanks(found.log_probs, found.frame_counts):
        density = float(micro_batches[-1].target_counts.sum() / found.frame_counts.sum())
        report.warn(diagnosis.explain_blanks(run.step, settings, density, found.loss, run.first_loss))


def gradients(learner: Learner, micro_batches: Sequence[Batch], flat_start: bool, n_dummies: int = 0) -> Gradients:
    """Run forward and backward through the micro-batches of a step, and clip the gradients.

    The last `n_dummies` micro-batches have weight 0: they keep this process in step with the others.
    Raises AnadilError if memory runs out.
    """
    fabric = learner.fabric
    real = micro_batches[: len(micro_batches) - n_dummies]
    counts = [_count(learner, batch, flat_start) for batch in real] + [0.0] * n_dummies
    samples = float(sum(int(batch.sample_counts.sum()) for batch in real))
    total, samples = summed(fabric, sum(counts), samples)
    learner.optimizer.zero_grad()
    mean = torch.zeros((), device=fabric.device)
    with explaining_out_of_memory(micro_batches, learner.data.acoustic.sample_rate, learner.settings.batch_limit):
        for number, (batch, count) in enumerate(zip(micro_batches, counts, strict=True), start=1):
            with fabric.no_backward_sync(learner.model, enabled=number < len(micro_batches) and learner.waits):
                loss, log_probs, frame_counts = _loss(learner, batch.to(fabric.device), flat_start)
                share = loss * (count / total)
                fabric.backward(share * fabric.world_size)  # gradients are averaged over the processes
            mean += share.detach()
        norm = fabric.clip_gradients(
            learner.model, learner.optimizer, max_norm=learner.settings.clip_norm, error_if_nonfinite=False
        )
    norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
    (value,) = summed(fabric, mean.item())
    seconds = samples / learner.data.acoustic.sample_rate
    return Gradients(value, float(norm) if norm is not None else 0.0, seconds, log_probs.detach(), frame_counts)


def _loss(learner: Learner, batch: Batch, flat_start: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean loss of the micro-batch, its log-probs and its frame counts."""
    acoustic, views = learner.data.acoustic, learner.settings.views
    augment = feature_augmentation(learner.data.config.augment, learner.masks, views)
    log_probs, frame_counts = learner.model(batch.waveforms, batch.sample_counts, augment)
    counts = frame_counts[: len(batch.indices)]
    speech = torch.empty(0)
    if flat_start:
        samples_per_frame = round(acoustic.frame_s * acoustic.sample_rate)
        speech = speech_frames(batch.waveforms, counts, log_probs.shape[1], samples_per_frame)

    def of_head(made: Tensor) -> Tensor:
        """The mean loss of a head over the views."""
        if not flat_start:
            return torch.stack([ctc_loss(one, counts, batch) for one in made.chunk(views)]).mean()
        labels = batch.targets, batch.target_counts
        return torch.stack(
            [flat_start_loss(one, counts, *labels, speech, batch.weights) for one in made.chunk(views)]
        ).mean()

    loss, network = of_head(log_probs), acoustic.network
    if isinstance(network, QuartzNet) and (intermediate := network.take_intermediate()):
        share = learner.settings.intermediate_weight
        loss = (1 - share) * loss + share * torch.stack([of_head(made) for made in intermediate]).mean()
    if views > 1 and not flat_start:
        loss = loss + learner.settings.consistency * consistency_loss(log_probs, counts, batch)
    return loss, log_probs, frame_counts


def _count(learner: Learner, batch: Batch, flat_start: bool) -> float:
    """Return what the mean of the loss is taken over: labels, in the flat start frames, weighted by utterance."""
    if not flat_start:
        return float(_label_count(batch))
    counts = torch.tensor([learner.data.acoustic.frame_count(n) for n in batch.sample_counts.tolist()])
    return float(counts.sum() if batch.weights is None else (counts * batch.weights).sum())


def _label_count(batch: Batch) -> Tensor:
    """Return the number of labels, weighted by utterance; 1 if there are none, as in a batch of sounds without speech."""
    counts = batch.target_counts if batch.weights is None else batch.target_counts * batch.weights
    total = counts.sum()
    return torch.where(total > 0, total, torch.ones_like(total))


def optimizer_step(learner: Learner) -> None:
    """Update the weights with the gradients, then pull them to their start (L2-SP), if the config asks for it."""
    learner.optimizer.step()
    if learner.pull is not None:
        learner.pull.step(learner.optimizer)


def ctc_loss(log_probs: Tensor, frame_counts: Tensor, batch: Batch) -> Tensor:
    """Return the negative log-likelihood of the batch in nats per label; log-probs (batch, frames, labels + blank), blank last.

    Weights multiply each utterance's log-likelihood and its number of labels.
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
        return losses / _label_count(batch)
    return (losses * batch.weights).sum() / _label_count(batch)


def consistency_loss(log_probs: Tensor, frame_counts: Tensor, batch: Batch) -> Tensor:
    """Return the distance of two views of each utterance, in nats per label (CR-CTC, arXiv:2410.05101).

    Log-probs (2 * batch, frames, labels + blank), first all utterances, then all again; frame counts (batch,). The mean of
    both Kullback-Leibler divergences, summed over frames; no gradient flows into the view that is the target.
    """
    one, other = log_probs.chunk(2)
    apart = [
        F.kl_div(learns, teaches.detach(), reduction="none", log_target=True).sum(dim=2)
        for learns, teaches in ((one, other), (other, one))
    ]
    valid = torch.arange(log_probs.shape[1], device=log_probs.device) < frame_counts.unsqueeze(1)
    each = ((apart[0] + apart[1]) * valid).sum(dim=1) / 2
    return (each if batch.weights is None else each * batch.weights).sum() / _label_count(batch)
