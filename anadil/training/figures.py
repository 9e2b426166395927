"""What is told of an epoch: a line on the console, a row of metrics.csv."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from anadil.training.averages import PLAIN
from anadil.training.learner import Learner
from anadil.training.peak_memory import peak_memory_mb
from anadil.training.report import Reporter
from anadil.training.run import Run
from anadil.training.validation import Look


@dataclass(frozen=True, slots=True)
class Pace:
    """Of an epoch: seconds of audio a second, and the share of the time in which steps waited for audio."""

    audio_s_per_s: float
    data_wait: float


def tell(looks: Mapping[str, Look], chosen: str, run: Run, report: Reporter) -> None:
    found = looks[chosen]
    show = run.epoch % len(found.references)
    others = "".join(f"  {name or 'plain'} {look.validation.cer:6.2%}" for name, look in looks.items())
    report.say(
        f"epoch {run.epoch:3d}  step {run.step:6,}  {run.minutes:5.1f} min"
        f"  valid CER {found.validation.cer:6.2%}  WER {found.validation.wer:6.2%}"
        + (f"  (CER by weights:{others})" if len(looks) > 1 else "")
        + f"\n    said  {found.references[show]}\n    heard {found.hypotheses[show]}"
        + "".join(f"\n    CER {cer:6.2%}  {name}" for name, cer in found.validation.cer_by_language.items())
    )


def figures(learner: Learner, run: Run, pace: Pace, looks: Mapping[str, Look]) -> dict[str, float | int | None]:
    """A row of metrics.csv. The columns `valid_` are of the plain weights, those of averages have their own."""
    found = looks[PLAIN].validation if looks else None
    memory = peak_memory_mb(learner.fabric.device)
    row: dict[str, float | int | None] = {
        "epoch": run.epoch,
        "step": run.step,
        "minutes": round(run.minutes, 3),
        "lr": max(group["lr"] for group in learner.optimizer.param_groups),
        "train_loss": float(np.mean(run.losses)),
        "gradient_norm": float(np.mean(run.norms)),
        "audio_s_per_s": round(pace.audio_s_per_s, 1),
        "data_wait": round(pace.data_wait, 4),
        "memory_mb": None if memory is None else round(memory),
        "valid_loss": found.loss if found else None,
        "valid_cer": found.cer if found else None,
        "valid_wer": found.wer if found else None,
    }
    for name, wanted in (
        ("ema", learner.settings.ema_decay is not None),
        ("average", learner.settings.average_last > 1),
    ):
        if wanted:
            row[f"{name}_cer"] = looks[name].validation.cer if name in looks else None
    by_language = found.cer_by_language if found else {}
    return row | {f"valid_cer_{name}": by_language.get(name) for name in sorted(learner.data.rules_of)}
