"""A run that learns nothing is told why, once a cause; one that is dead is stopped instead of running all night."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from rapidfuzz.distance import Levenshtein
from torch import Tensor

from anadil import audio
from anadil.data.examples import Example
from anadil.data.pitch import RATE, median_pitch
from anadil.doctor.audio import CLIFF_DB, DROP_DB, measure
from anadil.errors import AnadilError
from anadil.training.config import TrainingSettings
from anadil.training.learner import Learner
from anadil.training.monitoring.report import Reporter
from anadil.training.prepare import CROWDED, CROWDED_SHARE, crowded
from anadil.training.run import Run, ValidationResult

# Whether a recogniser is right but for an exchange of letters: its labels are in another order than its weights.

ROUNDS = 5
MOST_UTTERANCES = 300
REACH = 3  # letters to either side
MIN_CHARACTERS = 30
LEAST_BAD = 0.5
SHARPLY = 0.5
"""The exchange must halve the errors at least: a one-to-one exchange cannot do that to what is merely bad."""


@dataclass(frozen=True)
class Exchange:
    """`letters`: what was heard to what was meant, only those that differ. CER as fractions."""

    letters: dict[str, str]
    cer: float
    cer_exchanged: float


def find_exchange(references: Sequence[str], hypotheses: Sequence[str]) -> Exchange | None:
    """The one-to-one exchange of letters that makes bad hypotheses right, or None.

    First, letters that stand at about the same place of their texts more often than chance has it make an exchange;
    then those that a cheapest alignment of the exchanged hypotheses puts together, again and again.
    """
    pairs = [pair for pair in zip(references, hypotheses, strict=True) if all(pair)][:MOST_UTTERANCES]
    n_characters = sum(len(reference) for reference, _ in pairs)
    if n_characters < MIN_CHARACTERS:
        return None
    before = _errors(pairs) / n_characters
    if before < LEAST_BAD:
        return None
    best: tuple[float, dict[str, str]] = (before, {})
    letters = _one_to_one(_by_place(pairs))
    for _ in range(ROUNDS):
        rate = _errors([(meant, _exchanged(heard, letters)) for meant, heard in pairs]) / n_characters
        if rate < best[0]:
            best = (rate, letters)
        letters = _one_to_one(_by_alignment(pairs, letters))
    moved = {heard: meant for heard, meant in best[1].items() if heard != meant}
    return Exchange(moved, before, best[0]) if best[0] <= SHARPLY * before and len(moved) > 1 else None


def _errors(pairs: Sequence[tuple[str, str]]) -> int:
    return sum(Levenshtein.distance(meant, heard) for meant, heard in pairs)


def _exchanged(text: str, letters: dict[str, str]) -> str:
    return "".join(letters.get(letter, letter) for letter in text)


def _by_place(pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], float]:
    """How much oftener than by chance a letter is heard where another one is meant, places told as shares of the text."""
    together: dict[tuple[str, str], float] = defaultdict(float)
    heard_total: dict[str, float] = defaultdict(float)
    meant_total: dict[str, float] = defaultdict(float)
    for meant, heard in pairs:
        for j, letter in enumerate(heard):
            centre = (j + 0.5) / len(heard) * len(meant) - 0.5
            for i in range(max(0, round(centre) - REACH), min(len(meant), round(centre) + REACH + 1)):
                weight = math.exp(-((i - centre) ** 2))
                together[letter, meant[i]] += weight
                heard_total[letter] += weight
                meant_total[meant[i]] += weight
    total = sum(heard_total.values())
    return {
        (heard, meant): weight - heard_total[heard] * meant_total[meant] / total
        for (heard, meant), weight in together.items()
    }


def _by_alignment(pairs: Sequence[tuple[str, str]], letters: dict[str, str]) -> dict[tuple[str, str], float]:
    counts: Counter[tuple[str, str]] = Counter()
    for meant, heard in pairs:
        for edit in Levenshtein.opcodes(meant, _exchanged(heard, letters)):
            if edit.tag in ("equal", "replace"):
                there, here = heard[edit.dest_start : edit.dest_end], meant[edit.src_start : edit.src_end]
                counts.update(zip(there, here, strict=False))
    return dict(counts)


def _one_to_one(scores: dict[tuple[str, str], float]) -> dict[str, str]:
    """The pairs of the highest scores, each letter once on either side."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for heard, meant in sorted(scores, key=lambda pair: (-scores[pair], pair)):
        if heard not in found and meant not in taken:
            found[heard] = meant
            taken.add(meant)
    return found


# When a run learns nothing: say so early, and name the likely cause.

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


def watch(learner: Learner, run: Run, result: ValidationResult, report: Reporter) -> None:
    """After each validation: warn of a cause that is found for the first time. Raises AnadilError if the run is dead."""
    settings = learner.settings
    mean_loss = float(np.mean(run.losses))
    ctc_steps = run.step - settings.flat_start_steps - settings.warmup_steps
    whole_epoch = run.step - len(run.losses) >= settings.flat_start_steps  # its losses are of one kind
    if result.validation.cer >= HOPELESS and ctc_steps >= BEGINS_AFTER:
        for name, cause in _causes(learner, run, result, mean_loss if whole_epoch else None):
            if name not in run.warned:
                run.warned.append(name)
                report.warn(f"CER {result.validation.cer:.1%} after {run.step:,} steps: {cause}")
    elif result.validation.cer < HOPELESS and "labels" not in run.warned:
        _warn_of_exchange(result, run, report)
    if whole_epoch:
        run.lowest_loss = min(run.lowest_loss, mean_loss)
    _stop_if_dead(learner, run, result, mean_loss, ctc_steps)


def _causes(learner: Learner, run: Run, result: ValidationResult, mean_loss: float | None) -> list[tuple[str, str]]:
    """Name and message of each cause that shows; one that says where to look if none does."""
    data, settings = learner.data, learner.settings
    found: list[tuple[str, str]] = []
    exchange = _exchange(result)
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


def _exchange(result: ValidationResult) -> str | None:
    found = find_exchange(result.references, result.hypotheses)
    if found is None:
        return None
    shown = ", ".join(f"{heard!r} for {meant!r}" for heard, meant in list(found.letters.items())[:6])
    return (
        f"CER would be {found.cer_exchanged:.1%} instead of {found.cer:.1%} if letters were exchanged one for one "
        f"({shown}): the labels are in another order than the weights know, or the validation texts are written "
        "otherwise than the training texts\n  next: compare tokenizer.labels with those of the model in init.from, and "
        "the alphabets of data.train and data.valid"
    )


def _warn_of_exchange(result: ValidationResult, run: Run, report: Reporter) -> None:
    found = _exchange(result)
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


def _stop_if_dead(learner: Learner, run: Run, result: ValidationResult, mean_loss: float, ctc_steps: int) -> None:
    if ctc_steps < 0 or any(hypothesis.strip() for hypothesis in result.hypotheses):
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
