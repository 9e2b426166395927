"""Why a run learns nothing: causes are named after each validation, once each, and a dead run is stopped."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from rapidfuzz.distance import Levenshtein
from torch import Tensor

from anadil.data.examples import Example
from anadil.doctor.audio import CLIFF_DB, DROP_DB, measure
from anadil.errors import AnadilError
from anadil.training.config import TrainingSettings
from anadil.training.learner import Learner
from anadil.training.monitoring.report import Reporter
from anadil.training.prepare import CROWDED, CROWDED_SHARE, crowded
from anadil.training.run import Run, ValidationResult

LOOK_AT_STEP = 200
"""Steps of CTC after which a model that emits only blanks is reported."""

HOPELESS = 0.9
"""CER from which on causes are searched for: a model that has learned the commonest letters is below it."""
BEGINS_AFTER = 300
"""Steps of CTC, warm-up not counted, before a bad CER means anything."""

DEAD_VALIDATIONS, DEAD_STEPS, DEAD_FALL = 3, 1000, 0.02
"""Dead: only blanks in so many validations, over so many steps, while the loss fell by less than this share."""
RISEN = 1.3
"""A mean loss of this many times the lowest one of an epoch has risen."""

SLOWEST, FASTEST = 2.0, 24.0
"""Characters per second of a whole set, pauses included. Mboshi has 9.5, English 6.9; a script of syllables 3 to 5."""
OTHER_RATE = 1.7
"""Factor between the characters per second of training and validation; for Mboshi it is 1.02."""
N_MEASURED = 20  # recordings of a set whose bandwidth is measured

PERMUTATION_ROUNDS = 5
MOST_UTTERANCES = 300
REACH = 3  # letters to either side
MIN_CHARACTERS = 30
LEAST_CER = 0.5
LARGEST_SHARE = 0.5
"""A permutation must at least halve the errors: on hypotheses that are merely bad, none can."""


def watch(learner: Learner, run: Run, result: ValidationResult, report: Reporter) -> None:
    """After each validation: warn of every cause found for the first time. Raises AnadilError if the run is dead."""
    settings = learner.settings
    mean_loss = float(np.mean(run.losses))
    ctc_steps = run.step - settings.flat_start_steps - settings.warmup_steps
    only_ctc = run.step - len(run.losses) >= settings.flat_start_steps  # no step of this epoch was of the flat start
    cer = result.validation.cer
    if cer >= HOPELESS and ctc_steps >= BEGINS_AFTER:
        for name, cause in _causes(learner, run, result, mean_loss if only_ctc else None):
            if name not in run.warned:
                run.warned.append(name)
                report.warn(f"CER {cer:.1%} after {run.step:,} steps: {cause}")
    elif cer < HOPELESS and "labels" not in run.warned:
        permutation = _explain_permutation(result)
        if permutation:
            run.warned.append("labels")
            report.warn(permutation)
    if only_ctc:
        run.lowest_loss = min(run.lowest_loss, mean_loss)
    _stop_if_dead(learner, run, result, mean_loss, ctc_steps)


def _causes(learner: Learner, run: Run, result: ValidationResult, mean_loss: float | None) -> list[tuple[str, str]]:
    """Name and message of each likely cause; if there is none, one that says where to look."""
    data, settings = learner.data, learner.settings
    permutation = _explain_permutation(result)
    if permutation:
        return [("labels", permutation)]
    causes: list[tuple[str, str]] = []
    if mean_loss is not None and mean_loss > RISEN * run.lowest_loss:
        causes.append((
            "rate",
            f"the training loss rises, from {run.lowest_loss:.2f} to {mean_loss:.2f} nats per label: the learning rate "
            f"{settings.lr:g} is too high\n  next: training.lr={settings.lr / 4:g}, or --find-lr",
        ))  # fmt: skip
    n_crowded = crowded(data.train, data.acoustic.frame_s)
    if n_crowded > CROWDED_SHARE * len(data.train):
        causes.append((
            "crowded",
            f"{n_crowded:,} of {len(data.train):,} utterances need labels in more than {CROWDED:.0%} of the model's "
            "frames\n  next: subwords (tokenizer.kind=unigram), or a model with a smaller stride",
        ))  # fmt: skip
    if "sound" not in run.warned:  # the recordings are measured once
        sound = explain_rates(data.train, data.valid) or explain_bandwidth(data.train, data.valid)
        if sound:
            causes.append(("sound", sound))
    if not causes and not run.warned:
        causes.append((
            "unknown",
            f"training loss {np.mean(run.losses):.2f} nats per label; labels, stride, speaking rates and the course of the "
            "loss look right\n  next: listen to a few training recordings and read their texts, which probably do not "
            "belong together (anadil check finds strange speaking rates); or try --find-lr",
        ))  # fmt: skip
    return causes


def _stop_if_dead(learner: Learner, run: Run, result: ValidationResult, mean_loss: float, ctc_steps: int) -> None:
    if ctc_steps < 0 or any(hypothesis.strip() for hypothesis in result.hypotheses):
        run.dead_looks = 0
        return
    if run.dead_looks == 0:
        run.dead_since, run.dead_loss = run.step, mean_loss
    run.dead_looks += 1
    n_steps = run.step - run.dead_since
    if run.dead_looks < DEAD_VALIDATIONS or n_steps < DEAD_STEPS or not learner.settings.stop_on_collapse:
        return
    if mean_loss < (1 - DEAD_FALL) * run.dead_loss:  # slow, but not dead
        run.dead_looks, run.dead_since, run.dead_loss = 1, run.step, mean_loss
        return
    causes = f"; likely causes: {', '.join(run.warned)} (see the warnings above)" if run.warned else ""
    raise AnadilError(
        f"the run is dead: the model has emitted only blanks in {run.dead_looks} validations over {n_steps:,} steps, "
        f"and its loss stays at {mean_loss:.2f} nats per label{causes}\n"
        f"  next: --find-lr for another learning rate than {learner.settings.lr:g}, or a longer "
        "training.flat_start_steps, and anadil check on the texts;\n"
        "  --resume training.stop_on_collapse=false continues all the same"
    )


# Blanks and losses that are not finite: found in the training step itself.


def only_blanks(log_probs: Tensor, frame_counts: Tensor) -> bool:
    """Whether the best label of every valid frame of (batch, frames, labels + blank) is the blank, the last one."""
    blank = log_probs.shape[2] - 1
    best = log_probs.argmax(dim=2).cpu()
    valid = torch.arange(best.shape[1]).unsqueeze(0) < frame_counts.cpu().unsqueeze(1)
    return bool(((best == blank) | ~valid).all())


def explain_blanks(
    step: int, settings: TrainingSettings, labels_per_frame: float, loss: float, first_loss: float
) -> str:
    """Message for a model that emits only blanks; losses in nats per label."""
    if loss > 0.9 * first_loss and settings.lr < 1e-4:
        cause = f"the learning rate {settings.lr:g} is low: try training.lr={settings.lr * 10:g}"
    elif loss > 1.5 * first_loss:
        cause = f"the loss has grown: the learning rate {settings.lr:g} is high: try training.lr={settings.lr / 4:g}"
    elif labels_per_frame > 0.7:
        cause = (
            f"the text is dense, {labels_per_frame:.2f} labels per frame leave no room: use a smaller model stride "
            "or features.window_stride"
        )
    else:
        cause = (
            "most often this is the plateau where CTC starts, and it passes; if validation still shows CER 100 % a few "
            "epochs later, the texts probably do not belong to the recordings, or there are too few of them: listen to some"
        )
    return f"after {step} steps the model emits only blanks (loss {loss:.2f} nats per label): {cause}"


def explain_not_finite(
    loss: float, gradient_norm: float, step: int, settings: TrainingSettings, where: list[str]
) -> str:
    """Message for a loss or gradient that is NaN or infinite; `where` lists the batch's utterances."""
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


