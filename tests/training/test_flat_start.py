from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from anadil.training.step import even_segmentation, flat_start_loss, speech_frames

BLANK = 9


def segment(speech: str, labels: list[int]) -> str:
    """Speech as "#", pauses as "."; the answer's blanks as "."."""
    mask = torch.tensor([[mark == "#" for mark in speech]])
    found = even_segmentation(mask, torch.tensor([labels]), torch.tensor([len(labels)]), BLANK)
    return "".join("." if label == BLANK else str(label) for label in found[0].tolist())


def test_labels_get_equal_shares_of_the_speech_and_pauses_get_blanks() -> None:
    assert segment("######", [1, 2, 3]) == "112233"
    assert segment("..##.####...", [1, 2, 3]) == "..11.2233..."
    assert segment("#####", [1, 2]) == "11222"  # the odd frame goes to the later half
    assert segment("###", [1, 2, 3]) == "123"
    assert segment("..#..", [1]) == "..1.."
    assert segment("....", [1, 2]) == "...."
    assert segment("##", [1, 2, 3, 4]) == "24"  # too little speech for all


def test_rows_of_a_batch_have_their_own_counts() -> None:
    speech = torch.tensor([[True] * 4, [True, True, False, False]])
    targets, counts = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0]]), torch.tensor([4, 2])
    assert even_segmentation(speech, targets, counts, BLANK).tolist() == [[1, 2, 3, 4], [5, 6, BLANK, BLANK]]


@given(st.lists(st.booleans(), min_size=1, max_size=400), st.integers(1, 60))
def test_labels_come_in_order_and_all_appear_where_there_is_room(speech: list[bool], n_labels: int) -> None:
    labels = list(range(n_labels))
    found = even_segmentation(torch.tensor([speech]), torch.tensor([labels]), torch.tensor([n_labels]), blank=n_labels)
    row = found[0].tolist()
    spoken = [label for label, loud in zip(row, speech, strict=True) if loud]
    assert all(label == n_labels for label, loud in zip(row, speech, strict=True) if not loud)
    assert spoken == sorted(spoken) and all(label < n_labels for label in spoken)
    if len(spoken) >= n_labels:
        assert sorted(set(spoken)) == labels
        shares = [spoken.count(label) for label in labels]
        assert max(shares) - min(shares) <= 1


def noise(n_samples: int, level: float = 0.001) -> torch.Tensor:
    return level * torch.randn(n_samples, generator=torch.Generator().manual_seed(0))


def test_a_burst_in_quiet_noise_is_speech() -> None:
    waveform = noise(1000)
    waveform[300:600] += noise(300, level=0.3)
    found = speech_frames(waveform.unsqueeze(0), torch.tensor([10]), n_frames=10, samples_per_frame=100)
    assert found.tolist() == [[3 <= frame < 6 for frame in range(10)]]


def test_frames_beyond_an_utterance_are_no_speech_and_do_not_move_its_threshold() -> None:
    waveform = noise(1000, level=0.1)
    waveform[200:400] *= 100
    alone = speech_frames(waveform[None, :600], torch.tensor([6]), 6, 100)
    waveform[600:] = 1.0  # louder than all of it
    padded = speech_frames(waveform[None], torch.tensor([6]), 10, 100)
    silent = speech_frames(torch.cat([waveform[:600], torch.zeros(400)])[None], torch.tensor([6]), 10, 100)
    assert alone.tolist() == [[False, False, True, True, False, False]]
    assert padded.tolist() == silent.tolist() == [[*alone[0].tolist(), *[False] * 4]]


def test_there_are_as_many_frames_as_the_model_makes() -> None:
    waveforms = torch.stack([noise(950, level=0.1), noise(950, level=0.1)])
    for n_frames in (9, 10, 12):  # rounded down, up, and a wide stride's one more
        assert speech_frames(waveforms, torch.tensor([n_frames, 4]), n_frames, 100).shape == (2, n_frames)


def test_loss_is_the_mean_over_valid_frames_of_what_the_segmentation_wants() -> None:
    probs = torch.tensor([[[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5], [1e-30, 1e-30, 1.0]]])
    speech = torch.tensor([[True, True, False, False]])
    loss = flat_start_loss(probs.log(), torch.tensor([3]), torch.tensor([[0, 1]]), torch.tensor([2]), speech)
    torch.testing.assert_close(loss, torch.tensor(0.5).log().neg())
    swapped = flat_start_loss(probs.log(), torch.tensor([3]), torch.tensor([[1, 0]]), torch.tensor([2]), speech)
    torch.testing.assert_close(swapped, -(2 * torch.tensor(0.25).log() + torch.tensor(0.5).log()) / 3)


def test_loss_is_finite_and_its_gradient_reaches_valid_frames_only() -> None:
    logits = torch.zeros(2, 5, BLANK + 1, requires_grad=True)
    counts = torch.tensor([5, 2])
    speech = torch.zeros(2, 5, dtype=torch.bool)  # digital silence: no frame is loud
    targets = torch.tensor([[1, 2, 3], [4, 0, 0]])
    loss = flat_start_loss(logits.log_softmax(2), counts, targets, torch.tensor([3, 1]), speech)
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)
    assert logits.grad is not None
    moved = logits.grad.abs().sum(2) > 0
    assert moved.tolist() == [[True] * 5, [True, True, False, False, False]]


def test_digital_silence_has_no_nan() -> None:
    found = speech_frames(torch.zeros(1, 500), torch.tensor([5]), 5, 100)
    assert found.dtype == torch.bool and found.shape == (1, 5)
