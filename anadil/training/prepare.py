"""From a config to examples that can be trained on: read manifests, resolve labels and model, check every utterance."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from anadil.data.augment.chain import Augmenter
from anadil.data.batches import plan_languages
from anadil.data.examples import Checked, Example, check, with_weights
from anadil.data.pauses import NOT_MEASURED, pause_limits
from anadil.decoding.ctc import min_ctc_frames
from anadil.errors import AnadilError, Problem, summarize
from anadil.files import whole_file
from anadil.manifest import Utterance, read_audio, read_manifests, refuse_pseudo_labels
from anadil.models.acoustic import AcousticModel, empty_model
from anadil.models.quartznet import QuartzNet
from anadil.models.summary import count_parameters
from anadil.text.changes import changes
from anadil.text.rules import SUBWORDS, RulesByLanguage, TextRules, describe_rules, text_rules
from anadil.text.subwords import set_sampling_seed
from anadil.text.tokenizer import make_tokenizer, read_tokenizer
from anadil.training.config import Config
from anadil.training.monitoring.memory import available_bytes
from anadil.training.monitoring.report import Reporter
from anadil.training.precision import chosen_precision
from anadil.training.transfer.source import Source, read_source, resolve_config
from anadil.training.transfer.weights import Transferred, read_saved, report_transfer, transfer

N_CLIPS = 200
"""So many training utterances are decoded to measure their pauses."""

CROWDED, CROWDED_SHARE = 0.8, 0.05
"""Warn if more than 5 % of the utterances need labels in more than 80 % of their frames: then CTC has no room for blanks."""


@dataclass(frozen=True)
class Resolved:
    """What training with a config uses, before any audio is read."""

    config: Config  # explicit labels, text rules saved, sections left out taken from the source
    rules: RulesByLanguage
    acoustic: AcousticModel
    labels_from_training: bool  # the labels are the characters or subwords of the training text
    source: Source | None = None  # with `init`
    weights: dict[str, Tensor] = field(default_factory=dict)  # of the source; empty if the run is resumed


@dataclass(frozen=True)
class Prepared:
    """`train` and `valid` hold what passed the checks; `augmenter` is for `train`."""

    config: Config  # explicit labels
    rules_by_language: RulesByLanguage
    acoustic: AcousticModel
    train: list[Example]
    valid: list[Example]
    augmenter: Augmenter
    start: Transferred | None = None  # with `init`

    @property
    def rules(self) -> TextRules:
        """Rules of the config's language; the labels of all languages are the same."""
        return self.rules_by_language.default

    @property
    def hours(self) -> float:
        """Of training speech."""
        return sum(example.duration for example in self.train) / 3600

    def language(self, example: Example) -> str:
        return example.utterance.language or self.config.language

    def reference(self, example: Example) -> str:
        """The utterance's text, normalised by the rules of its language."""
        return self.rules_by_language.of(example.utterance.language).normalize(example.utterance.text)


def resolve(
    config: Config,
    train: Sequence[Utterance],
    others: Sequence[Utterance],
    report: Reporter,
    out: Path | None = None,
    resumed: Transferred | None = None,
) -> Resolved:
    """Labels, text rules of each language, source model and acoustic model, as training with `config` uses them.

    `others` are utterances that are not trained on: their languages get rules too. `resumed` is what a run that goes on
    has saved of its source. Raises AnadilError if the config contradicts its source or the data.
    """
    source, weights = resumed.source if resumed else None, dict[str, Tensor]()
    if config.init is not None:
        if source is None:
            source, weights = read_source(config.init, out)
        config = resolve_config(config, source)
    languages = _languages(config, train, others)
    from_training = config.tokenizer.labels == "auto" and config.tokenizer.path is None
    without_labels = _rules(config, languages, (), b"")
    kept = source.kept_subwords(config) if source else b""
    config, subwords = _resolve_tokenizer(config, grouped(without_labels, train), report, kept)
    labels = config.tokenizer.labels
    assert not isinstance(labels, str)
    rules = _rules(config, languages, labels, subwords)
    report.say(describe_rules(rules.default, config.text))
    config = config.with_rules(rules.default)
    _refuse_too_large(config, len(labels))
    acoustic = AcousticModel(config.features, config.model, len(labels))
    if isinstance(acoustic.network, QuartzNet):
        acoustic.network.encoder.keeps_bf16 = chosen_precision(config) == "bf16-activations"
    return Resolved(config, rules, acoustic, from_training, source, weights)


