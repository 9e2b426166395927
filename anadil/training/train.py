"""The training loop: one function to read, from examples to `best` and `last`."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
from lightning_fabric import seed_everything

from anadil.data.batches import Loader, plan_languages
from anadil.data.cache import DiskCache
from anadil.errors import AnadilError
from anadil.models.acoustic import save_model
from anadil.models.summary import count_parameters, layer_table
from anadil.settings import dump
from anadil.text.tokenizer import tokenizer_files
from anadil.training.averages import PLAIN, Averages, describe
from anadil.training.checkpoint import Resumable, identity_of, restore_checkpoint, save_checkpoint
from anadil.training.config import Config
from anadil.training.distributed.sharding import refuse_layerdrop, refuse_unshardable
from anadil.training.distributed.workers import agree, is_first, members, pieces_of, share_of, together
from anadil.training.learner import Learner, add_adapters, assemble, make_fabric, with_whole_weights
from anadil.training.monitoring.diagnosis import watch
from anadil.training.monitoring.logs import (
    HYPOTHESES,
    Logs,
    Pace,
    describe_samples,
    figures,
    refuse_loggers,
    tell,
    write_hypotheses,
)
from anadil.training.monitoring.memory import resolve_batch_seconds, with_batch_seconds
from anadil.training.monitoring.report import Reporter, Silent
from anadil.training.optimizers import begin_thaw
from anadil.training.prepare import Prepared, prepare, sampled_labels
from anadil.training.run import Run, Stop, clear_run, refuse_run, stop_on_interrupt
from anadil.training.save import model_card
from anadil.training.step import take_step
from anadil.training.transfer.freezing import apply_freezing, frozen_names
from anadil.training.transfer.lora import merged_state
from anadil.training.transfer.weights import pull_to_start
from anadil.training.transfer.weights import save as save_start
from anadil.training.validation import Judge, Look, validate


def train(
    config: Config,
    out: Path,
    judge: Judge,
    report: Reporter | None = None,
    force: bool = False,
    resume: bool = False,
) -> Run:
    """Train as `config` says and write `out`/best, last, metrics.csv and tensorboard.

    With `resume`, an interrupted run in `out` goes on; on a CPU its weights become, bit by bit, those of a run that
    was never interrupted (unless `max_minutes` lets the clock decide). Raises AnadilError if the data cannot be
    used, `out` holds a run already, or training breaks; KeyboardInterrupt after Ctrl-C, with `last` written.
    """
    report = (report or Silent()) if is_first() else Silent()
    if is_first() and not resume:
        refuse_run(out, force)
    refuse_loggers(config.training.loggers)
    refuse_unshardable(config.training, math.prod(members(config.training)))
    with together(config.training, report):
        seed_everything(config.training.seed, verbose=False)
        fabric = make_fabric(config)
        data = prepare(config, out, report, resume, fabric.is_global_zero)
        refuse_layerdrop(data.config)
        add_adapters(data, report)
        if data.config.init is not None:
            frozen_names(data.acoustic.network, data.config.init)  # its errors come before an earlier run is cleared
        if fabric.is_global_zero:
            if not resume:
                clear_run(out)
            if not resume and data.config.init is not None and data.start is not None:
                save_start(data.start, data.acoustic.network, data.config.init, out)
            data = resolve_batch_seconds(data, fabric.device, out, resume, report)
        seconds = fabric.broadcast(data.config.training.batch_seconds)
        assert seconds != "auto"
        data = with_batch_seconds(data, seconds)
        learner = assemble(fabric, data)
        learner = replace(learner, pull=pull_to_start(data.acoustic.network, data.config.init, out))
        report.table(f"Layers, a frame every {1000 * data.acoustic.frame_s:g} ms", *layer_table(data.acoustic))
        report.say(f"computing on {fabric.device}, {fabric.strategy.precision.precision} (training.precision)")
        logs = Logs(out) if fabric.is_global_zero else None
        try:
            with stop_on_interrupt() as stop:
                return _fit(learner, judge, report, logs, out, stop, resume)
        finally:
            if logs is not None:
                logs.close()


def _fit(
    learner: Learner, judge: Judge, report: Reporter, logs: Logs | None, out: Path, stop: Stop, resume: bool
) -> Run:
    """The loop. In a team of processes each runs it on its share of every batch; the first one has the `logs`."""
    fabric, data, settings = learner.fabric, learner.data, learner.settings
    loader, valid_loader = _loaders(data)
    averages = Averages(data.acoustic.network, settings, out)
    total_steps = settings.epoch_limit * len(plan_steps(data, epoch=0))
    hours = sum(example.duration for example in data.train) / 3600
    run = Run(out, total_steps, hours, count_parameters(data.acoustic), settings.checkpoint_minutes)
    resumable = Resumable(learner, averages, run, identity_of(data.config, data.train, data.valid))
    if resume:
        report.say("\n".join(restore_checkpoint(resumable)))
        if logs is not None:
            logs.drop_after(run.epochs_done)
    else:
        _checkpoint(resumable, report)  # from now on --resume goes on, whenever the run is killed
    agree(fabric, run, stop)
    while not run.finished(settings):
        run.begin_epoch()
        learner.model.train()
        apply_freezing(data.acoustic.network, data.config.init, run.epoch)
        if run.batch == 0:
            begin_thaw(learner.optimizer, data.config.init, run.epoch, run.step)
        loader.labels = sampled_labels(data, run.epoch)
        epoch_started, heard_s, waited_s = time.monotonic(), run.audio_s, loader.waited_s
        shares = [
            share_of(batch, fabric.global_rank, fabric.world_size, settings.accumulate)
            for batch in plan_steps(data, run.epoch)[run.batch :]
        ]
        batches = loader.batches([piece for share in shares for piece in share.pieces], run.epoch)
        for share, pieces in pieces_of(batches, shares):
            take_step(learner, pieces, run, report, share.idle)
            averages.after_step(run.step)
            stopping, save_due = agree(fabric, run, stop)
            report.progress("training", run.progress(settings.max_minutes), 1.0, _note(run))
            if stopping or save_due:
                _checkpoint(resumable, report)
            if stopping:
                _stop(learner, run)
            if settings.max_minutes and run.minutes >= settings.max_minutes:
                break
        run.batch = 0
        elapsed_s = time.monotonic() - epoch_started
        pace = Pace((run.audio_s - heard_s) / elapsed_s, (loader.waited_s - waited_s) / elapsed_s)
        looks = _end_epoch(learner, averages, valid_loader, judge, run, report, logs, pace)
        agree(fabric, run, stop)
        if loader.disk is not None and (trouble := loader.disk.news()):
            report.warn(trouble)
        if data.augmenter.chain and (run.epoch == 1 or run.ended(settings)):
            report.say(data.augmenter.report())
        try:
            if looks:
                watch(learner, run, looks[PLAIN], report)
        finally:
            _checkpoint(resumable, report)
    if run.out_of_patience(settings) and not run.ended(settings):
        report.say(f"stopped: no better CER since epoch {run.best_epoch} (training.patience={settings.patience})")
    return run


def _end_epoch(
    learner: Learner,
    averages: Averages,
    loader: Loader,
    judge: Judge,
    run: Run,
    report: Reporter,
    logs: Logs | None,
    pace: Pace,
) -> dict[str, Look]:
    """The first process validates and writes, the others hear of it. Returns what it found of each kind of weights."""
    looks: dict[str, Look] = {}
    learner = with_whole_weights(learner)
    averages = averages.over(learner.data.acoustic.network, logs is not None)
    if logs is not None:
        looks = _validate_and_save(learner, averages, loader, judge, run, report)
        logs.row(figures(learner, run, pace, looks), run.step)
        if looks:
            logs.samples(describe_samples(looks[PLAIN], run.epoch, run.step), run.step)
    run.count_patience(learner.settings)
    run.best, run.best_epoch, run.last = learner.fabric.broadcast((run.best, run.best_epoch, run.last))
    return looks


def _validate_and_save(
    learner: Learner, averages: Averages, loader: Loader, judge: Judge, run: Run, report: Reporter
) -> dict[str, Look]:
    """Validate the weights and their averages; write `best` and `last`. Returns what was found of each, by name."""
    data, settings = learner.data, learner.settings
    try:
        averages.after_epoch(run.epoch)
    except AnadilError as error:  # a full disk costs the average an epoch, not the run
        report.warn(str(error))
    candidates = averages.candidates(run.epoch)
    looks: dict[str, Look] = {}
    if data.valid and (run.epoch % settings.validate_every == 0 or run.ended(settings)):
        for name, weights in candidates.items():
            with averages.in_place(weights):
                looks[name] = validate(learner, loader, judge, report)
    # without validation the most averaged weights are the best guess
    chosen = min(looks, key=lambda name: looks[name].validation.cer) if looks else list(candidates)[-1]
    with averages.in_place(candidates[chosen]):
        if looks:
            run.last = looks[chosen].validation
            tell(looks, chosen, run, report)
            if run.best is None or run.last.cer < run.best.cer:
                run.best, run.best_epoch = run.last, run.epoch
                _save(data, run, "best", describe(chosen, settings))
                write_hypotheses(run.out / HYPOTHESES, data.valid, looks[chosen])
        _save(data, run, "last", describe(chosen, settings))
    return looks


def _loaders(data: Prepared) -> tuple[Loader, Loader]:
    """Of training, as the model will hear it epoch by epoch, and of validation."""
    settings, rate = data.config.data, data.acoustic.sample_rate
    disk = DiskCache(Path(settings.cache).expanduser(), settings.cache_gb) if settings.cache is not None else None
    loader = Loader(data.train, rate, settings.cache_mb, augment=data.augmenter, disk=disk)
    return loader, Loader(data.valid, rate, settings.cache_mb / 10, disk=disk)


def plan_steps(data: Prepared, epoch: int) -> list[list[int]]:
    """The batches of an epoch, one a step: indices of training examples."""
    languages = [data.language(example) for example in data.train]
    settings, temperature = data.config.training, data.config.data.language_temperature
    return plan_languages(
        data.augmenter.durations(epoch), languages, temperature, settings.batch_limit, settings.seed, epoch
    )


def _note(run: Run) -> str:
    best = f"  best CER {run.best.cer:.1%}" if run.best else ""
    return f"epoch {run.epoch}  loss {np.mean(run.losses[-50:]):.3f}{best}"


def _stop(learner: Learner, run: Run) -> NoReturn:
    learner = with_whole_weights(learner)
    if learner.fabric.is_global_zero:
        _save(learner.data, run, "last", PLAIN)
    raise KeyboardInterrupt(
        f"stopped at epoch {run.epoch}, step {run.step}; {run.out / 'last'} is usable\n"
        "  next: the same command with --resume goes on"
    )


def _checkpoint(resumable: Resumable, report: Reporter) -> None:
    """A full disk costs the checkpoint, not the run: the earlier ones are still there."""
    try:
        save_checkpoint(resumable)
    except AnadilError as error:
        report.warn(str(error))
        resumable.run.saved = time.monotonic()  # the next try is not at the next step


def _save(data: Prepared, run: Run, name: str, weights: str) -> None:
    card = model_card(
        data.config,
        data.train,
        run.epoch,
        run.step,
        run.last.cer if run.last else None,
        run.last.wer if run.last else None,
        weights,
    )
    network, init = data.acoustic.network, data.config.init
    state = merged_state(network, init.lora if init else None)
    save_model(run.out / name, data.acoustic, dump(data.config), card, tokenizer_files(data.rules), state)
