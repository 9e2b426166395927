"""From a config to examples that can be trained on: read manifests, settle the labels, check every utterance."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from anadil.data.augment.chain import Augmenter
from anadil.data.checks import Checked, Example, check, min_ctc_frames
from anadil.errors import AnadilError, summarize
from anadil.files import whole_file
from anadil.manifest import Utterance, read_manifests
from anadil.models.acoustic import AcousticModel
from anadil.text.rules import TextRules, count_characters, text_rules
from anadil.training.config import Config
from anadil.training.report import Reporter


@dataclass(frozen=True)
class Prepared:
    """`config` has explicit labels now; `train` and `valid` hold what passed the checks; `augmenter` is for `train`."""

    config: Config
    rules: TextRules
    acoustic: AcousticModel
    train: list[Example]
    valid: list[Example]
    augmenter: Augmenter


def prepare(config: Config, out: Path, report: Reporter) -> Prepared:
    """Raises AnadilError listing every utterance that cannot be used, unless `data.skip_bad` says to go without."""
    train = read_manifests(config.data.train)
    valid = read_manifests(config.data.valid)
    config = settle_labels(config, train, report)
    labels = config.tokenizer.labels
    assert not isinstance(labels, str)
    rules = text_rules(config.language, config.text, labels)
    acoustic = AcousticModel(config.features, config.model, len(labels))
    _tell_changes(rules, train + valid, report)
    checked = []
    for name, utterances in (("training", train), ("validation", valid)):
        result = check(
            utterances,
            rules,
            acoustic.sample_rate,
            acoustic.frame_count,
            config.data.min_duration,
            config.data.max_duration,
            _progress(report, name),
        )
        for note, count in result.notes.items():
            report.warn(f"{name}: {count:,} x {note}")
        checked.append(result)
    _settle_problems(checked, config.data.skip_bad, out, report)
    if not checked[0].examples:
        raise AnadilError(
            "no training utterance is left\n  next: check data.train, data.min_duration and data.max_duration"
        )
    report.say(f"training {checked[0].hours:.2f} h ({len(checked[0].examples):,} utterances), "
               f"validation {checked[1].hours:.2f} h ({len(checked[1].examples):,})")  # fmt: skip
    augmenter = make_augmenter(config, checked[0].examples, acoustic)
    return Prepared(config, rules, acoustic, checked[0].examples, checked[1].examples, augmenter)


def make_augmenter(config: Config, examples: Sequence[Example], acoustic: AcousticModel) -> Augmenter:
    """The waveform transforms of `config`. Raises AnadilError if a recording that they need cannot be used."""

    def may_last(index: int, seconds: float) -> bool:
        """A changed speed must leave a frame for each label, and keep to the limits of training."""
        longest = min(config.data.max_duration, config.training.batch_seconds)
        n_frames = acoustic.frame_count(round(seconds * acoustic.sample_rate))
        return config.data.min_duration <= seconds <= longest and n_frames >= min_ctc_frames(examples[index].labels)

    durations = [example.duration for example in examples]
    return Augmenter(config.augment, acoustic.sample_rate, config.training.seed, durations, may_last)


def settle_labels(config: Config, train: list[Utterance], report: Reporter) -> Config:
    """With `labels: auto`, the characters of the training text in code-point order; otherwise the config's own."""
    if config.tokenizer.labels != "auto":
        return config
    counts = count_characters(config.language, config.text, (utterance.text for utterance in train))
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