def _refuse_too_large(config: Config, n_labels: int) -> None:
    """Raise AnadilError if the weights alone do not fit into the memory that is free."""
    n_parameters = count_parameters(empty_model(config.features, config.model, n_labels))
    n_bytes, free = 4 * n_parameters, available_bytes()
    if free is not None and n_bytes > free:
        raise AnadilError(
            f"model: it would have {n_parameters:,} parameters, {n_bytes / 1e9:.1f} GB; {free / 1e9:.1f} GB of memory are "
            "free\n  next: a smaller model (section model)"
        )


def prepare(config: Config, out: Path, report: Reporter, resume: bool = False, writes: bool = True) -> Prepared:
    """Resolve labels and model, and check the data; with `init`, weights come from its source, or are left to a checkpoint.

    `writes`: a list of what cannot be used, into `out`. Raises AnadilError if there is such, unless `data.skip_bad`
    says to train without.
    """
    start = read_saved(out) if config.init is not None and resume else None
    train = read_manifests(config.data.train)
    valid = read_manifests(config.data.valid)
    refuse_pseudo_labels(valid, "data.valid")
    resolved = resolve(config, train, valid, report, out, start)
    config, acoustic = resolved.config, resolved.acoustic
    if config.init is not None and resolved.source is not None and start is None:
        labels = resolved.rules.default.labels
        start = transfer(acoustic.network, labels, resolved.source, resolved.weights, config.init, config.training.seed)
        report_transfer(start, acoustic.network, report)
    for rules, utterances in grouped(resolved.rules, train + valid):
        _report_changes(rules, utterances, report)
    checked = _check(resolved, {"training": train, "validation": valid}, report)
    _resolve_problems(checked, config.data.skip_bad, out if writes else None, report)
    if not checked[0].examples:
        raise AnadilError(
            "no training utterance is left\n  next: check data.train, data.min_duration and data.max_duration"
        )
    report.say(f"training {checked[0].hours:.2f} h ({len(checked[0].examples):,} utterances), "
               f"validation {checked[1].hours:.2f} h ({len(checked[1].examples):,})")  # fmt: skip
    _report_weights(checked[0].examples, report)
    _compare_rates(checked[0], acoustic.frame_s, report)
    augmenter = make_augmenter(config, checked[0].examples, acoustic)
    config = _with_pauses(config, checked[0].examples, acoustic.sample_rate)
    return Prepared(config, resolved.rules, acoustic, checked[0].examples, checked[1].examples, augmenter, start)


