from __future__ import annotations

from pathlib import Path

import pytest
import torch

from anadil.data.batches import Batch
from anadil.errors import AnadilError
from anadil.models.acoustic import AcousticModel
from anadil.models.features import FeatureSettings
from anadil.models.quartznet import QuartzNetSettings
from anadil.training import step, train
from anadil.training.config import Config
from anadil.training.monitoring import memory
from anadil.training.monitoring.memory import available_bytes, bytes_kept, explaining_out_of_memory, halve_until_it_fits
from anadil.training.monitoring.report import Silent
from tests.support.micro import micro_data, write_corpus

GIB = 2**30


class Told(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def auto(folder: Path, **training: object) -> Config:
    return Config.model_validate(micro_data(write_corpus(folder), epochs=1, batch_seconds="auto", **training))


def batch_seconds_of(run: Path) -> float:
    return float((run / "batch_seconds.txt").read_text())


def test_auto_is_what_suits_little_speech_where_memory_allows(tmp_path: Path) -> None:
    told = Told()
    train.train(auto(tmp_path), tmp_path / "run", told)
    assert batch_seconds_of(tmp_path / "run") == memory.FEWEST_S
    assert any("batches of 30 s of audio" in line for line in told.said)
    assert "batch_seconds: 30.0" in (tmp_path / "run/last/config.yaml").read_text()


def test_auto_is_less_where_memory_is_short_and_a_resumed_run_takes_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache_bytes = 2048 * 2**20
    monkeypatch.setattr(memory, "available_bytes", lambda: cache_bytes + 1_200_000)
    config = auto(tmp_path)
    train.train(config, tmp_path / "run")
    found = batch_seconds_of(tmp_path / "run")
    assert 2 < found < 25
    monkeypatch.setattr(memory, "available_bytes", lambda: 64 * GIB)
    more = Config.model_validate(micro_data(tmp_path / "train.jsonl", epochs=2, batch_seconds="auto"))
    train.train(more, tmp_path / "run", resume=True)
    assert batch_seconds_of(tmp_path / "run") == found


def test_memory_too_small_for_the_longest_utterance_is_told_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 2048 * 2**20 + 50_000)
    with pytest.raises(AnadilError, match=r"the longest training utterance, 1\.\d s, does not fit") as caught:
        train.train(auto(tmp_path), tmp_path / "run")
    assert "data.max_duration" in str(caught.value)


def test_what_a_step_keeps_grows_with_the_audio_and_is_counted_without_a_trace() -> None:
    acoustic = AcousticModel(FeatureSettings(), QuartzNetSettings(preset="small"), 33).eval()
    before, generator = {k: v.clone() for k, v in acoustic.state_dict().items()}, torch.get_rng_state()
    one, four = bytes_kept(acoustic, 1.0), bytes_kept(acoustic, 4.0)
    assert 3.5 < four / one < 4.1
    # 17 pointwise layers of 128 to 512 channels, 25 frames a second: their inputs and outputs, and those of the norms
    assert 1 < one / 2**20 < 10
    assert all(torch.equal(before[name], tensor) for name, tensor in acoustic.state_dict().items())
    assert torch.equal(generator, torch.get_rng_state()) and not acoustic.training


def test_a_gpus_memory_is_found_by_halving() -> None:
    tried: list[float] = []

    def attempt(seconds: float) -> None:
        tried.append(seconds)
        if seconds > 50:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    assert halve_until_it_fits(attempt, 240, 16) == 30 and tried == [240, 120, 60, 30]
    with pytest.raises(AnadilError, match="data.max_duration"):
        halve_until_it_fits(attempt, 240, 55)

    def broken(seconds: float) -> None:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        halve_until_it_fits(broken, 240, 16)


def write(root: Path, name: str, content: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(content)


def test_memory_is_the_least_of_the_machine_and_the_containers_around(tmp_path: Path) -> None:
    write(tmp_path, "proc/meminfo", "MemTotal: 16000000 kB\nMemFree: 100 kB\nMemAvailable:    8388608 kB\n")
    assert available_bytes(tmp_path) == 8 * GIB
    write(tmp_path, "proc/self/cgroup", "0::/pod/job\n")
    write(tmp_path, "sys/fs/cgroup/pod/job/memory.max", "max\n")
    write(tmp_path, "sys/fs/cgroup/pod/job/memory.current", f"{GIB}\n")
    assert available_bytes(tmp_path) == 8 * GIB
    write(tmp_path, "sys/fs/cgroup/pod/memory.max", f"{4 * GIB}\n")
    write(tmp_path, "sys/fs/cgroup/pod/memory.current", f"{3 * GIB}\n")
    write(tmp_path, "sys/fs/cgroup/pod/memory.stat", f"anon 5\ninactive_file {GIB}\nactive_file 7\n")
    assert available_bytes(tmp_path) == 2 * GIB
    write(tmp_path, "proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/12\n")
    write(tmp_path, "sys/fs/cgroup/memory/memory.limit_in_bytes", f"{2 * GIB}\n")
    write(tmp_path, "sys/fs/cgroup/memory/memory.usage_in_bytes", f"{GIB}\n")
    assert available_bytes(tmp_path) == GIB


@pytest.mark.parametrize(
    ("n", "what"),
    [
        (3, r"24\.0 s of audio \(3 x 8\.0 s with padding\)\n  next: lower training.batch_seconds, which is 30, to 15"),
        (1, r"8\.0 s of audio \(1 x 8\.0 s with padding\)\n  next: lower data.max_duration below 8\.0"),
    ],
)
def test_out_of_memory_says_which_number_to_lower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int, what: str
) -> None:
    batch = Batch(torch.zeros(n, 10), torch.tensor([128000] + [9] * (n - 1)), torch.ones(n, 1).long(),
                  torch.ones(n).long(), tuple(range(n)))  # fmt: skip
    with pytest.raises(AnadilError, match=what), explaining_out_of_memory([batch], 16000, 30):
        raise MemoryError

    def full(*_: object) -> None:
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:116] DefaultCPUAllocator: can't allocate memory: you tried..."
        )

    monkeypatch.setattr(step, "_loss", full)
    config = Config.model_validate(micro_data(write_corpus(tmp_path), batch_seconds=4))
    with pytest.raises(AnadilError, match=r"out of memory in a batch of [\d.]+ s of audio .*\n  next: lower "):
        train.train(config, tmp_path / "run")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_auto_on_a_gpu(tmp_path: Path) -> None:
    train.train(auto(tmp_path, accelerator="cuda"), tmp_path / "run")
    assert batch_seconds_of(tmp_path / "run") == memory.FEWEST_S
