from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from anadil.data.batches import Batch
from anadil.data.examples import Example
from anadil.errors import AnadilError
from anadil.manifest import Utterance
from anadil.settings import override
from anadil.training.checkpoint import identity_of
from anadil.training.config import Config
from anadil.training.monitoring.report import Silent
from anadil.training.prepare import prepare
from anadil.training.save import model_card
from anadil.training.step import ctc_loss, flat_start_loss
from anadil.training.train import train
from tests.support.lines import write_lines
from tests.support.micro import TEXTS, micro_config, micro_data

LOG_PROBS = torch.randn(3, 12, 4, generator=torch.Generator().manual_seed(0)).log_softmax(2)
FRAMES = torch.tensor([12, 9, 11])
BATCH = Batch(
    torch.zeros(3, 1),
    torch.tensor([1, 1, 1]),
    torch.tensor([[0, 1, 2], [1, 0, 0], [2, 2, 0]]),
    torch.tensor([3, 1, 2]),
    (0, 1, 2),
)


def row(i: int) -> float:
    """Negative log-likelihood of one utterance, in nats."""
    return F.ctc_loss(
        LOG_PROBS[i, : FRAMES[i]].unsqueeze(1),
        BATCH.targets[i : i + 1, : BATCH.target_counts[i]],
        FRAMES[i : i + 1],
        BATCH.target_counts[i : i + 1],
        blank=3,
        reduction="sum",
    ).item()


def weighted(*weights: float) -> Batch:
    return replace(BATCH, weights=torch.tensor(weights))


def test_the_loss_is_weighted_likelihood_over_weighted_labels() -> None:
    expected = (0.5 * row(0) + 2 * row(1) + row(2)) / (0.5 * 3 + 2 * 1 + 2)
    assert ctc_loss(LOG_PROBS, FRAMES, weighted(0.5, 2.0, 1.0)).item() == pytest.approx(expected, rel=1e-6)


def test_weights_compare_utterances_and_do_not_scale_the_step() -> None:
    plain = ctc_loss(LOG_PROBS, FRAMES, BATCH)
    assert ctc_loss(LOG_PROBS, FRAMES, weighted(0.5, 0.5, 0.5)).item() == pytest.approx(plain.item(), rel=1e-6)
    total = F.ctc_loss(LOG_PROBS.transpose(0, 1), BATCH.targets, FRAMES, BATCH.target_counts, blank=3, reduction="sum")
    assert torch.equal(plain, total / 6)  # without weights, bit by bit what it was before there were any


def test_the_flat_start_is_weighted_by_frames() -> None:
    speech = torch.arange(12).unsqueeze(0) < FRAMES.unsqueeze(1)

    def loss(weights: torch.Tensor | None, *rows: int) -> float:
        i = list(rows)
        return flat_start_loss(
            LOG_PROBS[i], FRAMES[i], BATCH.targets[i], BATCH.target_counts[i], speech[i], weights
        ).item()

    expected = (0.5 * 12 * loss(None, 0) + 9 * loss(None, 1)) / (0.5 * 12 + 9)
    assert loss(torch.tensor([0.5, 1.0]), 0, 1) == pytest.approx(expected, rel=1e-6)
    assert loss(torch.tensor([1.0, 1.0]), 0, 1) == pytest.approx(loss(None, 0, 1), rel=1e-6)


def corpus(micro: Path, folder: Path, **of_last: object) -> Path:
    """The first utterances of `micro`, the last with more keys."""
    lines = [{"audio_filepath": str(micro / f"clips/{i}.wav"), "text": text} for i, text in enumerate(TEXTS[:4])]
    return write_lines(folder / "train.jsonl", [*lines[:-1], lines[-1] | of_last])


def config_with(manifest: Path, *changes: str, valid: Path | None = None) -> Config:
    return Config.model_validate(override(micro_data(manifest, valid, epochs=1), changes))


def test_training_hears_the_weights(micro: Path, tmp_path: Path) -> None:
    manifest = corpus(micro, tmp_path, pseudo_label=True)
    weights = [
        prepare(config_with(manifest, *changes), tmp_path / "run", Silent()).train[-1].weight
        for changes in ((), ("data.pseudo_label_weight=0.25",))
    ]
    assert weights == [1.0, 0.25]
    first = train(config_with(manifest), tmp_path / "a").losses
    second = train(config_with(manifest, "data.pseudo_label_weight=0.25"), tmp_path / "b").losses
    assert first != second
    card = (tmp_path / "b/last/README.md").read_text(encoding="utf-8")
    assert "of it with pseudo labels" in card


def test_a_wrong_weight_names_its_line(micro: Path, tmp_path: Path) -> None:
    manifest = corpus(micro, tmp_path, weight="heavy")
    with pytest.raises(
        AnadilError, match=r"train\.jsonl:4: \"weight\" must be a number from 0 to 1000, found \"heavy\""
    ):
        prepare(config_with(manifest), tmp_path / "run", Silent())


def test_validation_is_not_weighted_and_must_not_be_a_models_own_text(micro: Path, tmp_path: Path) -> None:
    weighted_valid = corpus(micro, tmp_path, weight=0.0)
    data = prepare(config_with(micro / "train.jsonl", valid=weighted_valid), tmp_path / "run", Silent())
    assert [one.weight for one in data.valid] == [1, 1, 1, 1]
    pseudo = corpus(micro, tmp_path, pseudo_label=True)
    with pytest.raises(AnadilError) as caught:
        prepare(config_with(micro / "train.jsonl", valid=pseudo), tmp_path / "run", Silent())
    assert f"{pseudo}:4: pseudo_label" in str(caught.value) and "next: give data.valid texts that people" in str(
        caught.value
    )


def test_a_run_with_other_weights_is_another_run() -> None:
    one = Example(Utterance("a.wav", 1.0, "a"), (0,))
    config = micro_config(Path("train.jsonl"))
    assert identity_of(config, [one], []) != identity_of(config, [replace(one, weight=0.5)], [])


def test_the_card_says_how_much_is_pseudo_labelled() -> None:
    examples = [Example(Utterance("a.wav", 3600.0, "a", extra=extra), (0,)) for extra in ({}, {"pseudo_label": True})]
    card = model_card(micro_config(Path("train.jsonl")), examples, 3, 40, 0.1, None)
    assert "| training speech | 2.00 h (train.jsonl), 1.00 h of it with pseudo labels |" in card