def _with_pauses(config: Config, examples: Sequence[Example], sample_rate: int) -> Config:
    """The config with the longest pause and the margin, measured in N_CLIPS of the training utterances if not given."""
    data = config.data
    if data.longest_pause is not None and data.pause_margin is not None:
        return config
    some = [example.utterance for example in examples[:: max(1, len(examples) // N_CLIPS)]]

    def clips() -> Iterator[np.ndarray]:
        for one in some:
            with contextlib.suppress(AnadilError):  # training reports damaged audio when it reaches it
                yield read_audio(one, sample_rate)

    found = pause_limits(clips(), sample_rate) or NOT_MEASURED
    given = (data.longest_pause, data.pause_margin)
    longest, margin = (
        own if own is not None else of for own, of in zip(given, (found.longest_s, found.margin_s), strict=True)
    )
    return config.model_copy(
        update={"data": data.model_copy(update={"longest_pause": longest, "pause_margin": margin})}
    )


def _languages(config: Config, train: Sequence[Utterance], others: Sequence[Utterance]) -> list[str]:
    """Every language of the data, sorted, if the training data hold several; an utterance without one has the config's.

    Empty otherwise: then all texts follow the rules of the config's language, whatever a manifest calls it. Raises
    AnadilError if `data.language_temperature` has nothing to weigh.
    """
    languages = {utterance.language or config.language for utterance in train}
    if len(languages) > 1:
        return sorted(languages | {utterance.language or config.language for utterance in others})
    if config.data.language_temperature is not None:
        raise AnadilError(
            f"data.language_temperature weighs languages, but the training data hold one: {', '.join(languages)}\n"
            '  next: give each utterance its "language" in the manifests, or omit the key'
        )
    return []


def _rules(config: Config, languages: Sequence[str], labels: Sequence[str], subwords: bytes) -> RulesByLanguage:
    return RulesByLanguage(
        text_rules(config.language, config.text, labels, subwords),
        {language: text_rules(language, config.text, labels, subwords) for language in languages},
    )


def grouped(rules: RulesByLanguage, utterances: Sequence[Utterance]) -> list[tuple[TextRules, list[Utterance]]]:
    """Utterances with the rules they follow, one group per language in the order of their names."""
    groups: dict[str, list[Utterance]] = {language: [] for language in rules.by_language}
    for utterance in utterances:
        groups.setdefault(rules.of(utterance.language).language, []).append(utterance)
    return [(rules.of(language), group) for language, group in groups.items()]


def _check(resolved: Resolved, named: dict[str, list[Utterance]], report: Reporter) -> list[Checked]:
    """Check training and validation utterances; those of training get their weights."""
    config, acoustic = resolved.config, resolved.acoustic
    checked = []
    for name, utterances in named.items():
        parts = [
            check(
                group,
                rules,
                acoustic.sample_rate,
                acoustic.frame_count,
                config.data.min_duration,
                config.data.max_duration,
                _progress(report, name),
            )
            for rules, group in grouped(resolved.rules, utterances)
        ]
        together = _together(parts)
        checked.append(with_weights(together, config.data.pseudo_label_weight) if name == "training" else together)
        for note, count in checked[-1].notes.items():
            report.warn(f"{name}: {count:,} x {note}")
    return checked


def _together(parts: list[Checked]) -> Checked:
    return Checked(
        [example for part in parts for example in part.examples],
        [problem for part in parts for problem in part.problems],
        sum((part.notes for part in parts), Counter()),
        sum(part.total for part in parts),
    )


def make_augmenter(config: Config, examples: Sequence[Example], acoustic: AcousticModel) -> Augmenter:
    """Return the waveform augmentation of `config`. Raises AnadilError if a recording that it needs cannot be used."""

    def may_last(indices: Sequence[int], seconds: float) -> bool:
        """Whether utterances together may last so long after a change: CTC needs its frames, training its limits."""
        room = config.training.batch_seconds  # auto is at least the longest utterance
        longest = config.data.max_duration if room == "auto" else min(config.data.max_duration, room)
        n_frames = acoustic.frame_count(round(seconds * acoustic.sample_rate))
        labels = [label for index in indices for label in (*examples[index].labels, *boundary)]
        return config.data.min_duration <= seconds <= longest and n_frames >= min_ctc_frames(labels)

    durations = [example.duration for example in examples]
    labels = config.tokenizer.labels
    boundary = [labels.index(" ")] if config.tokenizer.kind not in SUBWORDS and " " in labels else []
    alike = [f"{example.utterance.language or ''} {example.utterance.speaker or ''}" for example in examples]
    return Augmenter(config.augment, acoustic.sample_rate, config.training.seed, durations, may_last, alike, boundary)


def plan_steps(data: Prepared, epoch: int) -> list[list[int]]:
    """Indices of the training examples in each batch of an epoch, one batch per step."""
    languages = [data.language(example) for example in data.train]
    settings, temperature = data.config.training, data.config.data.language_temperature
    return plan_languages(
        data.augmenter.durations(epoch), languages, temperature, settings.batch_limit, settings.seed, epoch
    )


def sampled_labels(data: Prepared, epoch: int) -> list[Sequence[int]] | None:
    """Sample subwords of every training text for an epoch; None if the config does not ask for it.

    A sample with more labels than the audio has frames is not used: the text keeps its likeliest subwords.
    """
    alpha = data.config.tokenizer.sampling
    if not alpha:
        return None
    set_sampling_seed(data.config.training.seed + epoch)
    found: list[Sequence[int]] = []
    for example, duration in zip(data.train, data.augmenter.durations(epoch), strict=True):
        drawn = data.rules.sample(data.reference(example), alpha)
        n_frames = data.acoustic.frame_count(round(duration * data.acoustic.sample_rate))
        found.append(drawn if min_ctc_frames(drawn) <= n_frames else example.labels)
    return found


def _resolve_tokenizer(
    config: Config, groups: Sequence[tuple[TextRules, Sequence[Utterance]]], report: Reporter, kept: bytes
) -> tuple[Config, bytes]:
    """The config with explicit labels, and the SentencePiece model if they are subwords.

    Labels are given, or come from a tokenizer folder (`tokenizer.path`), or are made of the training text (`groups`,
    each with the rules of its language); `kept` is the source's SentencePiece model.
    """
    settings = config.tokenizer
    if kept:
        return config, kept
    if settings.path is not None:
        kind, labels, subwords = read_tokenizer(Path(settings.path))
        report.say(f"labels from {settings.path}: {len(labels)}, {kind}")
        return config.with_labels(labels, kind), subwords
    if settings.labels != "auto":
        if settings.kind in SUBWORDS:
            raise AnadilError(
                f"tokenizer.kind {settings.kind} makes its own labels\n"
                "  next: omit tokenizer.labels, or set tokenizer.path to what anadil tokenizer wrote"
            )
        return config, b""
    texts = [(rules, [utterance.text for utterance in utterances]) for rules, utterances in groups]
    made = make_tokenizer(texts, settings.kind, settings.size)
    if not made.labels:
        raise AnadilError('tokenizer.labels: auto found no text in data.train\n  next: check the manifests\' "text"')
    what = {"char": "characters", "grapheme": "grapheme clusters", "units": "letters"}.get(made.kind, "subwords")
    report.say(
        f"labels from the training text: {len(made.labels)} {what}, rarest last\n  "
        + "  ".join(f"{label}:{count:,}" for label, count in made.counts.most_common())
    )
    for warning in made.warnings:
        report.warn(f"labels: {warning}")
    return config.with_labels(made.labels), made.subwords


def _report_weights(examples: Sequence[Example], report: Reporter) -> None:
    pseudo = [example for example in examples if example.utterance.is_pseudo_label]
    if pseudo:
        hours = sum(example.duration for example in pseudo) / 3600
        report.say(f"{hours:.2f} h of these ({len(pseudo):,} utterances) have pseudo labels")
    weights = sorted({example.weight for example in examples})
    if weights[-1] != 1 or weights[0] != 1:
        report.say(f"weights in the loss from {weights[0]:g} to {weights[-1]:g}")


def _compare_rates(checked: Checked, frame_s: float, report: Reporter) -> None:
    """Report labels and frames per second; warn if many utterances have nearly as many labels as frames."""
    n_labels = sum(len(example.labels) for example in checked.examples)
    rate = n_labels / (3600 * checked.hours)
    report.say(f"{rate:.1f} labels per second, {1 / frame_s:.1f} model frames per second")
    n_crowded = crowded(checked.examples, frame_s)
    if n_crowded > CROWDED_SHARE * len(checked.examples):
        report.warn(
            f"{n_crowded:,} of {len(checked.examples):,} utterances have labels in more than {CROWDED:.0%} of the model's "
            "frames, which trains badly\n  next: subwords (tokenizer.kind=unigram), or a model with a smaller stride"
        )


def crowded(examples: Sequence[Example], frame_s: float) -> int:
    """Count the utterances that need labels in more than `CROWDED` of the model's frames."""
    return sum(min_ctc_frames(example.labels) > CROWDED * example.duration / frame_s for example in examples)


def _report_changes(rules: TextRules, utterances: list[Utterance], report: Reporter) -> None:
    found = changes(rules, (utterance.text for utterance in utterances))
    touched = found.touched()
    if touched:
        listed = "  ".join(f"{character}:{count:,}" for character, count in touched.most_common())
        report.say(f"characters dropped or mapped by the text rules: {listed}")
    if found.said:
        listed = "  ".join(f"{written}: {words}" for (written, words), _ in found.said.most_common(5))
        report.say(f"{found.said.total():,} numbers, signs and abbreviations are spelled out, such as  {listed}")
    if found.mixed:
        report.warn(f"words with letters of two scripts: {', '.join(word for word, _ in found.mixed.most_common(10))}")


def _progress(report: Reporter, name: str) -> Callable[[int, int], None]:
    return lambda done, total: report.progress(f"checking {name} audio", done, total)


def _resolve_problems(checked: list[Checked], skip: bool, out: Path | None, report: Reporter) -> None:
    problems = [problem for result in checked for problem in result.problems]
    listed = "anadil check lists all" if out is None else f"all are in {_list_problems(problems, out)}"
    if not problems:
        return
    total = sum(result.total for result in checked)
    if not skip:
        next_step = f"mend them ({listed}), or train without them: data.skip_bad=true"
        raise AnadilError(summarize(problems, "utterances", total, next_step))
    report.warn(summarize(problems, "utterances", total, f"training without them (data.skip_bad); {listed}"))


def _list_problems(problems: Sequence[Problem], out: Path) -> Path:
    listing = out / "problems.jsonl"
    if not problems:
        if listing.is_file():  # of an earlier try
            listing.unlink()
        return listing
    with whole_file(listing) as beside, open(beside, "w", encoding="utf-8") as file:
        for problem in problems:
            file.write(json.dumps({"where": problem.where, "what": problem.what}, ensure_ascii=False) + "\n")
    return listing
