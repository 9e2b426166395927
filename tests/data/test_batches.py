from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anadil import audio
from anadil.data.batches import PADDED_TO_S, Loader, padded_seconds, plan_epoch
from anadil.data.examples import Example
from anadil.errors import AnadilError
from anadil.manifest import Utterance, read_manifest

durations_s = st.lists(st.floats(0.1, 30), max_size=60)


@given(durations_s, st.floats(1, 60), st.none() | st.integers(0, 9), st.integers(0, 9))
def test_every_utterance_once_and_no_batch_too_large(
    durations: list[float], batch_seconds: float, seed: int | None, epoch: int
) -> None:
    plan = plan_epoch(durations, batch_seconds, seed, epoch)
    assert sorted(i for batch in plan for i in batch) == list(range(len(durations)))
    assert all(len(batch) == 1 or padded_seconds(durations, batch) <= batch_seconds for batch in plan)
    assert all(plan)


REALISTIC = np.random.default_rng(0).lognormal(1.1, 0.5, 2000).clip(0.5, 15).tolist()  # seconds, mean 3.4


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    plan = plan_epoch(REALISTIC, 120, seed=1, epoch=2)
    assert plan == plan_epoch(REALISTIC, 120, seed=1, epoch=2)
    for seed, epoch in ((1, 3), (2, 2)):
        other = plan_epoch(REALISTIC, 120, seed, epoch)
        assert other != plan
        assert {frozenset(batch) for batch in other}.isdisjoint(map(frozenset, plan))  # not only the order of batches


def test_without_a_seed_the_order_is_by_length() -> None:
    assert plan_epoch([3, 1, 4, 1.5, 9], 7, None) == [[1, 3], [0], [2], [4]]
    assert plan_epoch([], 7, None) == []


def test_batches_come_in_no_order_of_length() -> None:
    longest = [max(REALISTIC[i] for i in batch) for batch in plan_epoch(REALISTIC, 120, seed=0)]
    assert abs(np.corrcoef(longest, range(len(longest)))[0, 1]) < 0.4


def test_padding_is_a_small_share() -> None:
    plan = plan_epoch(REALISTIC, 120, seed=0)
    padded = sum(padded_seconds(REALISTIC, batch) for batch in plan)
    assert 1 - sum(REALISTIC) / padded < 0.08
    assert padded / len(plan) > 0.9 * 120


@pytest.fixture
def examples(write_wav: Callable[..., Path]) -> list[Example]:
    """Four of 100, 200, 300, 400 samples, with 1, 2, 3, 4 labels."""
    rng = np.random.default_rng(0)
    paths = [write_wav(f"{i}.wav", rng.uniform(-1, 1, 100 * i), subtype="FLOAT") for i in range(1, 5)]
    return [
        Example(Utterance(str(path), duration=100 * i / 16000, source=f"m.jsonl:{i}"), tuple(range(i)))
        for i, path in enumerate(paths, start=1)
    ]


def test_a_batch_is_padded_with_zeros_and_counted_exactly(examples: list[Example]) -> None:
    batch = Loader(examples, 16000).load([2, 0])
    assert (batch.waveforms.shape, batch.waveforms.dtype) == ((2, 2560), torch.float32)
    assert batch.sample_counts.tolist() == [300, 100]
    assert batch.target_counts.tolist() == [3, 1]
    assert batch.targets.tolist() == [[0, 1, 2], [0, 0, 0]]
    assert {batch.sample_counts.dtype, batch.target_counts.dtype, batch.targets.dtype} == {torch.int64}
    np.testing.assert_array_equal(batch.waveforms[0, :300], audio.read(examples[2].utterance.audio_filepath, 16000))
    assert not batch.waveforms[0, 300:].any()
    assert not batch.waveforms[1, 100:].any() and batch.waveforms[1, :100].all()


@pytest.mark.parametrize(
    ("n_samples", "rate", "padded"), [(2560, 16000, 2560), (2561, 16000, 5120), (1281, 8000, 2560)]
)
def test_batches_last_a_multiple_of_a_sixth_of_a_second(
    n_samples: int, rate: int, padded: int, write_wav: Callable[..., Path]
) -> None:
    """With few lengths of batches, the allocator can reuse freed memory."""
    path = write_wav("a.wav", np.full(n_samples, 0.1), rate)
    example = Example(Utterance(str(path), duration=n_samples / rate, source="m.jsonl:1"), (0,))
    assert Loader([example], rate).load([0]).waveforms.shape == (1, padded)


