from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anadil.data.augment.settings import (
    AugmentSettings,
    SpecAugmentSettings,
    SpecCutoutSettings,
    TimeWarpSettings,
)
from anadil.data.augment.spec_augment import feature_augmentation

MELS, FRAMES, ROWS = 40, 400, 400


def augmented(features: Tensor, counts: Tensor, seed: int = 0, **sections: object) -> Tensor:
    """Augmented by these sections only; the input is not changed."""
    settings = AugmentSettings.model_validate({"spec_augment": None} | sections)
    augment = feature_augmentation(settings, torch.Generator().manual_seed(seed))
    assert augment is not None
    changed, same = augment(features.clone(), counts)
    assert same is counts
    return changed


def hidden(settings: SpecAugmentSettings, counts: Tensor, seed: int = 0) -> Tensor:
    """Boolean (batch, mels, frames): what was masked of features that are 1 everywhere."""
    masked = augmented(torch.ones(len(counts), MELS, FRAMES), counts, seed, spec_augment=settings)
    assert bool(((masked == 0) | (masked == 1)).all())
    return masked == 0


def runs(row: Tensor) -> int:
    return int(row[0]) + int((row[1:] & ~row[:-1]).sum())


COUNTS = torch.arange(ROWS) + 1


def test_a_time_mask_is_one_span_inside_the_utterance_of_at_most_its_share() -> None:
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
    same = augmented(features, torch.full((4,), FRAMES), spec_augment=settings)
    assert torch.equal(same, features)


# --- cutout and time warp


def test_cutout_masks_rectangles_inside_the_utterance() -> None:
    settings = SpecCutoutSettings(probability=1, rectangles=1, freq_width=0.5, time_width=0.5)
    features = torch.ones(len(COUNTS), MELS, FRAMES)
    masked = augmented(features, COUNTS, spec_cutout=settings) == 0
    bands, frames = masked.any(dim=2), masked.any(dim=1)
    assert torch.equal(masked, bands.unsqueeze(2) & frames.unsqueeze(1))  # one rectangle
    assert max(runs(row) for row in bands) == max(runs(row) for row in frames) == 1
    assert not (frames & (torch.arange(FRAMES) >= COUNTS.unsqueeze(1))).any()
    assert int(bands.sum(dim=1).max()) == 19 and bool((frames.sum(dim=1) <= 0.5 * COUNTS).all())
    many = augmented(features, COUNTS, spec_cutout=SpecCutoutSettings(probability=1, rectangles=8))
    assert 0.005 < float((many[-100:] == 0).float().mean()) < 0.12  # each about 0.15 * 0.025 of an utterance


def warped(settings: TimeWarpSettings, counts: Tensor, features: Tensor) -> Tensor:
    return augmented(features, counts, time_warp=settings)


def test_time_warp_moves_a_point_and_keeps_both_ends() -> None:
    """On a ramp, a frame's value is the time that it comes from."""
    counts = torch.full((ROWS,), 301)
    ramp = torch.arange(FRAMES).float().expand(ROWS, 3, FRAMES)
    moved = warped(TimeWarpSettings(probability=1, shift=0.1), counts, ramp)
    assert torch.equal(moved[:, :, 301:], ramp[:, :, 301:])  # the padding
    assert torch.allclose(moved[:, :, 0], ramp[:, :, 0], atol=1e-3)
    assert torch.allclose(moved[:, :, 300], ramp[:, :, 300], atol=1e-3)
    steps = moved[:, 0, 1:301] - moved[:, 0, :300]
    assert bool((steps > 0).all())  # time goes on
    shifts = (moved - ramp)[:, 0].abs().amax(dim=1)
    assert 25 < float(shifts.max()) <= 30.01 and float(shifts.mean()) == pytest.approx(15, abs=2)
    bends = (steps[:, 1:] - steps[:, :-1]).abs() > 1e-3  # straight but for one point
    assert int(bends.sum(dim=1).max()) <= 2


