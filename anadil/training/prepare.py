"""From a config to examples that can be trained on: read manifests, settle the labels, check every utterance."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anadil.data.augment.chain import Augmenter
from anadil.data.batches import plan_languages
from anadil.data.examples import Checked, Example, check, min_ctc_frames, weighed
from anadil.errors import AnadilError, Problem, summarize
from anadil.files import whole_file
from anadil.manifest import Utterance, read_manifests, refuse_pseudo_labels
from anadil.models.acoustic import AcousticModel
from anadil.text.changes import changes
from anadil.text.rules import SUBWORDS, TextRules, describe_rules, text_rules
from anadil.text.subwords import set_sampling_seed
from anadil.text.tokenizer import make_tokenizer, read_tokenizer
from anadil.training.config import Config
from anadil.training.monitoring.report import Reporter
from anadil.training.transfer.source import read_source, resolve
from anadil.training.transfer.weights import Transferred, read_saved, tell, transfer

# One training set in several languages: each text follows the rules of its own.


def languages_of(config: Config, train: Sequence[Utterance], valid: Sequence[Utterance] = ()) -> list[str]:
    """Every language of the data, sorted, if the training data hold several; an utterance without one has the config's.

    Empty otherwise: then the config's language counts, whatever a manifest calls it. Raises AnadilError if
    `data.language_temperature` has nothing to weigh.
    """
    spoken = {utterance.language or config.language for utterance in train}
    if len(spoken) > 1:
        return sorted(spoken | {utterance.language or config.language for utterance in valid})
    if config.data.language_temperature is not None:
        raise AnadilError(
            f"data.language_temperature weighs languages, but the training data hold one: {', '.join(spoken)}\n"
            '  next: give each utterance its "language" in the manifests, or leave the key out'
        )
    return []


def grouped(config: Config, utterances: Sequence[Utterance], languages: Sequence[str]) -> dict[str, list[Utterance]]:
    """Utterances by language; all of them under the config's if `languages` is empty."""
    if not languages:
        return {config.language: list(utterances)}
    groups: dict[str, list[Utterance]] = {language: [] for language in languages}
    for utterance in utterances:
        groups[utterance.language or config.language].append(utterance)
    return groups


CROWDED, CROWDED_SHARE = 0.8, 0.05
"""Warn if more than 5 % of the utterances need labels in more than 80 % of their frames: CTC has no room for blanks."""


@dataclass(frozen=True)
class Prepared:
    """`config` has explicit labels now; `train` and `valid` hold what passed the checks; `augmenter` is for `train`."""

    config: Config
    rules: TextRules
    acoustic: AcousticModel
    train: list[Example]
    valid: list[Example]
    augmenter: Augmenter
    start: Transferred | None = None  # with `init`
    rules_of: dict[str, TextRules] = field(default_factory=dict)  # of each language, if there are several

    @property
    def hours(self) -> float:
        """Of training speech."""
        return sum(example.duration for example in self.train) / 3600

    def language(self, example: Example) -> str:
        return example.utterance.language or self.config.language

    def reference(self, example: Example) -> str:
        """The text as it should be heard, by the rules of its language."""
        return self.rules_of.get(self.language(example), self.rules).normalize(example.utterance.text)


def prepare(config: Config, out: Path, report: Reporter, resume: bool = False, writes: bool = True) -> Prepared:
    """Settle labels and model, check the data; with `init`, weights come from its source, or are left to a checkpoint.

    `writes`: a list of what cannot be used, into `out`. Raises AnadilError if there is such, unless `data.skip_bad`
    says to go without.
    """
    start = read_saved(out) if config.init is not None and resume else None
    source, weights = (
        (None, {}) if config.init is None else (start.source, {}) if start else read_source(config.init, out)
    )
    config = config if source is None else resolve(config, source)
    train = read_manifests(config.data.train)
    valid = read_manifests(config.data.valid)
    refuse_pseudo_labels(valid, "data.valid")
    config, subwords = resolve_tokenizer(config, train, report, source.kept_subwords(config) if source else b"")
    labels = config.tokenizer.labels
    assert not isinstance(labels, str)
    rules = text_rules(config.language, config.text, labels, subwords)
    report.say(describe_rules(rules, config.text))
    languages = languages_of(config, train, valid)
    rules_of = {
        language: text_rules(language, config.text, labels, subwords) for language in languages or [config.language]
    }
    config = config.with_rules(rules)
    acoustic = AcousticModel(config.features, config.model, len(labels))
    if config.init is not None and source is not None and start is None:
        start = transfer(acoustic.network, labels, source, weights, config.init, config.training.seed)
        tell(start, acoustic.network, report)
    for language, spoken in grouped(config, train + valid, languages).items():
        _tell_changes(rules_of[language], spoken, report)
    checked = _check(config, acoustic, rules_of, languages, {"training": train, "validation": valid}, report)
    _settle_problems(checked, config.data.skip_bad, out if writes else None, report)
    if not checked[0].examples:
        raise AnadilError(
            "no training utterance is left\n  next: check data.train, data.min_duration and data.max_duration"
        )
    report.say(f"training {checked[0].hours:.2f} h ({len(checked[0].examples):,} utterances), "
               f"validation {checked[1].hours:.2f} h ({len(checked[1].examples):,})")  # fmt: skip
    _tell_weights(checked[0].examples, report)
    _compare_rates(checked[0], acoustic.frame_s, report)
    augmenter = make_augmenter(config, checked[0].examples, acoustic)
    return Prepared(
        config, rules, acoustic, checked[0].examples, checked[1].examples, augmenter, start,
        rules_of if languages else {},
    )  # fmt: skip


