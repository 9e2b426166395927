"""The training loop: from a config to the model folders `best` and `last`."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
from lightning_fabric import seed_everything

from anadil.data.batches import Batch, Loader
from anadil.data.cache import DiskCache
from anadil.errors import AnadilError
from anadil.evaluation.evaluate import write_hypotheses
from anadil.models.summary import count_parameters, layer_table
from anadil.training.averages import PLAIN, Averages, describe
from anadil.training.checkpoint import Resumable, as_it_began, identity_of, restore_checkpoint, save_checkpoint
from anadil.training.config import Config
from anadil.training.distributed.sharding import refuse_layerdrop, refuse_self_conditioned, refuse_unshardable
from anadil.training.distributed.workers import is_first, launch, split_batch, sync_clock_and_stop, world_shape
from anadil.training.language_model import add_language_model
from anadil.training.learner import (
    Learner,
    add_adapters,
    assemble,
    make_fabric,
    refuse_accelerator,
    with_whole_weights,
)
from anadil.training.monitoring.diagnosis import watch
from anadil.training.monitoring.logs import (
    HYPOTHESES,
    Logs,
    Stopwatch,
    describe_samples,
    metrics_row,
    refuse_loggers,
    report_epoch,
)
from anadil.training.monitoring.memory import resolve_batch_seconds, with_batch_seconds
from anadil.training.monitoring.report import Reporter, Silent
from anadil.training.optimizers import begin_thaw
from anadil.training.precision import chosen_precision
from anadil.training.prepare import Prepared, plan_steps, prepare, sampled_labels
from anadil.training.regularization import resolve_regularization
from anadil.training.run import Run, Stop, ValidationResult, clear_run, refuse_run, stop_on_interrupt
from anadil.training.save import save_run_model
from anadil.training.step import take_step
from anadil.training.transfer.freezing import apply_freezing, frozen_names
from anadil.training.transfer.weights import pull_to_start, save
from anadil.training.validation import validate


def train(
    config: Config,
    out: Path,
    report: Reporter | None = None,
    force: bool = False,
    resume: bool = False,
    worker_command: Sequence[str] = (),
) -> Run:
    """Train as `config` says and write `out`/best, last, metrics.csv and tensorboard; add a language model to best.

    With `resume`, an interrupted run in `out` goes on; on a CPU its weights become, bit by bit, those of a run that
    was never interrupted (unless `max_minutes` lets the clock decide). Without `report` nothing is shown.
    `worker_command` starts this program once more, for each further one of `training.devices`; torchrun does without.
    Raises AnadilError if the data cannot be used, `out` holds a run already, or training breaks; KeyboardInterrupt
    after Ctrl-C, with `last` written.
    """
    report = (report or Silent()) if is_first() else Silent()
    if is_first() and not resume:
        refuse_run(out, force)
    refuse_loggers(config.training.loggers)
    refuse_accelerator(config.training)
    refuse_unshardable(config.training, math.prod(world_shape(config.training)))
    with launch(config.training, report, worker_command):
        learner = _set_up(config, out, report, resume)
        with Logs(out, enabled=learner.fabric.is_global_zero) as logs, stop_on_interrupt() as stop:
            run = _fit(learner, logs, out, stop, report, resume)
    if is_first():
        add_language_model(learner.data, run, learner.fabric.device, report)
    return run


def _fit(learner: Learner, logs: Logs, out: Path, stop: Stop, report: Reporter, resume: bool) -> Run:
    """The loop. Each process runs it on its share of every batch; the first process validates, logs and saves."""
    fabric, data, settings = learner.fabric, learner.data, learner.settings
    loader, valid_loader = _loaders(data)
    averages = Averages(data.acoustic.network, settings, out)
    total_steps = settings.epoch_limit * len(plan_steps(data, epoch=0))
    run = Run(out, total_steps, data.hours, count_parameters(data.acoustic), settings.checkpoint_minutes)
    resumable = Resumable(learner, averages, run, identity_of(data.config, data.train, data.valid))
    _start(resumable, logs, report, resume)
    sync_clock_and_stop(fabric, run, stop)
    while not run.finished(settings):
        _begin_epoch(learner, loader, run)
        stopwatch = Stopwatch(run, loader)
        for micro_batches, n_dummies in _steps(learner, loader, run):
            take_step(learner, micro_batches, run, report, n_dummies)
            averages.after_step(run.step)
            stopping, checkpoint_due = sync_clock_and_stop(fabric, run, stop)
            report.progress("training", run.progress(settings.max_minutes), 1.0, _note(run))
            if stopping or checkpoint_due:
                _checkpoint(resumable, report)
            if stopping:
                _save_and_interrupt(learner, run)
            if settings.max_minutes and run.minutes >= settings.max_minutes:
                break
        run.batch = 0
        pace = stopwatch.read(run, loader)
        results = _validate_and_save(learner, averages, valid_loader, run, report)
        samples = describe_samples(results[PLAIN], run) if results else None
        logs.epoch(metrics_row(learner, run, pace, results), samples, run.step)
        sync_clock_and_stop(fabric, run, stop)
        _report_data(data, loader, run, report)
        try:
            if results:
                watch(learner, run, results[PLAIN], report)
        finally:
            _checkpoint(resumable, report)
    if run.out_of_patience(settings) and not run.ended(settings):
        report.say(f"stopped: no better CER since epoch {run.best_epoch} (training.patience={settings.patience})")
    return run


def _set_up(config: Config, out: Path, report: Reporter, resume: bool) -> Learner:
    """Read and check the data, build the model, clear an earlier run. Raises AnadilError."""
    seed_everything(config.training.seed, verbose=False)
    if resume:
        config = as_it_began(config, out)
    fabric = make_fabric(config)
    data = prepare(config, out, report, resume, fabric.is_global_zero)
    refuse_layerdrop(data.config)
    refuse_self_conditioned(data.config)
    add_adapters(data, report)
    init, network = data.config.init, data.acoustic.network
    if init is not None:
        frozen_names(network, init)  # raises its errors before an earlier run is cleared
    if fabric.is_global_zero:
        if not resume:
            clear_run(out)
            if init is not None and data.start is not None:
                save(data.start, network, init, out)
        data = resolve_batch_seconds(data, fabric.device, out, resume, report)
    seconds = fabric.broadcast(data.config.training.batch_seconds)
    assert seconds != "auto"
    data = resolve_regularization(with_batch_seconds(data, seconds), fabric, report)
    learner = assemble(fabric, data)
    report.table(f"Layers, a frame every {1000 * data.acoustic.frame_s:g} ms", *layer_table(data.acoustic))
    report.say(f"computing on {fabric.device}, {chosen_precision(data.config)} (training.precision)")
    return replace(learner, pull=pull_to_start(network, init, out))


def _start(resumable: Resumable, logs: Logs, report: Reporter, resume: bool) -> None:
    """Restore the newest checkpoint, or write the first one: from then on a killed run can be resumed."""
    if not resume:
        return _checkpoint(resumable, report)
    report.say("\n".join(restore_checkpoint(resumable)))
    logs.drop_after(resumable.run.epochs_done)


def _begin_epoch(learner: Learner, loader: Loader, run: Run) -> None:
    """Go on with the epoch under way, or start the next one: silence, freezing, warm-up of thawed layers, subwords."""
    data = learner.data
    run.begin_epoch()
    # the flat start needs cut utterances, so silence begins with the first epoch after it
    data.augmenter.silence_is_on = run.step - run.batch >= learner.settings.flat_start_steps
    learner.model.train()
    apply_freezing(data.acoustic.network, data.config.init, run.epoch)
    if run.batch == 0:
        begin_thaw(learner.optimizer, data.config.init, run.epoch, run.step)
    loader.labels = sampled_labels(data, run.epoch)


def _steps(learner: Learner, loader: Loader, run: Run) -> Iterator[tuple[Sequence[Batch], int]]:
    """This process's micro-batches of each step that is left in the epoch, and how many of them are dummies."""
    fabric = learner.fabric
    steps = [
        split_batch(batch, fabric.global_rank, fabric.world_size, learner.settings.accumulate)
        for batch in plan_steps(learner.data, run.epoch)[run.batch :]
    ]
    loaded = iter(loader.batches([indices for micro_batches, _ in steps for indices in micro_batches], run.epoch))
    for micro_batches, n_dummies in steps:
        yield [next(loaded) for _ in micro_batches], n_dummies


