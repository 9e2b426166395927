"""Ablation: one config and variants of it, each trained with several seeds and tested on the same utterances."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from anadil.errors import AnadilError
from anadil.evaluation.errors import finite_or_none
from anadil.evaluation.evaluate import Evaluation
from anadil.evaluation.paired import Comparison, compare_systems
from anadil.manifest import Utterance
from anadil.settings import override, parse
from anadil.studies.trials import RUN, Outcome, Trial, read_data, refuse_several_devices, with_fixed_labels
from anadil.training.config import Config
from anadil.training.monitoring.logs import METRICS
from anadil.training.monitoring.report import Reporter, Silent
from anadil.training.prepare import resolve

SEED = "training.seed"


@dataclass(frozen=True)
class Variant:
    """A name, which its folders begin with, and the keys that it changes, as `KEY=VALUE`."""

    name: str
    changes: tuple[str, ...]


@dataclass(frozen=True)
class Cost:
    """What one training took."""

    seconds: float  # of the clock, validation included
    audio_s_per_s: float  # seconds of audio per second, mean over the epochs, validation left out


@dataclass(frozen=True)
class Row:
    """A variant's results: the outcomes of its seeds, what each cost, and the differences to the first variant."""

    variant: Variant
    outcomes: Sequence[Outcome]
    costs: Sequence[Cost]
    greedy: Comparison | None  # this variant minus the first; None for the first, or if one of them has no outcome
    decoded: Comparison | None  # the same as the models decode: with their language models

    def rate(self, name: str, greedy: bool) -> float:
        """Mean of "cer" or "wer" over the seeds, a fraction."""
        return fmean(getattr(evaluation, name) for evaluation in evaluations(self.outcomes, greedy))

    @property
    def has_language_model(self) -> bool:
        """Whether the model of any seed has one."""
        return any(one.greedy is not None for one in self.outcomes)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "name": self.variant.name,
            "changes": list(self.variant.changes),
            "greedy": self._rates(True),
            "decoded": self._rates(False) if self.has_language_model else None,
            "greedy_minus_first": self.greedy and self.greedy.to_dict(),
            "decoded_minus_first": self.decoded and self.decoded.to_dict(),
            "training_seconds": fmean(cost.seconds for cost in self.costs) if self.costs else None,
            "audio_seconds_per_second": fmean(cost.audio_s_per_s for cost in self.costs) if self.costs else None,
            "runs": [
                {
                    "name": one.trial.name,
                    "seed": one.trial.config.training.seed,
                    "training_seconds": cost.seconds,
                    "audio_seconds_per_second": cost.audio_s_per_s,
                    **one.evaluation.to_dict(),
                    "greedy": one.greedy.to_dict() if one.greedy else None,
                }
                for one, cost in zip(self.outcomes, self.costs, strict=True)
            ],
        }

    def _rates(self, greedy: bool) -> dict[str, float | None] | None:
        if not self.outcomes:
            return None
        return {name: finite_or_none(self.rate(name, greedy)) for name in ("cer", "wer")}


def evaluations(outcomes: Sequence[Outcome], greedy: bool) -> list[Evaluation]:
    """Those of greedy decoding, or those with the language models; a model without one decodes greedily anyway."""
    return [one.greedy if greedy and one.greedy is not None else one.evaluation for one in outcomes]


