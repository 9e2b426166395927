"""Cross-validation: each speaker (or village, recorder, ...) is left out of one training and tested with its model."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from anadil.errors import AnadilError, Problem, summarize
from anadil.evaluation.evaluate import Evaluation, score
from anadil.manifest import Utterance
from anadil.splitting.links import find_links
from anadil.studies.trials import Outcome, Trial
from anadil.training.config import Config
from anadil.training.monitoring.report import Reporter

MAX_FOLDS = 10
"""With more values than this, several are left out together, unless the user says otherwise."""

_FIELDS = ("speaker", "language")


@dataclass(frozen=True)
class Fold:
    """What one training leaves out."""

    name: str
    values: frozenset[str]


def values_of(utterances: Sequence[Utterance], key: str) -> list[str]:
    """The value of `key` in each utterance: speaker, language, or any key of the manifest that is not Anadil's.

    Raises AnadilError naming the utterances without it, or if it is the same everywhere.
    """
    values, problems = [], []
    for one in utterances:
        value: Any = getattr(one, key) if key in _FIELDS else one.extra.get(key)
        if not isinstance(value, str | int) or value == "":
            problems.append(Problem(one.source or one.audio_filepath, f'no "{key}"'))
        values.append(str(value))
    if problems:
        keys = Counter(name for one in utterances for name in (*one.extra, *(["speaker"] if one.speaker else [])))
        listed = ", ".join(name for name, count in keys.most_common(8) if count == len(utterances)) or "none"
        step = f"write it into the manifests, or give --by another key; keys that all utterances have: {listed}"
        raise AnadilError(summarize(problems, "utterances", len(utterances), step))
    if len(set(values)) < 2:
        raise AnadilError(
            f'every utterance has the same "{key}" ({values[0] if values else "none"}): nothing can be left out\n'
            "  next: give --by another key, or measure with anadil evaluate"
        )
    return values


def folds_of(utterances: Sequence[Utterance], values: Sequence[str], n_folds: int | None = None) -> list[Fold]:
    """A fold for each value, sorted by name; or `n_folds` of about the same duration, if there are more values.

    Each value goes, longest first, to the fold that has least speech so far. Durations must be known.
    """
    seconds: dict[str, float] = defaultdict(float)
    for one, value in zip(utterances, values, strict=True):
        seconds[value] += one.duration or 0.0
    if len(seconds) <= (n_folds or MAX_FOLDS):
        names = Counter(map(_folder, seconds))
        return [
            Fold(_folder(value) + f"-{number}" * (names[_folder(value)] > 1), frozenset([value]))
            for number, value in enumerate(sorted(seconds), start=1)
        ]
    groups: list[tuple[float, list[str]]] = [(0.0, []) for _ in range(n_folds or MAX_FOLDS)]
    for value in sorted(seconds, key=lambda value: (-seconds[value], value)):
        lightest = min(range(len(groups)), key=lambda number: groups[number][0])
        total, members = groups[lightest]
        groups[lightest] = (total + seconds[value], [*members, value])
    return [Fold(f"fold-{number}", frozenset(members)) for number, (_, members) in enumerate(groups, start=1)]


def crossval_trials(
    config: Config,
    data: tuple[Sequence[Utterance], Sequence[Utterance]],
    report: Reporter,
    by: str = "speaker",
    n_folds: int | None = None,
    new_texts: bool = False,
) -> list[Trial]:
    """A trial for each fold: its utterances, of training and validation data, are the test; the others keep their part.

    `data` is what `read_data` returns. `new_texts`: sentences of the test are left out of the training too. Utterances
    with pseudo labels are never tested. Raises AnadilError if a fold leaves nothing to train on or to validate with.
    """
    train, valid = data
    both = [*train, *valid]
    values = values_of(both, by)
    sentences = find_links(both, config.language).sentence
    trials = []
    for fold in folds_of(both, values, n_folds):
        if len(fold.values) > 1:
            report.say(f"{fold.name} leaves out: {', '.join(sorted(fold.values))}")
        out = [value in fold.values for value in values]
        test = [one for one, left_out in zip(both, out, strict=True) if left_out and not one.is_pseudo_label]
        tested = {sentences[i] for i, left_out in enumerate(out) if left_out and not both[i].is_pseudo_label}
        kept = [i for i, left_out in enumerate(out) if not left_out]
        shared = [i for i in kept if i < len(train) and sentences[i] in tested]
        if new_texts:
            kept = [i for i in kept if sentences[i] not in tested]
        trial = Trial(
            fold.name,
            config,
            [both[i] for i in kept if i < len(train)],
            [both[i] for i in kept if i >= len(train)],
            test,
        )
        _require_parts(trial, bool(valid), by)
        if shared:
            what = "left out" if new_texts else "kept: new sentences are harder (--new-texts leaves them out)"
            report.warn(f"{fold.name}: {len(shared):,} training utterances have the text of a test utterance; {what}")
        trials.append(trial)
    return trials


def pooled(outcomes: Sequence[Outcome]) -> tuple[Evaluation, Evaluation | None]:
    """All folds scored as one test set: (as the models decode, greedy if all of them have a language model too)."""
    greedy = [one.greedy for one in outcomes if one.greedy is not None]
    return (
        _together(one.evaluation for one in outcomes),
        _together(greedy) if len(greedy) == len(outcomes) else None,
    )


def _together(evaluations: Iterable[Evaluation]) -> Evaluation:
    scored = [one for evaluation in evaluations for one in evaluation.scored]
    return score(
        [one.utterance for one in scored], [one.reference for one in scored], [one.hypothesis for one in scored]
    )


def _require_parts(trial: Trial, wants_valid: bool, by: str) -> None:
    for what, utterances in (("test", trial.test), ("training", trial.train)):
        if not utterances:
            raise AnadilError(
                f"{trial.name}: no {what} utterance is left when it is left out\n  next: give --by another key, or more data"
            )
    if wants_valid and not trial.valid:
        raise AnadilError(
            f"{trial.name}: all of data.valid is of this {by}, so nothing is left to choose the checkpoint with\n"
            f"  next: put utterances of another {by} into data.valid (anadil split), or leave data.valid out (data.valid=[])"
        )


def _folder(value: str) -> str:
    """A value as the name of a folder: letters, digits, dots, dashes and underscores; the rest becomes a dash."""
    name = "".join(c if c.isalnum() or c in "._-" else "-" for c in value).strip(".")[:80]
    return name or "-"
