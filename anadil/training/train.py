"""The training loop: one function to read, from examples to `best` and `last`."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric, seed_everything
from lightning_fabric.loggers.tensorboard import TensorBoardLogger
from torch import Tensor
from torch.optim import Optimizer

from anadil.data.batches import Batch, Loader
from anadil.data.cache import DiskCache
from anadil.data.languages import plan_languages
from anadil.data.spec_augment import feature_augmentation
from anadil.errors import AnadilError
from anadil.models.acoustic import save_model
from anadil.models.summary import count_parameters, layer_table
from anadil.settings import dump
from anadil.text.tokenizer import tokenizer_files
from anadil.training import diagnosis
from anadil.training.checkpoint import Resumable, identity_of, restore_checkpoint, save_checkpoint
from anadil.training.config import Config
from anadil.training.flat_start import flat_start_loss, speech_frames
from anadil.training.freezing import hold_still
from anadil.training.interrupt import Stop, stop_on_interrupt
from anadil.training.judge import Judge
from anadil.training.lora import insert_lora, merged_state
from anadil.training.memory import explain_out_of_memory, is_out_of_memory, settle_batch_seconds
from anadil.training.metrics import METRICS, drop_metrics_after, log_metrics, row_of
from anadil.training.model_card import model_card
from anadil.training.optimizers import Pull, begin_thaw, build_optimizer, set_learning_rates
from anadil.training.prepare import Prepared, prepare, sampled_labels
from anadil.training.report import Reporter, Silent
from anadil.training.run import Run, clear_run, refuse_run
from anadil.training.transfer import pull_to_start
from anadil.training.transfer import save as save_start
from anadil.training.validate import ctc_loss, validate


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
    report = report or Silent()
    if not resume:
        refuse_run(out, force)
    seed_everything(config.training.seed, verbose=False)
    data = prepare(config, out, report, resume)
    network, init = data.acoustic.network, data.config.init
    if init is not None and init.lora is not None:
        report.say(f"LoRA: {len(insert_lora(network, init.lora))} projections learn, the rest of the encoder is frozen")
    pulled = data.start.loaded if init is not None and init.l2_sp > 0 and data.start is not None else ()
    optimizer = build_optimizer(network, data.config.training, init, pulled)
    if not resume:
        clear_run(out)
        if init is not None and data.start is not None:
            save_start(data.start, network, init, out)
    fabric = Fabric(
        accelerator=config.training.accelerator,
        devices=1,
        precision=_precision(config),
        loggers=[TensorBoardLogger(root_dir=out, name="tensorboard", version="")],
    )
    data = settle_batch_seconds(data, fabric.device, out, resume, report)
    report.table(f"Layers, a frame every {1000 * data.acoustic.frame_s:g} ms", *layer_table(data.acoustic))
    model, optimizer = fabric.setup(data.acoustic, optimizer)
    pull = pull_to_start(network, init, out)
    try:
        with stop_on_interrupt() as stop:
            return _fit(fabric, model, optimizer, pull, data, judge, report, out, stop, resume)
    finally:
        fabric.logger.finalize("")  # closes TensorBoard's file: a later run may clear the folder


def _fit(
    fabric: Fabric,
    model: Any,
    optimizer: Optimizer,
    pull: Pull | None,
    data: Prepared,
    judge: Judge,
    report: Reporter,
    out: Path,
    stop: Stop,
    resume: bool,
) -> Run:
    settings = data.config.training
    loader, valid_loader = _loaders(data)
    masks = torch.Generator().manual_seed(settings.seed)
    total_steps = settings.epochs * len(_plan(data, epoch=0))
    run = Run(out, total_steps, sum(example.duration for example in data.train) / 3600, count_parameters(data.acoustic))
    identity = identity_of(data.config, data.train, data.valid)
    resumable = Resumable(fabric, data.acoustic.network, optimizer, masks, run, identity)
    if resume:
        report.say("\n".join(restore_checkpoint(resumable, settings)))
        drop_metrics_after(out / METRICS, run.epochs_done)
    while not run.finished(settings.epochs, settings.max_minutes):
        run.begin_epoch()
        model.train()
        hold_still(data.acoustic.network, data.config.init, run.epoch)
        if run.batch == 0:
            begin_thaw(optimizer, data.config.init, run.epoch, run.step)
        loader.labels = sampled_labels(data, run.epoch)
        epoch_started, heard_s, waited_s = time.monotonic(), run.audio_s, loader.waited_s
        for batch in loader.batches(_plan(data, run.epoch)[run.batch :], run.epoch):
            run.losses.append(_step(fabric, model, optimizer, pull, batch, data, run, masks, report))
            report.progress("training", run.progress(settings.max_minutes), 1.0, _note(run))
            if stop.requested or time.monotonic() - run.saved >= 60 * settings.checkpoint_minutes:
                _checkpoint(resumable, report)
            if stop.requested:
                raise _interrupted(data, run)
            if settings.max_minutes and run.minutes >= settings.max_minutes:
                break
        run.batch = 0
        elapsed_s = time.monotonic() - epoch_started
        speed, data_wait = (run.audio_s - heard_s) / elapsed_s, (loader.waited_s - waited_s) / elapsed_s
        finished = run.finished(settings.epochs, settings.max_minutes)
        validated = bool(data.valid) and (run.epoch % settings.validate_every == 0 or finished)
        if validated:
            run.last = validate(fabric, model, valid_loader, data, judge, run, report)
        lr = max(group["lr"] for group in optimizer.param_groups)
        row = row_of(run, lr, speed, data_wait, run.last if validated else None, sorted(data.rules_of))
        log_metrics(fabric, out / METRICS, row, run.step)
        if loader.disk is not None and (trouble := loader.disk.news()):
            report.warn(trouble)
        if data.augmenter.chain and (run.epoch == 1 or finished):
            report.say(data.augmenter.report())
        if run.last is not None and (run.best is None or run.last.cer < run.best.cer):
            run.best = run.last
            _save(data, run, "best")
        _save(data, run, "last")
        _checkpoint(resumable, report)
    return run


def _loaders(data: Prepared) -> tuple[Loader, Loader]:
    """Of training, as the model will hear it epoch by epoch, and of validation."""
    settings, rate = data.config.data, data.acoustic.sample_rate
    disk = DiskCache(Path(settings.cache).expanduser(), settings.cache_gb) if settings.cache is not None else None
    loader = Loader(data.train, rate, settings.cache_mb, augment=data.augmenter, disk=disk)
    return loader, Loader(data.valid, rate, settings.cache_mb / 10, disk=disk)


def _plan(data: Prepared, epoch: int) -> list[list[int]]:
    """The batches of an epoch."""
    languages = [data.language(example) for example in data.train]
    settings, temperature = data.config.training, data.config.data.language_temperature
    return plan_languages(
        data.augmenter.durations(epoch), languages, temperature, settings.batch_limit, settings.seed, epoch
    )


def _step(
    fabric: Fabric,
    model: Any,
    optimizer: Optimizer,
    pull: Pull | None,
    batch: Batch,
    data: Prepared,
    run: Run,
    masks: torch.Generator,
    report: Reporter,
) -> float:
    """One optimiser step. Returns the loss in nats a label. Raises AnadilError if it is not finite, or out of memory."""
    settings = data.config.training
    set_learning_rates(optimizer, settings, run.step, run.progress(settings.max_minutes))
    try:
        batch = batch.to(fabric.device)
        log_probs, frame_counts, loss = _loss(model, batch, data, run, masks)
        optimizer.zero_grad()
        fabric.backward(loss)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise AnadilError(explain_out_of_memory(batch, data.acoustic.sample_rate, settings.batch_limit)) from error
    norm = fabric.clip_gradients(model, optimizer, max_norm=settings.clip_norm, error_if_nonfinite=False)
    value, gradient_norm = loss.item(), float(norm) if norm is not None else 0.0
    if not math.isfinite(value) or (not math.isfinite(gradient_norm) and settings.precision != "16-mixed"):
        where = [data.train[i].utterance.source for i in batch.indices]
        raise AnadilError(diagnosis.explain_not_finite(value, gradient_norm, run.step, settings, where))
    optimizer.step()
    if pull is not None:
        pull.step(optimizer)
    run.step, run.batch = run.step + 1, run.batch + 1
    run.audio_s += float(batch.sample_counts.sum()) / data.acoustic.sample_rate
    if run.step == 1:
        run.first_loss = value
    look = run.step - diagnosis.LOOK_AT_STEP in (0, settings.flat_start_steps)
    if look and diagnosis.only_blanks(log_probs, frame_counts):
        density = float(batch.target_counts.sum() / frame_counts.sum())
        report.warn(diagnosis.explain_blanks(run.step, settings, density, value, run.first_loss))
    return value


def _interrupted(data: Prepared, run: Run) -> KeyboardInterrupt:
    _save(data, run, "last")
    return KeyboardInterrupt(
        f"stopped at epoch {run.epoch}, step {run.step}; {run.out / 'last'} is usable\n"
        "  next: the same command with --resume goes on"
    )


def _loss(model: Any, batch: Batch, data: Prepared, run: Run, masks: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probs, frame counts and the loss that a step lowers: CTC, or the flat start's before it."""
    log_probs, frame_counts = model(
        batch.waveforms, batch.sample_counts, feature_augmentation(data.config.augment, masks)
    )
    if run.step >= data.config.training.flat_start_steps:
        return log_probs, frame_counts, ctc_loss(log_probs, frame_counts, batch)
    samples_per_frame = round(data.acoustic.frame_s * data.acoustic.sample_rate)
    speech = speech_frames(batch.waveforms, frame_counts, log_probs.shape[1], samples_per_frame)
    loss = flat_start_loss(log_probs, frame_counts, batch.targets, batch.target_counts, speech, batch.weights)
    return log_probs, frame_counts, loss


def _note(run: Run) -> str:
    best = f"  best CER {run.best.cer:.1%}" if run.best else ""
    return f"epoch {run.epoch}  loss {np.mean(run.losses[-50:]):.3f}{best}"


def _checkpoint(resumable: Resumable, report: Reporter) -> None:
    """A full disk costs the checkpoint, not the run: the earlier ones are still there."""
    try:
        save_checkpoint(resumable)
    except AnadilError as error:
        report.warn(str(error))
        resumable.run.saved = time.monotonic()  # the next try is not at the next step


def _save(data: Prepared, run: Run, name: str) -> None:
    card = model_card(
        data.config,
        data.train,
        run.epoch,
        run.step,
        run.last.cer if run.last else None,
        run.last.wer if run.last else None,
    )
    network, init = data.acoustic.network, data.config.init
    state = merged_state(network, init.lora if init else None)
    save_model(run.out / name, data.acoustic, dump(data.config), card, tokenizer_files(data.rules), state)


def _precision(config: Config) -> Any:
    if config.training.precision != "auto":
        return config.training.precision
    on_gpu = config.training.accelerator in ("auto", "cuda") and torch.cuda.is_available()
    return "bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported() else "32-true"