# The recordings: a wrong sample rate in their headers, or the bandwidth of a telephone in one set only.


def explain_rates(train: Sequence[Example], valid: Sequence[Example]) -> str | None:
    """Message if the characters per second of a set, or of one against the other, do not fit speech; else None."""
    rates = {
        name: sum(len(example.utterance.text or "") for example in examples)
        / sum(example.duration for example in examples)
        for name, examples in (("training", train), ("validation", valid))
        if examples
    }
    for name, rate in rates.items():
        if rate > 0 and not SLOWEST <= rate <= FASTEST:
            return (
                f"the {name} set has {rate:.1f} characters per second, but speech has {SLOWEST:g} to {FASTEST:g}: the "
                "files' headers state a wrong sample rate, or the texts are of other recordings\n"
                "  next: listen to one; if it sounds too fast or too slow, write the files again with their true rate"
            )
    low, high = min(rates.values()), max(rates.values())
    if low > 0 and high > OTHER_RATE * low:
        return (
            f"training and validation differ in speaking rate ({rates['training']:.1f} and {rates['validation']:.1f} "
            "characters per second): the files of one state a wrong sample rate, or its texts are of other recordings\n"
            "  next: listen to both"
        )
    return None


def explain_bandwidth(train: Sequence[Example], valid: Sequence[Example]) -> str | None:
    """Message if one set has nothing above 4 kHz and the other has; None otherwise, or without validation data."""
    narrow = {name: _narrow_share(examples) for name, examples in (("training", train), ("validation", valid))}
    if not valid or abs(narrow["training"] - narrow["validation"]) <= 0.5:
        return None
    poor, rich = sorted(narrow, key=narrow.__getitem__, reverse=True)
    return (
        f"the {poor} recordings hold nothing above 4 kHz, as if resampled from 8 kHz, the {rich} recordings do\n"
        "  next: augment with telephone, or features.sample_rate=8000 for both"
    )


