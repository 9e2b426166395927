from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from anadil import audio
from anadil.data.batches import Loader
from anadil.data.examples import Checked, Example, with_weights
from anadil.manifest import Utterance, read_manifest
from tests.support.lines import write_lines
from tests.support.micro import speak


def checked(*extras: dict[str, Any]) -> Checked:
    examples = [
        Example(Utterance("a.wav", 1.0, "a", extra=extra, source=f"train.jsonl:{number}"), (0,))
        for number, extra in enumerate(extras, start=1)
    ]
    return Checked(examples, total=len(examples))


def test_weights_are_from_the_line_and_of_pseudo_labels_from_the_config() -> None:
    lines = [{}, {"weight": 0.5}, {"weight": 2}, {"weight": None}, {"weight": 3, "pseudo_label": True}]
    assert [one.weight for one in with_weights(checked(*lines)).examples] == [1, 0.5, 2, 1, 3]
    assert [one.weight for one in with_weights(checked(*lines), 0.25).examples] == [1, 0.5, 2, 1, 0.25]


def test_weight_0_is_omitted_and_counted() -> None:
    found = with_weights(checked({"weight": 0}, {}, {"pseudo_label": True}), of_pseudo_labels=0.0)
    assert [one.utterance.source for one in found.examples] == ["train.jsonl:2"]
    assert found.notes == {"set aside, weight 0": 2} and found.problems == [] and found.total == 3


@pytest.mark.parametrize("weight", [-1, -0.001, math.nan, math.inf, 1001, 10**400, "0.5", True, [1]])
def test_an_invalid_weight_is_a_problem_of_its_line(weight: Any) -> None:
    found = with_weights(checked({}, {"weight": weight}))
    (problem,) = found.problems
    assert problem.where == "train.jsonl:2"
    assert problem.what.startswith('"weight" must be a number from 0 to 1000, found ')
    assert len(found.examples) == 1


@pytest.mark.parametrize(
    ("value", "is_pseudo"),
    [(True, True), ("true", True), ("TRUE", True), (1, True), (False, False), (None, False), ("no", False), (0, False)],
)
def test_a_pseudo_label_is_known_after_a_spreadsheet_too(tmp_path: Path, value: Any, is_pseudo: bool) -> None:
    (line,) = read_manifest(
        write_lines(tmp_path / "m.jsonl", [{"audio_filepath": "a.wav", "text": "a", "pseudo_label": value}])
    )
    assert line.is_pseudo_label == is_pseudo


def test_a_batch_has_weights_only_where_they_differ_from_1(tmp_path: Path) -> None:
    audio.write(tmp_path / "a.wav", speak("a"), 16000)
    utterance = Utterance(str(tmp_path / "a.wav"), None, "a")
    loader = Loader([Example(utterance, (0,), weight) for weight in (1.0, 0.5, 1.0)], 16000)
    assert loader.load([0, 2]).weights is None
    weights = loader.load([1, 0]).weights
    assert weights is not None and weights.dtype == torch.float32 and weights.tolist() == [0.5, 1.0]
    moved = loader.load([1, 0]).to(torch.device("meta"))
    assert moved.weights is not None and moved.weights.device.type == "meta"
