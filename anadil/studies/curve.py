"""The learning curve of a corpus: trainings on parts of it, and what more speech would be worth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from anadil.evaluation.learning_curve import PowerLaw, fit_power_law
from anadil.files import whole_file
from anadil.manifest import Utterance
from anadil.studies.trials import Outcome, Trial, hours_of
from anadil.training.config import Config
from anadil.training.monitoring.chart import Chart, svg

PICTURE = "curve.svg"
AHEAD = (1.5, 2.0, 4.0)
"""Times the speech that there is: so far the curve is extended."""


def curve_trials(
    config: Config,
    data: tuple[Sequence[Utterance], Sequence[Utterance]],
    test: Sequence[Utterance],
    fractions: Sequence[float],
    n_seeds: int = 1,
) -> list[Trial]:
    """A trial for each fraction of the training speech and each seed, smallest first.

    A seed draws one random order of the utterances, and a fraction is the beginning of it: so a larger part holds the
    smaller ones. Fractions are of the hours. Durations must be known.
    """
    train, valid = data
    total = hours_of(train)
    trials = []
    for fraction in sorted(set(fractions)):
        for seed in range(config.training.seed, config.training.seed + n_seeds):
            order = np.random.default_rng(seed).permutation(len(train))
            hours = np.cumsum([(train[i].duration or 0.0) / 3600 for i in order])
            n = len(train) if fraction >= 1 else int(np.searchsorted(hours, fraction * total)) + 1
            training = config.training.model_copy(update={"seed": seed})
            trials.append(
                Trial(
                    f"{fraction:.4g}-seed-{seed}",
                    config.model_copy(update={"training": training}),
                    [train[i] for i in sorted(order[:n])],
                    valid,
                    test,
                )
            )
    return trials


def laws(outcomes: Sequence[Outcome]) -> dict[str, PowerLaw | None]:
    """The fits of CER and WER, as the models decode."""
    return {
        "CER": fit_power_law([(one.trial.hours, one.evaluation.cer) for one in outcomes]),
        "WER": fit_power_law([(one.trial.hours, one.evaluation.wer) for one in outcomes]),
    }


def advice(law: PowerLaw, name: str) -> list[str]:
    """What more speech would be worth, in sentences."""
    hours = max(point for point, _ in law.points)
    low, high = law.exponent_interval()
    if not law.falls:
        return [
            f"{name}: these trainings do not show that more speech helps (exponent {law.exponent:.2f}, 95 %: {low:.2f} to "
            f"{high:.2f}); more fractions or --seeds would tell more"
        ]
    lines = [f"{name} falls as hours^-{law.exponent:.2f} (95 %: {low:.2f} to {high:.2f})"]
    for times in AHEAD:
        below, above = law.interval(times * hours)
        saved = law.rate(hours) - law.rate(times * hours)
        lines.append(
            f"  {(times - 1) * hours:.1f} h more, {times * hours:.1f} h in all: {name} about {law.rate(times * hours):.1%} "
            f"(95 %: {below:.1%} to {above:.1%}), {100 * saved:.1f} points less"
        )
    return lines


def draw(outcomes: Sequence[Outcome], out: Path) -> Path:
    """Write `out`/curve.svg: the measured rates, the fit up to four times the speech, and its 95 % interval."""
    charts = []
    for name, law in laws(outcomes).items():
        points = [(one.trial.hours, getattr(one.evaluation, name.lower())) for one in outcomes]
        curves: dict[str, Sequence[tuple[float, float]]] = {}
        if law is not None:
            xs = np.geomspace(min(x for x, _ in points), AHEAD[-1] * max(x for x, _ in points), 60)
            curves = {
                "fit": [(float(x), law.rate(x)) for x in xs],
                "95 %, low": [(float(x), law.interval(x)[0]) for x in xs],
                "95 %, high": [(float(x), law.interval(x)[1]) for x in xs],
            }
        charts.append(
            Chart(name, "hours of training speech", curves, log_x=True, percent=True, dots={"measured": sorted(points)})
        )
    path = out / PICTURE
    with whole_file(path) as beside:
        beside.write_text(svg(charts), encoding="utf-8")
    return path