def _check(
    config: Config,
    acoustic: AcousticModel,
    rules_of: dict[str, TextRules],
    languages: list[str],
    named: dict[str, list[Utterance]],
    report: Reporter,
) -> list[Checked]:
    """Training and validation utterances that can be used; those of training have their weights."""
    checked = []
    for name, utterances in named.items():
        parts = [
            check(
                spoken,
                rules_of[language],
                acoustic.sample_rate,
                acoustic.frame_count,
                config.data.min_duration,
                config.data.max_duration,
                _progress(report, name),
            )
            for language, spoken in grouped(config, utterances, languages).items()
        ]
        together = _together(parts)
        checked.append(weighed(together, config.data.pseudo_label_weight) if name == "training" else together)
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
    """The waveform transforms of `config`. Raises AnadilError if a recording that they need cannot be used."""

    def may_last(index: int, seconds: float) -> bool:
        """A changed speed must leave a frame for each label, and keep to the limits of training."""
        room = config.training.batch_seconds  # auto is never less than the longest utterance
        longest = config.data.max_duration if room == "auto" else min(config.data.max_duration, room)
        n_frames = acoustic.frame_count(round(seconds * acoustic.sample_rate))
        return config.data.min_duration <= seconds <= longest and n_frames >= min_ctc_frames(examples[index].labels)

    durations = [example.duration for example in examples]
    return Augmenter(config.augment, acoustic.sample_rate, config.training.seed, durations, may_last)


def plan_steps(data: Prepared, epoch: int) -> list[list[int]]:
    """Indices of the training examples in each batch of an epoch, one batch per step."""
    languages = [data.language(example) for example in data.train]
    settings, temperature = data.config.training, data.config.data.language_temperature
    return plan_languages(
        data.augmenter.durations(epoch), languages, temperature, settings.batch_limit, settings.seed, epoch
    )


def sampled_labels(data: Prepared, epoch: int) -> list[Sequence[int]] | None:
    """Subwords of every training text drawn anew for an epoch, or None if the config does not ask for it.

    A draw that has more labels than the audio has frames is not used: the text keeps its likeliest subwords.
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


def resolve_labels(config: Config, train: list[Utterance], report: Reporter) -> Config:
    """With `labels: auto`, the characters of the training text in code-point order; otherwise the config's own."""
    if config.tokenizer.labels != "auto":
        return config
    return resolve_tokenizer(config, train, report)[0]


def resolve_tokenizer(
    config: Config, train: list[Utterance], report: Reporter, kept: bytes = b""
) -> tuple[Config, bytes]:
    """The config with explicit labels, and the SentencePiece model if they are subwords.

    Labels given, a tokenizer folder (`tokenizer.path`), or made of the training text; `kept` is the source's model.
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
                f"tokenizer.kind {settings.kind} makes its labels itself\n"
                "  next: take tokenizer.labels out, or set tokenizer.path to what anadil tokenizer wrote"
            )
        return config, b""
    groups = [
        (text_rules(language, config.text), [utterance.text for utterance in spoken])
        for language, spoken in grouped(config, train, languages_of(config, train)).items()
    ]
    made = make_tokenizer(groups, settings.kind, settings.size)
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


def _tell_weights(examples: Sequence[Example], report: Reporter) -> None:
    pseudo = [example for example in examples if example.utterance.is_pseudo_label]
    if pseudo:
        hours = sum(example.duration for example in pseudo) / 3600
        report.say(f"{hours:.2f} h of it ({len(pseudo):,} utterances) are pseudo labels")
    weights = sorted({example.weight for example in examples})
    if weights[-1] != 1 or weights[0] != 1:
        report.say(f"weights in the loss from {weights[0]:g} to {weights[-1]:g}")


def _compare_rates(checked: Checked, frame_s: float, report: Reporter) -> None:
    """CTC needs a frame for each label: say how many there are, and warn before training if it is a near thing."""
    n_labels = sum(len(example.labels) for example in checked.examples)
    rate = n_labels / (3600 * checked.hours)
    report.say(f"{rate:.1f} labels a second, {1 / frame_s:.1f} frames a second of the model")
    n_crowded = crowded(checked.examples, frame_s)
    if n_crowded > CROWDED_SHARE * len(checked.examples):
        report.warn(
            f"{n_crowded:,} of {len(checked.examples):,} utterances have labels in more than {CROWDED:.0%} of the model's "
            "frames, which trains badly\n  next: subwords (tokenizer.kind=unigram), or a model with a smaller stride"
        )


def crowded(examples: Sequence[Example], frame_s: float) -> int:
    """How many utterances need labels in more than `CROWDED` of the model's frames."""
    return sum(min_ctc_frames(example.labels) > CROWDED * example.duration / frame_s for example in examples)


def _tell_changes(rules: TextRules, utterances: list[Utterance], report: Reporter) -> None:
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


def _settle_problems(checked: list[Checked], skip: bool, out: Path | None, report: Reporter) -> None:
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
