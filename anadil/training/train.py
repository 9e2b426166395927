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
from torch.nn import functional as F
from torch.optim import Optimizer

from anadil.data.batches import Batch, Loader, plan_epoch
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
from anadil.training.judge import Judge, cer_by_language
from anadil.training.lora import insert_lora, merged_state
from anadil.training.metrics import METRICS, drop_metrics_after, log_metrics
from anadil.training.model_card import model_card
from anadil.training.optimizers import Pull, begin_thaw, build_optimizer, set_learning_rates
from anadil.training.prepare import Prepared, prepare, sampled_labels
from anadil.training.report import Reporter, Silent
from anadil.training.run import Run, Validation, clear_run, refuse_run
from anadil.training.transfer import pull_to_start
from anadil.training.transfer import save as save_start


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
    heard = data.augmenter  # training audio as the model will hear it, epoch by epoch
    loader = Loader(data.train, data.acoustic.sample_rate, data.config.data.cache_mb, augment=heard)
    valid_loader = Loader(data.valid, data.acoustic.sample_rate, data.config.data.cache_mb / 10)
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
        epoch_started, heard_s = time.monotonic(), run.audio_s
        for batch in loader.batches(_plan(data, run.epoch)[run.batch :], run.epoch):
            run.losses.append(_step(fabric, model, optimizer, pull, batch.to(fabric.device), data, run, masks, report))
            report.progress("training", run.progress(settings.max_minutes), 1.0, _note(run))
            if stop.requested or time.monotonic() - run.saved >= 60 * settings.checkpoint_minutes:
                _checkpoint(resumable, report)
            if stop.requested:
                _save(data, run, "last")
                raise KeyboardInterrupt(
                    f"stopped at epoch {run.epoch}, step {run.step}; {out / 'last'} is usable\n"
                    "  next: the same command with --resume goes on"
                )
            if settings.max_minutes and run.minutes >= settings.max_minutes:
                break
        run.batch = 0
        speed = (run.audio_s - heard_s) / (time.monotonic() - epoch_started)
        finished = run.finished(settings.epochs, settings.max_minutes)
        validated = bool(data.valid) and (run.epoch % settings.validate_every == 0 or finished)
        if validated:
            run.last = _validate(fabric, model, valid_loader, data, judge, run, report)
        _log(fabric, optimizer, data, run, speed, run.last if validated else None)
        if heard.chain and (run.epoch == 1 or finished):
            report.say(heard.report())
        if run.last is not None and (run.best is None or run.last.cer < run.best.cer):
            run.best = run.last
            _save(data, run, "best")
        _save(data, run, "last")
        _checkpoint(resumable, report)
    return run


def _plan(data: Prepared, epoch: int) -> list[list[int]]:
    """The batches of an epoch."""
    languages = [data.language(example) for example in data.train]
    settings, temperature = data.config.training, data.config.data.language_temperature
    return plan_languages(
        data.augmenter.durations(epoch), languages, temperature, settings.batch_seconds, settings.seed, epoch
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
    """One optimiser step. Returns the loss in nats a label. Raises AnadilError if it is not finite."""
    settings = data.config.training
    set_learning_rates(optimizer, settings, run.step, run.progress(settings.max_minutes))
    augment = feature_augmentation(data.config.augment, masks)
    log_probs, frame_counts = model(batch.waveforms, batch.sample_counts, augment)
    if run.step < settings.flat_start_steps:
        samples_per_frame = round(data.acoustic.frame_s * data.acoustic.sample_rate)
        speech = speech_frames(batch.waveforms, frame_counts, log_probs.shape[1], samples_per_frame)
        loss = flat_start_loss(log_probs, frame_counts, batch.targets, batch.target_counts, speech)
    else:
        loss = ctc_loss(log_probs, frame_counts, batch)
    optimizer.zero_grad()
    fabric.backward(loss)
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


def _validate(
    fabric: Fabric, model: Any, loader: Loader, data: Prepared, judge: Judge, run: Run, report: Reporter
) -> Validation:
    model.eval()
    losses, n_labels = 0.0, 0
    log_probs: list[np.ndarray | None] = [None] * len(data.valid)
    plan = plan_epoch([example.duration for example in data.valid], data.config.training.batch_seconds, seed=None)
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


def _note(run: Run) -> str:
    best = f"  best CER {run.best.cer:.1%}" if run.best else ""
    return f"epoch {run.epoch}  loss {np.mean(run.losses[-50:]):.3f}{best}"


def _log(
    fabric: Fabric, optimizer: Optimizer, data: Prepared, run: Run, speed: float, validation: Validation | None
) -> None:
    row: dict[str, float | int | None] = {
        "epoch": run.epoch,
        "step": run.step,
        "minutes": round(run.minutes, 3),
        "lr": max(group["lr"] for group in optimizer.param_groups),
        "train_loss": float(np.mean(run.losses)),
        "audio_s_per_s": round(speed, 1),
        "valid_loss": validation.loss if validation else None,
        "valid_cer": validation.cer if validation else None,
        "valid_wer": validation.wer if validation else None,
    }
    by_language = validation.cer_by_language if validation else {}
    row |= {f"valid_cer_{language}": by_language.get(language) for language in sorted(data.rules_of)}
    log_metrics(fabric, run.out / METRICS, row, run.step)


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