def test_the_plan_counts_what_a_batch_is_padded_to() -> None:
    durations = [1.61] * 5  # each is heard as 1.76 s
    assert padded_seconds(durations, [0, 1]) == pytest.approx(2 * 11 * PADDED_TO_S)
    assert [len(batch) for batch in plan_epoch(durations, 8.3, None)] == [4, 1]


def test_the_segment_is_loaded(examples: list[Example]) -> None:
    whole = examples[3].utterance
    segment = Example(Utterance(whole.audio_filepath, duration=100 / 16000, offset=50 / 16000), (1,))
    batch = Loader([segment], 16000).load([0])
    np.testing.assert_array_equal(batch.waveforms[0, :100], audio.read(whole.audio_filepath, 16000)[50:150])
    assert batch.sample_counts.tolist() == [100]


def test_batches_come_as_planned(examples: list[Example]) -> None:
    plan = [[i % 4] * (1 + i // 4) for i in range(20)]
    assert [list(batch.indices) for batch in Loader(examples, 16000, threads=4).batches(plan)] == plan


def test_the_cache_needs_no_file_and_changes_no_sample_by_more_than_a_step(examples: list[Example]) -> None:
    loader = Loader(examples, 16000, cache_mb=1)
    (before,) = loader.batches([[0, 1, 2, 3]])
    for example in examples:
        Path(example.utterance.audio_filepath).unlink()
    (after,) = loader.batches([[0, 1, 2, 3]])
    assert (after.waveforms - before.waveforms).abs().max() <= 2**-15
    assert torch.equal(after.sample_counts, before.sample_counts)


def test_16_bit_recordings_come_from_the_cache_unchanged(write_wav: Callable[..., Path]) -> None:
    every = np.arange(-32768, 32768, 7).astype(np.int16)
    loader = Loader([Example(Utterance(str(write_wav("a.wav", every))), (1,))], 16000, cache_mb=1)
    assert torch.equal(loader.load([0]).waveforms, loader.load([0]).waveforms)


def test_the_cache_stops_where_its_room_ends(examples: list[Example]) -> None:
    loader = Loader(examples, 16000, cache_mb=700 / 2**20)  # bytes: 100 and 200 samples of two
    loader.load([0, 1, 2])
    for example in examples:
        Path(example.utterance.audio_filepath).unlink()
    loader.load([0, 1])
    with pytest.raises(AnadilError, match=r"m\.jsonl:3: audio file not found"):
        loader.load([2])


def test_audio_that_cannot_be_decoded_is_named(examples: list[Example]) -> None:
    Path(examples[2].utterance.audio_filepath).write_text("no audio")
    batches = Loader(examples, 16000).batches([[0, 1], [2, 3], [0, 1]])
    assert next(batches).indices == (0, 1)
    with pytest.raises(AnadilError, match=r"m\.jsonl:3: not readable as audio"):
        next(batches)


def test_padding_of_mboshi_is_under_8_percent(shared: Path) -> None:
    durations = [utterance.duration or 0.0 for utterance in read_manifest(shared / "speech/mboshi/train.jsonl")]
    for batch_seconds in (30, 60, 120):
        plans = [plan_epoch(durations, batch_seconds, seed=0, epoch=epoch) for epoch in range(3)]
        padded = [padded_seconds(durations, batch) for plan in plans for batch in plan]
        assert 1 - 3 * sum(durations) / sum(padded) < 0.08
        assert max(padded) <= batch_seconds
        assert np.mean(padded) > 0.85 * batch_seconds


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_batch_on_a_gpu_is_the_same(examples: list[Example]) -> None:
    batch = Loader(examples, 16000).load([2, 0])
    moved = batch.to(torch.device("cuda"))
    torch.cuda.synchronize()
    assert moved.waveforms.device.type == moved.targets.device.type == "cuda"
    assert torch.equal(moved.waveforms.cpu(), batch.waveforms) and torch.equal(moved.targets.cpu(), batch.targets)
    assert moved.indices == batch.indices