def _validate_and_save(
    learner: Learner, averages: Averages, loader: Loader, run: Run, report: Reporter
) -> dict[str, ValidationResult]:
    """Validate the weights and their averages and write `best` and `last`, in the first process. Returns results by name.

    All processes call it: sharded weights are put together first, and the others learn what the first one found.
    """
    results: dict[str, ValidationResult] = {}
    first = learner.fabric.is_global_zero
    learner = with_whole_weights(learner)
    averages = averages.over(learner.data.acoustic.network, first)
    if first:
        results = _validate_each(learner, averages, loader, run, report)
    run.count_patience(learner.settings)
    run.best, run.best_epoch, run.last = learner.fabric.broadcast((run.best, run.best_epoch, run.last))
    return results


def _validate_each(
    learner: Learner, averages: Averages, loader: Loader, run: Run, report: Reporter
) -> dict[str, ValidationResult]:
    data, settings = learner.data, learner.settings
    try:
        averages.after_epoch(run.epoch)
    except AnadilError as error:  # a full disk costs the average one epoch, not the run
        report.warn(str(error))
    candidates = averages.candidates(run.epoch)
    results: dict[str, ValidationResult] = {}
    if data.valid and (run.epoch % settings.validate_every == 0 or run.ended(settings)):
        for name, weights in candidates.items():
            with averages.in_place(weights):
                results[name] = validate(learner, loader, report)
    # without validation the weights averaged most are taken
    chosen = min(results, key=lambda name: results[name].validation.cer) if results else list(candidates)[-1]
    with averages.in_place(candidates[chosen]):
        if results:
            run.last = results[chosen].validation
            report_epoch(results, chosen, run, report)
            if run.best is None or run.last.cer < run.best.cer:
                run.best, run.best_epoch = run.last, run.epoch
                save_run_model(data, run, "best", describe(chosen, settings))
                write_hypotheses(run.out / HYPOTHESES, results[chosen].scored)
        save_run_model(data, run, "last", describe(chosen, settings))
    return results