def test_time_warp_of_a_few_frames_and_of_none() -> None:
    features = torch.randn(4, MELS, 6)
    for shift in (0.0, 0.49):
        moved = warped(TimeWarpSettings(probability=1, shift=shift), torch.tensor([0, 1, 2, 6]), features)
        assert bool(moved.isfinite().all())
        assert torch.equal(moved[:2], features[:2])
        if shift == 0:
            assert torch.equal(moved, features)


@pytest.mark.parametrize("name", ["time_warp", "spec_augment", "spec_cutout"])
def test_utterances_are_changed_with_the_given_probability(name: str) -> None:
    counts, features = torch.full((ROWS,), FRAMES), torch.rand(ROWS, MELS, FRAMES)
    for probability, low, high in ((0.0, 0, 0), (0.25, 60, 140), (1.0, 380, 400)):
        heard = augmented(features, counts, **{name: {"probability": probability}})
        changed = int((heard != features).any(dim=2).any(dim=1).sum())
        assert low <= changed <= high


def test_without_sections_there_is_no_augmentation() -> None:
    assert feature_augmentation(AugmentSettings(spec_augment=None), torch.Generator()) is None


def test_gradients_flow_where_nothing_is_masked_and_the_result_is_the_same() -> None:
    """Features that need a gradient are masked by operations of autograd, and the input is not changed."""
    counts, features = torch.arange(5, 301, 5), torch.rand(60, MELS, 300) + 1
    sections = {"spec_augment": {}, "spec_cutout": {"probability": 0.7}}
    plain = augmented(features, counts, **sections)
    learnt = features.clone().requires_grad_()
    settings = AugmentSettings.model_validate(sections)
    augment = feature_augmentation(settings, torch.Generator().manual_seed(0))
    assert augment is not None
    heard, _ = augment(learnt, counts)
    assert torch.equal(heard, plain) and torch.equal(learnt, features)
    heard.sum().backward()
    assert torch.equal(learnt.grad, (plain != 0).float())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_features_on_a_gpu_are_masked_and_warped_the_same() -> None:
    counts, features = torch.arange(5, 301, 5), torch.rand(60, MELS, 300) + 1
    sections = {"spec_augment": {}, "spec_cutout": {}, "time_warp": {}}
    there = augmented(features.cuda(), counts.cuda(), **sections).cpu()
    torch.testing.assert_close(there, augmented(features, counts, **sections))


def test_features_are_changed_in_place() -> None:
    features = torch.ones(4, MELS, FRAMES)
    augment = feature_augmentation(AugmentSettings(), torch.Generator().manual_seed(0))
    assert augment is not None
    assert augment(features, torch.full((4,), FRAMES))[0] is features and not bool(features.all())


def test_views_have_the_same_warp_and_different_masks() -> None:
    counts, features = torch.arange(5, 301, 5), torch.rand(60, MELS, 300) + 1
    settings = AugmentSettings.model_validate({"spec_augment": {}, "time_warp": {"probability": 1}})
    augment = feature_augmentation(settings, torch.Generator().manual_seed(0), views=2)
    assert augment is not None
    both, twice = augment(features.clone(), counts)
    assert torch.equal(twice, torch.cat([counts, counts]))
    one, other = both.chunk(2)
    seen = (one != 0) & (other != 0)
    assert torch.equal(one[seen], other[seen]) and not torch.equal(one[seen], features[seen])
    assert ((one == 0) != (other == 0)).any(dim=2).any(dim=1).float().mean() > 0.9


def test_views_without_masks_are_copies() -> None:
    augment = feature_augmentation(AugmentSettings(spec_augment=None), torch.Generator(), views=3)
    assert augment is not None
    features, counts = augment(torch.arange(12.0).view(2, 2, 3), torch.tensor([3, 2]))
    assert torch.equal(features, torch.arange(12.0).view(2, 2, 3).repeat(3, 1, 1)) and counts.tolist() == [3, 2] * 3
