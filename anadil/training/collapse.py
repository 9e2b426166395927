"""A run that learns nothing is told why, once a cause; one that is dead is stopped instead of running all night."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from anadil import audio
from anadil.data.audio_findings import CLIFF_DB, DROP_DB
from anadil.data.checks import Example
from anadil.data.pitch import RATE, median_pitch
from anadil.data.sound import measure
from anadil.errors import AnadilError
from anadil.training.exchanged import find_exchange
from anadil.training.learner import Learner
from anadil.training.prepare import CROWDED, CROWDED_SHARE, crowded
from anadil.training.report import Reporter
from anadil.training.run import Run
from anadil.training.validation import Look

HOPELESS = 0.9
"""CER from which on causes are looked for: a model that has learned the commonest letters is below it."""

BEGINS_AFTER = 300
"""Steps of CTC, warm-up not counted, before a bad CER means anything."""

DEAD_LOOKS, DEAD_STEPS, DEAD_FALL = 3, 1000, 0.02
"""Dead: blanks alone in so many validations, over so many steps, while the loss fell by less than this share."""

RISEN = 1.3
"""Times the lowest loss of an epoch."""

DEEPEST_HZ, HIGHEST_HZ = 70.0, 380.0
DEEP_HZ, HIGH_HZ = 100.0, 290.0
SLOW, FAST = 6.0, 24.0  # labels a second
OTHER_PITCH = 1.7
"""Median pitch of real corpora (docs/LOG.md): 127 to 216 Hz, of single speakers up to 286; at half speed half of it."""

N_HEARD = 20


def watch(learner: Learner, run: Run, look: Look, report: Reporter) -> None:
    """After each validation: warn of a cause that is found for the first time. Raises AnadilError if the run is dead."""
    settings = learner.settings
    mean_loss = float(np.mean(run.losses))
    ctc_steps = run.step - settings.flat_start_steps - settings.warmup_steps
    whole_epoch = run.step - len(run.losses) >= settings.flat_start_steps  # its losses are of one kind
    if look.validation.cer >= HOPELESS and ctc_steps >= BEGINS_AFTER:
        for name, cause in _causes(learner, run, look, mean_loss if whole_epoch else None):
            if name not in run.warned:
                run.warned.append(name)
                report.warn(f"CER {look.validation.cer:.1%} after {run.step:,} steps: {cause}")
    elif look.validation.cer < HOPELESS and "labels" not in run.warned:
        _warn_of_exchange(look, run, report)
    if whole_epoch:
        run.lowest_loss = min(run.lowest_loss, mean_loss)
    _stop_if_dead(learner, run, look, mean_loss, ctc_steps)


def _causes(learner: Learner, run: Run, look: Look, mean_loss: float | None) -> list[tuple[str, str]]:
    """Name and message of each cause that shows; one that says where to look if none does."""
    data, settings = learner.data, learner.settings
    found: list[tuple[str, str]] = []
    exchange = _exchange(look)
    if exchange:
        return [("labels", exchange)]
    if mean_loss is not None and mean_loss > RISEN * run.lowest_loss:
        found.append((
            "rate",
            f"the training loss rises, from {run.lowest_loss:.2f} to {mean_loss:.2f} nats a label: the learning rate "
            f"{settings.lr:g} is too high\n  next: training.lr={settings.lr / 4:g}, or --find-lr",
        ))  # fmt: skip
    n_crowded = crowded(data.train, data.acoustic.frame_s)
    if n_crowded > CROWDED_SHARE * len(data.train):
        found.append((
            "crowded",
            f"{n_crowded:,} of {len(data.train):,} utterances need labels in more than {CROWDED:.0%} of the model's "
            "frames\n  next: subwords (tokenizer.kind=unigram), or a model with a smaller stride",
        ))  # fmt: skip
    if "sound" not in run.warned:  # heard once
        sound = strange_sound(data.train, data.valid)
        if sound:
            found.append(("sound", sound))
    if not found and not run.warned:
        found.append((
            "unknown",
            f"training loss {np.mean(run.losses):.2f} nats a label; labels, stride, sample rates and the course of the "
            "loss look right\n  next: listen to a few training recordings and read their texts, which probably do not "
            "belong together (anadil check finds strange speaking rates); or try --find-lr",
        ))  # fmt: skip
    return found


def _exchange(look: Look) -> str | None:
    found = find_exchange(look.references, look.hypotheses)
    if found is None:
        return None
    shown = ", ".join(f"{heard!r} for {meant!r}" for heard, meant in list(found.letters.items())[:6])
    return (
        f"CER would be {found.cer_exchanged:.1%} instead of {found.cer:.1%} if letters were exchanged one for one "
        f"({shown}): the labels are in another order than the weights know, or the validation texts are written "
        "otherwise than the training texts\n  next: compare tokenizer.labels with those of the model in init.from, and "
        "the alphabets of data.train and data.valid"
    )


def _warn_of_exchange(look: Look, run: Run, report: Reporter) -> None:
    found = _exchange(look)
    if found:
        run.warned.append("labels")
        report.warn(found)


def strange_sound(train: Sequence[Example], valid: Sequence[Example]) -> str | None:
    """What speaks for a wrong sample rate, heard in a few recordings of both sets."""
    pitch = {name: median_pitch(_heard(examples)) for name, examples in (("training", train), ("validation", valid))}
    for name, examples in (("training", train), ("validation", valid)):
        hertz = pitch[name]
        if hertz is None:
            continue
        rate = sum(len(example.labels) for example in examples) / sum(example.duration for example in examples)
        slow = hertz < DEEPEST_HZ or (hertz < DEEP_HZ and rate < SLOW)
        if slow or hertz > HIGHEST_HZ or (hertz > HIGH_HZ and rate > FAST):
            return (
                f"the {name} recordings sound too {'deep and slow' if slow else 'high and fast'} for voices (median "
                f"pitch {hertz:.0f} Hz, {rate:.1f} labels a second): their files tell a wrong sample rate\n"
                "  next: listen to one, and write the files again with their true rate"
            )
    here, there = pitch["training"], pitch["validation"]
    if here and there and max(here, there) > OTHER_PITCH * min(here, there):
        return (
            f"training and validation do not sound alike (median pitch {here:.0f} and {there:.0f} Hz): the files of one "
            "tell a wrong sample rate\n  next: listen to both"
        )
    narrow = {name: _narrow(examples) for name, examples in (("training", train), ("validation", valid))}
    if valid and abs(narrow["training"] - narrow["validation"]) > 0.5:
        poor, rich = sorted(narrow, key=narrow.__getitem__, reverse=True)
        return (
            f"the {poor} recordings hold nothing above 4 kHz, as if resampled from 8 kHz, the {rich} recordings do\n"
            "  next: augment with telephone, or features.sample_rate=8000 for both"
        )
    return None


def _some(examples: Sequence[Example]) -> list[Example]:
    """At even distances: the first ones may all be of one speaker."""
    return list(examples[:: max(1, len(examples) // N_HEARD)])[:N_HEARD]


def _heard(examples: Sequence[Example]) -> list[np.ndarray]:
    return _readable(
        _some(examples), lambda one: audio.read(one.audio_filepath, RATE, one.offset, min(one.duration or 10.0, 10.0))
    )


def _narrow(examples: Sequence[Example]) -> float:
    """Share of some recordings that were once sampled at 8 kHz."""
    sounds = [
        sound
        for example in _some(examples)
        for sound in measure(example.utterance.audio_filepath, [(example.utterance.offset, example.duration)])[1]
    ]
    return sum(sound.drop_db > DROP_DB and sound.cliff_db > CLIFF_DB for sound in sounds) / max(1, len(sounds))


def _readable(examples: Sequence[Example], read: Callable[..., np.ndarray]) -> list[np.ndarray]:
    found = []
    for example in examples:
        try:
            found.append(read(example.utterance))
        except AnadilError:  # training itself tells of it
            continue
    return found


def _stop_if_dead(learner: Learner, run: Run, look: Look, mean_loss: float, ctc_steps: int) -> None:
    if ctc_steps < 0 or any(hypothesis.strip() for hypothesis in look.hypotheses):
        run.dead_looks = 0
        return
    if run.dead_looks == 0:
        run.dead_since, run.dead_loss = run.step, mean_loss
    run.dead_looks += 1
    n_steps = run.step - run.dead_since
    if run.dead_looks < DEAD_LOOKS or n_steps < DEAD_STEPS or not learner.settings.stop_on_collapse:
        return
    if mean_loss < (1 - DEAD_FALL) * run.dead_loss:  # it is slow, but not dead
        run.dead_looks, run.dead_since, run.dead_loss = 1, run.step, mean_loss
        return
    told = f"; what was found: {', '.join(run.warned)} (see the warnings above)" if run.warned else ""
    raise AnadilError(
        f"the run is dead: the model has emitted blanks alone in {run.dead_looks} validations over {n_steps:,} steps, "
        f"and its loss stays at {mean_loss:.2f} nats a label{told}\n"
        f"  next: --find-lr for another learning rate than {learner.settings.lr:g}, or a longer "
        "training.flat_start_steps, and anadil check on the texts;\n"
        "  --resume training.stop_on_collapse=false goes on all the same"
    )