def ablation_trials(
    base: dict[str, Any],
    where: str,
    variants: Sequence[Variant],
    seeds: Sequence[int],
    report: Reporter,
    epochs: int | None = None,
    test: Sequence[Utterance] | None = None,
) -> list[Trial]:
    """A trial for each seed and variant, all variants of a seed before the next seed, named VARIANT-seed-N.

    `base` is the config of all as nested mappings, `where` its file. With `epochs`, each trains for so many without a limit
    of time, unless its changes say otherwise. Without `test`, the utterances of `data.valid` are tested. Every variant's
    config, labels and network are made once here. Raises AnadilError that names the variant if one cannot be trained, or
    if the variants differ in what they are tested on.
    """
    if epochs is not None:
        base = override(base, [f"training.epochs={epochs}", "training.max_minutes=null"])
    parsed = _parsed(base, where, variants)
    tested = {tuple(config.data.valid) for config in parsed}
    if test is None and (len(tested) > 1 or tested == {()}):
        raise AnadilError(
            "data.valid is empty, or not the same in all variants, which must be tested on the same utterances\n"
            "  next: data.valid=valid.jsonl for all of them, or --test"
        )
    read: dict[tuple[Any, ...], tuple[list[Utterance], list[Utterance]]] = {}
    made = []
    for variant, config in zip(variants, parsed, strict=True):
        data = config.data
        files = (*data.train, None, *data.valid, data.skip_bad)
        if files not in read:
            read[files] = read_data(config, report)
        train, valid = read[files]
        try:
            fixed = with_fixed_labels(config, train, valid)
            resolve(fixed, train, valid, Silent())  # its network can be built
        except AnadilError as error:
            raise AnadilError(f"variant {variant.name}: {error}") from error
        made.append((variant.name, fixed, train, valid))
    return [
        Trial(f"{name}-seed-{seed}", _with_seed(config, seed), train, valid, valid if test is None else test)
        for seed in seeds
        for name, config, train, valid in made
    ]


def rows_of(variants: Sequence[Variant], done: Sequence[Outcome], out: Path, report: Reporter) -> list[Row]:
    """The results of each variant, in the order of `variants`, from the outcomes of its trials in the folder `out`.

    A variant whose texts cannot be compared with those of the first one has no difference, and a warning says why.
    """
    rows: list[Row] = []
    for variant in variants:
        own = [one for one in done if one.trial.name.rpartition("-seed-")[0] == variant.name]
        costs = [_cost(out / one.trial.name / RUN / METRICS) for one in own]
        found: list[Comparison | None] = [None, None]
        if rows and own and rows[0].outcomes:
            try:
                found = [_compared(own, rows[0].outcomes, greedy) for greedy in (True, False)]
            except AnadilError as error:
                report.warn(f"{variant.name} is not compared with {variants[0].name}: {error}")
        rows.append(Row(variant, own, costs, *found))
    return rows


def _compared(own: Sequence[Outcome], first: Sequence[Outcome], greedy: bool) -> Comparison:
    a, b = ([one.scored for one in evaluations(outcomes, greedy)] for outcomes in (own, first))
    return compare_systems(a, b)


def _parsed(base: dict[str, Any], where: str, variants: Sequence[Variant]) -> list[Config]:
    """The config of each variant. Raises AnadilError with the mistakes of all of them."""
    configs, mistakes = list[Config](), list[str]()
    for variant in variants:
        try:
            if seeded := [change for change in variant.changes if change.partition("=")[0] == SEED]:
                raise AnadilError(
                    f"variant {variant.name}: {seeded[0]}: the seeds are the same for all\n  next: --seeds"
                )
            config = parse(Config, override(base, variant.changes), f"{where}, variant {variant.name}")
            refuse_several_devices(config)
            configs.append(config)
        except AnadilError as error:
            mistakes.append(str(error))
    if mistakes:
        raise AnadilError("\n".join(mistakes))
    return configs


def _with_seed(config: Config, seed: int) -> Config:
    return config.model_copy(update={"training": config.training.model_copy(update={"seed": seed})})


def _cost(metrics: Path) -> Cost:
    """Read the metrics of a run. Raises AnadilError if they are missing."""
    try:
        with open(metrics, newline="", encoding="utf-8") as file:
            epochs = list(csv.DictReader(file))
        return Cost(60 * float(epochs[-1]["minutes"]), fmean(float(epoch["audio_s_per_s"]) for epoch in epochs))
    except (OSError, ValueError, LookupError) as error:
        raise AnadilError(
            f"{metrics} cannot be read: {error}\n  next: delete {metrics.parents[1]}, then --resume"
        ) from error
