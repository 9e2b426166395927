"""Which utterances each fold leaves out, tests and keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from anadil.errors import AnadilError
from anadil.manifest import Utterance
from anadil.studies.crossval import crossval_trials, folds_of, values_of
from anadil.training.config import Config
from tests.support.micro import micro_config

SPEAKERS = ("ada", "ben", "cem")


class Notes:
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def table(self, title: str, columns: object, rows: object) -> None: ...
    def progress(self, stage: str, done: float, total: float, note: str = "") -> None: ...


def utterance(speaker: str | None, text: str, seconds: float = 1.0, **extra: object) -> Utterance:
    return Utterance(f"{speaker}-{text}.wav", seconds, text, speaker=speaker, extra=extra, source=f"train.jsonl:{text}")


def data() -> tuple[list[Utterance], list[Utterance]]:
    """Two training utterances and one for validation of each speaker; "same" is said by all."""
    train = [utterance(name, text) for name in SPEAKERS for text in (f"a{name}", "same")]
    return train, [utterance(name, f"v{name}") for name in SPEAKERS]


@pytest.fixture
def config() -> Config:
    return micro_config(Path("train.jsonl"), Path("valid.jsonl"))


def test_each_speaker_is_tested_by_a_model_that_never_heard_them(config: Config) -> None:
    notes = Notes()
    trials = crossval_trials(config, data(), notes)
    assert [trial.name for trial in trials] == list(SPEAKERS)
    for trial in trials:
        assert {one.speaker for one in trial.test} == {trial.name}
        assert {one.speaker for one in (*trial.train, *trial.valid)} == set(SPEAKERS) - {trial.name}
        assert (len(trial.train), len(trial.valid), len(trial.test)) == (4, 2, 3)
    assert len(notes.warnings) == 3 and "2 training utterances have the text of a test utterance" in notes.warnings[0]


def test_sentences_of_the_test_can_be_left_out_of_the_training(config: Config) -> None:
    for trial in crossval_trials(config, data(), Notes(), new_texts=True):
        assert not {one.text for one in trial.train} & {one.text for one in trial.test}
        assert len(trial.train) == 2


def test_texts_that_a_model_wrote_are_never_tested(config: Config) -> None:
    train, valid = data()
    train.append(utterance("ada", "guess", pseudo_label=True))
    ada, ben, _ = crossval_trials(config, (train, valid), Notes())
    assert "guess" not in {one.text for one in ada.test}
    assert "guess" in {one.text for one in ben.train}


def test_many_speakers_are_left_out_together_and_the_folds_last_alike() -> None:
    lengths = {f"s{number:02}": 1.0 + number for number in range(20)}
    utterances = [utterance(name, name, seconds) for name, seconds in lengths.items()]
    found = folds_of(utterances, list(lengths), 4)
    assert sorted(value for fold in found for value in fold.values) == sorted(lengths)
    totals = [sum(lengths[value] for value in fold.values) for fold in found]
    assert len(found) == 4 and max(totals) - min(totals) <= 4


def test_it_is_said_who_is_left_out_together(config: Config) -> None:
    notes = Notes()
    crossval_trials(config, data(), notes, n_folds=2)
    assert notes.said == ["fold-1 leaves out: ada, cem"]


def test_values_that_make_the_same_name_get_folders_of_their_own() -> None:
    utterances = [
        utterance("x", "1", village="a/b"),
        utterance("x", "2", village="a b"),
        utterance("x", "3", village="../c"),
    ]
    names = [fold.name for fold in folds_of(utterances, values_of(utterances, "village"))]
    assert names == ["-c", "a-b-2", "a-b-3"]


def test_a_key_that_is_missing_is_named_with_those_that_are_there() -> None:
    utterances = [utterance("ada", "1", village="x"), utterance("ben", "2", village="y")]
    with pytest.raises(AnadilError, match=r'train.jsonl:1: no "town"(.|\n)*all utterances have: village, speaker'):
        values_of(utterances, "town")
    with pytest.raises(AnadilError, match=r'train.jsonl:2: no "speaker"'):
        values_of([utterance("ada", "1"), utterance(None, "2")], "speaker")


def test_one_speaker_cannot_be_left_out() -> None:
    with pytest.raises(AnadilError, match="nothing can be left out"):
        values_of([utterance("ada", "1"), utterance("ada", "2")], "speaker")


def test_validation_data_of_one_speaker_alone_are_refused(config: Config) -> None:
    train, valid = data()
    with pytest.raises(AnadilError, match=r"ada: all of data.valid(.|\n)*anadil split"):
        crossval_trials(config, (train, valid[:1]), Notes())