def _narrow_share(examples: Sequence[Example]) -> float:
    """Share of `N_MEASURED` recordings that were once sampled at 8 kHz."""
    spread = examples[:: max(1, len(examples) // N_MEASURED)][:N_MEASURED]  # the first may all be of one speaker
    sounds = [
        sound
        for example in spread
        for sound in measure(
            example.utterance.audio_filepath,
            [(example.utterance.offset, example.duration)],
            [example.utterance.channel],
        )[1]
    ]
    return sum(sound.drop_db > DROP_DB and sound.cliff_db > CLIFF_DB for sound in sounds) / max(1, len(sounds))


# Labels in another order than the weights': hypotheses are right but for a permutation of the letters.


@dataclass(frozen=True)
class LabelPermutation:
    """`letters` maps each letter of the hypotheses to that of the references, if they differ. CERs are fractions."""

    letters: dict[str, str]
    cer: float
    cer_permuted: float


def find_label_permutation(references: Sequence[str], hypotheses: Sequence[str]) -> LabelPermutation | None:
    """Return the one-to-one map of letters that makes bad hypotheses right, or None.

    The first map pairs letters that stand at about the same place of their texts more often than by chance. The next
    ones pair those that a cheapest alignment of the mapped hypotheses puts together.
    """
    pairs = [pair for pair in zip(references, hypotheses, strict=True) if all(pair)][:MOST_UTTERANCES]
    n_characters = sum(len(reference) for reference, _ in pairs)
    if n_characters < MIN_CHARACTERS:
        return None
    cer = _n_errors(pairs) / n_characters
    if cer < LEAST_CER:
        return None
    best_cer, best_letters = cer, dict[str, str]()
    letters = _one_to_one(_score_by_place(pairs))
    for _ in range(PERMUTATION_ROUNDS):
        permuted = [(reference, _permute(hypothesis, letters)) for reference, hypothesis in pairs]
        permuted_cer = _n_errors(permuted) / n_characters
        if permuted_cer < best_cer:
            best_cer, best_letters = permuted_cer, letters
        letters = _one_to_one(_score_by_alignment(pairs, letters))
    moved = {decoded: written for decoded, written in best_letters.items() if decoded != written}
    return LabelPermutation(moved, cer, best_cer) if best_cer <= LARGEST_SHARE * cer and len(moved) > 1 else None


def _explain_permutation(result: ValidationResult) -> str | None:
    permutation = find_label_permutation(result.references, result.hypotheses)
    if permutation is None:
        return None
    shown = ", ".join(f"{decoded!r} for {written!r}" for decoded, written in list(permutation.letters.items())[:6])
    return (
        f"CER would be {permutation.cer_permuted:.1%} instead of {permutation.cer:.1%} if letters were exchanged one for "
        f"one ({shown}): the labels are in another order than those of the weights, or the validation texts are written "
        "differently from the training texts\n  next: compare tokenizer.labels with those of the model in init.from, and "
        "the alphabets of data.train and data.valid"
    )


def _n_errors(pairs: Sequence[tuple[str, str]]) -> int:
    return sum(Levenshtein.distance(reference, hypothesis) for reference, hypothesis in pairs)


def _permute(text: str, letters: dict[str, str]) -> str:
    return "".join(letters.get(letter, letter) for letter in text)


def _score_by_place(pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], float]:
    """By (decoded, written) letter: how much oftener than by chance they stand at about the same relative place."""
    together: dict[tuple[str, str], float] = defaultdict(float)
    decoded_total: dict[str, float] = defaultdict(float)
    written_total: dict[str, float] = defaultdict(float)
    for reference, hypothesis in pairs:
        for j, letter in enumerate(hypothesis):
            centre = (j + 0.5) / len(hypothesis) * len(reference) - 0.5
            for i in range(max(0, round(centre) - REACH), min(len(reference), round(centre) + REACH + 1)):
                weight = math.exp(-((i - centre) ** 2))
                together[letter, reference[i]] += weight
                decoded_total[letter] += weight
                written_total[reference[i]] += weight
    total = sum(decoded_total.values())
    return {
        (decoded, written): weight - decoded_total[decoded] * written_total[written] / total
        for (decoded, written), weight in together.items()
    }


def _score_by_alignment(pairs: Sequence[tuple[str, str]], letters: dict[str, str]) -> dict[tuple[str, str], float]:
    """By (decoded, written) letter: how often a cheapest alignment of the mapped hypotheses pairs them."""
    counts: Counter[tuple[str, str]] = Counter()
    for reference, hypothesis in pairs:
        for edit in Levenshtein.opcodes(reference, _permute(hypothesis, letters)):
            if edit.tag in ("equal", "replace"):
                decoded = hypothesis[edit.dest_start : edit.dest_end]
                written = reference[edit.src_start : edit.src_end]
                counts.update(zip(decoded, written, strict=False))
    return dict(counts)


def _one_to_one(scores: dict[tuple[str, str], float]) -> dict[str, str]:
    """The pairs of the highest scores, each letter once on either side."""
    chosen: dict[str, str] = {}
    taken: set[str] = set()
    for decoded, written in sorted(scores, key=lambda pair: (-scores[pair], pair)):
        if decoded not in chosen and written not in taken:
            chosen[decoded] = written
            taken.add(written)
    return chosen
