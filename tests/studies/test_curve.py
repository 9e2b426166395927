"""The parts of the training data, and what is said of the fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from anadil.evaluation.learning_curve import fit_power_law
from anadil.manifest import Utterance
from anadil.studies.curve import advice, curve_trials
from tests.support.micro import micro_config

TRAIN = [Utterance(f"{number}.wav", 1.0 + number % 3, f"text {number}") for number in range(60)]
TEST = [Utterance("t.wav", 1.0, "test")]


def test_parts_are_of_the_hours_and_a_larger_one_holds_the_smaller() -> None:
    config = micro_config(Path("train.jsonl"), Path("valid.jsonl"), seed=7)
    trials = curve_trials(config, (TRAIN, TEST), TEST, [1, 0.25, 0.5], n_seeds=2)
    assert [trial.name for trial in trials] == [
        f"{part}-seed-{seed}" for part in ("0.25", "0.5", "1") for seed in (7, 8)
    ]
    total = sum(one.duration or 0 for one in TRAIN) / 3600
    for trial in trials:
        assert (
            float(trial.name.split("-")[0]) * total <= trial.hours <= float(trial.name.split("-")[0]) * total + 3 / 3600
        )
        assert trial.config.training.seed == int(trial.name[-1])
    names = [{one.audio_filepath for one in trial.train} for trial in trials]
    assert names[0] < names[2] < names[4] and names[1] < names[3] < names[5]
    assert names[0] != names[1] and names[4] == names[5] == {one.audio_filepath for one in TRAIN}


def test_what_more_speech_is_worth_is_said_in_hours_and_points() -> None:
    law = fit_power_law([(hours, 0.4 * hours**-0.5) for hours in (0.4, 1, 4)])
    assert law is not None
    assert advice(law, "CER") == [
        "CER falls as hours^-0.50 (95 %: 0.50 to 0.50)",
        "  2.0 h more, 6.0 h in all: CER about 16.3% (95 %: 16.3% to 16.3%), 3.7 points less",
        "  4.0 h more, 8.0 h in all: CER about 14.1% (95 %: 14.1% to 14.1%), 5.9 points less",
        "  12.0 h more, 16.0 h in all: CER about 10.0% (95 %: 10.0% to 10.0%), 10.0 points less",
    ]


def test_no_gain_is_promised_that_was_not_seen() -> None:
    law = fit_power_law([(0.5, 0.30), (1.0, 0.26), (2.0, 0.31)])
    assert law is not None
    assert len(advice(law, "WER")) == 1 and "do not show that more speech helps" in advice(law, "WER")[0]


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_each_part_and_seed_is_there_once(n_seeds: int) -> None:
    config = micro_config(Path("train.jsonl"), Path("valid.jsonl"))
    trials = curve_trials(config, (TRAIN, TEST), TEST, [0.5, 0.5, 1.0], n_seeds)
    assert len({trial.name for trial in trials}) == len(trials) == 2 * n_seeds
