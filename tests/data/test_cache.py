from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from anadil.data import cache as cache_module
from anadil.data.batches import Loader
from anadil.data.cache import FOLDER, DiskCache
from anadil.data.examples import Example
from anadil.errors import AnadilError
from anadil.manifest import Utterance

RATE = 16000
GB = 2**30


@pytest.fixture
def utterance(write_wav: Callable[..., Path]) -> Utterance:
    return Utterance(str(write_wav("a.wav", 0.5)), duration=0.5)


def samples(n: int = 800, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-32768, 32768, n).astype(np.int16)


def entries(folder: Path) -> list[Path]:
    return sorted((folder / FOLDER).rglob("*.pcm"))


def test_the_next_run_reads_the_cache(tmp_path: Path, utterance: Utterance) -> None:
    DiskCache(tmp_path, 1).write(utterance, RATE, samples())
    again = DiskCache(tmp_path, 1).read(utterance, RATE)
    assert again is not None and again.dtype == np.int16
    np.testing.assert_array_equal(again, samples())


def test_another_segment_rate_or_content_is_another_entry(tmp_path: Path, utterance: Utterance) -> None:
    cache, path = DiskCache(tmp_path, 1), utterance.audio_filepath
    cache.write(utterance, RATE, samples())
    assert cache.read(utterance, 8000) is None
    assert cache.read(Utterance(path, duration=0.4), RATE) is None
    assert cache.read(Utterance(path, duration=0.5, offset=0.1), RATE) is None
    assert cache.read(Utterance(path, duration=0.5, text="the text is no matter"), RATE) is not None
    os.utime(path, ns=(0, 12345))  # the file was made anew
    assert cache.read(utterance, RATE) is None


@pytest.mark.parametrize("harm", ["flipped bit", "cut off", "longer", "empty", "a web page"])
def test_a_damaged_entry_is_decoded_again(tmp_path: Path, utterance: Utterance, harm: str) -> None:
    examples = [Example(utterance, (1,))]
    whole = Loader(examples, RATE, disk=DiskCache(tmp_path, 1)).load([0])
    (entry,) = entries(tmp_path)
    content = entry.read_bytes()
    entry.write_bytes(
        {
            "flipped bit": content[:-3] + bytes([content[-3] ^ 1]) + content[-2:],
            "cut off": content[:-2],
            "longer": content + b"\0\0",
            "empty": b"",
            "a web page": b"<html>" * 100,
        }[harm]
    )
    assert torch.equal(Loader(examples, RATE, disk=DiskCache(tmp_path, 1)).load([0]).waveforms, whole.waveforms)
    assert entry.read_bytes() == content


def test_memory_disk_and_decoding_give_the_same_samples(tmp_path: Path, utterance: Utterance) -> None:
    examples = [Example(utterance, (1,))]
    in_memory = Loader(examples, RATE, cache_mb=1).load([0]).waveforms
    loader = Loader(examples, RATE, disk=DiskCache(tmp_path, 1))
    assert torch.equal(loader.load([0]).waveforms, in_memory)  # decoded
    assert torch.equal(loader.load([0]).waveforms, in_memory)  # from the disk
    full = Loader(examples, RATE, disk=DiskCache(tmp_path / "full", 0))
    assert torch.equal(full.load([0]).waveforms, in_memory) and entries(tmp_path / "full") == []


def test_the_audio_is_not_decoded_twice(tmp_path: Path, utterance: Utterance, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = [Example(utterance, (1,))]
    Loader(examples, RATE, disk=DiskCache(tmp_path, 1)).load([0])
    monkeypatch.setattr("anadil.audio.read", lambda *_: pytest.fail("decoded again"))
    Loader(examples, RATE, disk=DiskCache(tmp_path, 1)).load([0])


def many(write_wav: Callable[..., Path], n: int) -> list[Utterance]:
    path = str(write_wav("long.wav", 1.0))
    return [Utterance(path, offset=i / 100, duration=0.01) for i in range(n)]


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in entries(folder))


def test_the_cache_stays_within_its_size(tmp_path: Path, write_wav: Callable[..., Path]) -> None:
    cache = DiskCache(tmp_path, 10_000 / GB)
    for one in many(write_wav, 20):
        cache.write(one, RATE, samples(500))
    assert len(entries(tmp_path)) == 9 and size(tmp_path) <= 10_000  # what this run uses makes no room for itself


def test_the_least_recently_used_entries_are_deleted_first(tmp_path: Path, write_wav: Callable[..., Path]) -> None:
    utterances = many(write_wav, 15)
    first = DiskCache(tmp_path, 10_000 / GB)
    for one in utterances[:9]:
        first.write(one, RATE, samples(500))
    hour_ago = time.time() - 3600
    for i, one in enumerate(utterances[:9]):
        path = first._path(one, RATE)
        os.utime(path, (hour_ago + i, hour_ago + i))
    (tmp_path / FOLDER / ".0123abcd.partial").write_bytes(b"of a run that was killed")
    os.utime(tmp_path / FOLDER / ".0123abcd.partial", (hour_ago - 1, hour_ago - 1))
    (tmp_path / FOLDER / "notes.txt").write_text("the user's own")
    second = DiskCache(tmp_path, 10_000 / GB)
    assert second.read(utterances[0], RATE) is not None  # so it is not the longest unused any more
    for one in utterances[9:12]:
        second.write(one, RATE, samples(500))
    there = [second.read(one, RATE) is not None for one in utterances[:12]]
    assert there == [True] + [False] * 3 + [True] * 8
    assert size(tmp_path) <= 10_000
    assert sorted(path.name for path in (tmp_path / FOLDER).iterdir() if path.is_file()) == ["notes.txt"]


def test_two_runs_at_once_leave_whole_entries_within_the_size(tmp_path: Path, write_wav: Callable[..., Path]) -> None:
    utterances = many(write_wav, 60)
    caches = [DiskCache(tmp_path, 40_000 / GB) for _ in range(2)]

    def run(cache: DiskCache) -> None:
        for one in utterances:
            kept = cache.read(one, RATE)
            assert kept is None or np.array_equal(kept, samples(500))
            cache.write(one, RATE, samples(500))

    threads = [threading.Thread(target=run, args=(cache,)) for cache in caches for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(cache.trouble is None for cache in caches)
    assert all(path.stat().st_size == 1024 for path in entries(tmp_path))
    assert 20_000 < size(tmp_path) <= 45_000  # each may be a look behind the other's writing
    assert not list((tmp_path / FOLDER).glob(".*"))


def test_a_full_disk_is_reported_and_does_not_stop_training(
    tmp_path: Path, utterance: Utterance, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = DiskCache(tmp_path, 1)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert Loader([Example(utterance, (1,))], RATE, disk=cache).load([0]).sample_counts.tolist() == [8000]
    assert cache.trouble is not None and "No space left on device" in cache.trouble
    assert entries(tmp_path) == []


def test_disk_space_is_left_for_models(tmp_path: Path, utterance: Utterance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "RESERVE_BYTES", shutil.disk_usage(tmp_path).free * 2)
    cache = DiskCache(tmp_path, 1)
    cache.write(utterance, RATE, samples())
    assert entries(tmp_path) == [] and cache.trouble is not None and "nearly full" in cache.trouble


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AnadilError, match=r"data\.cache: could not make"):
        DiskCache(tmp_path / "file", 1)
