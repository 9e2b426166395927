from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from anadil.training.config import TrainingSettings
from anadil.training.monitoring.diagnosis import explain_blanks, explain_not_finite, only_blanks

BLANK = 2


def log_probs_of(*rows: list[int]) -> torch.Tensor:
    """One best label a frame."""
    return torch.nn.functional.one_hot(torch.tensor(rows), BLANK + 1).float().log_softmax(2)


@pytest.mark.parametrize(
    ("rows", "counts", "expected"),
    [
        ([[BLANK, BLANK, BLANK]], [3], True),
        ([[BLANK, 0, BLANK]], [3], False),
        ([[BLANK, BLANK, 0]], [2], True),  # what lies beyond the utterance does not count
        ([[BLANK, BLANK, BLANK], [BLANK, 1, BLANK]], [3, 2], False),
        ([[BLANK, BLANK, BLANK], [BLANK, 1, BLANK]], [3, 1], True),
        ([[0, 0, 0]], [3], False),
    ],
)
def test_only_blanks_looks_at_every_valid_frame(rows: list[list[int]], counts: list[int], expected: bool) -> None:
    assert only_blanks(log_probs_of(*rows), torch.tensor(counts)) is expected


def settings(**fields: Any) -> TrainingSettings:
    return TrainingSettings.model_validate({"min_lr": 0.0} | fields)


BLANKS = [
    # lr, labels per frame, loss, first loss
    ((5e-5, 0.3, 3.0, 3.1), "the learning rate 5e-05 is low: try training.lr=0.0005"),
    ((0.04, 0.3, 9.0, 3.0), "the loss has grown: the learning rate 0.04 is high: try training.lr=0.01"),
    ((0.002, 0.75, 3.0, 3.1), "the text is dense, 0.75 labels per frame leave no room"),
    ((0.002, 0.3, 3.0, 3.1), "most often this is the plateau where CTC starts"),
    ((5e-5, 0.3, 1.0, 3.0), "most often this is the plateau"),  # low, but it learns
]


@pytest.mark.parametrize(("seen", "cause"), BLANKS)
def test_blanks_are_explained_by_their_likeliest_cause(seen: tuple[float, float, float, float], cause: str) -> None:
    lr, labels_per_frame, loss, first_loss = seen
    message = explain_blanks(200, settings(lr=lr), labels_per_frame, loss, first_loss)
    assert message.startswith(f"after 200 steps the model emits only blanks (loss {loss:.2f} nats per label): {cause}")


NOT_FINITE = [
    (math.inf, {}, "an utterance's audio is shorter than its header says"),
    (math.nan, {"precision": "16-mixed"}, "16-bit floats overflow: use training.precision=bf16-mixed or 32-true"),
    (math.nan, {"lr": 0.04}, "the learning rate 0.04 is too high: try training.lr=0.01"),
    (2.5, {"lr": 0.04}, "the learning rate 0.04 is too high: try training.lr=0.01"),  # the gradient alone
]


@pytest.mark.parametrize(("loss", "fields", "cause"), NOT_FINITE)
def test_a_loss_that_is_not_finite_is_explained_with_its_batch(loss: float, fields: dict[str, Any], cause: str) -> None:
    where = [f"train.jsonl:{line}" for line in range(1, 9)]
    message = explain_not_finite(loss, math.nan, 17, settings(**fields), where)
    first, second, third, *batch = message.splitlines()
    assert first == f"training broke at step 17: loss {loss:g}, gradient norm nan"
    assert second.startswith(f"  likely cause: {cause}")
    assert third == "  the batch held:"
    assert batch == [f"    train.jsonl:{line}" for line in range(1, 6)]
