"""From a config to examples that can be trained on: read manifests, settle the labels, check every utterance."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from anadil.data.checks import Checked, Example, check
from anadil.errors import AnadilError, summarize
from anadil.files import whole_file
from anadil.manifest import Utterance, read_manifests
from anadil.models.acoustic import AcousticModel
from anadil.text.rules import TextRules, count_characters, text_rules
from anadil.training.config import Config
from anadil.training.languages import grouped, languages_of
from anadil.training.report import Reporter
from anadil.training.source import read_source, settle
from anadil.training.transfer import Transferred, read_saved, tell, transfer


@dataclass(frozen=True)
class Prepared:
    """`config` has explicit labels now; `train` and `valid` hold what passed the checks."""

    config: Config
    rules: TextRules
    acoustic: AcousticModel
    train: list[Example]
    valid: list[Example]
    start: Transferred | None = None  # with `init`
    rules_of: dict[str, TextRules] = field(default_factory=dict)  # of each language, if there are several

    def language(self, example: Example) -> str:
        return example.utterance.language or self.config.language

    def reference(self, example: Example) -> str:
        """The text as it should be heard, by the rules of its language."""
        return self.rules_of.get(self.language(example), self.rules).normalize(example.utterance.text)


def prepare(config: Config, out: Path, report: Reporter, resume: bool = False) -> Prepared:
    """Settle labels and model, check the data; with `init`, weights come from its source, or are left to a checkpoint.

    Raises AnadilError listing every utterance that cannot be used, unless `data.skip_bad` says to go without.
    """
    start = read_saved(out) if config.init is not None and resume else None
    source, weights = (
        (None, {}) if config.init is None else (start.source, {}) if start else read_source(config.init, out)
    )
    config = config if source is None else settle(config, source)
    train = read_manifests(config.data.train)
    valid = read_manifests(config.data.valid)
    config = settle_labels(config, train, report)
    labels = config.tokenizer.labels
    assert not isinstance(labels, str)
    rules = text_rules(config.language, config.text, labels)
    languages = languages_of(config, train, valid)
    rules_of = {language: text_rules(language, config.text, labels) for language in languages or [config.language]}
    acoustic = AcousticModel(config.features, config.model, len(labels))
    if config.init is not None and source is not None and start is None:
        start = transfer(acoustic.network, labels, source, weights, config.init, config.training.seed)
        tell(start, acoustic.network, report)
    for language, spoken in grouped(config, train + valid, languages).items():
        _tell_changes(rules_of[language], spoken, report)
    checked = []
    for name, utterances in (("training", train), ("validation", valid)):
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
        checked.append(_together(parts))
        for note, count in checked[-1].notes.items():
            report.warn(f"{name}: {count:,} x {note}")
    _settle_problems(checked, config.data.skip_bad, out, report)
    if not checked[0].examples:
        raise AnadilError(
            "no training utterance is left\n  next: check data.train, data.min_duration and data.max_duration"
        )
    report.say(f"training {checked[0].hours:.2f} h ({len(checked[0].examples):,} utterances), "
               f"validation {checked[1].hours:.2f} h ({len(checked[1].examples):,})")  # fmt: skip
    return Prepared(
        config, rules, acoustic, checked[0].examples, checked[1].examples, start, rules_of if languages else {}
    )


def _together(parts: list[Checked]) -> Checked:
    return Checked(
        [example for part in parts for example in part.examples],
        [problem for part in parts for problem in part.problems],
        sum((part.notes for part in parts), Counter()),
        sum(part.total for part in parts),
    )


def settle_labels(config: Config, train: list[Utterance], report: Reporter) -> Config:
    """With `labels: auto`, the characters of the training text in code-point order; otherwise the config's own."""
    if config.tokenizer.labels != "auto":
        return config
    counts: Counter[str] = Counter()
    for language, spoken in grouped(config, train, languages_of(config, train)).items():
        counts += count_characters(language, config.text, (utterance.text for utterance in spoken))
    if not counts:
        raise AnadilError('tokenizer.labels: auto found no text in data.train\n  next: check the manifests\' "text"')
    report.say(
        f"labels from the training text: {len(counts)} characters, rarest last\n  "
        + "  ".join(f"{character}:{count:,}" for character, count in counts.most_common())
    )
    return config.with_labels(sorted(counts))


def _tell_changes(rules: TextRules, utterances: list[Utterance], report: Reporter) -> None:
    changes = rules.changes(utterance.text for utterance in utterances)
    if changes:
        listed = "  ".join(f"{character}:{count:,}" for character, count in changes.most_common())
        report.say(f"characters dropped or mapped by the text rules: {listed}")


def _progress(report: Reporter, name: str) -> Callable[[int, int], None]:
    return lambda done, total: report.progress(f"checking {name} audio", done, total)


def _settle_problems(checked: list[Checked], skip: bool, out: Path, report: Reporter) -> None:
    problems = [problem for result in checked for problem in result.problems]
    listing = out / "problems.jsonl"
    if not problems:
        if listing.is_file():  # of an earlier try
            listing.unlink()
        return
    with whole_file(listing) as beside, open(beside, "w", encoding="utf-8") as file:
        for problem in problems:
            file.write(json.dumps({"where": problem.where, "what": problem.what}, ensure_ascii=False) + "\n")
    total = sum(result.total for result in checked)
    if not skip:
        next_step = f"mend them (all are listed in {listing}), or train without them: data.skip_bad=true"
        raise AnadilError(summarize(problems, "utterances", total, next_step))
    report.warn(
        summarize(problems, "utterances", total, f"training without them (data.skip_bad); all are in {listing}")
    )
