"""A model, or a file of hypotheses, evaluated on manifests: the rates, and what a reader of them must know."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from anadil.evaluation.analysis import Analysis
from anadil.evaluation.evaluate import EmptyReferences, Evaluation, evaluation_of
from anadil.evaluation.hypotheses import is_hypotheses, score_hypotheses
from anadil.evaluation.intervals import uncovered
from anadil.evaluation.leakage import Leakage, find_leakage, listed_training_manifests
from anadil.evaluation.noise import InNoise, in_noise
from anadil.evaluation.several import Part, Together, read_together
from anadil.manifest import read_manifests
from anadil.recognition.load import load
from anadil.recognition.noisy import NoiseMixer
from anadil.recognition.recognize_manifest import Results, evaluate_decoders
from anadil.recognition.recognizer import Change, unchanged
from anadil.text.rules import TextRules, TextSettings, describe, text_rules
from anadil.text.scoring import scoring_view
from anadil.training.monitoring.report import Reporter


@dataclass(frozen=True)
class Task:
    """What is evaluated, and how."""

    model: Path  # or a file of hypotheses
    manifests: tuple[Path, ...] = ()  # empty: the texts in the file of hypotheses
    scoring: str = "plain"
    empty_references: EmptyReferences = "count"
    with_lm: bool = True
    lang: str | None = None  # text rules for a file of hypotheses
    provider: str = "cpu"
    by: tuple[str, ...] = ()  # keys of the manifests to group by
    train: tuple[Path, ...] = ()  # training manifests; empty: those of the model's card
    noise: Path | None = None  # manifest of noise that is mixed in
    snrs_db: tuple[float, ...] = ()  # at these signal-to-noise ratios

    @property
    def from_file(self) -> bool:
        """Whether nothing is recognised: `model` is a file of hypotheses."""
        return is_hypotheses(self.model)

    @property
    def title(self) -> str:
        """What was evaluated on what."""
        return f"{self.model}" + (f" on {', '.join(path.name for path in self.manifests)}" if self.manifests else "")


@dataclass
class Run:
    """What was scored, in one way to decode or two; the main one is the last."""

    ways: list[tuple[str, Evaluation]]
    rules: TextRules
    normalize: Callable[[str], str]
    together: Together | None = None  # None: a file of hypotheses without a manifest
    lm: dict[str, Any] | None = None
    provider: str | None = None  # None: texts of a file
    unknown: dict[str, int] = field(
        default_factory=dict
    )  # how often the references hold each character without a label
    n_skipped: int = 0  # utterances with an empty reference
    in_noise: list[InNoise] = field(default_factory=list)  # in the order of `Task.snrs_db`
    noise_notes: list[str] = field(default_factory=list)  # what of the noise could not be used
    leakage: Leakage | None = None
    analyses: list[Analysis] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what a reader of the figures must know
    limits: str = ""  # what the intervals do not cover

    @property
    def all_notes(self) -> list[str]:
        """The notes, with the limits of the intervals."""
        return [*self.notes, self.limits] if self.limits else self.notes

    @cached_property
    def parts(self) -> list[tuple[str, list[Part]]]:
        """For each way to decode its name and the figures of each manifest; empty if there is only one manifest."""
        return self.parts_of(self.ways)

    def parts_of(self, ways: Sequence[tuple[str, Evaluation]]) -> list[tuple[str, list[Part]]]:
        """The same for other evaluations of the same utterances."""
        if self.together is None or len(self.together.lines) < 2:
            return []
        return [(name, self.together.parts(evaluation)) for name, evaluation in ways]


def run_task(task: Task, report: Reporter) -> Run:
    """Recognise and score, or score a file; all notes are warned of.

    Raises AnadilError naming each manifest that cannot be read, and each utterance that cannot be scored.
    """
    run = (_score_file if task.from_file else _recognise)(task, report)
    training_words, notes = _compare_with_training(task, run)
    run.analyses = [Analysis(name, found, run.rules, task.by, training_words) for name, found in run.ways]
    run.notes = [*_notes(run), *notes]
    for note in run.notes:
        report.warn(note)
    result = run.analyses[-1].evaluation
    run.limits = uncovered(len(result.scored), result.n_speakers)
    if run.limits:
        report.say(f"note: {run.limits}")
    return run


def _recognise(task: Task, report: Reporter) -> Run:
    together = read_together(task.manifests)
    recognizer = load(task.model, lm=task.with_lm, provider=task.provider, warn=report.warn)
    if task.provider != "cpu":
        report.say(f"provider: {recognizer.provider}")
    mixer = NoiseMixer(task.noise, recognizer.sample_rate) if task.noise else None
    view, lm = scoring_view(recognizer.rules, task.scoring), recognizer.lm

    def ways(stage: str, change: Change = unchanged) -> tuple[list[tuple[str, Evaluation]], Results]:
        results = evaluate_decoders(
            recognizer,
            together.utterances,
            lambda done, total: report.progress(stage, done, total),
            view,
            empty_references=task.empty_references,
            change=change,
        )
        greedy = [("greedy, no LM", results.greedy)] if results.greedy else []
        return [*greedy, (f"with LM: {lm.describe()}" if lm else "greedy, no LM", results.evaluation)], results

    clean, results = ways("recognising")
    run = Run(
        clean,
        recognizer.rules,
        lambda text: view(recognizer.rules.normalize(text)),
        together,
        lm.to_dict() if lm else None,
        recognizer.provider,
        dict(results.unknown.most_common()),
        results.n_skipped,
    )
    if mixer:
        for snr_db in task.snrs_db:
            noisy, _ = ways(f"recognising, {snr_db:g} dB", partial(mixer.mixed, snr_db=snr_db))
            run.in_noise.append(in_noise(snr_db, noisy, clean, run.parts_of(noisy)))
        run.noise_notes = mixer.notes()
    return run


def _score_file(task: Task, report: Reporter) -> Run:
    rules = text_rules(task.lang or "und", TextSettings())
    view = scoring_view(rules, task.scoring)

    def normalize(text: str) -> str:
        return rules.normalize(text) if task.lang else " ".join(unicodedata.normalize("NFC", text).split())

    together = read_together(task.manifests) if task.manifests else None
    references = None if together is None else together.utterances
    found = score_hypotheses(task.model, references, normalize, view, task.empty_references)
    ways = [("pred_text", evaluation_of(found.scored))]
    if found.greedy and task.with_lm:
        ways.insert(0, ("pred_text_greedy", evaluation_of(found.greedy)))
    elif found.greedy:
        ways = [("pred_text_greedy", evaluation_of(found.greedy))]
    return Run(ways, rules, lambda text: view(normalize(text)), together, n_skipped=found.n_skipped)


def _compare_with_training(task: Task, run: Run) -> tuple[set[str] | None, list[str]]:
    """Find what the test set shares with the training manifests; return the words of these, and notes."""
    paths: Sequence[Path] = task.train
    if not paths:
        paths = [] if task.from_file else listed_training_manifests(task.model)
        missing = [str(path) for path in paths if not path.is_file()]
        if missing:
            return None, [
                f"not checked whether test sentences or speakers are in the training data: {', '.join(missing)} (named by "
                "the model's card) is not here; --train MANIFEST names it"
            ]
    if not paths:
        return None, []
    training = read_manifests(paths)
    run.leakage = find_leakage(run.ways[-1][1].scored, training, run.normalize)
    return {word for one in training for word in run.normalize(one.text).split()}, run.leakage.warnings()


def _notes(run: Run) -> list[str]:
    """What a reader of the figures must know, besides what is shared with the training data."""
    result = run.ways[-1][1]
    notes = run.together.notes() if run.together else []
    n_pseudo = n_pseudo_labels(result)
    if n_pseudo:
        notes.append(
            f"{n_pseudo:,} of {len(result.scored):,} reference texts are pseudo labels, which a model wrote: the rates "
            "show how far the two models agree, not the errors of this one"
        )
    if run.unknown:
        listed = ", ".join(f"{describe(character)} x {count:,}" for character, count in list(run.unknown.items())[:10])
        notes.append(f"the references hold characters the model has no label for; they count as errors: {listed}")
    if result.n_empty:
        notes.append(
            f"{result.n_empty:,} of {len(result.scored):,} references are empty; the "
            f"{sum(one.words.insertions for one in result.scored if not one.words.reference):,} words recognised there count "
            "as insertions (--empty-references skip leaves them out)"
        )
    if run.n_skipped:
        notes.append(f"{run.n_skipped:,} utterances with an empty reference were skipped (--empty-references skip)")
    return notes + run.noise_notes


def n_pseudo_labels(evaluation: Evaluation) -> int:
    """How many of the references a model wrote."""
    return sum(one.utterance.is_pseudo_label for one in evaluation.scored)
