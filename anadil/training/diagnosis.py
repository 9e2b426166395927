"""When a run learns nothing: say so early, and name the likely cause."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from anadil.training.config import TrainingSettings

LOOK_AT_STEP = 200


def only_blanks(log_probs: Tensor, frame_counts: Tensor) -> bool:
    """Whether the best label of every valid frame of (batch, frames, labels + blank) is the blank, the last one."""
    blank = log_probs.shape[2] - 1
    best = log_probs.argmax(dim=2).cpu()
    valid = torch.arange(best.shape[1]).unsqueeze(0) < frame_counts.cpu().unsqueeze(1)
    return bool(((best == blank) | ~valid).all())


def explain_blanks(
    step: int, settings: TrainingSettings, labels_per_frame: float, loss: float, first_loss: float
) -> str:
    """Message for a model that emits blanks alone; loss in nats a label."""
    if loss > 0.9 * first_loss and settings.lr < 1e-4:
        cause = f"the learning rate {settings.lr:g} is low: try training.lr={settings.lr * 10:g}"
    elif loss > 1.5 * first_loss:
        cause = f"the loss has grown: the learning rate {settings.lr:g} is high: try training.lr={settings.lr / 4:g}"
    elif labels_per_frame > 0.7:
        cause = (
            f"the text is dense, {labels_per_frame:.2f} labels a frame leave no room: use a smaller model stride "
            "or features.window_stride"
        )
    else:
        cause = (
            "most often this is the plateau where CTC starts, and it passes; if validation still shows CER 100 % a few "
            "epochs on, the texts probably do not belong to the recordings, or there are too few of them: listen to some"
        )
    return f"after {step} steps the model emits blanks alone (loss {loss:.2f} nats a label): {cause}"


def explain_not_finite(
    loss: float, gradient_norm: float, step: int, settings: TrainingSettings, where: list[str]
) -> str:
    """Message for a loss or gradient that is NaN or infinite."""
    what = f"loss {loss:g}, gradient norm {gradient_norm:g}"
    if math.isinf(loss):
        cause = "an utterance's audio is shorter than its header says, so its text does not fit: check these recordings"
    elif settings.precision == "16-mixed":
        cause = "16-bit floats overflow: use training.precision=bf16-mixed or 32-true"
    else:
        cause = (
            f"the learning rate {settings.lr:g} is too high: try training.lr={settings.lr / 4:g}, "
            "or a longer training.warmup_steps"
        )
    listed = "\n".join(f"    {source}" for source in where[:5])
    return f"training broke at step {step}: {what}\n  likely cause: {cause}\n  the batch held:\n{listed}"
