"""A training set in several languages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from anadil.errors import AnadilError
from anadil.training.config import Config
from anadil.training.prepare import prepare
from anadil.training.train import train
from tests.support.labels import decoded
from tests.support.lines import write_lines
from tests.support.micro import micro_data
from tests.support.runs import EVERY_STEP, Crash, CrashAt, Told, assert_same_run, metrics


def mixed(folder: Path, micro: Path, turkish: str | None = "tr", n_turkish: int = 2) -> dict[str, Any]:
    """A manifest of each language: the Turkish one writes I for ı and İ for i, the other one I for i."""
    lines = [json.loads(line) for line in (micro / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    manifests = []
    for name, language, chosen, text in (("tr", turkish, lines[:n_turkish], "ISI İ"), ("en", None, lines[2:], "IT S")):
        records: list[dict[str, Any]] = [
            {"audio_filepath": str(micro / line["audio_filepath"]), "text": text} for line in chosen
        ]
        if language:
            records = [{**record, "language": language} for record in records]
        manifests.append(str(write_lines(folder / f"{name}.jsonl", records)))
    data = micro_data(micro / "train.jsonl", epochs=3, batch_seconds=2.5, checkpoint_minutes=EVERY_STEP)
    data["data"] = {"train": manifests, "valid": manifests}
    return data


def test_each_text_follows_the_rules_of_its_own_language(tmp_path: Path, micro: Path) -> None:
    start = prepare(Config.model_validate(mixed(tmp_path, micro)), tmp_path, Told())
    assert start.rules.labels == (" ", "i", "s", "t", "ı")  # of all texts, in code-point order
    texts = {(start.language(example), decoded(start.rules, example.labels)) for example in start.train}
    assert texts == {("tr", "ısı i"), ("en", "it s")}
    assert {start.reference(example) for example in start.valid} == {"ısı i", "it s"}
    assert len(start.train) == 8


def test_one_language_follows_the_configs_rules_whatever_the_manifest_calls_it(tmp_path: Path, micro: Path) -> None:
    data = mixed(tmp_path, micro)
    data["data"] = {"train": data["data"]["train"][:1]}
    start = prepare(Config.model_validate(data), tmp_path, Told())
    assert start.rules_by_language.by_language == {} and start.reference(start.train[0]) == "isi i"  # language: en


def test_there_must_be_several_languages_to_weigh(tmp_path: Path, micro: Path) -> None:
    data = mixed(tmp_path, micro, turkish=None)
    data["data"]["language_temperature"] = 3
    with pytest.raises(AnadilError, match='the training data hold one: en\n  next: give each utterance its "language"'):
        prepare(Config.model_validate(data), tmp_path, Told())


@pytest.mark.slow
def test_a_weighted_run_resumes_exactly_and_hears_the_small_language_more(tmp_path: Path, micro: Path) -> None:
    data = mixed(tmp_path, micro, n_turkish=1)
    plain = train(Config.model_validate(data), tmp_path / "plain")
    data["data"]["language_temperature"] = 1000
    weighted = train(Config.model_validate(data), tmp_path / "undisturbed")
    assert list(metrics(tmp_path / "plain")[0])[-2:] == ["valid_cer_en", "valid_cer_tr"]
    assert plain.last is not None and plain.last.cer_by_language["tr"] == float(
        metrics(tmp_path / "plain")[-1]["valid_cer_tr"]
    )
    assert weighted.total_steps != plain.total_steps or weighted.audio_s != plain.audio_s
    for attempt, crash_after in enumerate((4, 2, 99)):
        try:
            train(Config.model_validate(data), tmp_path / "run", CrashAt(crash_after), resume=attempt > 0)
        except Crash:
            assert attempt < 2
    assert_same_run(tmp_path / "run", tmp_path / "undisturbed")
