from __future__ import annotations

from pathlib import Path
from typing import Any

from anadil.data.examples import Example
from anadil.manifest import Utterance
from anadil.training.save import licenses, model_card
from tests.support.micro import micro_config


def example(hours: float, **extra: Any) -> Example:
    return Example(Utterance("a.wav", 3600 * hours, "a", extra=extra), (0,))


TRAIN = [
    example(0.5, license="CC-BY-4.0"),
    example(1.0, license="CC0-1.0"),
    example(0.25),
    example(1.5, license="CC0-1.0"),
    example(0.25, license=["odd"]),
    example(0.125, license="mine |\nfor now"),
]


def test_licences_are_listed_with_their_hours() -> None:
    expected = "CC0-1.0 (2.50 h), CC-BY-4.0 (0.50 h), not given (0.50 h), mine / for now (0.12 h)"
    assert licenses(TRAIN) == expected


def test_the_card_has_the_licences_of_the_training_speech() -> None:
    card = model_card(micro_config(Path("train.jsonl")), TRAIN, 3, 40, 0.1, None)
    assert "| training speech | 3.62 h (train.jsonl) |\n| its licences | CC0-1.0 (2.50 h)," in card
