"""Trials: trainings with one config on parts of its data, each tested on utterances that it has not seen.

A trial is a folder: train.jsonl, valid.jsonl, test.jsonl, config.yaml, run/ as `anadil train` writes it, and at the end
hypotheses.jsonl. So an interrupted study goes on where it stopped, and each trial can be looked at by itself.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from anadil.errors import AnadilError, Problem, summarize
from anadil.evaluation.evaluate import Evaluation, score, write_hypotheses
from anadil.files import whole_file
from anadil.manifest import Utterance, measured, probe_all, read_manifest, read_manifests, write_manifest
from anadil.recognition.load import load
from anadil.recognition.recognize_manifest import evaluate_decoders
from anadil.settings import dump
from anadil.text.rules import SUBWORDS
from anadil.training.checkpoint import RunCompleteError
from anadil.training.config import Config
from anadil.training.monitoring.report import Reporter, Silent
from anadil.training.prepare import resolve
from anadil.training.run import CHECKPOINTS
from anadil.training.train import train

TRAIN, VALID, TEST, CONFIG, RUN, HYPOTHESES = (
    "train.jsonl", "valid.jsonl", "test.jsonl", "config.yaml", "run", "hypotheses.jsonl",
)  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """One training. `name` is its folder's; `config` is that of the whole study, with this trial's seed."""

    name: str
    config: Config
    train: Sequence[Utterance]
    valid: Sequence[Utterance]
    test: Sequence[Utterance]

    @property
    def hours(self) -> float:
        """Of training speech; the durations are known."""
        return hours_of(self.train)


@dataclass(frozen=True)
class Outcome:
    """A trial's errors on its test utterances: with the language model, if the trial's model has one, and without."""

    trial: Trial
    evaluation: Evaluation
    greedy: Evaluation | None  # None: the model has no language model, and `evaluation` is greedy


@dataclass(frozen=True)
class Outcomes:
    """What the trials of a study came to, in their order; a trial that failed has no outcome."""

    done: Sequence[Outcome]
    failed: Sequence[Problem]  # where: the trial's name


def read_data(config: Config, report: Reporter) -> tuple[list[Utterance], list[Utterance]]:
    """The utterances of `data.train` and `data.valid`, with their durations.

    Raises AnadilError naming those whose audio cannot be read; with `data.skip_bad` a warning names them.
    """
    train, valid = read_manifests(config.data.train), read_manifests(config.data.valid)
    infos = probe_all(train + valid)
    problems: list[Problem] = []

    def known(utterances: Sequence[Utterance]) -> list[Utterance]:
        found = []
        for one in utterances:
            try:
                found.append(measured(one, infos[one.audio_filepath]))
            except AnadilError as error:
                problems.append(Problem(one.source or one.audio_filepath, str(error)))
        return found

    found = known(train), known(valid)
    if problems:
        total = len(train) + len(valid)
        if not config.data.skip_bad:
            step = "mend them (anadil check lists all), or go on without them: data.skip_bad=true"
            raise AnadilError(summarize(problems, "utterances", total, step))
        report.warn(summarize(problems, "utterances", total, "going on without them (data.skip_bad)"))
    return found


def with_fixed_labels(config: Config, train: Sequence[Utterance], valid: Sequence[Utterance]) -> Config:
    """The config with the labels of the whole training text, so that all trials have the same.

    Subwords are left to each trial: they are made of its own text. Raises AnadilError as `resolve` does.
    """
    settings = config.tokenizer
    if settings.kind in SUBWORDS or settings.labels != "auto" or settings.path is not None or config.init is not None:
        return config
    labels = resolve(config, train, valid, Silent()).config.tokenizer.labels
    assert not isinstance(labels, str)
    return config.with_labels(labels)


def refuse_several_devices(config: Config) -> None:
    """Raise AnadilError if a training would start processes of its own."""
    if config.training.devices > 1:
        raise AnadilError(
            f"training.devices is {config.training.devices}: a study trains on one device, one trial after the other\n"
            "  next: training.devices=1"
        )


def run_trials(
    trials: Sequence[Trial], out: Path, report: Reporter, resume: bool = False, force: bool = False
) -> Outcomes:
    """Train and test each trial in `out`/NAME. A trial that fails is reported, and the others go on.

    With `resume`, what is done is kept: trials with hypotheses are read back, and a training goes on. Raises
    AnadilError if a trial's folder is there and neither `resume` nor `force` is given, or if it was made with another
    config or other data; KeyboardInterrupt after Ctrl-C, with all kept.
    """
    for trial in trials:
        _refuse(trial, out / trial.name, resume, force)
    done, failed = [], []
    study = _StudyReporter(report, [_weight(trial) for trial in trials])
    for number, trial in enumerate(trials, start=1):
        folder = out / trial.name
        left = study.begin(trial.name)
        report.say(f"\ntrial {number} of {len(trials)}: {trial.name}, {trial.hours:.2f} h of speech ({folder}){left}")
        try:
            if not (folder / HYPOTHESES).is_file():
                _train_and_test(trial, folder, study, resume)
                study.count_trained()
            done.append(_read(trial, folder))
        except AnadilError as error:
            report.warn(f"trial {trial.name} failed: {error}")
            failed.append(Problem(trial.name, str(error)))
    study.end()
    return Outcomes(done, failed)


def hours_of(utterances: Sequence[Utterance]) -> float:
    """Sum of durations, which must be known."""
    return sum(one.duration or 0.0 for one in utterances) / 3600


def _weight(trial: Trial) -> float:
    """How long a trial takes, in relation to the others: its budget in minutes, or hours of speech times epochs."""
    settings = trial.config.training
    return settings.max_minutes or trial.hours * settings.epoch_limit or 1.0


class _StudyReporter:
    """Passes everything on, and adds the progress of the whole study, whose trials have these weights."""

    def __init__(self, report: Reporter, weights: Sequence[float]) -> None:
        self._report, self._weights = report, weights
        self._current, self._name, self._began = -1, "", 0.0
        self._trained_s, self._trained_weight = 0.0, 0.0
        self.say, self.warn, self.table = report.say, report.warn, report.table

    def begin(self, name: str) -> str:
        """The next trial begins. Returns the time that is left, if trials of this call tell, as the end of a sentence."""
        self._current, self._name, self._began = self._current + 1, name, time.monotonic()
        self._show(0.0)
        if not self._trained_weight:
            return ""
        left_s = self._trained_s / self._trained_weight * sum(self._weights[self._current :])
        return f"; about {max(1, round(left_s / 60))} min left for all"

    def count_trained(self) -> None:
        """The current trial was trained and tested in this call."""
        self._trained_s += time.monotonic() - self._began
        self._trained_weight += self._weights[self._current]

    def progress(self, stage: str, done: float, total: float, note: str = "") -> None:
        self._report.progress(stage, done, total, note)
        if stage == "training":
            self._show(done / total)

    def end(self) -> None:
        total = sum(self._weights)
        self._report.progress("trials", total, total)

    def _show(self, share: float) -> None:
        done = sum(self._weights[: self._current]) + share * self._weights[self._current]
        # below the total: the last training's end is not the end of its test
        self._report.progress("trials", 0.999 * done, sum(self._weights), self._name)


def _refuse(trial: Trial, folder: Path, resume: bool, force: bool) -> None:
    """Raise AnadilError if the folder may be neither used nor replaced; delete what is to be replaced."""
    if force and not resume:
        shutil.rmtree(folder, ignore_errors=True)
    if not (folder / CONFIG).is_file():
        return
    if not resume:
        raise AnadilError(
            f"{folder} holds a trial already\n  next: add --resume to go on, --force to start anew, or choose another --out"
        )
    wanted = _config(trial, folder)
    if (folder / CONFIG).read_text(encoding="utf-8") != dump(wanted) or any(
        _texts(read_manifest(folder / name)) != _texts(utterances)
        for name, utterances in ((TRAIN, trial.train), (TEST, trial.test))
    ):
        raise AnadilError(
            f"{folder} was made with another config or other data\n"
            "  next: the config and data of the first time with --resume, --force to start anew, or another --out"
        )


def _texts(utterances: Sequence[Utterance]) -> list[tuple[str, float, str]]:
    return [(Path(one.audio_filepath).name, one.offset, one.text) for one in utterances]


def _config(trial: Trial, folder: Path) -> Config:
    valid = [str(folder / VALID)] if trial.valid else []
    data = trial.config.data.model_copy(update={"train": [str(folder / TRAIN)], "valid": valid})
    return trial.config.model_copy(update={"data": data})


def _train_and_test(trial: Trial, folder: Path, report: Reporter, resume: bool) -> None:
    config, run = _config(trial, folder), folder / RUN
    for name, utterances in ((TRAIN, trial.train), (VALID, trial.valid), (TEST, trial.test)):
        if utterances:
            write_manifest(folder / name, utterances)
    with whole_file(folder / CONFIG) as beside:
        beside.write_text(dump(config), encoding="utf-8")
    begun = resume and (run / CHECKPOINTS).is_dir()
    try:
        train(config, run, report, force=not begun, resume=begun)
    except RunCompleteError:  # the program was stopped between the training and the test
        report.say(f"the training of {trial.name} is complete already; it is tested as it is")
    model = run / "best" if (run / "best").is_dir() else run / "last"
    results = evaluate_decoders(load(model), trial.test, lambda done, total: report.progress("testing", done, total))
    write_hypotheses(folder / HYPOTHESES, results.evaluation.scored, results.greedy.scored if results.greedy else None)


def _read(trial: Trial, folder: Path) -> Outcome:
    """Score the hypotheses of a trial that is done, as they were written."""
    lines = read_manifest(folder / HYPOTHESES)
    with_lm, greedy = ([line.extra.get(key) for line in lines] for key in ("pred_text", "pred_text_greedy"))
    references = [line.text for line in lines]
    if not all(isinstance(text, str) for text in with_lm):
        raise AnadilError(
            f"{folder / HYPOTHESES}: not every line has pred_text\n  next: delete the file, then --resume"
        )
    has_greedy = all(isinstance(text, str) for text in greedy)
    return Outcome(
        trial,
        score(lines, references, [str(text) for text in with_lm]),
        score(lines, references, [str(text) for text in greedy]) if has_greedy else None,
    )
