"""The learning-rate range test (Smith, arXiv:1506.01186, section 3.3): suggests a learning rate.

The rate rises exponentially from `LOWEST` to `HIGHEST`, a step at a time. The loss is first constant, then it falls, and
it rises where the rate is too high. A run with a flat start has two losses, its own in the first steps and CTC's after them.
Each is tested, and the smaller of the two suggestions counts. CTC is tested after a short flat start: from random weights
its loss falls to the plateau of blanks at any rate, which says nothing about the rate.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lightning_fabric import seed_everything

from anadil.data.batches import Batch, Loader
from anadil.errors import AnadilError
from anadil.files import refuse_overwrite, whole_file
from anadil.training.config import Config
from anadil.training.learner import Learner, add_adapters, assemble, make_fabric
from anadil.training.monitoring.chart import Chart, svg
from anadil.training.monitoring.memory import resolve_batch_seconds
from anadil.training.monitoring.report import Reporter, Silent
from anadil.training.prepare import plan_steps, prepare, sampled_labels
from anadil.training.regularization import resolve_regularization
from anadil.training.step import gradients, optimizer_step
from anadil.training.transfer.freezing import apply_freezing

PICTURE, TABLE = "find-lr.svg", "find-lr.csv"

LOWEST, HIGHEST = 1e-6, 1.0
N_STEPS = 120
SMOOTHING = 0.9
DIVERGED = 2.0
"""The test stops at this many times the smallest smoothed loss."""
BELOW_MINIMUM = 3.0
"""The suggestion is at most a third of the rate of the smallest loss: there the loss is about to rise."""
LEAST_FALL = 0.05
"""Share of the first loss (mean of the first tenth of the rates): a smaller fall may be a difference of the batches."""


@dataclass(frozen=True)
class RangeTest:
    """The test of one phase: `rates` and the loss at each, raw and smoothed; nats per label, in the flat start per frame."""

    phase: str
    rates: list[float]
    losses: list[float]
    smoothed: list[float]

    @property
    def at_minimum(self) -> float:
        return self.rates[min(range(len(self.rates)), key=self.smoothed.__getitem__)]

    @property
    def steepest(self) -> float:
        """The rate where the smoothed loss falls fastest (on a logarithmic axis of rates), before its minimum."""
        last = self.rates.index(self.at_minimum)
        reach = max(1, len(self.rates) // 20)  # slopes are taken over a tenth of the test, as single batches differ
        slopes = [
            (self.smoothed[min(i + reach, last)] - self.smoothed[max(0, i - reach)])
            / (min(i + reach, last) - max(0, i - reach))
            for i in range(last + 1)
            if last > 0
        ]
        return self.rates[min(range(len(slopes)), key=slopes.__getitem__)] if slopes else self.rates[0]

    @property
    def suggestion(self) -> float | None:
        """A rate of two digits; None if the loss has not fallen."""
        first = self.smoothed[: max(1, len(self.smoothed) // 10)]
        if min(self.smoothed) > (1 - LEAST_FALL) * sum(first) / len(first):
            return None
        return float(f"{min(self.steepest, self.at_minimum / BELOW_MINIMUM):.2g}")


@dataclass(frozen=True)
class FoundRate:
    """The tests of flat start and CTC, or of CTC alone."""

    tests: list[RangeTest]

    @property
    def suggestion(self) -> float | None:
        """The smallest suggestion of the tests; None if there is none."""
        suggestions = [test.suggestion for test in self.tests]
        return min((rate for rate in suggestions if rate is not None), default=None)


def find_lr(config: Config, out: Path, report: Reporter | None = None, force: bool = False) -> FoundRate:
    """Test learning rates. Writes a picture and a table of the losses to `out`, and no weights. Raises AnadilError."""
    report = report or Silent()
    for name in (PICTURE, TABLE):
        refuse_overwrite(out / name, force)
    seed_everything(config.training.seed, verbose=False)
    data = prepare(config, out, report, writes=False)
    add_adapters(data, report)
    fabric = make_fabric(config, alone=True)
    data = resolve_batch_seconds(data, fabric.device, out, False, report, writes=False)
    learner = assemble(fabric, resolve_regularization(data, fabric, report))
    batches = _endless(learner)
    tests = []
    flat_steps = min(learner.settings.flat_start_steps, N_STEPS)
    if flat_steps:
        start = _snapshot(learner)
        tests.append(_range_test(learner, batches, True, report))
        _restore(learner, start)
        rate = tests[0].suggestion or learner.settings.lr
        for _ in range(flat_steps):
            _set_rate(learner, rate)
            gradients(learner, [next(batches)], flat_start=True)
            optimizer_step(learner)
    tests.append(_range_test(learner, batches, False, report))
    result = FoundRate(tests)
    _write(result, out)
    return result


def _range_test(learner: Learner, batches: Iterator[Batch], flat_start: bool, report: Reporter) -> RangeTest:
    phase = "flat start" if flat_start else "CTC"
    rates, losses, smoothed, mean = [], [], [], 0.0
    for step in range(N_STEPS):
        rate = LOWEST * (HIGHEST / LOWEST) ** (step / (N_STEPS - 1))
        _set_rate(learner, rate)
        batch_gradients = gradients(learner, [next(batches)], flat_start)
        if batch_gradients.broken(learner.settings):
            break
        optimizer_step(learner)
        mean = SMOOTHING * mean + (1 - SMOOTHING) * batch_gradients.loss
        rates.append(rate)
        losses.append(batch_gradients.loss)
        smoothed.append(mean / (1 - SMOOTHING ** (step + 1)))
        report.progress(f"trying rates, {phase}", step + 1, N_STEPS, f"lr {rate:.1e}  loss {smoothed[-1]:.3f}")
        if smoothed[-1] > DIVERGED * min(smoothed):
            break
    report.progress(f"trying rates, {phase}", N_STEPS, N_STEPS)
    if len(rates) < 3:
        raise AnadilError(
            f"the loss is not finite even at a learning rate of {LOWEST:g}: the cause is not the rate\n"
            "  next: anadil check on the training manifests"
        )
    return RangeTest(phase, rates, losses, smoothed)


def _endless(learner: Learner) -> Iterator[Batch]:
    """Training batches, epoch after epoch."""
    data = learner.data
    loader = Loader(data.train, data.acoustic.sample_rate, data.config.data.cache_mb, augment=data.augmenter)
    for epoch in itertools.count(1):
        learner.model.train()
        apply_freezing(data.acoustic.network, data.config.init, epoch)
        loader.labels = sampled_labels(data, epoch)
        yield from loader.batches(plan_steps(data, epoch), epoch)


def _set_rate(learner: Learner, rate: float) -> None:
    for group in learner.optimizer.param_groups:
        group["lr"] = group["factor"] * rate


def _snapshot(learner: Learner) -> dict[str, object]:
    return {name: tensor.clone() for name, tensor in learner.data.acoustic.network.state_dict().items()}


def _restore(learner: Learner, weights: dict[str, object]) -> None:
    """Set the weights back, and clear the moments of the optimiser."""
    learner.data.acoustic.network.load_state_dict(weights)
    learner.optimizer.state.clear()


def _write(result: FoundRate, out: Path) -> None:
    charts = [
        Chart(
            f"Loss by learning rate, {test.phase}",
            "learning rate",
            {"smoothed": list(zip(test.rates, test.smoothed, strict=True))},
            log_x=True,
            marks={f"{test.suggestion:g}": test.suggestion} if test.suggestion else {},
        )
        for test in result.tests
    ]
    with whole_file(out / PICTURE) as beside:
        beside.write_text(svg(charts), encoding="utf-8")
    rows = [
        f"{test.phase},{rate!r},{loss!r},{smooth!r}\n"
        for test in result.tests
        for rate, loss, smooth in zip(test.rates, test.losses, test.smoothed, strict=True)
    ]
    with whole_file(out / TABLE) as beside:
        beside.write_text("phase,lr,loss,smoothed\n" + "".join(rows), encoding="utf-8")


def table_of(test: RangeTest, n_rows: int = 12) -> list[list[str]]:
    """About `n_rows` rows of rate, loss and smoothed loss, at even distances."""
    picked = sorted({round(i * (len(test.rates) - 1) / (n_rows - 1)) for i in range(n_rows)})
    return [[f"{test.rates[i]:.1e}", f"{test.losses[i]:.3f}", f"{test.smoothed[i]:.3f}"] for i in picked]


def explain(result: FoundRate) -> str:
    """Return a line per test, and what to do if none has a suggestion."""
    lines = []
    for test in result.tests:
        if test.suggestion is None:
            lines.append(
                f"{test.phase}: the loss did not fall clearly at any rate up to {test.rates[-1]:.1g}; more steps may help"
            )
        else:
            lines.append(
                f"{test.phase}: falls fastest at {test.steepest:.1e}, is smallest at {test.at_minimum:.1e}; "
                f"try {test.suggestion:g}"
            )
    if result.suggestion is None:
        lines.append("next: anadil check on the training manifests; perhaps the texts are not those of the recordings")
    return "\n".join(lines)
