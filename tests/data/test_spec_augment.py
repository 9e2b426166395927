from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anadil.data.augment.settings import SpecAugmentSettings
from anadil.data.spec_augment import spec_augment

MELS, FRAMES, ROWS = 40, 400, 400


def hidden(settings: SpecAugmentSettings, counts: Tensor, seed: int = 0) -> Tensor:
    """Boolean (batch, mels, frames): what was masked of features that are 1 everywhere."""
    features = torch.ones(len(counts), MELS, FRAMES)
    masked = spec_augment(features, counts, settings, torch.Generator().manual_seed(seed))
    assert bool(features.all())  # the input stays
    assert bool(((masked == 0) | (masked == 1)).all())
    return masked == 0


def runs(row: Tensor) -> int:
    return int(row[0]) + int((row[1:] & ~row[:-1]).sum())


COUNTS = torch.arange(ROWS) + 1


def test_a_time_mask_is_one_stretch_inside_the_utterance_of_at_most_its_share() -> None:
    masked = hidden(SpecAugmentSettings(freq_masks=0, time_masks=1, time_width=0.5), COUNTS)
    assert torch.equal(masked.any(dim=1), masked.all(dim=1))  # all bands of a frame
    frames = masked.all(dim=1)
    assert not (frames & (torch.arange(FRAMES) >= COUNTS.unsqueeze(1))).any()
    widths = frames.sum(dim=1)
    assert bool((widths <= 0.5 * COUNTS).all())
    assert max(runs(row) for row in frames) == 1
    assert (widths / COUNTS).mean() == pytest.approx(0.25, abs=0.03)  # uniform from nothing to the widest
    middles = (frames * (torch.arange(FRAMES) + 0.5)).sum(dim=1)[widths > 0] / widths[widths > 0]
    assert (middles / COUNTS[widths > 0]).mean() == pytest.approx(0.5, abs=0.05)


def test_a_frequency_mask_is_one_band_of_at_most_its_share() -> None:
    masked = hidden(SpecAugmentSettings(freq_masks=1, time_masks=0, freq_width=0.5), torch.full((ROWS,), FRAMES))
    assert torch.equal(masked.any(dim=2), masked.all(dim=2))
    bands = masked.all(dim=2)
    widths = bands.sum(dim=1)
    assert int(widths.max()) == 19  # of 40 bands, below a half
    assert widths.float().mean() == pytest.approx((0 + 19) / 2, abs=1)
    assert max(runs(row) for row in bands) == 1
    assert bool(bands.any(dim=0)[:-1].all())  # the paper's start lies in [0, bands - width)


def test_masks_add_up() -> None:
    settings = SpecAugmentSettings(freq_masks=3, freq_width=0.1, time_masks=0)
    bands = hidden(settings, torch.full((ROWS,), FRAMES)).all(dim=2)
    assert max(runs(row) for row in bands) == 3
    assert int(bands.sum(dim=1).max()) <= 3 * 3


def test_masks_come_from_the_generator_and_differ_between_utterances() -> None:
    settings, counts = SpecAugmentSettings(), torch.full((8,), FRAMES)
    masked = hidden(settings, counts, seed=1)
    assert torch.equal(masked, hidden(settings, counts, seed=1))
    assert not torch.equal(masked, hidden(settings, counts, seed=2))
    assert len({tuple(row.flatten().tolist()) for row in masked}) == 8


@pytest.mark.parametrize("settings", [{"freq_masks": 0, "time_masks": 0}, {"freq_width": 0, "time_width": 0}])
def test_without_masks_nothing_changes(settings: dict[str, float]) -> None:
    features = torch.randn(4, MELS, FRAMES)
    same = spec_augment(
        features, torch.full((4,), FRAMES), SpecAugmentSettings.model_validate(settings), torch.Generator()
    )
    assert torch.equal(same, features)
