"""What NeMo's Conformer does not have: 1D subsampling, and attention without positions."""

from __future__ import annotations

import pytest
import torch

from anadil.models.conformer import Conformer, ConformerSettings

SMALL = {"n_layers": 1, "d_model": 8, "conv_kernel_size": 3, "subsampling": "conv1d", "self_attention_model": "no_pos"}


@pytest.mark.parametrize("factor", [2, 4])
def test_1d_subsampling_ignores_what_is_beyond_an_utterance(factor: int) -> None:
    torch.manual_seed(0)
    network = Conformer(ConformerSettings.model_validate(SMALL | {"subsampling_factor": factor}), 6, 3).eval()
    features, counts = torch.randn(3, 6, 41), [41, 22, 1]
    with torch.no_grad():
        together, frame_counts = network(features, torch.tensor(counts))
        assert frame_counts.tolist() == [network.frame_count(n) for n in counts] == [-(-n // factor) for n in counts]
        for row, one, n, n_frames in zip(together, features, counts, frame_counts.tolist(), strict=True):
            alone, _ = network(one[None, :, :n], torch.tensor([n]))
            torch.testing.assert_close(row[:n_frames], alone[0], atol=1e-5, rtol=0)


def test_attention_without_positions_does_not_know_the_order() -> None:
    """Where convolutions are one frame wide, exchanging frames exchanges results, and nothing else."""
    torch.manual_seed(0)
    settings = ConformerSettings.model_validate(SMALL | {"subsampling_factor": 1, "conv_kernel_size": 1})
    network = Conformer(settings, 6, 3).eval()
    features, counts, order = torch.randn(1, 6, 9), torch.tensor([9]), torch.randperm(9)
    with torch.no_grad():
        expected = network(features, counts)[0][:, order]
        torch.testing.assert_close(network(features[:, :, order], counts)[0], expected, atol=1e-5, rtol=0)
