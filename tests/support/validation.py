"""Validation with figures that a test writes, instead of a model's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pytest

from anadil.evaluation.evaluate import compare
from anadil.manifest import Utterance
from anadil.training import train as module
from anadil.training.run import Validation, ValidationResult
from anadil.training.validation import validate as real_validate


def result_of(validation: Validation, references: Sequence[str], hypotheses: Sequence[str]) -> ValidationResult:
    """A result whose utterances have no audio."""
    utterances = [Utterance(f"{i}.wav", 1.0, text) for i, text in enumerate(references)]
    return ValidationResult(validation, compare(utterances, references, hypotheses))


def script_validation(monkeypatch: pytest.MonkeyPatch, rates: Iterable[float], hypothesis: str = "a") -> None:
    """Each validation of a run gives the next CER of `rates`, and `hypothesis` for every utterance."""
    rest: Iterator[float] = iter(rates)

    def validate(*args: object) -> ValidationResult:
        result = real_validate(*args)  # type: ignore[arg-type]
        scored = compare([one.utterance for one in result.scored], result.references, [hypothesis] * len(result.scored))
        return ValidationResult(Validation(1.0, next(rest), 1.0), scored)

    monkeypatch.setattr(module, "validate", validate)