def _loaders(data: Prepared) -> tuple[Loader, Loader]:
    """For training, with augmentation, and for validation."""
    settings, rate = data.config.data, data.acoustic.sample_rate
    disk = DiskCache(Path(settings.cache).expanduser(), settings.cache_gb) if settings.cache is not None else None
    loader = Loader(data.train, rate, settings.cache_mb, augment=data.augmenter, disk=disk)
    return loader, Loader(data.valid, rate, settings.cache_mb / 10, disk=disk)


def _report_data(data: Prepared, loader: Loader, run: Run, report: Reporter) -> None:
    """Trouble with the cache of this epoch; what augmentation did, after the first and the last epoch."""
    if loader.disk is not None and (trouble := loader.disk.new_trouble()):
        report.warn(trouble)
    if data.augmenter.is_on and (run.epoch == 1 or run.ended(data.config.training)):
        report.say(data.augmenter.report())


def _note(run: Run) -> str:
    best = f"  best CER {run.best.cer:.1%}" if run.best else ""
    return f"epoch {run.epoch}  loss {np.mean(run.losses[-50:]):.3f}{best}"


def _save_and_interrupt(learner: Learner, run: Run) -> NoReturn:
    learner = with_whole_weights(learner)
    if learner.fabric.is_global_zero:
        save_run_model(learner.data, run, "last", PLAIN)
    raise KeyboardInterrupt(
        f"stopped at epoch {run.epoch}, step {run.step}; {run.out / 'last'} is usable\n"
        "  next: the same command with --resume goes on"
    )


def _checkpoint(resumable: Resumable, report: Reporter) -> None:
    """Write a checkpoint. A full disk costs the checkpoint, not the run: the earlier ones are still there."""
    try:
        save_checkpoint(resumable)
    except AnadilError as error:
        report.warn(str(error))
        resumable.run.saved = time.monotonic()  # the next try is not at the next step
